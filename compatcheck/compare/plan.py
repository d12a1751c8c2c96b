"""How many instances an evaluation needs, and what N of them can show. Uses the gate's own bounds and evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compatcheck.compare.intervals import Floats, exact, z_values
from compatcheck.compare.sequential import log_evidence
from compatcheck.compare.special import bdtr, bdtrc, bdtrik, ndtri
from compatcheck.errors import InputError
from compatcheck.records import CONFIDENCE

MOST = 10_000_000  # no plan looks beyond so many instances
SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000)
RUNS = 2000  # simulated evaluations per rate: a share of 5 % has a standard error of half a point
MOST_DRAWN = 10_000  # the most documents of an evaluation that stops when it is decided, where no other number is given
_FACTORS = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Decision:
    """What ``n`` instances can say of an upper budget on a rate.

    ``passes_to`` is the greatest number of negative flips with which the budget is kept, None where not even 0 does;
    ``fails_from`` the least with which it is broken, None where not even ``n`` does. In between it stays inconclusive.
    """

    n: int
    passes_to: int | None
    fails_from: int | None


@dataclass(frozen=True)
class Size:
    """What one number of instances can show."""

    decision: Decision
    chance: float | None  # that the budget is settled if the expected rate is the true one; None where it is the budget
    fall: float | None  # smallest fall of accuracy seen with the wanted power; None where none up to the flip rate is


@dataclass(frozen=True)
class Plan:
    """Rates are proportions; ``needed`` and ``for_fall`` are numbers of instances, None where none settles it."""

    budget: float
    expected: float
    flip_rate: float
    fall: float
    power: float
    confidence: float
    least: int  # the fewest instances with which the budget can be kept at all
    needed: int | None
    for_fall: int
    table: tuple[Size, ...]


def make_plan(
    budget: float,
    *,
    expected: float | None = None,
    flip_rate: float = 0.1,
    fall: float | None = None,
    power: float = 0.8,
    confidence: float = CONFIDENCE,
    at: Sequence[int] = (),
) -> Plan:
    """Plan an evaluation that is to judge ``nfr:budget`` and to see accuracy fall by ``fall``.

    Args:
        expected: the negative flip rate that is thought to be true; half the budget where it is not given.
        flip_rate: NFR + PFR.
        fall: NFR − PFR that must not go unseen; the budget, or the flip rate where that is smaller.
        power: with what probability.
        at: numbers of instances to say more about; :data:`SIZES` where empty.
    Raises InputError: rates that cannot be, or do not fit together."""
    least = least_to_pass(budget, confidence)
    expected = budget / 2 if expected is None else expected
    if expected > flip_rate:
        raise InputError(
            f"--expected {expected:g} exceeds --flip-rate {flip_rate:g}: negative flips are a part of all flips"
        )
    fall = min(budget, flip_rate) if fall is None else fall
    needed = needed_to_settle(budget, expected, power, confidence)
    for_fall = needed_for_net(fall, flip_rate, power, confidence)
    table = tuple(
        Size(
            decision(n, budget, confidence),
            None if expected == budget else float(_chances(np.array([n]), budget, expected, confidence)[0]),
            detectable_fall(n, flip_rate, power, confidence),
        )
        for n in (at or SIZES)
    )
    return Plan(budget, expected, flip_rate, fall, power, confidence, least, needed, for_fall, table)


def decision(n: int, budget: float, confidence: float = CONFIDENCE) -> Decision:
    """The numbers of flips in ``n`` instances that settle an upper budget, by one-sided Clopper–Pearson bounds.
    Raises InputError: no instances, or a budget outside (0, 1)."""
    _check(n, budget)
    passes_to, fails_from = (int(limit[0]) for limit in _limits(np.array([n]), budget, confidence))
    return Decision(n, passes_to if passes_to >= 0 else None, fails_from if fails_from <= n else None)


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


def least_to_pass(budget: float, confidence: float = CONFIDENCE) -> int:
    """The fewest instances that can keep a budget, with no flip among them: log(1 − c) / log(1 − budget)."""
    _check(1, budget)
    n = max(1, math.floor(math.log(1 - confidence) / math.log1p(-budget)))
    while exact(0, n, confidence)[1] > budget:
        n += 1
    return n


def _chances(n: NDArray[np.int64], budget: float, rate: float, confidence: float) -> Floats:
    """Probability that ``n`` instances settle an upper budget rightly: pass below it, fail above it."""
    passes_to, fails_from = _limits(n, budget, confidence)
    if rate < budget:
        return np.where(passes_to < 0, 0.0, bdtr(np.maximum(passes_to, 0), n, rate))
    return np.where(fails_from > n, 0.0, bdtrc(np.minimum(fails_from, n) - 1, n, rate))


def needed_to_settle(budget: float, rate: float, power: float = 0.8, confidence: float = CONFIDENCE) -> int | None:
    """The fewest instances that settle an upper budget with probability ``power`` when ``rate`` is the true rate.

    "Settle" is to pass where the true rate is below the budget and to fail where it is above. The count is binomial, so
    the probability goes up and down with n: from the result on it stays at ``power`` or more for the next 2 % of n.
    None where the true rate is the budget, or more than :data:`MOST` instances are needed.
    Raises InputError: a rate outside [0, 1], or a power or budget outside (0, 1)."""
    _check(1, budget)
    if not 0 <= rate <= 1:
        raise InputError(f"expected rate {rate:g}: must be from 0 to 1 (or 0% to 100%)")
    _check_power(power)
    if rate == budget:
        return None

    def falls_short(n: int) -> bool:
        return bool(_chances(np.array([n]), budget, rate, confidence)[0] < power)

    high = 16
    while falls_short(high):
        high *= 2
        if high > MOST:
            return None
    n = _greatest(0 if high == 16 else high // 2 - 1, high, falls_short) + 1
    while True:  # step over the saw-teeth of the binomial
        ahead = np.arange(n, n + math.ceil(0.02 * n) + 1)
        short = ahead[_chances(ahead, budget, rate, confidence) < power]
        if len(short) == 0:
            return n
        n = int(short[-1]) + 1


def _greatest(low: int, high: int, holds: Callable[[int], object]) -> int:
    """The greatest k up to ``high`` for which ``holds(k)``, true up to some k and false after it; ``low`` for none."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def needed_for_change(error: float, power: float = 0.8, confidence: float = CONFIDENCE) -> float:
    """By what factor a sample must grow for a bound to clear a budget with probability ``power``: ((z_α + z_β)·e)².

    ``error`` is the standard error of the figure over its distance from the budget, and shrinks with √n.
    """
    _check_power(power)
    return ((z_values(confidence)[1] + float(ndtri(power))) * error) ** 2


def needed_for_net(fall: float, flip_rate: float, power: float = 0.8, confidence: float = CONFIDENCE) -> int:
    """Instances with which a one-sided McNemar test sees accuracy fall by ``fall``, at ``flip_rate`` = NFR + PFR.

    n = (z_α·√ψ + z_β·√(ψ − d²))² / d² with ψ the flip rate and d the fall (Connor 1987, Biometrics 43:207).
    Raises InputError: a fall that is not above 0 or exceeds the flip rate, or a power outside (0, 1)."""
    _check_power(power)
    if not 0 < fall <= flip_rate <= 1:
        raise InputError(
            f"a fall of {fall:g} at a flip rate of {flip_rate:g}: the fall must be above 0 and at most the flip rate, "
            "as it is NFR − PFR and the flip rate is NFR + PFR"
        )
    z_alpha, z_beta = z_values(confidence)[1], float(ndtri(power))
    root = z_alpha * math.sqrt(flip_rate) + z_beta * math.sqrt(flip_rate - fall * fall)
    return math.ceil((root / fall) ** 2)


def detectable_fall(n: int, flip_rate: float, power: float = 0.8, confidence: float = CONFIDENCE) -> float | None:
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


def _check(n: int, budget: float) -> None:
    if n < 1:
        raise InputError(f"{n} instances: give at least 1")
    if not 0 < budget < 1:
        raise InputError(f"budget {budget:g}: must be above 0 and below 1 (or 100%)")


def _check_power(power: float) -> None:
    if not 0.5 <= power < 1:
        raise InputError(f"--power {power:g}: must be from 0.5 to below 1 (or 50% to below 100%)")


@dataclass(frozen=True)
class Expected:
    """What happens if ``rate`` is the true one: shares of the verdicts, and instances to a verdict."""

    rate: float
    passes: float
    fails: float
    median: int | None  # instances after which half of the evaluations are decided; None where more than there are
    ninety: int | None  # the same for 90 %


@dataclass(frozen=True)
class SequentialPlan:
    """What to expect of ``--until-decided`` with a budget on the negative flip rate; rates are proportions."""

    budget: float
    step: int
    most: int
    confidence: float
    seed: int
    runs: int
    least: int  # the fewest instances with which it can pass, without a negative flip; a multiple of the step
    table: tuple[Expected, ...]


def make_sequential_plan(
    budget: float,
    rates: Sequence[float] = (),
    *,
    step: int = 25,
    most: int = MOST_DRAWN,
    confidence: float = CONFIDENCE,
    seed: int = 1234,
    runs: int = RUNS,
) -> SequentialPlan:
    """Simulate evaluations with a look after every ``step`` instances, at most ``most``, at each of the true ``rates``.

    Without rates they are the budget's tenth, half, itself, and one and a half to five times it.
    Raises InputError: a budget or rate that cannot be, or no instances."""
    _check(1, budget)
    for name, value in (("--step", step), ("--max", most)):
        if value < 1:
            raise InputError(f"{name} {value}: must be at least 1")
    for rate in rates:
        if not 0 <= rate <= 1:
            raise InputError(f"--rate {rate:g}: must be from 0 to 1 (or 0% to 100%)")
    sizes = np.diff(np.unique([*range(0, most, step), most]))
    looks, need = sizes.cumsum(), -math.log(1 - confidence)

    def edges(holds: Callable[[int, int], object]) -> np.ndarray:
        """At every look the greatest number of events, from −1 on, up to which this holds."""
        return np.array([_greatest(-1, n, lambda k, n=n: holds(k, n)) for n in map(int, looks)])  # type: ignore[misc]

    passes_to = edges(lambda k, n: log_evidence(k, n, budget)[1] >= need)
    fails_from = edges(lambda k, n: log_evidence(k, n, budget)[0] < need) + 1
    able = np.flatnonzero(passes_to >= 0)
    least = int(looks[able[0]]) if len(able) else most
    wanted = rates or tuple(dict.fromkeys(factor * budget for factor in _FACTORS if factor * budget <= 1))
    table = []
    for place, rate in enumerate(wanted):
        draw = np.random.default_rng([seed, place])
        counts = draw.binomial(sizes, rate, size=(runs, len(sizes))).cumsum(axis=1)
        crossed = counts <= passes_to, counts >= fails_from
        passed, failed = (np.where(at.any(axis=1), at.argmax(axis=1), len(sizes)) for at in crossed)
        decided = np.sort(np.minimum(passed, failed))
        after = [int(decided[math.ceil(share * runs) - 1]) for share in (0.5, 0.9)]
        shown = (None if look == len(sizes) else int(looks[look]) for look in after)
        table.append(Expected(rate, float((passed < failed).mean()), float((failed < passed).mean()), *shown))
    return SequentialPlan(budget, step, most, confidence, seed, runs, least, tuple(table))
