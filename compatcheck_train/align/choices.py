"""A model's log-likelihood of every choice, in its own tokens: all that strategies over choices ask of the old model.

They need no alignment: a choice is a text, whichever tokens it is read in. ``train`` makes the same figures from the
documents retold in the old model's tokens, and keeps them; this is for one's own scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from compatcheck_train.examples import Example
from compatcheck_train.rows import make_items
from compatcheck_train.teachers import OnlineTeacher, Wants
from compatcheck_train.teachers.online import model_states
from compatcheck_train.training.batches import Plan
from compatcheck_train.training.head import head_of


def choice_logliks(
    model: Any, tokenizer: Any, examples: Sequence[Example], *, batch_size: int = 8, max_length: int = 1024
) -> list[Tensor]:
    """For every example (choices,) the log-likelihood of each choice after the context, summed over the choice's tokens
    as lm-eval does (no end-of-sequence token), in float32.

    Args:
        model: a causal language model, on its device.
        batch_size: examples in one forward pass.
        max_length: tokens of a sequence at most; what is longer loses the beginning of its context.

    Raises:
        InputError: a choice alone is longer than that.
    """
    items = make_items(tokenizer, examples, "choices", max_length)
    order = sorted(range(len(items)), key=lambda n: items[n].length)
    groups = [order[n : n + batch_size] for n in range(0, len(order), batch_size)]
    plan = Plan(tuple(tuple(items[n] for n in group) for group in groups), len(groups), 0.0)
    teacher = OnlineTeacher(model_states(model, nullcontext), head_of(model), plan, Wants(states=False, facts=True))
    found: dict[int, Tensor] = {}
    for index, group in enumerate(groups):
        batch, given = plan.batch(index), teacher.batch(index).logprob
        assert given is not None
        logprob = given.cpu() * (batch.answer & ~batch.end)
        sums = torch.zeros(len(batch.flat)).index_add(0, batch.rows, logprob)
        found |= {n: sums[rows.start : rows.stop] for n, rows in zip(group, batch.groups, strict=True)}
    return [found[n] for n in range(len(items))]
