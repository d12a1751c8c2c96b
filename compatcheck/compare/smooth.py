"""Smooth metrics: the gain D(x) = how much better NEW scores than OLD on x (Echterhoff et al. 2024)."""

from __future__ import annotations

import math

import numpy as np

from compatcheck.compare.intervals import LARGE, Flags, Floats, bootstrap_sums, normal, percentiles, rate
from compatcheck.compare.means import MeanGain, MeanOf, mean_gain, score_range
from compatcheck.compare.metrics import NO_PREDICTIONS, Changes
from compatcheck.compare.result import Estimate


def smooth_metrics(
    old: Floats,
    new: Floats,
    gain: Floats,
    up: Flags,
    down: Flags,
    changes: Changes | None,
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> dict[str, Estimate]:
    """All smooth metrics of the scored pairs; arrays of shape (n,), scores and gain in the metric's own units.

    ``up`` and ``down`` flag the pairs whose gain is above and below the dead-band.
    ``mean_gain`` (m_g) and ``mean_regression`` (m_r) average the gain over the pairs beyond the dead-band, and are
    undefined, never 0, where there are none. ``mean_difference`` is the mean gain over all pairs, positive when NEW is
    better. Intervals: bootstrap over the pairs, percentile; see :data:`~compatcheck.compare.intervals.LARGE`. One-sided
    bounds: :mod:`compatcheck.compare.means`.
    """
    n = len(gain)
    limits = _limits(old, new, gain, up, down, confidence, resamples, np.random.default_rng(seed))
    one_sided = judging(old, new, gain, up, down)

    def mean(name: str, total: float, count: int, why: str = "no pair could be scored") -> Estimate:
        if count == 0:
            return Estimate(None, count=0, of=n, why=why)
        low, high = limits[name]
        if low is None:
            return Estimate(total / count, count=count, of=n)
        at = one_sided[name]
        lower, upper = at(confidence)
        return Estimate(total / count, low, high, count, n, lower=lower, upper=upper, one_sided=at)

    def share(count: int) -> Estimate:
        return rate(count, n, confidence)

    gained, lost = int(up.sum()), int(down.sum())
    return {
        "score_old": mean("score_old", float(old.sum()), n),
        "score_new": mean("score_new", float(new.sum()), n),
        "pfr": share(gained),
        "nfr": share(lost),
        "mean_gain": mean("mean_gain", float(gain[up].sum()), gained, "no instance gained"),
        "mean_regression": mean("mean_regression", float(-gain[down].sum()), lost, "no instance regressed"),
        "mean_difference": mean("mean_difference", float(gain.sum()), n),
        "agreement": Estimate(None, of=n, why=NO_PREDICTIONS) if changes is None else share(n - changes.changed),
    }


def judging(old: Floats, new: Floats, gain: Floats, up: Flags, down: Flags) -> dict[str, MeanOf | MeanGain]:
    """The one-sided bounds of the five means, at any confidence."""
    ends = score_range(old, new)
    width = ends[1] - ends[0]
    found: dict[str, MeanOf | MeanGain] = {"mean_difference": mean_gain(gain, width)}
    for name, values, most in (
        ("score_old", old, ends),
        ("score_new", new, ends),
        ("mean_gain", gain[up], (0.0, width)),
        ("mean_regression", -gain[down], (0.0, width)),
    ):
        if len(values):
            found[name] = MeanOf.of(values, most)
    return found


_Limits = tuple[float, float] | tuple[None, None]


def _limits(
    old: Floats,
    new: Floats,
    gain: Floats,
    up: Flags,
    down: Flags,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, _Limits]:
    """Two-sided limits of the five means; small comparisons resample the pairs once for all of them."""
    n = len(gain)
    means = {"score_old": old, "score_new": new, "mean_difference": gain}
    parts = {"mean_gain": (gain, up), "mean_regression": (-gain, down)}
    if n < 2 or n > LARGE:
        chosen = means | {name: values[part] for name, (values, part) in parts.items()}
        return {name: _normal(values, confidence) for name, values in chosen.items()}
    quantities = [*means.values(), *(values * part for values, part in parts.values()), up, down]
    sums = bootstrap_sums(np.stack(quantities).astype(np.float64), resamples, rng)
    found: dict[str, _Limits] = {name: percentiles(sums[:, i] / n, confidence)[:2] for i, name in enumerate(means)}
    for place, (name, (_, part)) in enumerate(parts.items()):
        found[name] = _ratio(sums[:, 3 + place], sums[:, 5 + place], int(part.sum()), confidence)
    return found


def _normal(values: Floats, confidence: float) -> _Limits:
    if len(values) < 2:
        return None, None
    return normal(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), confidence)[:2]


def _ratio(totals: Floats, counts: Floats, observed: int, confidence: float) -> _Limits:
    """Limits of a mean over a part of the pairs; draws that hold none of that part have no mean and are left out."""
    if observed < 2:
        return None, None
    held = counts > 0
    return percentiles(totals[held] / counts[held], confidence)[:2]
