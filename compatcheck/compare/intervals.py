"""Intervals: for display, and the one-sided bounds that gates judge by, both at the same confidence level.

Rates: Wilson for display, Clopper–Pearson to judge. A paired difference: Newcombe for display and to fail, the bound of
:func:`net_lower` to pass. Ratios and means: resampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compatcheck.compare.result import Estimate
from compatcheck.compare.roots import crossing
from compatcheck.compare.special import betaincc, betaincinv, ndtri

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = tuple[int, ...]  # both correct, positive flip, negative flip, both wrong

LARGE = 50_000
"""Up to this many values a mean is bootstrapped; above it the normal approximation loses less than the bootstrap's own
Monte Carlo error (about 3 % of the half-width at 2,000 resamples)."""


class Bounds(NamedTuple):
    """``low``/``high`` bound the two-sided interval; ``lower``/``upper`` are one-sided bounds."""

    low: float
    high: float
    lower: float
    upper: float


def z_values(confidence: float) -> tuple[float, float]:
    """Normal quantiles of the two-sided interval and of the one-sided bound (1.96 and 1.64 at 0.95)."""
    return float(ndtri(0.5 + confidence / 2)), float(ndtri(confidence))


def wilson(count: float, of: float, z: float) -> tuple[float, float]:
    """Wilson score limits of ``count`` in ``of`` (Wilson 1927); ``count`` may be fractional, as in planning.

    Zero successes still have an upper limit, and the limits never leave [0, 1].
    """
    rate, square = count / of, z * z
    centre = rate + square / (2 * of)
    spread = z * math.sqrt(rate * (1 - rate) / of + square / (4 * of * of))
    scale = 1 + square / of
    # At the ends the limit is exactly 0 or 1; the subtraction would leave a rounding error.
    low = 0.0 if count <= 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if count >= of else min(1.0, (centre + spread) / scale)
    return low, high


def exact(count: float, of: float, confidence: float) -> tuple[float, float]:
    """One-sided bounds of ``count`` in ``of``, each at ``confidence`` (Clopper & Pearson 1934, Biometrika 26:404).

    Each errs at most 1 − confidence of the time, for every n and rate. ``count`` and ``of`` may be fractional, as an
    effective number of instances is (Korn & Graubard 1998).
    """
    lower = 0.0 if count <= 0 else float(betaincinv(count, of - count + 1, 1 - confidence))
    upper = 1.0 if count >= of else float(betaincinv(count + 1, of - count, confidence))
    return lower, upper


def rate(count: int, of: int, confidence: float, why: str = "no pair could be scored") -> Estimate:
    """A proportion with Wilson's interval and exact one-sided bounds; undefined, with ``why``, when ``of`` is 0."""
    if of == 0:
        return Estimate(None, count=int(count), of=0, why=why)
    at = partial(exact, int(count), int(of))
    low, high = wilson(count, of, z_values(confidence)[0])
    return Estimate(count / of, low, high, int(count), int(of), *at(confidence), one_sided=at)


def newcombe(both: float, first: float, second: float, neither: float, z: float) -> tuple[float, float]:
    """Limits of p1 − p2 for paired proportions: Newcombe (1998), Statistics in Medicine 17:2635, method 10.

    ``first`` counts the pairs in which only the first succeeds, ``second`` those in which only the second does;
    counts may be fractional, as an effective number of instances is.
    """
    n = both + first + second + neither
    p1, p2 = (both + first) / n, (both + second) / n
    low1, high1 = wilson(both + first, n, z)
    low2, high2 = wilson(both + second, n, z)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    correlation = 0.0
    if product:
        determinant = both * neither - first * second
        # Continuity correction of the correlation, towards zero and never across it.
        corrected = determinant if determinant < 0 else max(determinant - n / 2, 0.0)
        correlation = corrected / math.sqrt(product)

    def combined(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    difference = (first - second) / n
    down, up = combined(p1 - low1, high2 - p2), combined(high1 - p1, p2 - low2)
    return max(-1.0, difference - down), min(1.0, difference + up)


_NODES, _WEIGHTS = (np.array([1, 0])[:, None] + np.stack(np.polynomial.legendre.leggauss(128))) / 2
"""Points of (0, 1) and their weights: an integral by Gauss and Legendre."""


def net_lower(positive: float, negative: float, n: float, confidence: float) -> float:
    """Lower bound of PFR − NFR, for showing that it is not below a budget: where :func:`net_below` is 1 − confidence.

    It is at most the score bound of Tango (1998), whose error reaches 6.8 % where flips go one way
    (docs/statistics.md).
    """
    if positive <= 0:
        return -exact(negative, n, confidence)[1]
    high = (positive - negative) / n
    error = 1 - confidence
    if high <= -1 or net_below(positive, negative, n, high) <= error:
        return max(-1.0, high)
    return crossing(lambda bound: net_below(positive, negative, n, bound) - error, -1.0, high, 1e-10)


def net_below(positive: float, negative: float, n: float, bound: float) -> float:
    """p-value of "PFR − NFR is at most ``bound``".

    The test of Gaffke (2005; Learned-Miller & Thomas 2019, arXiv:1905.06208) for the mean of gains in {−1, 0, 1}: the
    probability that the mean is at most ``bound`` when the n gains and one more of −1 have Dirichlet(1, …, 1) weights.
    Without a positive flip it is the exact binomial one of NFR. Counts may be fractional.
    """
    rest = n - positive - negative
    if positive <= 0:
        return 1.0 if bound >= 0 or rest <= 0 else float(betaincc(negative + 1, rest, min(1.0, -bound)))
    # Of the weight of all flips, F ~ Beta, the negative ones have the share U ~ Beta: the mean is F·(1 − 2U).
    balance = 1 - 2 * betaincinv(negative + 1, positive, _NODES)
    flips = positive + negative + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip(np.abs(bound / balance), 0, 1)
    beyond = betaincc(flips, rest, share) if rest > 0 else (share < 1).astype(float)
    if bound < 0:
        return float(_WEIGHTS @ np.where(balance < 0, beyond, 0.0))
    return float(_WEIGHTS @ np.where(balance < 0, 1.0, 1 - beyond))


def net_bounds(counts: Sequence[float], confidence: float) -> tuple[float, float]:
    """One-sided bounds of PFR − NFR: :func:`net_lower`, and Newcombe's upper limit."""
    both, positive, negative, neither = counts
    upper = newcombe(both, positive, negative, neither, z_values(confidence)[1])[1]
    return net_lower(positive, negative, sum(counts), confidence), upper


def difference(counts: Counts, confidence: float) -> Bounds:
    """Bounds of PFR − NFR: Newcombe's interval, and one-sided :func:`net_bounds`."""
    both, positive, negative, neither = counts
    return Bounds(
        *newcombe(both, positive, negative, neither, z_values(confidence)[0]), *net_bounds(counts, confidence)
    )


def relative(counts: Sequence[float] | Floats, confidence: float, resamples: int, seed: int) -> Bounds:
    """Bounds of relative NFR, by resampling the four quadrant shares from Dirichlet distributions.

    As for :func:`net_lower` one more pair is added where it speaks against the bound, a negative or a positive flip for
    the upper ones and a pair without a flip for the lower ones, and the wider of the two counts. The plain multinomial
    bootstrap is not used: with no negative flip seen its interval is [0, 0]. With half a pair in every quadrant the
    upper bound misses in 10 % of samples of 30 where one quadrant is empty, against 4 % for this one.
    """

    return _relative(tuple(float(count) for count in counts), confidence, resamples, seed)


@lru_cache(maxsize=4096)  # many small comparisons have the same counts
def _relative(counts: tuple[float, ...], confidence: float, resamples: int, seed: int) -> Bounds:
    def drawn(extra: tuple[int, ...]) -> Bounds:
        cells = np.asarray(counts, dtype=np.float64) + extra
        weights = np.random.default_rng(seed).standard_gamma(cells, (resamples, 4))
        both, _, negative, wrong = (weights / weights.sum(axis=1, keepdims=True)).T
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.nan_to_num(negative / ((both + negative) * (negative + wrong)), nan=0.0, posinf=np.inf)
        return percentiles(shares, confidence)

    both, _, negative, wrong = counts
    value = 0.0 if negative == 0 else negative * sum(counts) / ((both + negative) * (negative + wrong))
    # Where the one pair that was not seen would lie: relative NFR then is larger, or smaller.
    most, least = [drawn((0, 0, 1, 0)), drawn((0, 1, 0, 0))], [drawn((1, 0, 0, 0)), drawn((0, 0, 0, 1))]
    return Bounds(
        min(value, *(each.low for each in least)),
        max(value, *(each.high for each in most)),
        min(value, *(each.lower for each in least)),
        max(value, *(each.upper for each in most)),
    )


def relative_bounds(
    counts: Sequence[float] | Floats, resamples: int, seed: int, confidence: float
) -> tuple[float, float]:
    """The one-sided ones of :func:`relative`."""
    found = relative(counts, confidence, resamples, seed)
    return found.lower, found.upper


def percentiles(samples: Floats, confidence: float) -> Bounds:
    """Percentile bounds of resampled values."""
    tail = 1 - confidence
    low, high, lower, upper = np.quantile(samples, (tail / 2, 1 - tail / 2, tail, 1 - tail))
    return Bounds(float(low), float(high), float(lower), float(upper))


def normal(mean: float, error: float, confidence: float) -> Bounds:
    """Bounds of a mean with standard error ``error``."""
    two, one = z_values(confidence)
    return Bounds(mean - two * error, mean + two * error, mean - one * error, mean + one * error)


def bootstrap_sums(quantities: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Sums over ``resamples`` draws of n pairs with replacement, for k quantities: (k, n) → (resamples, k)."""
    width, n = quantities.shape
    sums = np.empty((resamples, width))
    for row in sums:
        times_drawn = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        # No matrix product: its threads cost more than they bring, and the last digits change with their number.
        row[:] = np.einsum("n,kn->k", times_drawn, quantities)
    return sums


def mean_bounds(values: Floats, confidence: float, resamples: int, rng: np.random.Generator) -> Bounds | None:
    """Bounds of the mean of ``values``: bootstrap up to :data:`LARGE` values, normal approximation above.

    None for a single value, which says nothing of its spread.
    """
    n = len(values)
    if n < 2:
        return None
    if n > LARGE:
        return normal(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n), confidence)
    return percentiles(bootstrap_sums(values[None, :], resamples, rng)[:, 0] / n, confidence)
