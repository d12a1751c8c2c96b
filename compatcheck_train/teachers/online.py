"""A teacher that runs in every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compatcheck.engines.hf import memory
from compatcheck_train.loss.divergence import token_facts
from compatcheck_train.teachers.base import TeacherBatch, Wants
from compatcheck_train.training.batches import Batch, Plan
from compatcheck_train.training.head import Head, decoder_of, head_of
from compatcheck_train.training.prefixes import trained_states

States = Callable[[Batch], Tensor]
"""From a micro-batch to hidden states at its trained positions: (N, d)."""


class OnlineTeacher:
    """Runs a model over the micro-batch that is asked for."""

    kind = "online"

    def __init__(self, states: States, head: Head, plan: Plan, wants: Wants, free: Callable[[], None] | None = None):
        self.plan = plan
        self.head: Head | None = head
        self.wants = wants
        self._states: States | None = states
        self._free = free

    def batch(self, index: int) -> TeacherBatch:
        assert self._states is not None and self.head is not None
        batch = self.plan.batch(index).to(self.head.weight.device)
        with torch.no_grad():
            hidden = self._states(batch)
            right, logprob = token_facts(hidden, self.head, batch.targets) if self.wants.facts else (None, None)
        return TeacherBatch(hidden if self.wants.states else None, None if logprob is None else logprob.float(), right)

    def close(self) -> None:
        self._states = self.head = None
        if self._free is not None:
            self._free()
        memory.give_back()


def model_states(model: Any, autocast: Callable[[], Any], shared_prefix: bool = True) -> States:
    """Hidden states of a causal language model in evaluation mode."""
    decoder = decoder_of(model)

    def states(batch: Batch) -> Tensor:
        with autocast():
            return trained_states(decoder, batch, shared_prefix)

    return states


def frozen(model: Any, adapter: str | None) -> Head:
    """The output layer of a teacher, without gradients."""
    head = head_of(model, adapter)
    return Head(head.weight.detach(), None if head.bias is None else head.bias.detach(), head.scale, head.cap)
