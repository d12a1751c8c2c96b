"""Log-likelihoods of continuations: every context read once, the output layer only where it is needed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from compatcheck.engines.hf.attention import PrefixStore, PrefixTree
from compatcheck.engines.hf.memory import give_back, is_out_of_memory
from compatcheck.engines.hf.packing import Branch, Document, Group, Packer, Part, group_documents
from compatcheck.engines.hf.runner import Runner
from compatcheck.errors import InputError

LEAST_SAVING = 24
"""Tokens a shared prefix must save: below that the extra attention calls cost more."""

VOCABULARY_BLOCK = 4096
"""Tokens of the vocabulary whose logits are made at a time on a CPU."""

Answer = tuple[float, bool]
_T = TypeVar("_T")


def documents_of(pairs: Sequence[tuple[list[int], list[int]]], max_length: int) -> list[Document]:
    """Contexts with their continuations, in order of first appearance.

    A pair too long for the model loses tokens on its left, as lm-eval does it: ``(context + continuation)`` is cut to
    its last ``max_length + 1`` tokens, of which the last one is only predicted. Raises InputError: an empty context or
    continuation, or a continuation longer than the model's window."""
    branches: dict[tuple[int, ...], list[Branch]] = {}
    for request, (context, continuation) in enumerate(pairs):
        if not context or not continuation:
            raise InputError(f"request {request}: context or continuation has no tokens and cannot be scored")
        if len(continuation) > max_length:
            raise InputError(
                f"request {request}: a continuation of {len(continuation)} tokens does not fit the model's {max_length}"
            )
        whole = (context + continuation)[-(max_length + 1) :]
        branches.setdefault(tuple(whole[: -len(continuation)]), []).append(Branch(request, tuple(continuation)))
    return [Document(context, tuple(followed)) for context, followed in branches.items()]


def score(
    runner: Runner,
    documents: Sequence[Document],
    tokens_at_once: int,
    done: Callable[[list[tuple[int, Answer]]], None],
    most_documents: int | None = None,
) -> int:
    """Score every branch, telling ``done`` the (request, (log-likelihood, is greedy)) of each forward; as
    :func:`run_groups`."""
    groups = group_documents(documents, LEAST_SAVING)
    return run_groups(runner, groups, functools.partial(_forward, runner), tokens_at_once, done, most_documents)


def run_groups(
    runner: Runner,
    groups: Sequence[Group],
    forward: Callable[[Sequence[Part], dict[int, PrefixStore]], _T],
    tokens_at_once: int,
    done: Callable[[_T], None],
    most_documents: int | None = None,
) -> int:
    """Have ``forward`` run over all documents of some groups, and tell ``done`` what each call gave; returns the tokens
    a forward had in the end: when memory runs out it is tried again at half of them, down to one document. Raises
    InputError: one document alone does not fit into memory."""
    packer = Packer(groups, most_documents)
    stores: dict[int, PrefixStore] = {}
    with runner.attached():
        while packer:
            at = packer.at
            parts = packer.take(tokens_at_once, prefix_kept=bool(stores))
            answers: _T | None = None
            try:
                answers = forward(parts, stores)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if sum(len(part.documents) for part in parts) == 1:
                    raise InputError(
                        "out of memory on a single document; use a smaller model, a narrower --dtype, or a device "
                        "with more memory"
                    ) from None
            if answers is None:
                seen = sum(document.size(part.group.prefix) for part in parts for document in part.documents)
                tokens_at_once = max(1, min(tokens_at_once, seen) // 2)
                packer.at = at
                stores.clear()
                give_back()
                continue
            done(answers)
            # The first group of this forward may have needed a store that no later one does.
            stores = {key: store for key, store in stores.items() if parts[-1].keep and key == id(parts[-1].group)}
    return tokens_at_once


def tree_of(runner: Runner, parts: Sequence[Part], stores: dict[int, PrefixStore]) -> PrefixTree:
    """The layout of a forward; a prefix that the next one needs too gets its place in ``stores``."""
    last = parts[-1]
    if last.keep and last.group.prefix and last.encode_prefix:
        room = max(document.size(last.group.prefix) for document in last.group.documents)
        stores[id(last.group)] = PrefixStore(last.group.prefix, room)
    return PrefixTree(parts, stores, runner.device)


def _forward(runner: Runner, parts: Sequence[Part], stores: dict[int, PrefixStore]) -> list[tuple[int, Answer]]:
    tree = tree_of(runner, parts, stores)
    rows: list[int] = []
    targets: list[tuple[int, int, int]] = []  # (which of rows, token, which of requests)
    requests: list[int] = []
    documents = [document for part in parts for document in part.documents]
    for document, end, starts in zip(documents, tree.context_ends, tree.branch_starts, strict=True):
        rows.append(end)
        first = len(rows) - 1
        for branch, start in zip(document.branches, starts, strict=True):
            targets.append((first, branch.tokens[0], len(requests)))
            for offset, token in enumerate(branch.tokens[1:]):
                rows.append(start + offset)
                targets.append((len(rows) - 1, token, len(requests)))
            requests.append(branch.request)
    targets.sort()
    which, tokens, owner = torch.tensor(targets, device=runner.device).unbind(1)
    weight = runner.output_weight()
    if weight is not None:
        hidden = runner.hidden(tree, tree.tokens, tree.positions, rows)
        found, best = _read_in_blocks(hidden, weight, which, tokens)
    else:
        found, best = _read_in_rows(runner.logits(tree, tree.tokens, tree.positions, rows), which, tokens)
    sums = torch.zeros(len(requests), dtype=torch.float64).index_add_(0, owner.cpu(), found.double().cpu())
    misses = torch.zeros(len(requests), dtype=torch.long).index_add_(0, owner.cpu(), (~best).long().cpu())
    totals = zip(requests, sums.tolist(), misses.tolist(), strict=True)
    return [(request, (total, missed == 0)) for request, total, missed in totals]


def _read_in_rows(pieces: Iterable[Tensor], which: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_read` for logits that come in pieces of rows; ``which`` is ascending and counts over all pieces."""
    found: list[tuple[Tensor, Tensor]] = []
    row = taken = 0
    for logits in pieces:
        upto = taken + int((which[taken:] < row + len(logits)).sum())
        found.append(_read(logits, which[taken:upto] - row, tokens[taken:upto]))
        row, taken = row + len(logits), upto
    log_probabilities, greedy = zip(*found, strict=True)
    return torch.cat(log_probabilities), torch.cat(greedy)


def _read_in_blocks(hidden: Tensor, weight: Tensor, rows: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_read`, from hidden states (r, h) and the output layer's weight (vocabulary, h), block by block.

    The sum of exponentials is kept relative to the highest logit so far (online softmax, Milakov and Gimelshein 2018).
    """
    highest = hidden.new_full((len(hidden),), -torch.inf)
    total = hidden.new_zeros(len(hidden))
    given = hidden.new_empty(len(tokens))
    for start in range(0, len(weight), VOCABULARY_BLOCK):
        logits = torch.nn.functional.linear(hidden, weight[start : start + VOCABULARY_BLOCK])
        here = ((tokens >= start) & (tokens < start + logits.shape[1])).nonzero()[:, 0]
        given[here] = logits[rows[here], tokens[here] - start]
        higher = torch.maximum(highest, logits.amax(-1))
        total.mul_((highest - higher).exp_()).add_(logits.sub_(higher[:, None]).exp_().sum(-1))
        highest = higher
    return given - highest[rows] - total.log()[rows], given >= highest[rows]


def _read(logits: Tensor, rows: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of tokens at rows of logits (r, vocabulary), and whether each is the arg-max there.

    Maximum, exponential and sum one after the other: ``torch.logsumexp`` is several times slower on a CPU."""
    exact = logits.dtype == torch.float32
    logits = logits.float()
    highest = logits.amax(-1, keepdim=True)
    given = logits[rows, tokens]
    best = given >= highest[rows, 0]
    if not exact:  # equal logits are common in half precision: the first one wins
        ties = best.nonzero()[:, 0]
        best[ties] = logits[rows[ties]].argmax(-1) == tokens[ties]
    total = logits.sub_(highest).exp_().sum(-1).log_() if exact else (logits - highest).exp().sum(-1).log()
    return given - highest[rows, 0] - total[rows], best
