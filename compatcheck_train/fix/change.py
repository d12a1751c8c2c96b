"""Paired changes between two models on the same documents: of a rate, of a mean, and a rate's change relative to it;
of one training, or of several with documents and seeds taken as drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compatcheck.compare.intervals import (
    Bounds,
    Flags,
    Floats,
    bootstrap_sums,
    mean_bounds,
    newcombe,
    percentiles,
    z_values,
)
from compatcheck.compare.result import Estimate

RESAMPLES = 2000
Changes = Mapping[str, Estimate]
"""``nfr`` and ``nfr_relative`` (the fall is negative), ``score`` (positive for better), and others where known."""
Figures = tuple[Floats, Floats]
"""Whether a document is a negative flip, and its score: each (trainings, documents)."""
_NOTHING = Estimate(None, of=0, why="no document was scored for both")
_NO_FALL = "there was nothing that could fall"


def _around(value: float, bounds: Bounds, count: int | None, of: int) -> Estimate:
    """An estimate whose interval holds its value."""
    low, high = min(bounds.low, value), max(bounds.high, value)
    return Estimate(value, low, high, count, of, lower=min(bounds.lower, value), upper=max(bounds.upper, value))


def rate_change(before: Flags, after: Flags) -> Estimate:
    """Share of ``after`` minus share of ``before``, over the same documents; arrays of shape (n,). Interval: Newcombe
    (1998), method 10 for paired proportions. ``count`` is the difference of the two counts."""
    n = len(before)
    if n == 0:
        return _NOTHING
    both, gone, come = int((before & after).sum()), int((before & ~after).sum()), int((~before & after).sum())
    cells = (both, come, gone, n - both - come - gone)
    bounds = Bounds(*(limit for z in z_values(0.95) for limit in newcombe(*cells, z)))
    return _around((come - gone) / n, bounds, come - gone, n)


def relative_rate_change(before: Flags, after: Flags, seed: int = 0) -> Estimate:
    """The same as a share of ``before``: −0.4 is a fall by 40 % (Δ%NFR of Echterhoff et al. 2024). Interval: the four
    cells of the paired table are drawn from Dirichlet(counts + 1/2). Undefined where ``before`` is true nowhere."""
    n, base = len(before), int(before.sum())
    if n == 0:
        return _NOTHING
    if base == 0:
        return Estimate(None, count=int(after.sum()), of=0, why=_NO_FALL)
    both, come = int((before & after).sum()), int((~before & after).sum())
    cells = np.array([both, come, base - both, n - base - come], dtype=np.float64)
    shares = np.random.default_rng([seed, 2]).dirichlet(cells + 0.5, size=RESAMPLES)
    drawn = (shares[:, 1] - shares[:, 2]) / (shares[:, 0] + shares[:, 2])
    count = come - (base - both)
    return _around(count / base, percentiles(drawn, 0.95), count, base)


def mean_change(before: Floats, after: Floats, seed: int = 0) -> Estimate:
    """Mean of ``after − before`` over the same documents, with a paired bootstrap interval."""
    n = len(before)
    if n == 0:
        return _NOTHING
    bounds = mean_bounds(after - before, 0.95, RESAMPLES, np.random.default_rng([seed, 3]))
    value = float((after - before).mean())
    if bounds is None:
        return Estimate(value, count=n, of=n)
    return _around(value, bounds, n, n)


@dataclass(frozen=True)
class Seeds:
    """Means over the trainings of ``numbers``: changes as a proof has them (``nfr``, ``nfr_relative``, ``score``);
    ``each`` has the changes of compat against NEW by seed, ``each_control`` those of the control."""

    numbers: tuple[int, ...]
    changes: Changes
    against_control: Changes
    control_changes: Changes
    each: tuple[Mapping[str, float], ...]
    each_control: tuple[Mapping[str, float], ...]


def over_seeds(numbers: Sequence[int], new: Figures, compat: Figures, control: Figures | None, seed: int = 0) -> Seeds:
    """Compare all trainings with NEW, of shape (1, n), and with their controls of the same seed."""

    def changes(before: Figures, after: Figures) -> Changes:
        nfr, score = (mean_over_seeds(a - b, seed) for a, b in zip(after, before, strict=True))
        return {"nfr": nfr, "nfr_relative": _relative(before[0], after[0], seed), "score": score}

    def each(after: Figures) -> tuple[Mapping[str, float], ...]:
        nfr, score = ((a - b).mean(axis=1).tolist() for a, b in zip(after, new, strict=True))
        return tuple({"nfr": one, "score": other} for one, other in zip(nfr, score, strict=True))

    if control is None:
        return Seeds(tuple(numbers), changes(new, compat), {}, {}, each(compat), ())
    against, of_control = changes(control, compat), changes(new, control)
    return Seeds(tuple(numbers), changes(new, compat), against, of_control, each(compat), each(control))


def _between(by_seed: Floats, rng: np.random.Generator) -> Floats:
    """Draws of how far the mean over these seeds lies from that over all: Student's t, as there are few of them."""
    count = len(by_seed)
    return by_seed.std(ddof=1) / count**0.5 * rng.standard_t(count - 1, RESAMPLES)


def mean_over_seeds(change: Floats, seed: int) -> Estimate:
    """Mean of a change (K, n): documents are resampled with all their seeds, seeds drawn as :func:`_between` says."""
    n = change.shape[1]
    if n < 2:
        return _NOTHING
    rng = np.random.default_rng([seed, 4])
    drawn = bootstrap_sums(change.mean(axis=0)[None], RESAMPLES, rng)[:, 0] / n
    bounds = percentiles(drawn + _between(change.mean(axis=1), rng), 0.95)
    return _around(float(change.mean()), bounds, None, n)


def _relative(before: Floats, after: Floats, seed: int) -> Estimate:
    """Change of a rate as a share of it, drawn alike."""
    n = before.shape[1]
    if n < 2:
        return _NOTHING
    if not before.any():
        return Estimate(None, of=0, why=_NO_FALL)
    rng = np.random.default_rng([seed, 4])
    sums = bootstrap_sums(np.stack([before.mean(axis=0), after.mean(axis=0)]), RESAMPLES, rng) / n
    apart = _between((after - before).mean(axis=1), rng)
    drawn = np.maximum((sums[:, 1] + apart) / np.maximum(sums[:, 0], 1 / n), 0) - 1  # a rate is not below 0
    return _around(float(after.mean() / before.mean() - 1), percentiles(drawn, 0.95), None, n)
