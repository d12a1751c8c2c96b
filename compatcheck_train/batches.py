"""Examples as tokens, exactly as lm-eval's engines make them, and micro-batches of them.

Which documents share a micro-batch is settled once, from the seed; an epoch shuffles their order. So a teacher's
forward pass over one is the same computation in every epoch, and a cached teacher equals one online to the bit.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from compatcheck.errors import InputError
from compatcheck_train.examples import Example, Pair

_WINDOW = 32
"""Micro-batches among which documents are sorted by length, so that little is padding."""


@dataclass(frozen=True)
class Row:
    """One sequence: tokens, index of the answer's first token, whether an end-of-sequence token was added, texts."""

    ids: tuple[int, ...]
    answer: int
    eos: bool
    context: str
    text: str

    def first_trained(self, context_weight: float) -> int:
        """Index of the first token that is trained; nothing predicts a row's very first."""
        return 1 if context_weight else max(1, self.answer)


@dataclass(frozen=True)
class Item:
    """One example as rows, in the order of its choices. ``gold`` is the index of the right row; ``kind`` is ``answer``
    (one row), ``choices`` or ``context`` (one row without an answer)."""

    kind: str
    rows: tuple[Row, ...]
    gold: int | None
    example: Example

    @property
    def length(self) -> int:
        return max(len(row.ids) for row in self.rows)


def make_items(tokenizer: Any, examples: Sequence[Example], rows: str, max_length: int) -> list[Item]:
    """Tokenize examples into items of the kind a strategy wants.

    ``rows``: ``answer`` (context and right answer), ``chosen`` (context and chosen answer, where there is one, else as
    ``answer``) or ``choices`` (context with every choice); without a label all choices, or the context alone. The
    beginning of a longer context than ``max_length`` is left out, as lm-eval does; InputError for an answer that is
    longer."""
    from compatcheck.engines.hf.encoding import encode_pairs

    eos = tokenizer.eos_token_id
    if tokenizer.bos_token_id is None and eos is None:
        raise InputError("the tokenizer has neither a start nor an end token; lm-eval cannot score with it either")
    wanted = [_texts(example, rows) for example in examples]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else eos
    engine = SimpleNamespace(  # as much of one as encoding wants
        tokenizer=tokenizer, tok_encode=tokenizer.encode, prefix_token_id=start, add_bos_token=None
    )
    encoded = iter(encode_pairs(engine, [pair for _, pairs, _ in wanted for pair in pairs]))
    items = []
    for example, (kind, pairs, gold) in zip(examples, wanted, strict=True):
        made = []
        for pair in pairs:
            context, answer = next(encoded)
            ends = kind != "context" and eos is not None
            tail = [*answer, *[eos] * ends]
            if len(tail) >= max_length:
                raise InputError(
                    f"document {example.doc_id}: its answer has {len(tail)} tokens, max_length is {max_length}"
                )
            context = context[len(tail) - max_length :]
            made.append(Row((*context, *tail), len(context), ends, *pair))
        if made[0].ids:
            items.append(Item(kind, tuple(made), gold, example))
    return items


def _texts(example: Example, rows: str) -> tuple[str, tuple[Pair, ...], int | None]:
    context = example.pairs[0][0]
    if rows == "chosen" and example.chosen is not None:
        return "answer", ((context, example.chosen),), 0
    if rows == "choices":
        return "choices", example.pairs, example.gold
    if example.gold is None:
        return "context", ((context, ""),), None
    return "answer", (example.pairs[example.gold],), 0


@dataclass(frozen=True)
class Batch:
    """R rows padded on the right to L tokens (a causal model needs no mask then), and the N positions that are trained.

    ``select`` (N,) are indices into the flattened (R, L) hidden states: those that predict ``targets`` (N,). ``rows``
    (N,) is the row and ``steps`` (N,) the index of the target in it; ``answer`` and ``end`` (N,) say whether the target
    belongs to the answer (the added end-of-sequence token included) and whether it is that token; ``weight`` (N,) is
    the base weight. ``groups`` are the rows of each item."""

    index: int
    ids: Tensor
    select: Tensor
    targets: Tensor
    rows: Tensor
    steps: Tensor
    answer: Tensor
    end: Tensor
    weight: Tensor
    groups: tuple[range, ...]
    items: tuple[Item, ...]

    def to(self, device: torch.device | str) -> Batch:
        moved: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    @cached_property
    def flat(self) -> list[Row]:
        return [row for item in self.items for row in item.rows]

    def by_row(self, values: Tensor, chosen: Tensor) -> Tensor:
        """(R,): the sum of values (N,) over each row's positions where ``chosen`` (N,) holds."""
        return values.new_zeros(len(self.flat)).index_add(0, self.rows, values * chosen)


@dataclass(frozen=True)
class Plan:
    """All micro-batches: those trained on come first, those of validation after them."""

    items: tuple[tuple[Item, ...], ...]
    training: int
    context_weight: float

    def batch(self, index: int) -> Batch:
        return collate(self.items[index], index, self.context_weight)

    def retold(self, tokenizer: Any, rows: str, max_length: int) -> Plan:
        """The same documents in the same micro-batches, in another tokenizer's tokens."""
        flat = [item.example for group in self.items for item in group]
        items = iter(make_items(tokenizer, flat, rows, max_length))
        return replace(self, items=tuple(tuple(next(items) for _ in group) for group in self.items))

    def positions(self, index: int) -> int:
        """Number of trained positions of a micro-batch."""
        rows = (row for item in self.items[index] for row in item.rows)
        return sum(max(0, len(row.ids) - row.first_trained(self.context_weight)) for row in rows)

    def size(self, index: int, per: str) -> float:
        """What the loss of a micro-batch is a mean over: base weights of its positions, or documents."""
        if per == "document":
            return float(len(self.items[index]))
        total = 0.0
        for item in self.items[index]:
            for row in item.rows:
                answer = max(0, len(row.ids) - max(1, row.answer))
                total += answer + self.context_weight * (len(row.ids) - 1 - answer)
        return total

    def epoch(self, seed: int, epoch: int) -> list[int]:
        """The order of the training micro-batches in an epoch: a function of seed and epoch alone."""
        order = list(range(self.training))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        return order


def make_plan(
    training: Sequence[Item], validation: Sequence[Item], size: int, seed: int, context_weight: float
) -> Plan:
    """Group items into micro-batches of ``size``, near in length. Items without a trained position are left out."""

    def useful(items: Sequence[Item]) -> list[Item]:
        return [item for item in items if any(len(r.ids) > r.first_trained(context_weight) for r in item.rows)]

    def cut(items: list[Item]) -> list[tuple[Item, ...]]:
        near = sorted(items, key=lambda item: item.length)
        return [tuple(near[i : i + size]) for i in range(0, len(near), size)]

    fit = useful(training)
    random.Random(seed).shuffle(fit)
    window = size * _WINDOW
    groups = [group for start in range(0, len(fit), window) for group in cut(fit[start : start + window])]
    return Plan((*groups, *cut(useful(validation))), len(groups), context_weight)


def collate(items: Sequence[Item], index: int, context_weight: float) -> Batch:
    rows = [row for item in items for row in item.rows]
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    parts: list[tuple[Tensor, ...]] = []
    for number, row in enumerate(rows):
        length = len(row.ids)
        ids[number, :length] = torch.tensor(row.ids)
        steps = torch.arange(row.first_trained(context_weight), length)
        answer = steps >= row.answer
        end = (steps == length - 1) & row.eos
        weight = torch.where(answer, 1.0, float(context_weight))
        place, owner = number * width + steps - 1, torch.full_like(steps, number)
        parts.append((place, ids[number, steps], owner, steps, answer, end, weight))
    select, targets, owners, steps, answer, end, weight = (torch.cat(column) for column in zip(*parts, strict=True))
    groups, start = [], 0
    for item in items:
        groups.append(range(start, start + len(item.rows)))
        start += len(item.rows)
    return Batch(index, ids, select, targets, owners, steps, answer, end, weight, tuple(groups), tuple(items))
