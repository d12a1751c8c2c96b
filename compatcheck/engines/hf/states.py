"""Hidden states of a model at the tokens of texts, and the output layer that makes logits of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from compatcheck.engines.hf import memory
from compatcheck.engines.hf.attention import PrefixStore
from compatcheck.engines.hf.head import Head, scale_and_cap
from compatcheck.engines.hf.packing import Document, Group, Part, group_documents
from compatcheck.engines.hf.runner import Runner, longest_text
from compatcheck.engines.hf.scoring import LEAST_SAVING, run_groups, tree_of
from compatcheck.errors import InputError

if TYPE_CHECKING:
    from compatcheck.engines.hf.engine import HFEngine

_AT_ONCE = 64
"""Inputs given to an output layer at a time to find out what it computes."""


@dataclass(frozen=True)
class Text:
    """Tokens of which those from ``start`` (at least 1) on count; each is predicted from the ones before it."""

    tokens: tuple[int, ...]
    start: int

    @property
    def count(self) -> int:
        return len(self.tokens) - self.start

    @property
    def written(self) -> tuple[int, list[int]]:
        """As JSON holds it."""
        return self.start, list(self.tokens)


def hidden_states(engine: HFEngine, texts: Sequence[Text], runner: Runner | None) -> Tensor:
    """Hidden states after the final norm, of the active adapter, where each token that counts is predicted: (n, d), in
    the order of the texts. Without a ``runner`` by plain forwards. Raises InputError: one text alone does not fit into
    memory, or the model does not call its output layer."""
    limit = longest_text(engine.config)
    found: dict[int, Tensor] = {}
    if runner is not None and runner.gives_states:
        short = [text for text in texts if limit is None or len(text.tokens) <= limit]
        found |= _packed(engine, short, runner) if short else {}
    rest = [text for text in texts if id(text) not in found]
    if rest:
        found |= _plain(engine, rest)
    return torch.cat([found[id(text)] for text in texts])


def _packed(engine: HFEngine, texts: Sequence[Text], runner: Runner) -> dict[int, Tensor]:
    documents = [Document(text.tokens[:-1]) for text in texts]
    text_of = {id(document): text for document, text in zip(documents, texts, strict=True)}
    groups = []
    for group in group_documents(documents, LEAST_SAVING):
        # States of a prefix are not handed out: it ends before the first token that counts.
        shared = min(group.prefix, *(text_of[id(document)].start - 1 for document in group.documents))
        groups.append(Group(shared if shared >= LEAST_SAVING else 0, group.documents))
    found: dict[int, Tensor] = {}

    def forward(parts: Sequence[Part], stores: dict[int, PrefixStore]) -> dict[int, Tensor]:
        tree = tree_of(runner, parts, stores)
        read = [text_of[id(document)] for part in parts for document in part.documents]
        rows: list[int] = []
        for text, end in zip(read, tree.context_ends, strict=True):
            rows.extend(range(end - text.count + 1, end + 1))
        states = runner.hidden(tree, tree.tokens, tree.positions, rows).split([text.count for text in read])
        return {id(text): part for text, part in zip(read, states, strict=True)}

    engine.tokens_at_once = run_groups(runner, groups, forward, engine.tokens_at_once, found.update, engine.most)
    return found


def _plain(engine: HFEngine, texts: Sequence[Text]) -> dict[int, Tensor]:
    """By whole forwards of texts of about the same length. What follows a text in a batch has no bearing on it."""
    order = sorted(texts, key=lambda text: -len(text.tokens))
    found: dict[int, Tensor] = {}
    size = engine.most or max(1, engine.tokens_at_once // len(order[0].tokens))
    while order:
        batch = order[:size]
        longest = len(batch[0].tokens) - 1
        rows = [[*text.tokens[:-1], *[0] * (longest + 1 - len(text.tokens))] for text in batch]
        try:
            states = _into_head(engine, torch.tensor(rows, device=engine.device))
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise InputError("out of memory on a single text; use a smaller model or a narrower --dtype") from None
            size = max(1, len(batch) // 2)
            memory.give_back()
            continue
        found |= {id(text): row[text.start - 1 : len(text.tokens) - 1] for text, row in zip(batch, states, strict=True)}
        order = order[size:]
    return found


def _into_head(engine: HFEngine, tokens: Tensor) -> Tensor:
    """What reaches the output layer in a forward: (texts, tokens, d). Logits are made of the last token alone."""
    found: list[Tensor] = []

    def keep(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        found.append(given[0])
        return (given[0][:, -1:], *given[1:])

    layer = _layer(engine)
    handle = layer.register_forward_pre_hook(keep)
    try:
        engine._model_call(tokens)
    finally:
        handle.remove()
    if len(found) != 1 or found[0].shape[:2] != tokens.shape:
        raise _unknown(engine)
    return found[0].detach()


def _layer(engine: HFEngine) -> Any:
    layer = engine.base.get_output_embeddings()
    if layer is None:
        raise _unknown(engine)
    return layer


def _unknown(engine: HFEngine) -> InputError:
    return InputError(
        f"{type(engine.base).__name__}: its logits are not its output layer applied to its last hidden states, so "
        "--metric kl cannot be made; leave out kl for this architecture"
    )


@torch.no_grad()
def output_layer(engine: HFEngine, tokens: Sequence[int]) -> Head:
    """The output layer as the active adapter makes it, held against the model's own logits on some tokens.

    A layer that is quantised or that an adapter works on is asked what it makes of every unit vector. Raises
    InputError: the model's logits are not what the layer makes of the hidden states."""
    layer = _layer(engine)
    given = torch.tensor([list(tokens)], device=engine.device)
    hidden = _into_head(engine, given)[0]
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    # packed numbers behind a tensor's interface (torchao) are no matrix either
    dense = type(getattr(weight, "data", None)) is Tensor and weight is not None and weight.is_floating_point()
    if type(layer) is not torch.nn.Linear or not dense:
        weight, bias = _as_matrix(layer, hidden)
    assert weight is not None
    head = Head(weight.detach(), None if bias is None else bias.detach(), *scale_and_cap(engine.base.config))
    own = engine._model_call(given)[0].float()
    made = head.logits(hidden).float()
    near = 1e-4 if hidden.dtype in (torch.float32, torch.float64) else 3e-2
    if own.shape != made.shape or not torch.allclose(own, made, rtol=near, atol=near * float(own.abs().max())):
        raise _unknown(engine)
    return head


def _as_matrix(layer: Any, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    width = hidden.shape[-1]
    none = layer(hidden.new_zeros(1, width))[0]
    columns = []
    for start in range(0, width, _AT_ONCE):
        units = hidden.new_zeros(min(_AT_ONCE, width - start), width)
        units[torch.arange(len(units)), torch.arange(start, start + len(units))] = 1
        columns.append((layer(units) - none).T)
    return torch.cat(columns, dim=1).contiguous(), none if bool(none.any()) else None
