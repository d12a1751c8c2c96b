"""Micro-batches. Which documents share one is settled once, from the seed; an epoch shuffles their order.

So every forward pass of a teacher over a micro-batch is the same computation in every epoch, and what was cached is
what would be computed online, to the bit.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from compatcheck_train.loss.old_term import Text
from compatcheck_train.rows import Item, Row, make_items

_WINDOW = 32
"""Micro-batches among which documents are sorted by length, so that little is padding."""


@dataclass(frozen=True)
class Plan:
    """All micro-batches: those trained on come first, those of validation after them."""

    items: tuple[tuple[Item, ...], ...]
    training: int
    context_weight: float

    @property
    def validation(self) -> int:
        return len(self.items) - self.training

    def batch(self, index: int) -> Batch:
        """The tensors of a micro-batch, on the CPU."""
        return collate(self.items[index], index, self.context_weight)

    def retold(self, tokenizer: Any, rows: str, max_length: int) -> Plan:
        """The same documents in the same micro-batches, in another tokenizer's tokens."""
        flat = [item.example for group in self.items for item in group]
        items = iter(make_items(tokenizer, flat, rows, max_length))
        return replace(self, items=tuple(tuple(next(items) for _ in group) for group in self.items))

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
        return [
            item for item in items if any(len(r.ids) > (1 if context_weight else max(1, r.answer)) for r in item.rows)
        ]

    fit, hold = useful(training), useful(validation)
    random.Random(seed).shuffle(fit)
    groups: list[tuple[Item, ...]] = []
    for start in range(0, len(fit), size * _WINDOW):
        near = sorted(fit[start : start + size * _WINDOW], key=lambda item: item.length)
        groups += [tuple(near[i : i + size]) for i in range(0, len(near), size)]
    count = len(groups)
    hold.sort(key=lambda item: item.length)
    groups += [tuple(hold[i : i + size]) for i in range(0, len(hold), size)]
    return Plan(tuple(groups), count, context_weight)


@dataclass(frozen=True)
class Batch:
    """R rows padded on the right to L tokens, and the N positions that are trained.

    Padding comes after everything a causal model looks at, so there is no attention mask. ``select`` (N,) are indices
    into the flattened (R, L) hidden states: those that predict ``targets`` (N,). ``rows`` (N,) is the row and ``steps``
    (N,) the index of the target in it; ``answer`` and ``end`` (N,) say whether the target belongs to the answer (the
    added end-of-sequence token included) and whether it is that token; ``weight`` (N,) is the base weight.
    ``groups`` are the rows of each item.
    """

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

    @property
    def texts(self) -> list[Text]:
        return [Text(row.context, row.text, row.eos) for row in self.flat]


def first_trained(row: Row, context_weight: float) -> int:
    """Index of the first token of a row that is trained; nothing predicts a row's very first."""
    return 1 if context_weight else max(1, row.answer)


def collate(items: Sequence[Item], index: int, context_weight: float) -> Batch:
    rows = [row for item in items for row in item.rows]
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    parts: list[tuple[Tensor, ...]] = []
    for number, row in enumerate(rows):
        length = len(row.ids)
        ids[number, :length] = torch.tensor(row.ids)
        steps = torch.arange(first_trained(row, context_weight), length)
        answer = steps >= row.answer
        end = (steps == length - 1) & row.eos
        weight = torch.where(answer, 1.0, float(context_weight))
        parts.append(
            (number * width + steps - 1, ids[number, steps], torch.full_like(steps, number), steps, answer, end, weight)
        )
    select, targets, numbers, steps, answer, end, weight = (torch.cat(column) for column in zip(*parts, strict=True))
    groups, start = [], 0
    for item in items:
        groups.append(range(start, start + len(item.rows)))
        start += len(item.rows)
    return Batch(index, ids, select, targets, numbers, steps, answer, end, weight, tuple(groups), tuple(items))
