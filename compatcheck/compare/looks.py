"""How the bounds of a budget's figure went while instances came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

Settled = Annotated[str, ("pass", "fail", "inconclusive")]


@dataclass(frozen=True)
class Look:
    """A budget's figure after ``n`` instances, with one-sided bounds that hold at all looks together."""

    n: int
    value: float | None
    lower: float
    upper: float


@dataclass(frozen=True)
class BoundPath:
    """How the bounds of a budget's figure went while instances came in.

    ``looks`` are not all of them: each has about a tenth more instances than the one before it, the last is the last.
    """

    rule: str
    threshold: float
    verdict: Settled
    decided_at: int | None  # after how many instances; None where it was not decided
    looks: tuple[Look, ...]
    unit: Annotated[str, ("share", "points", "score")] = "share"  # points: a difference of shares
