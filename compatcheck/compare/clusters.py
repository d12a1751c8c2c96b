"""Grouped instances: several questions on one passage are right or wrong together, so they count for less than as many
single ones.

Rates keep Wilson's interval, at the effective number of instances: n over the design effect, which is the variance of
the rate by clusters (linearised, Woodruff 1971) over the one that independent instances would have (Kish 1965; the
combination is compared by Franco et al. 2019). Means are resampled by whole clusters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from compatcheck.compare.intervals import (
    LARGE,
    Bounds,
    Flags,
    Floats,
    bootstrap_sums,
    newcombe,
    normal,
    percentiles,
    relative,
    wilson,
)
from compatcheck.compare.pairing import Pairs
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import QUADRANTS, ClusterCount, Estimate
from compatcheck.compare.significance import sign_flip
from compatcheck.compare.slices import check_field, field_values, text_of
from compatcheck.errors import InputError
from compatcheck.records import TaskRun

FEW = 30
"""With fewer clusters their spread is badly known, and a note says so."""


@dataclass(frozen=True)
class Clusters:
    """The cluster of every scored pair; ``codes`` has shape (n,) and numbers from 0 to below ``count``."""

    field: str
    codes: NDArray[np.intp]
    count: int

    @property
    def shown(self) -> ClusterCount:
        """What the report says of them."""
        largest = int(np.bincount(self.codes, minlength=1).max())
        return ClusterCount(self.field, self.count, largest)

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """Sums of values of the scored pairs by cluster, shape (count,)."""
        return np.bincount(self.codes, values.astype(np.float64), self.count).astype(np.float64)


def find_clusters(field: str, old: TaskRun, new: TaskRun, pairs: Pairs, scored: Flags) -> Clusters:
    """Number the pairs by the values of a field; a pair without a value is a cluster of its own.

    Raises:
        InputError: a field that the records do not have, or all pairs in one cluster.
    """
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


def _quantiles(groups: int, confidence: float) -> tuple[float, float]:
    """Of Student's t with one degree of freedom less than there are clusters: two-sided and one-sided."""
    return float(stdtrit(groups - 1, 0.5 + confidence / 2)), float(stdtrit(groups - 1, confidence))


def clustered_rate(figure: Estimate, part: Flags, of: Flags, clusters: Clusters, confidence: float) -> Estimate:
    """The same rate with an interval by clusters; from 0 to 1 where it is of one cluster alone."""
    if figure.value is None:
        return figure
    size, groups = effective_size(part, of, clusters)
    if groups < 2:
        return replace(figure, low=0.0, high=1.0, lower=0.0, upper=1.0, effective=size)
    two_sided, one_sided = _quantiles(groups, confidence)
    low, high = wilson(figure.value * size, size, two_sided)
    lower, upper = wilson(figure.value * size, size, one_sided)
    return replace(figure, low=low, high=high, lower=lower, upper=upper, effective=size)


def clustered_figures(
    metrics: Mapping[str, Estimate],
    found: Sorted,
    clusters: Clusters,
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Estimate], dict[str, float | None]]:
    """The same metrics with intervals by clusters, and the test by them: the signs of whole clusters are exchanged."""
    scored = found.scored
    gain = found.gain[scored]
    test = sign_flip(clusters.sums(gain), resamples, np.random.default_rng([seed, 1]))
    shares = _shares(found)
    done = {
        name: clustered_rate(metrics[name], *shares[name], clusters, confidence) if name in shares else metrics[name]
        for name in metrics
    }
    if len(gain) > 0:
        if found.names == QUADRANTS:
            done |= _differences(done, found, clusters, confidence, resamples, seed)
        else:
            done |= _means(done, found, clusters, confidence, resamples, seed)
    return done, {"permutation_p": test}


def _shares(found: Sorted) -> dict[str, tuple[Flags, Flags]]:
    """Numerator and denominator of every rate, as flags of the scored pairs."""
    codes = found.codes[found.scored]
    every = np.ones(len(codes), dtype=bool)
    up, down = (codes == found.names.index(name) for name in ("positive_flip", "negative_flip"))
    shares = {"nfr": (down, every), "pfr": (up, every)}
    changed = None if found.changed is None else found.changed[found.scored]
    if changed is not None:
        shares["agreement"] = (~changed, every)
    if found.names != QUADRANTS:
        return shares
    both, wrong = (codes == QUADRANTS.index(name) for name in ("both_correct", "both_wrong"))
    shares |= {
        "accuracy_old": (both | down, every),
        "accuracy_new": (both | up, every),
        "btc": (both, both | down),
        "bec": (wrong, up | wrong),
        "nfi": (down, down | wrong),
        "pfi": (up, both | up),
    }
    if changed is not None:
        shares |= {
            "nfr_mc": (down | (wrong & changed), every),
            "inconsistency": (wrong & changed, every),
            "both_correct_changed": (both & changed, every),
        }
    return shares


def _differences(
    metrics: Mapping[str, Estimate], found: Sorted, clusters: Clusters, confidence: float, resamples: int, seed: int
) -> dict[str, Estimate]:
    """PFR − NFR by Newcombe's method and relative NFR by Dirichlet draws, both at the effective size."""
    gain = found.gain[found.scored]
    net = np.sign(gain)
    n = len(net)
    counts = np.array([found.counts[name] for name in QUADRANTS], dtype=np.float64)
    spread = float(net.var())
    residual = clusters.sums(net - net.mean())
    variance = clusters.count / max(clusters.count - 1, 1) * float(residual @ residual) / (n * n)
    sizes = clusters.sums(np.ones(n))
    size = n * n / float(sizes @ sizes) if spread == 0 else n if variance <= 0 else min(n, spread / variance)
    bc, pf, nf, bw = counts * (size / n)
    two_sided, one_sided = _quantiles(clusters.count, confidence) if clusters.count > 1 else (math.inf, math.inf)
    done = {}
    if clusters.count > 1:
        low, high = newcombe(bc, pf, nf, bw, two_sided)
        lower, upper = newcombe(bc, pf, nf, bw, one_sided)
        done["net"] = replace(metrics["net"], low=low, high=high, lower=lower, upper=upper, effective=size)
    figure = metrics["relative_nfr"]
    if figure.value is not None:
        size = metrics["nfr"].effective or n
        b, p, f, w = counts * (size / n)
        found_bounds = relative((b, p, f, w), confidence, resamples, np.random.default_rng(seed))
        value = figure.value
        done["relative_nfr"] = replace(
            figure,
            low=min(found_bounds.low, value),
            high=max(found_bounds.high, value),
            lower=min(found_bounds.lower, value),
            upper=max(found_bounds.upper, value),
            effective=size,
        )
    return done


def _means(
    metrics: Mapping[str, Estimate], found: Sorted, clusters: Clusters, confidence: float, resamples: int, seed: int
) -> dict[str, Estimate]:
    """Every mean is a ratio of two sums over clusters; clusters are resampled as a whole."""
    scored = found.scored
    old, new, gain, codes = found.old[scored], found.new[scored], found.gain[scored], found.codes[scored]
    up, down = (codes == found.names.index(name) for name in ("positive_flip", "negative_flip"))
    every = np.ones(len(gain), dtype=bool)
    parts = {
        "score_old": (old, every),
        "score_new": (new, every),
        "mean_difference": (gain, every),
        "mean_gain": (gain, up),
        "mean_regression": (-gain, down),
    }
    sums = {name: (clusters.sums(values * part), clusters.sums(part)) for name, (values, part) in parts.items()}
    rng = np.random.default_rng(seed)
    draws = None
    if clusters.count <= LARGE:
        draws = bootstrap_sums(np.stack([each for pair in sums.values() for each in pair]), resamples, rng)
    done = {}
    for place, (name, (totals, counts)) in enumerate(sums.items()):
        figure = metrics[name]
        if figure.value is None or int((counts > 0).sum()) < 2:
            done[name] = replace(figure, low=None, high=None, lower=None, upper=None)
            continue
        if draws is None:
            bounds = normal(figure.value, _error(totals, counts), confidence)
        else:
            total, count = draws[:, 2 * place], draws[:, 2 * place + 1]
            held = count > 0
            bounds = percentiles(total[held] / count[held], confidence)
        done[name] = _bounded(figure, bounds)
    return done


def _error(totals: Floats, counts: Floats) -> float:
    """Standard error of a ratio of sums over clusters, linearised."""
    residual = totals - totals.sum() / counts.sum() * counts
    groups = int((counts > 0).sum())
    return math.sqrt(groups / (groups - 1) * float(residual @ residual)) / float(counts.sum())


def _bounded(figure: Estimate, bounds: Bounds) -> Estimate:
    return replace(figure, low=bounds.low, high=bounds.high, lower=bounds.lower, upper=bounds.upper)


def worse_than_rest(down: Flags, inside: Flags, clusters: Clusters) -> float | None:
    """One-sided p of "this slice flips negatively more often than the rest", by clusters; None without a rest.

    Student's t for the difference of the two rates, with a linearised standard error by clusters.
    """
    from scipy.special import stdtr

    size, rest = int(inside.sum()), int((~inside).sum())
    if size == 0 or rest == 0:
        return None
    mine, theirs = float(down[inside].mean()), float(down[~inside].mean())
    shares = np.where(inside, (down - mine) / size, -(down - theirs) / rest)
    sums = clusters.sums(shares)
    error = math.sqrt(clusters.count / max(clusters.count - 1, 1) * float(sums @ sums))
    if error < 1e-12:
        return 1.0 if mine <= theirs else None
    return float(stdtr(clusters.count - 1, -(mine - theirs) / error))
