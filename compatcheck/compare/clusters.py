"""Grouped instances: several questions on one passage are right or wrong together, so they count for less than as many
single ones.

Rates keep their intervals, at the effective number of instances: n over the design effect, which is the variance of the
rate by clusters (linearised, Woodruff 1971) over the one that independent instances would have (Kish 1965; the
combination is compared by Franco et al. 2019). One-sided bounds are Clopper's and Pearson's at that number, or fewer
where few clusters tell of it, times (z/t)² (Korn & Graubard 1998), with Student's t for so many clusters. Means have
Student's t, with one degree of freedom less than there are clusters, on the linearised standard error (Cameron, Gelbach
& Miller 2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.compare.intervals import (
    Flags,
    Floats,
    exact,
    net_lower,
    newcombe,
    relative,
    relative_bounds,
    wilson,
    z_values,
)
from compatcheck.compare.means import Numbers, judging
from compatcheck.compare.metrics import RATES
from compatcheck.compare.pairing import Pairs
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import QUADRANTS, ClusterCount, Estimate, Slice
from compatcheck.compare.significance import sign_flip
from compatcheck.compare.slices import check_field, field_values, text_of
from compatcheck.compare.special import stdtr, stdtrit
from compatcheck.errors import InputError
from compatcheck.records import TaskRun

FEW = 30  # with fewer clusters their spread is badly known, and a note says so
LEAST = 5  # fewer clusters settle no budget, and give no p-value of a slice


@dataclass(frozen=True)
class Clusters:
    """The cluster of every scored pair; ``codes`` has shape (n,) and numbers from 0 to below ``count``."""

    field: str
    codes: NDArray[np.intp]
    count: int

    @property
    def shown(self) -> ClusterCount:
        """What the report says of them."""
        return ClusterCount(self.field, self.count, int(np.bincount(self.codes, minlength=1).max()))

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """Sums of values of the scored pairs by cluster, shape (count,)."""
        return np.bincount(self.codes, values.astype(np.float64), self.count).astype(np.float64)


def find_clusters(field: str, old: TaskRun, new: TaskRun, pairs: Pairs, scored: Flags) -> Clusters:
    """Number the pairs by the values of a field; a pair without a value is a cluster of its own.
    Raises InputError: a field that the records do not have, or all pairs in one cluster."""
    check_field(field, old, new, option="--cluster-by")
    values = field_values(field, old, new, pairs)[scored].reset_index(drop=True)
    if values.dtype == object:
        values = values.map(text_of, na_action="ignore")
    codes, distinct = pd.factorize(values)
    codes = codes.astype(np.intp)
    alone = codes < 0
    codes[alone] = len(distinct) + np.arange(int(alone.sum()))
    count = len(distinct) + int(alone.sum())
    if count == 1 and len(codes) > 1:
        raise InputError(
            f"--cluster-by {field}: all {len(codes):,} instances of task '{old.task}' are in one cluster, which shows "
            "nothing of how clusters differ"
        )
    return Clusters(field, codes, count)


def effective_size(part: Flags, of: Flags, clusters: Clusters) -> tuple[float, int]:
    """How many independent instances the rate of ``part`` in ``of`` is worth, and in how many clusters ``of`` is.

    Never more than there are. Where all instances agree (no flip, or nothing but flips) the spread cannot be seen, and
    every cluster counts as if it were wholly dependent: (Σ m)² / Σ m² for clusters of m instances.
    """
    sizes, hits = clusters.sums(of), clusters.sums(part & of)
    held = sizes > 0
    n, groups = float(sizes.sum()), int(held.sum())
    rate = float(hits.sum()) / n
    if groups < 2 or rate in (0.0, 1.0):
        return n * n / float(sizes @ sizes), groups
    residual = (hits - rate * sizes)[held]
    variance = groups / (groups - 1) * float(residual @ residual) / (n * n)
    return (min(n, rate * (1 - rate) / variance) if variance > 0 else n), groups


def _judged_size(size: float, seen: Flags, of: Flags, clusters: Clusters) -> float:
    """The effective size for one-sided bounds: no larger than the clusters that tell of their spread allow.

    ``seen`` flags what is rare. The design effect of the clusters that hold any is averaged with that of one cluster
    which is wholly dependent: from few of them it is badly known, and too small just where few were seen.
    """
    sizes = clusters.sums(of)
    n = float(sizes.sum())
    telling = int((clusters.sums(seen & of) > 0).sum())
    whole = float(sizes @ sizes) / n
    return min(size, n * (telling + 1) / (telling * n / size + whole))


def _quantiles(groups: int, confidence: float) -> tuple[float, float]:
    """Of Student's t with one degree of freedom less than there are clusters: two-sided and one-sided."""
    return float(stdtrit(groups - 1, 0.5 + confidence / 2)), float(stdtrit(groups - 1, confidence))


def _worth(size: float, groups: int, confidence: float) -> float:
    """The effective size for a bound by normal quantiles, where the spread is known from so many clusters only."""
    return size * (z_values(confidence)[1] / _quantiles(groups, confidence)[1]) ** 2


def _exact(rate: float, size: float, groups: int, confidence: float) -> tuple[float, float]:
    worth = _worth(size, groups, confidence)
    return exact(rate * worth, worth, confidence)


def _judged(figure: Estimate, at: Callable[[float], tuple[float, float]], confidence: float) -> Estimate:
    lower, upper = at(confidence)
    return replace(figure, lower=lower, upper=upper, one_sided=at)


def clustered_rate(figure: Estimate, part: Flags, of: Flags, clusters: Clusters, confidence: float) -> Estimate:
    """The same rate with an interval by clusters; from 0 to 1 where it is of one cluster alone."""
    if figure.value is None:
        return figure
    size, groups = effective_size(part, of, clusters)
    if groups < 2:
        return replace(figure, low=0.0, high=1.0, lower=0.0, upper=1.0, effective=size, one_sided=None)
    low, high = wilson(figure.value * size, size, _quantiles(groups, confidence)[0])
    judged = _judged_size(size, part if figure.value <= 0.5 else ~part, of, clusters)
    at = partial(_exact, figure.value, judged, groups)
    return _judged(replace(figure, low=low, high=high, effective=size), at, confidence)


def clustered_figures(
    metrics: Mapping[str, Estimate], found: Sorted, clusters: Clusters, *, confidence: float, resamples: int, seed: int
) -> tuple[dict[str, Estimate], dict[str, float | None]]:
    """The same metrics with intervals by clusters, and the test by them: the signs of whole clusters are exchanged."""
    found = found.take(found.scored)
    test = sign_flip(clusters.sums(found.gain), resamples, np.random.default_rng([seed, 1]))
    done = dict(metrics)
    for name in RATES:
        if name in metrics and (share := found.rate(name)) is not None:
            done[name] = clustered_rate(metrics[name], *share, clusters, confidence)
    if len(found.gain) > 0 and found.names == QUADRANTS:
        done |= _differences(done, found, clusters, confidence, resamples, seed)
    elif len(found.gain) > 0:
        done |= _means(done, Numbers(found.old, found.new, found.gain, found.codes), clusters, confidence)
    return done, {"permutation_p": test}


def _differences(
    metrics: Mapping[str, Estimate], found: Sorted, clusters: Clusters, confidence: float, resamples: int, seed: int
) -> dict[str, Estimate]:
    """PFR − NFR and relative NFR with the bounds of single instances, both at the effective size."""
    groups = clusters.count
    if groups < 2:
        return {}
    net = np.sign(found.gain)
    n = len(net)
    counts = np.array([found.counts[name] for name in QUADRANTS], dtype=np.float64)
    spread = float(net.var())
    residual = clusters.sums(net - net.mean())
    variance = groups / (groups - 1) * float(residual @ residual) / (n * n)
    sizes = clusters.sums(np.ones(n))
    size = n * n / float(sizes @ sizes) if spread == 0 else n if variance <= 0 else min(n, spread / variance)
    bc, pf, nf, bw = counts * (size / n)
    low, high = newcombe(bc, pf, nf, bw, _quantiles(groups, confidence)[0])
    figure = replace(metrics["net"], low=low, high=high, effective=size)
    size = _judged_size(size, net != 0, np.ones(n, dtype=bool), clusters)
    done = {"net": _judged(figure, partial(_net, counts / n, size, groups), confidence)}
    figure = metrics["relative_nfr"]
    if figure.value is not None:
        size = metrics["nfr"].effective or n
        bounds = relative(counts * (size / n), confidence, resamples, seed)
        figure = replace(figure, low=bounds.low, high=bounds.high, effective=size)
        at = partial(_relative, counts / n, size, groups, resamples, seed)
        done["relative_nfr"] = _judged(figure, at, confidence)
    return done


def _net(shares: Floats, size: float, groups: int, confidence: float) -> tuple[float, float]:
    worth = _worth(size, groups, confidence)
    bc, pf, nf, bw = shares * size
    upper = newcombe(bc, pf, nf, bw, _quantiles(groups, confidence)[1])[1]
    return net_lower(pf * worth / size, nf * worth / size, worth, confidence), upper


def _relative(
    shares: Floats, size: float, groups: int, resamples: int, seed: int, confidence: float
) -> tuple[float, float]:
    return relative_bounds(shares * _worth(size, groups, confidence), resamples, seed, confidence)


def _means(
    metrics: Mapping[str, Estimate], numbers: Numbers, clusters: Clusters, confidence: float
) -> dict[str, Estimate]:
    """Every mean is a ratio of two sums over clusters: Student's t on its linearised error.

    One-sided bounds are no tighter than those of as many single instances, which allow for a loss that is rare.
    """
    old, new, gain, _ = numbers
    every = np.ones(len(gain), dtype=bool)
    parts = {
        "score_old": (old, every),
        "score_new": (new, every),
        "mean_difference": (gain, every),
        "mean_gain": (gain, numbers.are("positive_flip")),
        "mean_regression": (-gain, numbers.are("negative_flip")),
    }
    single = judging(numbers)
    done = {}
    for name, (values, part) in parts.items():
        done[name] = clustered_mean(metrics[name], values, part, clusters, single.get(name), confidence)
    return done


def clustered_mean(
    figure: Estimate,
    values: Floats,
    part: Flags,
    clusters: Clusters,
    single: Callable[[float], tuple[float, float]] | None,
    confidence: float,
) -> Estimate:
    """The same mean of ``values`` in ``part`` with an interval by clusters; ``single`` bounds that of single ones."""
    totals, counts = clusters.sums(values * part), clusters.sums(part)
    groups = int((counts > 0).sum())
    if figure.value is None or groups < 2 or single is None:
        return replace(figure, low=None, high=None, lower=None, upper=None, one_sided=None)
    residual = totals - totals.sum() / counts.sum() * counts
    error = math.sqrt(groups / (groups - 1) * float(residual @ residual)) / float(counts.sum())
    reach = error * float(stdtrit(groups - 1, 0.5 + confidence / 2))
    at = partial(_mean, figure.value, error, groups, single)
    return _judged(replace(figure, low=figure.value - reach, high=figure.value + reach), at, confidence)


def _mean(
    value: float, error: float, groups: int, single: Callable[[float], tuple[float, float]], confidence: float
) -> tuple[float, float]:
    lower, upper = single(confidence)
    reach = error * float(stdtrit(groups - 1, confidence))
    return min(lower, value - reach), max(upper, value + reach)


def clustered_slice(
    clusters: Clusters, confidence: float, part: Slice, inside: Flags, down: Flags, right: Flags | None
) -> Slice:
    """A slice with its figures by clusters; flags of its pairs, of negative flips and of what OLD had right."""
    lost = part.lost
    if lost is not None and right is not None:
        lost = clustered_rate(lost, down, inside & right, clusters, confidence)
    nfr = clustered_rate(part.nfr, down, inside, clusters, confidence)
    return replace(part, nfr=nfr, p=_worse_than_rest(down, inside, clusters), lost=lost)


def _worse_than_rest(down: Flags, inside: Flags, clusters: Clusters) -> float | None:
    """One-sided p of "this slice flips negatively more often than the rest", by clusters.

    Student's t for the difference of the two rates. Its standard error is that by clusters of the residuals about the
    rate of all, as the null hypothesis has it: those about a part's own rate vanish for a slice within a cluster.
    None where the slice or the rest lies in fewer than :data:`LEAST` clusters.
    """
    size, rest = int(inside.sum()), int((~inside).sum())
    groups = min(int((clusters.sums(part) > 0).sum()) for part in (inside, ~inside))
    if groups < LEAST:
        return None
    difference = float(down[inside].mean() - down[~inside].mean())
    residual = (down - down.mean()) * np.where(inside, 1 / size, -1 / rest)
    sums = clusters.sums(residual)
    error = math.sqrt(clusters.count / (clusters.count - 1) * float(sums @ sums))
    return 1.0 if error == 0 else float(stdtr(groups - 1, -difference / error))
