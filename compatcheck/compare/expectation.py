"""What to expect of an evaluation that stops when its budget is decided: simulated with the gate's own evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from compatcheck.compare.sequential import log_evidence
from compatcheck.errors import InputError

RUNS = 2000
"""Simulated evaluations per rate: a share of 5 % has a standard error of half a point."""
MOST = 10_000
"""The most documents where no other number is given."""
_FACTORS = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Expected:
    """What happens if ``rate`` is the true one: shares of the verdicts, and instances to a verdict."""

    rate: float
    passes: float
    fails: float
    median: int | None
    """Instances after which half of the evaluations are decided; None where that is more than there are."""
    ninety: int | None
    """The same for 90 %."""


@dataclass(frozen=True)
class SequentialPlan:
    """What to expect of ``--until-decided`` with a budget on the negative flip rate; rates are proportions."""

    budget: float
    step: int
    most: int
    confidence: float
    seed: int
    runs: int
    least: int
    """The fewest instances with which it can pass, with no negative flip among them; a multiple of the step."""
    table: tuple[Expected, ...]


def make_sequential_plan(
    budget: float,
    rates: Sequence[float] = (),
    *,
    step: int = 25,
    most: int = MOST,
    confidence: float = 0.95,
    seed: int = 1234,
    runs: int = RUNS,
) -> SequentialPlan:
    """Simulate evaluations with a look after every ``step`` instances, at most ``most``, at each of the true ``rates``.

    Without rates they are the budget's tenth, half, itself, and one and a half to five times it.

    Raises:
        InputError: a budget or rate that cannot be, or no instances.
    """
    if not 0 < budget < 1:
        raise InputError(f"budget {budget:g}: must be above 0 and below 1 (or 100%)")
    for name, value in (("--step", step), ("--max", most)):
        if value < 1:
            raise InputError(f"{name} {value}: must be at least 1")
    for rate in rates:
        if not 0 <= rate <= 1:
            raise InputError(f"--rate {rate:g}: must be from 0 to 1 (or 0% to 100%)")
    sizes = np.diff(np.unique([*range(0, most, step), most]))
    looks = sizes.cumsum()
    passes_to, fails_from = _edges(looks, budget, -math.log(1 - confidence))
    wanted = rates or tuple(dict.fromkeys(factor * budget for factor in _FACTORS if factor * budget <= 1))
    able = np.flatnonzero(passes_to >= 0)
    return SequentialPlan(
        budget,
        step,
        most,
        confidence,
        seed,
        runs,
        least=int(looks[able[0]]) if len(able) else most,
        table=tuple(
            _expected(rate, sizes, passes_to, fails_from, runs, np.random.default_rng([seed, place]))
            for place, rate in enumerate(wanted)
        ),
    )


def _edges(looks: np.ndarray, budget: float, need: float) -> tuple[np.ndarray, np.ndarray]:
    """At every look the most events with which the budget passes (−1: none) and the fewest with which it fails."""
    passes_to, fails_from = [], []
    for n in map(int, looks):
        passes_to.append(_most(n, lambda k, n=n: log_evidence(k, n, budget)[1] >= need))  # type: ignore[misc]
        fails_from.append(_most(n, lambda k, n=n: log_evidence(k, n, budget)[0] < need) + 1)  # type: ignore[misc]
    return np.array(passes_to), np.array(fails_from)


def _most(n: int, holds: Callable[[int], object]) -> int:
    """The greatest k in 0..n for which ``holds(k)``, true up to some k and false after it; −1 for none."""
    low, high = -1, n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _expected(
    rate: float, sizes: np.ndarray, passes_to: np.ndarray, fails_from: np.ndarray, runs: int, draw: np.random.Generator
) -> Expected:
    counts = draw.binomial(sizes, rate, size=(runs, len(sizes))).cumsum(axis=1)
    never = len(sizes)
    passed, failed = (_first(crossed, never) for crossed in (counts <= passes_to, counts >= fails_from))
    decided = np.sort(np.minimum(passed, failed))
    looks = sizes.cumsum()

    def after(share: float) -> int | None:
        place = int(decided[math.ceil(share * runs) - 1])
        return None if place == never else int(looks[place])

    return Expected(rate, float((passed < failed).mean()), float((failed < passed).mean()), after(0.5), after(0.9))


def _first(crossed: np.ndarray, never: int) -> np.ndarray:
    found: np.ndarray = np.where(crossed.any(axis=1), crossed.argmax(axis=1), never)
    return found
