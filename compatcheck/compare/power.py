"""How many instances are needed, and what N of them can show. Uses the gate's own bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, bdtrik, ndtri

from compatcheck.compare.intervals import Floats, exact, z_values
from compatcheck.errors import InputError

MOST = 10_000_000
"""No plan looks beyond so many instances."""
SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True)
class Decision:
    """What ``n`` instances can say of an upper budget on a rate.

    ``passes_to`` is the greatest number of negative flips with which the budget is kept, None where not even 0 does;
    ``fails_from`` the least with which it is broken, None where not even ``n`` does. In between it stays inconclusive.
    """

    n: int
    passes_to: int | None
    fails_from: int | None


def decision(n: int, budget: float, confidence: float = 0.95) -> Decision:
    """The numbers of flips in ``n`` instances that settle an upper budget, by one-sided Clopper–Pearson bounds.

    Raises:
        InputError: no instances, or a budget outside (0, 1).
    """
    _check(n, budget)
    passes_to, fails_from = _limits(np.array([n]), budget, confidence)
    most, least = int(passes_to[0]), int(fails_from[0])
    return Decision(n, most if most >= 0 else None, least if least <= n else None)


def _limits(n: NDArray[np.int64], budget: float, confidence: float) -> tuple[Floats, Floats]:
    """For every number of instances the most flips that pass, −1 for none, and the least that fail, n + 1 for none.

    The upper bound is within the budget where so few flips or fewer have a probability of at most 1 − confidence at the
    budget, and the lower one beyond it where so many or more have less than that.
    """
    error = 1 - confidence
    guess = np.nan_to_num(np.floor(bdtrik(error, n, budget)), nan=-1.0)
    passes_to = np.maximum(guess + 1, 0.0)
    for _ in range(3):  # the root is exact to rounding: at most a step or two away
        passes_to = np.where((passes_to >= 0) & (bdtr(passes_to, n, budget) > error), passes_to - 1, passes_to)
    guess = np.nan_to_num(np.floor(bdtrik(confidence, n, budget)), nan=0.0)
    fails_from = np.maximum(guess - 1, 0.0)
    for _ in range(5):
        reached = np.where(fails_from > 0, bdtrc(fails_from - 1, n, budget), 1.0)
        fails_from = np.where((fails_from <= n) & (reached >= error), fails_from + 1, fails_from)
    return passes_to, fails_from


def least_to_pass(budget: float, confidence: float = 0.95) -> int:
    """The fewest instances that can keep a budget, with no flip among them: log(1 − c) / log(1 − budget)."""
    _check(1, budget)
    n = max(1, math.floor(math.log(1 - confidence) / math.log1p(-budget)))
    while exact(0, n, confidence)[1] > budget:
        n += 1
    return n


def chance_to_settle(n: int, budget: float, rate: float, confidence: float = 0.95) -> float | None:
    """Probability that ``n`` instances settle an upper budget rightly: pass below it, fail above it.

    None where the true rate is the budget, so that neither is right.
    """
    return None if rate == budget else float(_chances(np.array([n]), budget, rate, confidence)[0])


def _chances(n: NDArray[np.int64], budget: float, rate: float, confidence: float) -> Floats:
    passes_to, fails_from = _limits(n, budget, confidence)
    if rate < budget:
        return np.where(passes_to < 0, 0.0, bdtr(np.maximum(passes_to, 0), n, rate))
    return np.where(fails_from > n, 0.0, bdtrc(np.minimum(fails_from, n) - 1, n, rate))


def needed_to_settle(budget: float, rate: float, power: float = 0.8, confidence: float = 0.95) -> int | None:
    """The fewest instances that settle an upper budget with probability ``power`` when ``rate`` is the true rate.

    "Settle" is to pass where the true rate is below the budget and to fail where it is above. The count is binomial, so
    the probability goes up and down with n: from the result on it stays at ``power`` or more for the next 2 % of n.
    None where the true rate is the budget, or more than :data:`MOST` instances are needed.

    Raises:
        InputError: a rate outside [0, 1], or a power or budget outside (0, 1).
    """
    _check(1, budget)
    if not 0 <= rate <= 1:
        raise InputError(f"expected rate {rate:g}: must be from 0 to 1 (or 0% to 100%)")
    _check_power(power)
    if rate == budget:
        return None

    def settles(n: int) -> bool:
        return bool(_chances(np.array([n]), budget, rate, confidence)[0] >= power)

    high = 16
    while not settles(high):
        high *= 2
        if high > MOST:
            return None
    low = 1 if high == 16 else high // 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if settles(middle) else (middle + 1, high)
    n = low
    while True:  # step over the saw-teeth of the binomial
        ahead = np.arange(n, n + math.ceil(0.02 * n) + 1)
        short = ahead[_chances(ahead, budget, rate, confidence) < power]
        if len(short) == 0:
            return n
        n = int(short[-1]) + 1


def needed_for_change(error: float, power: float = 0.8, confidence: float = 0.95) -> float:
    """By what factor a sample must grow for a bound to clear a budget with probability ``power``: ((z_α + z_β)·e)².

    ``error`` is the standard error of the figure over its distance from the budget; it shrinks with
    the square root of n.
    """
    _check_power(power)
    return ((z_values(confidence)[1] + float(ndtri(power))) * error) ** 2


def needed_for_net(fall: float, flip_rate: float, power: float = 0.8, confidence: float = 0.95) -> int:
    """Instances with which a one-sided McNemar test sees accuracy fall by ``fall``, at ``flip_rate`` = NFR + PFR.

    n = (z_α·√ψ + z_β·√(ψ − d²))² / d² with ψ the flip rate and d the fall (Connor 1987, Biometrics 43:207).

    Raises:
        InputError: a fall that is not above 0 or exceeds the flip rate, or a power outside (0, 1).
    """
    _check_power(power)
    if not 0 < fall <= flip_rate <= 1:
        raise InputError(
            f"a fall of {fall:g} at a flip rate of {flip_rate:g}: the fall must be above 0 and at most the flip rate, "
            "as it is NFR − PFR and the flip rate is NFR + PFR"
        )
    z_alpha, z_beta = z_values(confidence)[1], float(ndtri(power))
    root = z_alpha * math.sqrt(flip_rate) + z_beta * math.sqrt(flip_rate - fall * fall)
    return math.ceil((root / fall) ** 2)


def detectable_fall(n: int, flip_rate: float, power: float = 0.8, confidence: float = 0.95) -> float | None:
    """The smallest fall of accuracy that ``n`` instances show with probability ``power``; None where none does."""
    if n < 1:
        raise InputError(f"{n} instances: give at least 1")
    if not 0 < flip_rate <= 1:
        raise InputError(f"flip rate {flip_rate:g}: must be above 0 and at most 1 (or 100%)")
    if needed_for_net(flip_rate, flip_rate, power, confidence) > n:
        return None
    low, high = 0.0, flip_rate
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if needed_for_net(middle, flip_rate, power, confidence) <= n else (middle, high)
    return high


def needed_for_mean(fall: float, spread: float, power: float = 0.8, confidence: float = 0.95) -> int:
    """Instances with which the mean gain is seen to fall by ``fall`` when gains have standard deviation ``spread``.

    n = ((z_α + z_β)·σ / d)², the normal approximation of a paired one-sided test.

    Raises:
        InputError: a fall or spread that is not above 0, or a power outside (0, 1).
    """
    _check_power(power)
    if not (fall > 0 and spread > 0):
        raise InputError(f"a fall of {fall:g} at a standard deviation of {spread:g}: both must be above 0")
    return math.ceil(((z_values(confidence)[1] + float(ndtri(power))) * spread / fall) ** 2)


def _check(n: int, budget: float) -> None:
    if n < 1:
        raise InputError(f"{n} instances: give at least 1")
    if not 0 < budget < 1:
        raise InputError(f"budget {budget:g}: must be above 0 and below 1 (or 100%)")


def _check_power(power: float) -> None:
    if not 0.5 <= power < 1:
        raise InputError(f"--power {power:g}: must be from 0.5 to below 1 (or 50% to below 100%)")
