"""One-sided bounds of the mean of bounded values, valid for small samples and rare extremes.

The bound of Gaffke (2005; Learned-Miller & Thomas 2019, arXiv:1905.06208): the n values and one more at the end of
their range have Dirichlet(1, …, 1) weights, and the bound is a quantile of the weighted mean. The added value stands
for what a sample of n cannot have shown. Of zeros and ones it is the Clopper–Pearson bound; no distribution is known
for which it errs more often than it says, and it nears the bound by Student's t as n grows. A bootstrap, of any kind,
sees nothing of a loss that is not in the sample: with 1 % of losses of size 1 its bound misses the mean in 74 % of
samples of 30.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from compatcheck.compare.intervals import Floats, exact

FEW = 10
"""Fewer gains that are not zero show nothing of how large a loss may be: see :class:`MeanGain`."""
_CELLS = 2048
"""Different values that are told apart; more are spread over so many."""


def score_range(*scores: Floats) -> tuple[float, float]:
    """The range that scores are taken to have: 0 to 1 or −1 to 1 where all lie in it, else as observed."""
    known = [each for each in scores if len(each)]
    if not known:
        return 0.0, 1.0
    least, most = min(float(each.min()) for each in known), max(float(each.max()) for each in known)
    return next((ends for ends in ((0.0, 1.0), (-1.0, 1.0)) if ends[0] <= least <= most <= ends[1]),
                (least, most))  # fmt: skip


@dataclass(frozen=True)
class MeanOf:
    """Bounds of the mean of ``values``, counted ``times`` each, which lie from ``ends[0]`` to ``ends[1]``."""

    values: Floats
    times: Floats
    ends: tuple[float, float]

    @classmethod
    def of(cls, values: Floats, ends: tuple[float, float]) -> MeanOf:
        distinct, times = np.unique(values, return_counts=True)
        return cls(distinct, times.astype(np.float64), ends)

    def __call__(self, confidence: float) -> tuple[float, float]:
        """Lower and upper bound, each at ``confidence``."""
        lower = _lower(*_grouped(self.values, self.times), self.ends[0], confidence)
        upper = -_lower(*_grouped(-self.values[::-1], self.times[::-1]), -self.ends[1], confidence)
        return lower, upper


@dataclass(frozen=True)
class MeanGain:
    """Bounds of the mean gain over all pairs.

    With fewer than :data:`FEW` gains that are not zero the lower one is −(exact upper bound of the share that lost)
    times the range of the score: each of them may have lost all there is to lose.
    """

    gains: MeanOf
    lost: int
    changed: int

    def __call__(self, confidence: float) -> tuple[float, float]:
        lower, upper = self.gains(confidence)
        if self.changed < FEW:
            n = int(self.gains.times.sum())
            lower = exact(self.lost, n, confidence)[1] * self.gains.ends[0]
        return lower, upper


def mean_gain(gain: Floats, width: float) -> MeanGain:
    """Of the gains of all pairs, shape (n,); ``width`` is the range of the score."""
    lost, changed = int((gain < 0).sum()), int(np.count_nonzero(gain))
    return MeanGain(MeanOf.of(gain, (-width, width)), lost, changed)


def _grouped(values: Floats, times: Floats) -> tuple[Floats, Floats]:
    """Sorted values; very many are each split between their neighbours on a grid, which keeps the mean."""
    if len(values) <= _CELLS:
        return values, times
    step = (values[-1] - values[0]) / (_CELLS - 1)
    above = (values - values[0]) / step
    cell = np.minimum(above.astype(np.intp), _CELLS - 2)
    share = above - cell
    counts = np.bincount(cell, times * (1 - share), _CELLS) + np.bincount(cell + 1, times * share, _CELLS)
    return values[0] + step * np.arange(_CELLS), counts.astype(np.float64)


def _lower(values: Floats, times: Floats, worst: float, confidence: float) -> float:
    """The 1 − confidence quantile of the weighted mean of ``values`` and one more ``worst``."""
    if values[-1] <= worst:
        return worst
    values, times = np.append(values, worst), np.append(times, 1.0)
    high = float(values @ times / times.sum())
    if mean_below(values, times, high) <= 1 - confidence:  # hardly a spread: the quantile lies close by
        return high
    return float(
        brentq(
            lambda bound: mean_below(values, times, bound) - (1 - confidence), worst, high, xtol=1e-9 * (high - worst)
        )
    )


def mean_below(values: Floats, times: Floats, bound: float) -> float:
    """Probability that the mean of ``values`` with Dirichlet(times) weights is at most ``bound``.

    It is that of Σ E·(value − bound) ≤ 0 with gamma variables E, by the saddlepoint approximation of Lugannani and Rice
    (1980), Advances in Applied Probability 12:475.
    """
    steps = values - bound
    least, most = float(steps.min()), float(steps.max())
    if most <= 0 or least >= 0:
        return 1.0 if most <= 0 else 0.0
    low, high, tilt = 1 / least, 1 / most, 0.0
    for _ in range(100):  # the saddlepoint: the tilt at which the mean of the sum is 0
        tilted = steps / (1 - tilt * steps)
        slope, curve = float(times @ tilted), float(times @ (tilted * tilted))
        if abs(slope) <= 1e-7 * math.sqrt(curve):
            break
        low, high = (low, tilt) if slope > 0 else (tilt, high)
        tilt -= slope / curve
        if not low < tilt < high:
            tilt = (low + high) / 2
    deviance = 2 * float(times @ np.log1p(-tilt * steps))
    root = math.copysign(math.sqrt(max(deviance, 0.0)), tilt)
    spread = tilt * math.sqrt(curve)
    if abs(root) < 1e-4:  # at the mean itself
        skew = 2 * float(times @ tilted**3) / curve**1.5
        return 0.5 + skew / (6 * math.sqrt(2 * math.pi))
    density = math.exp(-root * root / 2) / math.sqrt(2 * math.pi)
    return min(1.0, max(0.0, float(ndtr(root)) + density * (1 / root - 1 / spread)))
