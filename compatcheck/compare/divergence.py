"""The divergence of next-token distributions as figures: means over tokens, with intervals by documents.

Tokens of one document are not independent: a mean is a ratio of two sums over documents, judged by Student's t on its
linearised error. Divergences are skewed, a few documents having most of it, and a bound by t alone would err more often
than it says: Hall's transformation (1992, Journal of the Royal Statistical Society B 54:221) corrects for the skewness
that was seen. The upper bound of a mean divergence is no lower than Gaffke's (:mod:`compatcheck.compare.means`) for one
more document as bad as the worst one that was seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.compare.clusters import Clusters, clustered_rate
from compatcheck.compare.intervals import Floats
from compatcheck.compare.means import MeanOf
from compatcheck.compare.result import Comparison, Divergence, Estimate
from compatcheck.compare.slices import text_of
from compatcheck.compare.special import stdtrit
from compatcheck.records import KL, TokenDivergence

PERCENTILES = (50, 90, 99, 99.9)


@dataclass(frozen=True)
class Spread:
    """What bounds on a ratio of two sums over ``groups`` groups need: its standard error and skewness."""

    value: float
    error: float
    skew: float
    groups: int

    @classmethod
    def of(cls, totals: Floats, sizes: Floats) -> Spread:
        """Of Σ totals / Σ sizes."""
        groups, whole = len(totals), float(sizes.sum())
        value = float(totals.sum()) / whole
        residual = totals - value * sizes
        largest = float(np.abs(residual).max())
        scaled = residual / largest if largest > 0 else residual  # squares of what is tiny would be 0
        squares = float(scaled @ scaled)
        skew = float((scaled**3).mean()) / (squares / groups) ** 1.5 if squares > 0 else 0.0
        error = largest * math.sqrt(groups / (groups - 1) * squares) / whole if groups > 1 else math.nan
        return cls(value, error, skew, groups)

    def __call__(self, confidence: float) -> tuple[float, float]:
        """Lower and upper bound, each at ``confidence``."""
        t = float(stdtrit(self.groups - 1, confidence))
        return self.value - self.error * self._untwisted(t), self.value - self.error * self._untwisted(-t)

    def _untwisted(self, t: float) -> float:
        """The studentised mean whose transformed value is ``t``."""
        a = self.skew / (3 * math.sqrt(self.groups))
        if abs(a) < 1e-9:
            return t
        return (math.copysign(abs(1 + 3 * a * (t - a / 2)) ** (1 / 3), 1 + 3 * a * (t - a / 2)) - 1) / a


def with_divergence(
    comparisons: Sequence[Comparison], found: Sequence[TokenDivergence], cluster_by: str | None = None
) -> list[Comparison]:
    """The comparisons, of which the first of every task has the divergence on its texts: it is of the task, whatever
    the answers are scored by."""
    left = {each.task: each for each in found}
    done = []
    for comparison in comparisons:
        mine = left.pop(comparison.task, None)
        done.append(comparison if mine is None else _with(comparison, mine, cluster_by))
    return done


def _with(comparison: Comparison, found: TokenDivergence, cluster_by: str | None) -> Comparison:
    confidence = comparison.confidence
    groups = _groups(comparison, found, cluster_by)
    codes = groups[found.documents]
    clusters = Clusters(cluster_by or "document", codes.astype(np.intp), int(groups.max()) + 1)
    every = np.ones(len(codes), dtype=np.bool_)
    sizes = clusters.sums(every)
    mean = _mean(Positive, clusters.sums(found.kl), sizes, len(codes), confidence)
    drop = _mean(Spread, clusters.sums(found.logprob_old - found.logprob_new), sizes, len(codes), confidence)
    count = int(found.same_top.sum())
    same = clustered_rate(
        Estimate(count / len(codes), count=count, of=len(codes)), found.same_top, every, clusters, confidence
    )
    percentiles = {f"{each:g}": float(value) for each, value in
                   zip(PERCENTILES, np.percentile(found.kl, PERCENTILES), strict=True)}  # fmt: skip
    about = Divergence(
        found.texts, len(found.doc_ids), len(codes), percentiles | {"max": float(found.kl.max())}, same,
        _perplexity(found.logprob_old), _perplexity(found.logprob_new), _exponential(drop), found.worst,
    )  # fmt: skip
    return replace(comparison, metrics={**comparison.metrics, KL: mean}, kl=about)


def _perplexity(logprobs: Floats) -> float:
    return float(np.exp(-logprobs.mean()))


def _groups(comparison: Comparison, found: TokenDivergence, cluster_by: str | None) -> NDArray[np.intp]:
    """The group of every document: itself, or its value of the field that instances are clustered by."""
    if cluster_by is None:
        return np.arange(len(found.doc_ids), dtype=np.intp)
    values: Any = comparison.instances.set_index("doc_id")[cluster_by]
    mine = values[~values.index.duplicated()].reindex(list(found.doc_ids)).map(text_of, na_action="ignore")
    codes, distinct = pd.factorize(mine)
    alone = codes < 0
    codes = codes.astype(np.intp)
    codes[alone] = len(distinct) + np.arange(int(alone.sum()))
    return codes


def _mean(kind: type[Spread] | type[Positive], totals: Floats, sizes: Floats, of: int, confidence: float) -> Estimate:
    """A mean over tokens, with bounds by documents or clusters of them."""
    value, groups = float(totals.sum() / sizes.sum()), float(len(sizes))
    if groups < 2:
        return Estimate(value, of=of, effective=groups)
    at = kind.of(totals, sizes)
    low, high = at(0.5 + confidence / 2)
    return Estimate(value, low, high, None, of, *at(confidence), effective=groups, one_sided=at)


@dataclass(frozen=True)
class Positive:
    """Bounds on a mean divergence: not below 0, and wide enough for one more document like the worst one."""

    spread: Spread
    largest: float
    worst: MeanOf
    """Of the documents' shares of the largest one."""

    @classmethod
    def of(cls, totals: Floats, sizes: Floats) -> Positive:
        each = totals * (len(sizes) / float(sizes.sum()))
        largest = float(each.max())
        return cls(Spread.of(totals, sizes), largest, MeanOf.of(each / (largest or 1.0), (0.0, 1.0)))

    def __call__(self, confidence: float) -> tuple[float, float]:
        lower, upper = self.spread(confidence)
        return max(0.0, lower), max(upper, self.largest * self.worst(confidence)[1])


def _exponential(figure: Estimate) -> Estimate:
    """exp of a mean and of its bounds: of log-probabilities, a ratio of perplexities."""
    bounds: Mapping[str, float | None] = {
        name: None if (value := getattr(figure, name)) is None else math.exp(value)
        for name in ("value", "low", "high", "lower", "upper")
    }
    return replace(figure, **bounds, one_sided=None)  # type: ignore[arg-type]
