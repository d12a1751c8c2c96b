"""What a teacher gives for a micro-batch, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from compatcheck_train.training.batches import Plan
from compatcheck_train.training.head import Head


@dataclass(frozen=True)
class Wants:
    """What is asked of a teacher: hidden states for whole distributions, or two numbers per position."""

    states: bool
    facts: bool

    def __bool__(self) -> bool:
        return self.states or self.facts

    def __or__(self, other: Wants) -> Wants:
        return Wants(self.states or other.states, self.facts or other.facts)


@dataclass(frozen=True)
class TeacherBatch:
    """A teacher at the N trained positions of a micro-batch, in its own tokens: hidden states after the final norm
    (N, d); log-probability of the gold token (N,) in float32; whether it ranks that first (N,). None: not asked for."""

    hidden: Tensor | None = None
    logprob: Tensor | None = None
    right: Tensor | None = None


class Teacher(Protocol):
    """A teacher of either kind. ``plan`` holds the micro-batches in its own tokens; ``head`` is its output layer, None
    where no states were asked for."""

    plan: Plan
    head: Head | None
    kind: str

    def batch(self, index: int) -> TeacherBatch:
        """What was asked for, on the student's device."""

    def close(self) -> None:
        """Free what is held."""
