"""Where a function of one number crosses zero. Importing SciPy's own takes longer than a comparison of a small file."""

from __future__ import annotations

import math
from collections.abc import Callable

RELATIVE = 4 * 2.0**-52
"""Two points that are closer than this, relative to their size, are one."""
MOST_STEPS = 100


def crossing(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """A root between two points where ``function`` has different signs, by Brent's method (1973, chapter 4).

    Raises ValueError: it has the same sign at both.
    """
    before, best = low, high
    at_before, at_best = function(low), function(high)
    if at_before == 0 or at_best == 0:
        return low if at_before == 0 else high
    if (at_before < 0) == (at_best < 0):
        raise ValueError(f"no change of sign between {low} and {high}")
    beyond, at_beyond = before, at_before  # on the other side of the root
    last = step = best - before
    for _ in range(MOST_STEPS):
        if abs(at_beyond) < abs(at_best):
            before, best, beyond = best, beyond, best
            at_before, at_best, at_beyond = at_best, at_beyond, at_best
        least, half = (tolerance + RELATIVE * abs(best)) / 2, (beyond - best) / 2
        if at_best == 0 or abs(half) < least:
            return best
        tried = math.inf
        if abs(last) > least and abs(at_best) < abs(at_before):
            tried = _interpolated(best, before, beyond, at_best, at_before, at_beyond)
        if 2 * abs(tried) < min(abs(last), 3 * abs(half) - least):
            last, step = step, tried
        else:
            last = step = half
        before, at_before = best, at_best
        best += step if abs(step) > least else math.copysign(least, half)
        at_best = function(best)
        if (at_before < 0) != (at_best < 0) and at_best != 0:
            beyond, at_beyond = before, at_before
            last = step = best - before
    raise ArithmeticError(f"no root found between {low} and {high} in {MOST_STEPS} steps")


def _interpolated(
    best: float, before: float, beyond: float, at_best: float, at_before: float, at_beyond: float
) -> float:
    """The step to where a line through two points crosses zero, or an inverse parabola through three."""
    if before == beyond:
        return -at_best * (best - before) / (at_best - at_before)
    one = (at_before - at_best) / (before - best)
    other = (at_beyond - at_best) / (beyond - best)
    return -at_best * (at_beyond * other - at_before * one) / (other * one * (at_beyond - at_before))
