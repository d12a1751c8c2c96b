"""Paired changes between two models on the same documents: of a rate, of a mean, and a rate's change relative to it."""

from __future__ import annotations

import numpy as np

from compatcheck.compare.intervals import Bounds, Flags, Floats, mean_bounds, newcombe, percentiles, z_values
from compatcheck.compare.result import Estimate

RESAMPLES = 2000
NOTHING = "no document was scored for both"


def rate_change(before: Flags, after: Flags, confidence: float = 0.95) -> Estimate:
    """Share of ``after`` minus share of ``before``, over the same documents; arrays of shape (n,).

    Interval: Newcombe (1998), method 10 for paired proportions. ``count`` is the difference of the two counts.
    """
    n = len(before)
    if n == 0:
        return Estimate(None, of=0, why=NOTHING)
    both, only_after = int((before & after).sum()), int((~before & after).sum())
    only_before = int((before & ~after).sum())
    counts = (both, only_after, only_before, n - both - only_after - only_before)
    bounds = Bounds(*(limit for z in z_values(confidence) for limit in newcombe(*counts, z)))
    count = only_after - only_before
    return Estimate(count / n, bounds.low, bounds.high, count, n, lower=bounds.lower, upper=bounds.upper)


def relative_rate_change(before: Flags, after: Flags, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The same as a share of ``before``: −0.4 is a fall by 40 % (Δ%NFR of Echterhoff et al. 2024).

    Interval: the four cells of the paired table are drawn from Dirichlet(counts + 1/2), as for relative NFR. Undefined
    where ``before`` is true nowhere.
    """
    n, base = len(before), int(before.sum())
    if n == 0:
        return Estimate(None, of=0, why=NOTHING)
    if base == 0:
        return Estimate(None, count=int(after.sum()), of=0, why="there was nothing that could fall")
    both, only_after = int((before & after).sum()), int((~before & after).sum())
    cells = np.array([both, only_after, base - both, n - base - only_after], dtype=np.float64)
    shares = np.random.default_rng([seed, 2]).dirichlet(cells + 0.5, size=RESAMPLES)
    drawn = (shares[:, 1] - shares[:, 2]) / (shares[:, 0] + shares[:, 2])
    bounds = percentiles(drawn, confidence)
    value = (only_after - (base - both)) / base
    return Estimate(
        value,
        min(bounds.low, value),
        max(bounds.high, value),
        only_after - (base - both),
        base,
        lower=min(bounds.lower, value),
        upper=max(bounds.upper, value),
    )


def mean_change(before: Floats, after: Floats, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Mean of ``after − before`` over the same documents, with a paired bootstrap interval."""
    n = len(before)
    if n == 0:
        return Estimate(None, of=0, why=NOTHING)
    change = after - before
    bounds = mean_bounds(change, confidence, RESAMPLES, np.random.default_rng([seed, 3]))
    value = float(change.mean())
    if bounds is None:
        return Estimate(value, count=n, of=n)
    return Estimate(value, bounds.low, bounds.high, n, n, lower=bounds.lower, upper=bounds.upper)
