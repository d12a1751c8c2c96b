"""What a report shows of all instances where not all of them are at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 41
"""Bars of a smooth metric's histogram: odd, so that one lies around zero."""
_STEPS = (1, 2, 2.5, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class Gains:
    """Histogram of the gains of all scored instances.

    Discrete metrics have three bars around −1, 0 and +1; smooth ones :data:`BINS` of equal width from ``-limit`` to
    ``limit``.
    """

    limit: float
    counts: tuple[int, ...]
    worse: int
    better: int

    @property
    def edges(self) -> NDArray[np.float64]:
        """Bounds of the bars, one more than there are."""
        return edges_of(self.limit, len(self.counts))


@dataclass(frozen=True)
class Overview:
    """The whole of a comparison whose ``instances`` are a part of the rows."""

    rows: int
    """Instances in all, as ``instances.parquet`` holds them."""
    gains: Gains | None
    """None where nothing was scored."""


def gains_of(gains: NDArray[np.float64], kind: str) -> Gains | None:
    """The histogram of gains that are finite; None where there are none."""
    if not len(gains):
        return None
    limit = 1.5 if kind == "discrete" else round_up(float(np.abs(gains).max()) or 1.0)
    bars = 3 if kind == "discrete" else BINS
    counts, _ = np.histogram(gains, edges_of(limit, bars))
    return Gains(limit, tuple(counts.tolist()), int((gains < 0).sum()), int((gains > 0).sum()))


def edges_of(limit: float, bars: int) -> NDArray[np.float64]:
    """Bounds of so many bars of equal width."""
    return np.linspace(-limit, limit, bars + 1)


def together(one: Gains | None, other: Gains | None) -> Gains | None:
    """The histogram of both; they have the same bars, as those of a discrete metric always do."""
    if one is None or other is None:
        return one or other
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Gains(one.limit, counts, one.worse + other.worse, one.better + other.better)


def round_up(value: float) -> float:
    """The next number of the form 1, 2, 2.5, 4, 5, 6, 8 or 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in _STEPS if step * power >= value * (1 - 1e-9))
