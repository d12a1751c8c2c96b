"""Smooth metrics: the gain D(x) = how much better NEW scores than OLD on x (Echterhoff et al. 2024)."""

from __future__ import annotations

import numpy as np

from compatcheck.compare.intervals import LARGE, Bounds, Flags, Floats, bootstrap_sums, mean_bounds, percentiles, rate
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
    better. Intervals: bootstrap over the pairs, percentile; see :data:`~compatcheck.compare.intervals.LARGE`.
    """
    n = len(gain)
    bounds = _bounds(old, new, gain, up, down, confidence, resamples, np.random.default_rng(seed))

    def mean(name: str, total: float, count: int, why: str = "no pair could be scored") -> Estimate:
        if count == 0:
            return Estimate(None, count=0, of=n, why=why)
        found = bounds[name]
        if found is None:
            return Estimate(total / count, count=count, of=n)
        return Estimate(total / count, found.low, found.high, count, n, lower=found.lower, upper=found.upper)

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


def _bounds(
    old: Floats,
    new: Floats,
    gain: Floats,
    up: Flags,
    down: Flags,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, Bounds | None]:
    """Bounds of the five means; small comparisons resample the pairs once for all of them."""
    n = len(gain)
    means = {"score_old": old, "score_new": new, "mean_difference": gain}
    parts = {"mean_gain": (gain, up), "mean_regression": (-gain, down)}
    found: dict[str, Bounds | None]
    if n < 2 or n > LARGE:
        found = {name: mean_bounds(values, confidence, resamples, rng) for name, values in means.items()}
        for name, (values, chosen) in parts.items():
            found[name] = mean_bounds(values[chosen], confidence, resamples, rng)
        return found
    quantities = [*means.values(), *(values * chosen for values, chosen in parts.values()), up, down]
    sums = bootstrap_sums(np.stack(quantities).astype(np.float64), resamples, rng)
    found = {name: percentiles(sums[:, place] / n, confidence) for place, name in enumerate(means)}
    for place, (name, (_, chosen)) in enumerate(parts.items()):
        found[name] = _ratio(sums[:, 3 + place], sums[:, 5 + place], int(chosen.sum()), confidence)
    return found


def _ratio(totals: Floats, counts: Floats, observed: int, confidence: float) -> Bounds | None:
    """Bounds of a mean over a part of the pairs; draws that hold none of that part have no mean and are left out."""
    if observed < 2:
        return None
    held = counts > 0
    return percentiles(totals[held] / counts[held], confidence)
