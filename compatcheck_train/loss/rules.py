"""What a strategy sees of a token, and what it answers: the weight of every term there. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Facts:
    """What a rule may look at, each of shape (positions,); what a strategy does not ask for is None.

    Log-probabilities are of the gold token, at T = 1. The totals are those of the position's whole sequence (the sum
    over its trained answer positions)."""

    answer: Tensor
    rows: Tensor
    student_right: Any = None
    student_logprob: Any = None
    old_right: Any = None
    old_logprob: Any = None
    student_total: Any = None
    old_total: Any = None

    def at(self, chosen: Any) -> Facts:
        known = {name: value[chosen] for name, value in vars(self).items() if value is not None}
        return replace(self, **known)


@dataclass(frozen=True)
class Weights:
    """Weight of every term at every position, each (positions,) or None for 0 everywhere.

    ``mixture``: one divergence from (w_old·p_old + w_new·p_new)/(w_old + w_new), times w_old + w_new, in place of two.
    """

    old: Tensor | None = None
    new: Tensor | None = None
    ce: Tensor | None = None
    mixture: bool = False


Rule = Callable[[Facts], Weights]


@dataclass(frozen=True)
class Parts:
    """What a micro-batch gave: the sum of the loss over positions or documents, and counts: ``followed`` of ``seen``
    positions (or documents) followed the old model; on ``right`` the student was right."""

    loss: Tensor
    right: int = 0
    followed: int = 0
    seen: int = 0
