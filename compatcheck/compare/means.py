"""Smooth metrics: means of scores and gains, with intervals, and one-sided bounds valid for small samples.

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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compatcheck.compare.intervals import LARGE, Flags, Floats, bootstrap_sums, exact, normal, percentiles, rate
from compatcheck.compare.metrics import NO_PREDICTIONS, Changes
from compatcheck.compare.result import SMOOTH_GROUPS, Estimate
from compatcheck.compare.roots import crossing
from compatcheck.compare.special import ndtr

FEW = 10  # fewer gains that are not zero show nothing of how large a loss may be: see mean_gain
_CELLS = 2048  # different values that are told apart; more are spread over so many
_Limits = tuple[float, float] | tuple[None, None]


class Numbers(NamedTuple):
    """Scores, gains and codes (places in ``SMOOTH_GROUPS``) of the scored pairs; arrays of shape (n,)."""

    old: Floats
    new: Floats
    gain: Floats
    codes: NDArray[np.int8]

    def are(self, name: str) -> Flags:
        flags: Flags = self.codes == SMOOTH_GROUPS.index(name)
        return flags


def smooth_metrics(
    numbers: Numbers, changes: Changes | None, *, confidence: float, resamples: int, seed: int
) -> dict[str, Estimate]:
    """All smooth metrics of the scored pairs, in the metric's own units (D(x) of Echterhoff et al. 2024 is the gain).

    ``mean_gain`` (m_g) and ``mean_regression`` (m_r) average the gain over the pairs beyond the dead-band, and are
    undefined, never 0, where there are none. ``mean_difference`` is the mean gain over all pairs, positive when NEW is
    better. Intervals: bootstrap over the pairs, percentile; see :data:`~compatcheck.compare.intervals.LARGE`.
    """
    old, new, gain, _ = numbers
    up, down = numbers.are("positive_flip"), numbers.are("negative_flip")
    n, gained, lost = len(gain), int(up.sum()), int(down.sum())
    limits = _limits(numbers, confidence, resamples, np.random.default_rng(seed))
    one_sided = judging(numbers)

    def mean(name: str, total: float, count: int, why: str = "no pair could be scored") -> Estimate:
        if count == 0:
            return Estimate(None, count=0, of=n, why=why)
        low, high = limits[name]
        if low is None:
            return Estimate(total / count, count=count, of=n)
        return Estimate(total / count, low, high, count, n, *one_sided[name](confidence), one_sided=one_sided[name])

    return {
        "score_old": mean("score_old", float(old.sum()), n),
        "score_new": mean("score_new", float(new.sum()), n),
        "pfr": rate(gained, n, confidence),
        "nfr": rate(lost, n, confidence),
        "mean_gain": mean("mean_gain", float(gain[up].sum()), gained, "no instance gained"),
        "mean_regression": mean("mean_regression", float(-gain[down].sum()), lost, "no instance regressed"),
        "mean_difference": mean("mean_difference", float(gain.sum()), n),
        "agreement": Estimate(None, of=n, why=NO_PREDICTIONS) if changes is None
        else rate(n - changes.changed, n, confidence),
    }  # fmt: skip


def _limits(numbers: Numbers, confidence: float, resamples: int, rng: np.random.Generator) -> dict[str, _Limits]:
    """Two-sided limits of the five means; small comparisons resample the pairs once for all of them."""
    old, new, gain, _ = numbers
    n, up, down = len(gain), numbers.are("positive_flip"), numbers.are("negative_flip")
    means = {"score_old": old, "score_new": new, "mean_difference": gain}
    parts = {"mean_gain": (gain, up), "mean_regression": (-gain, down)}
    found: dict[str, _Limits] = {}
    if n < 2 or n > LARGE:
        for name, values in (means | {name: values[part] for name, (values, part) in parts.items()}).items():
            size = len(values)
            found[name] = (None, None) if size < 2 else normal(
                float(values.mean()), float(values.std(ddof=1)) / math.sqrt(size), confidence
            )[:2]  # fmt: skip
        return found
    quantities = [*means.values(), *(values * part for values, part in parts.values()), up, down]
    sums = bootstrap_sums(np.stack(quantities).astype(np.float64), resamples, rng)
    for i, name in enumerate(means):
        found[name] = percentiles(sums[:, i] / n, confidence)[:2]
    for i, (name, (_, part)) in enumerate(parts.items()):
        totals, counts = sums[:, 3 + i], sums[:, 5 + i]
        held = counts > 0  # draws that hold none of that part have no mean and are left out
        few = int(part.sum()) < 2
        found[name] = (None, None) if few else percentiles(totals[held] / counts[held], confidence)[:2]
    return found


def judging(numbers: Numbers) -> dict[str, MeanOf | MeanGain]:
    """The one-sided bounds of the five means, at any confidence."""
    old, new, gain, _ = numbers
    ends = score_range(old, new)
    width = ends[1] - ends[0]
    found: dict[str, MeanOf | MeanGain] = {"mean_difference": mean_gain(gain, width)}
    for name, values, most in (
        ("score_old", old, ends),
        ("score_new", new, ends),
        ("mean_gain", gain[numbers.are("positive_flip")], (0.0, width)),
        ("mean_regression", -gain[numbers.are("negative_flip")], (0.0, width)),
    ):
        if len(values):
            found[name] = MeanOf.of(values, most)
    return found


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
    """Bounds of the mean gain over all pairs: see :func:`mean_gain`."""

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
    """Bounds of the mean of the gains of all pairs, shape (n,); ``width`` is the range of the score.

    With fewer than :data:`FEW` gains that are not zero the lower one is −(exact upper bound of the share that lost)
    times the range of the score: each of them may have lost all there is to lose.
    """
    return MeanGain(MeanOf.of(gain, (-width, width)), int((gain < 0).sum()), int(np.count_nonzero(gain)))


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
    error = 1 - confidence
    return crossing(lambda bound: mean_below(values, times, bound) - error, worst, high, 1e-9 * (high - worst))


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
