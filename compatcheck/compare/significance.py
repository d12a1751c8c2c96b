"""Is the change real? Exact tests of a paired change, reported beside the intervals and never gated on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compatcheck.compare.intervals import LARGE
from compatcheck.compare.result import Estimate
from compatcheck.compare.special import bdtr

_CELLS = 4_000_000  # random signs held at once: 32 MB as floats


def mcnemar(negative: int, positive: int, *, one_sided: bool = False) -> float:
    """Exact McNemar p-value of ``negative`` against ``positive`` flips: a sign test, Binomial(n, 1/2).

    ``one_sided`` asks whether there are more negative flips than chance gives. Without any flip p is 1.0 and not
    undefined: under the null hypothesis the outcome "no flip" is then the only one, so nothing is more extreme.
    """
    n = negative + positive
    if n == 0:
        return 1.0
    if one_sided:
        return float(bdtr(positive, n, 0.5))
    return min(1.0, 2 * float(bdtr(min(negative, positive), n, 0.5)))


def sign_flip(gains: NDArray[np.float64], permutations: int, rng: np.random.Generator) -> float:
    """Two-sided p-value of "the mean gain is zero": the signs of the gains are exchanged at random.

    p = (c + 1) / (permutations + 1) with c the permutations whose sum is at least as far from zero as the observed one.
    Above :data:`LARGE` non-zero gains the normal limit of the same statistic is used. No change at all gives 1.0.
    """
    sizes = np.abs(gains[gains != 0])
    if len(sizes) == 0:
        return 1.0
    observed = abs(float(gains.sum()))
    if len(sizes) > LARGE:
        return math.erfc(observed / math.sqrt(2 * float(sizes @ sizes)))
    total = float(sizes.sum())
    reached = observed - 1e-12 * total  # equal sums added in another order count as equal
    chunk = max(1, _CELLS // len(sizes))
    extreme = 0
    for start in range(0, permutations, chunk):
        rows = min(chunk, permutations - start)
        signs = rng.integers(0, 2, (rows, len(sizes)), dtype=np.int8).astype(np.float64)
        positive = np.einsum("rn,n->r", signs, sizes)
        extreme += int(np.count_nonzero(np.abs(2 * positive - total) >= reached))
    return (extreme + 1) / (permutations + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold for all of them together (Holm 1979, Scandinavian Journal of Statistics 6:65)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, least = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def p_beyond(figure: Estimate, threshold: float, most: float, *, above: bool) -> float:
    """One-sided p-value of "the figure is not beyond ``threshold``": the least error with which its bound shows it.

    1 where that is more than ``most``, the error of the bounds that the figure has; ``most`` where they are known at
    that one alone.
    """

    def shown(lower: float, upper: float) -> bool:
        return lower > threshold if above else upper < threshold

    at = figure.one_sided
    if figure.lower is None or figure.upper is None or not shown(figure.lower, figure.upper):
        return 1.0
    if at is None or shown(*at(1 - 1e-12)):
        return most if at is None else 1e-12
    low, high = math.log(1e-12), math.log(most)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if shown(*at(1 - math.exp(middle))) else (middle, high)
    return math.exp(high)
