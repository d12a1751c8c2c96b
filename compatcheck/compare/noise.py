"""The noise floor: how much flips between runs of one and the same model.

Every rerun is held against its partner as OLD is against NEW; nothing is changed in between, so that whatever flips is
noise of the machine (batches, kernels) or of sampling. The rates of all pairs of runs are pooled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compatcheck.compare.changes import change_figures
from compatcheck.compare.intervals import exact, wilson, z_values
from compatcheck.compare.metrics import NO_PREDICTIONS, discrete_metrics
from compatcheck.compare.pairing import pair
from compatcheck.compare.quadrants import Grade, sort_pairs
from compatcheck.compare.result import QUADRANTS, Estimate, NoiseFloor, name_of
from compatcheck.records import CONFIDENCE, Metric, OldAsReference, TaskRun

_RATES = ("nfr", "pfr", "flips", "nfr_mc", "inconsistency", "both_correct_changed", "btc", "bec", "nfi", "pfi",
          "agreement")  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """The noise floor on one task, filter and metric (``kind`` is ``discrete`` or ``smooth``)."""

    task: str
    filter: str
    metric: str
    kind: str
    floor: NoiseFloor

    @property
    def name(self) -> str:
        """``task/filter/metric``, leaving out a filter that is none."""
        return name_of(self.task, self.filter, self.metric)


@dataclass(frozen=True)
class Measurements:
    """What flips between runs of one model, on every task, filter and metric."""

    references: tuple[str, ...]
    measured: tuple[Measured, ...]
    notes: tuple[str, ...] = ()


def noise_floor(
    runs: Sequence[tuple[TaskRun, TaskRun]],
    metric: Metric,
    *,
    source: str,
    epsilon: float | None = None,
    correct_at: float | None = None,
    confidence: float = CONFIDENCE,
    grade: Grade | None = None,
) -> NoiseFloor:
    """Pool the flips of pairs of runs of the same model on the same task and filter.

    A rate is the sum of the flips over the sum of the scored instances of all pairs. Its interval is Wilson's, and
    its one-sided bounds are Clopper's and Pearson's, for as many instances as one pair has: those of another pair are
    the same instances again, so they narrow nothing.
    ``flips`` is NFR + PFR; of a smooth metric that is the share with |D| > ε.
    Raises InputError: two runs that cannot be paired."""
    found = [_rates(one, other, metric, epsilon, correct_at, confidence, grade) for one, other in runs]
    names = [name for name in (*_RATES, "changed", "noticed") if all(name in rates for rates in found)]
    return NoiseFloor(
        source=source,
        reruns=len(runs),
        n=round(sum(rates[names[0]].of or 0 for rates in found) / len(found)),
        metrics={name: _pooled([rates[name] for rates in found], confidence) for name in names},
    )


def above_noise(nfr: Estimate, noise: Estimate, reruns: int) -> float | None:
    """One-sided p-value of "NEW flips no more often than OLD does against itself"; None where a rate is undefined.

    Fisher's exact test of the negative flips against those of one rerun, the mean of ``reruns`` rounded up: they are
    the same instances again. Flips on the same instances make it the more cautious.
    """
    from scipy.stats import hypergeom

    if nfr.count is None or not nfr.of or noise.count is None or not noise.of:
        return None
    flips, size = math.ceil(noise.count / reruns), round(noise.of / reruns)
    return min(1.0, float(hypergeom.sf(nfr.count - 1, nfr.of + size, nfr.count + flips, nfr.of)))


def _rates(
    one: TaskRun,
    other: TaskRun,
    metric: Metric,
    epsilon: float | None,
    correct_at: float | None,
    confidence: float,
    grade: Grade | None,
) -> dict[str, Estimate]:
    """The rates of one pair of runs; of most their counts alone are of use."""
    found = sort_pairs(one, other, pair(one, other), metric, epsilon=epsilon, correct_at=correct_at, grade=grade)
    if isinstance(metric, OldAsReference):
        return change_figures(found.counts, None, None, confidence=confidence, resamples=100, seed=0)[0]
    n, counts, changes = int(found.scored.sum()), found.counts, found.changes
    worse, better = counts["negative_flip"], counts["positive_flip"]
    rates = {name: Estimate(None, count=count, of=n)
             for name, count in (("nfr", worse), ("pfr", better), ("flips", worse + better))}  # fmt: skip
    if found.names == QUADRANTS:
        return discrete_metrics(counts, changes, confidence=confidence, resamples=100, seed=0) | rates
    agree = None if changes is None else n - changes.changed
    why = NO_PREDICTIONS if changes is None else None
    return rates | {"agreement": Estimate(None, count=agree, of=n, why=why)}


def _pooled(figures: Sequence[Estimate], confidence: float) -> Estimate:
    """One rate of several on the same instances."""
    if any(figure.count is None for figure in figures):
        return Estimate(None, of=sum(figure.of or 0 for figure in figures), why=figures[0].why)
    count, of = (sum(getattr(figure, name) or 0 for figure in figures) for name in ("count", "of"))
    if of == 0:
        why = next((figure.why for figure in figures if figure.why), "no pair could be scored")
        return Estimate(None, count=count, of=0, why=why)
    count_each, of_each = count / len(figures), of / len(figures)
    low, high = wilson(count_each, of_each, z_values(confidence)[0])
    return Estimate(count / of, low, high, count, of, *exact(count_each, of_each, confidence))
