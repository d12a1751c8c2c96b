"""Intervals: Wilson for rates, Newcombe for a paired difference, resampling for ratios and means.

Every function returns :class:`Bounds`: two-sided limits for display and one-sided limits for gates, both at the same
confidence level.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from compatcheck.compare.result import Estimate

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = tuple[int, int, int, int]
"""Both correct, positive flip, negative flip, both wrong."""

LARGE = 50_000
"""Up to this many values a mean is bootstrapped; above it the normal approximation is used.

There the bootstrap's own Monte Carlo error (about 3 % of the half-width at 2,000 resamples) is larger than what the
approximation loses.
"""


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


def rate(count: int, of: int, confidence: float, why: str = "no pair could be scored") -> Estimate:
    """A proportion with its Wilson interval; undefined, with the reason ``why``, when ``of`` is 0."""
    if of == 0:
        return Estimate(None, count=int(count), of=0, why=why)
    two_sided, one_sided = z_values(confidence)
    low, high = wilson(count, of, two_sided)
    lower, upper = wilson(count, of, one_sided)
    return Estimate(count / of, low, high, int(count), int(of), lower=lower, upper=upper)


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
    down = _combined(p1 - low1, high2 - p2, correlation)
    up = _combined(high1 - p1, p2 - low2, correlation)
    difference = (first - second) / n
    return max(-1.0, difference - down), min(1.0, difference + up)


def _combined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))


def difference(counts: Counts, confidence: float) -> Bounds:
    """Bounds of PFR − NFR."""
    two_sided, one_sided = z_values(confidence)
    return Bounds(*newcombe(*counts, two_sided), *newcombe(*counts, one_sided))


def relative(
    counts: tuple[float, float, float, float], confidence: float, resamples: int, rng: np.random.Generator
) -> Bounds:
    """Bounds of relative NFR, by resampling the four quadrant shares from Dirichlet(counts + 1/2).

    The plain multinomial bootstrap of the counts is not used: with no negative flip seen its interval is [0, 0], and in
    simulation with 1 expected flip in 50 pairs its 95 % interval covered 64 % of the time, against 96 % for this one.
    """
    shares = rng.dirichlet(np.asarray(counts, dtype=np.float64) + 0.5, size=resamples)
    both, _, negative, wrong = shares.T
    return percentiles(negative / ((both + negative) * (negative + wrong)), confidence)


def percentiles(samples: Floats, confidence: float) -> Bounds:
    """Percentile bounds of resampled values."""
    tail = 1 - confidence
    low, high, lower, upper = np.quantile(samples, (tail / 2, 1 - tail / 2, tail, 1 - tail))
    return Bounds(float(low), float(high), float(lower), float(upper))


def normal(mean: float, error: float, confidence: float) -> Bounds:
    """Bounds of a mean with standard error ``error``."""
    two_sided, one_sided = z_values(confidence)
    return Bounds(
        mean - two_sided * error, mean + two_sided * error, mean - one_sided * error, mean + one_sided * error
    )


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
