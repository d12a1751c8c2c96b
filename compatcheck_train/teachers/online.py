"""A teacher that runs in every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compatcheck.engines.hf import memory
from compatcheck.engines.hf.head import Head, decoder_of
from compatcheck_train.batches import Batch, Plan
from compatcheck_train.loss.divergence import token_facts
from compatcheck_train.loss.view import Taught
from compatcheck_train.teachers.prefixes import trained_states

Wants = frozenset[str]
"""What is asked of a teacher: ``states`` for whole distributions, ``facts``: two numbers per position."""
States = Callable[[Batch], Tensor]
"""From a micro-batch to hidden states at its trained positions: (N, d)."""


class OnlineTeacher:
    """Runs a model over the micro-batch that is asked for; ``plan`` holds the micro-batches in its own tokens."""

    def __init__(self, states: States, head: Head, plan: Plan, wants: Wants) -> None:
        self.plan, self.wants = plan, wants
        self.head: Head | None = head
        self._states: States | None = states

    def taught(self, index: int, batch: Batch | None = None) -> Taught:
        """What was asked for, on the student's device; ``batch``: the micro-batch, where it is there already."""
        assert self._states is not None and self.head is not None
        batch = batch or self.plan.batch(index).to(self.head.weight.device)
        with torch.no_grad():
            hidden = self._states(batch)
            right, logprob = token_facts(hidden, self.head, batch.targets) if "facts" in self.wants else (None, None)
        logprob = None if logprob is None else logprob.float()
        return Taught(hidden if "states" in self.wants else None, logprob, right, self.head, batch)

    def close(self) -> None:
        self._states = self.head = None
        memory.give_back()


def model_states(model: Any, autocast: Callable[[], Any], shared_prefix: bool = True) -> States:
    """Hidden states of a causal language model in evaluation mode."""
    decoder = decoder_of(model)

    def states(batch: Batch) -> Tensor:
        with autocast():
            return trained_states(decoder, batch, shared_prefix)

    return states
