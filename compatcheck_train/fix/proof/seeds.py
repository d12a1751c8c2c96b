"""Several trainings of one fix, each with its own seed: their mean, with documents and seeds taken as drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compatcheck.compare.intervals import Floats, bootstrap_sums, percentiles
from compatcheck.compare.result import Estimate
from compatcheck_train.fix.proof.change import NOTHING, RESAMPLES

Figures = tuple[Floats, Floats]
"""Whether a document is a negative flip, and its score: each (trainings, documents)."""


@dataclass(frozen=True)
class Seeds:
    """Means over the trainings of ``numbers``: changes as a proof has them (``nfr``, ``nfr_relative``, ``score``).

    ``each`` has the changes of compat against NEW by seed, ``each_control`` those of the control.
    """

    numbers: tuple[int, ...]
    changes: Mapping[str, Estimate]
    against_control: Mapping[str, Estimate]
    control_changes: Mapping[str, Estimate]
    each: tuple[Mapping[str, float], ...]
    each_control: tuple[Mapping[str, float], ...]


def over_seeds(numbers: Sequence[int], new: Figures, compat: Figures, control: Figures | None, seed: int = 0) -> Seeds:
    """Compare all trainings with NEW, of shape (1, n), and with their controls of the same seed."""
    none: dict[str, Estimate] = {}
    return Seeds(
        tuple(numbers),
        _changes(new, compat, seed),
        none if control is None else _changes(control, compat, seed),
        none if control is None else _changes(new, control, seed),
        _each(new, compat),
        () if control is None else _each(new, control),
    )


def _changes(before: Figures, after: Figures, seed: int) -> dict[str, Estimate]:
    return {
        "nfr": _mean(after[0] - before[0], seed),
        "nfr_relative": _relative(before[0], after[0], seed),
        "score": _mean(after[1] - before[1], seed),
    }


def _each(before: Figures, after: Figures) -> tuple[Mapping[str, float], ...]:
    nfr, score = ((a - b).mean(axis=1) for a, b in zip(after, before, strict=True))
    return tuple({"nfr": float(one), "score": float(other)} for one, other in zip(nfr, score, strict=True))


def _between(by_seed: Floats, rng: np.random.Generator) -> Floats:
    """Draws of how far the mean over these seeds lies from that over all: Student's t, as there are few of them."""
    count = len(by_seed)
    return by_seed.std(ddof=1) / count**0.5 * rng.standard_t(count - 1, RESAMPLES)


def _mean(change: Floats, seed: int) -> Estimate:
    """Mean of a change (K, n): documents are resampled with all their seeds, seeds drawn as :func:`_between` says."""
    n = change.shape[1]
    if n < 2:
        return Estimate(None, of=0, why=NOTHING)
    rng = np.random.default_rng([seed, 4])
    drawn = bootstrap_sums(change.mean(axis=0)[None], RESAMPLES, rng)[:, 0] / n
    bounds = percentiles(drawn + _between(change.mean(axis=1), rng), 0.95)
    return Estimate(float(change.mean()), bounds.low, bounds.high, of=n, lower=bounds.lower, upper=bounds.upper)


def _relative(before: Floats, after: Floats, seed: int) -> Estimate:
    """Change of a rate as a share of it, drawn alike."""
    n = before.shape[1]
    if n < 2 or not before.any():
        return Estimate(None, of=0, why=NOTHING if n < 2 else "there was nothing that could fall")
    rng = np.random.default_rng([seed, 4])
    sums = bootstrap_sums(np.stack([before.mean(axis=0), after.mean(axis=0)]), RESAMPLES, rng) / n
    apart = _between((after - before).mean(axis=1), rng)
    drawn = np.maximum((sums[:, 1] + apart) / np.maximum(sums[:, 0], 1 / n), 0) - 1  # a rate is not below 0
    bounds = percentiles(drawn, 0.95)
    value = float(after.mean() / before.mean() - 1)
    return Estimate(
        value, min(bounds.low, value), max(bounds.high, value), of=n, lower=bounds.lower, upper=bounds.upper
    )
