"""A plan: what sizes of an evaluation can show about a budget, and how many instances it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compatcheck.compare import power as sizes
from compatcheck.compare.power import Decision
from compatcheck.errors import InputError


@dataclass(frozen=True)
class Size:
    """What one number of instances can show."""

    decision: Decision
    chance: float | None
    """Probability that the budget is settled if the expected rate is the true one; None where it is the budget."""
    fall: float | None
    """Smallest fall of accuracy seen with the wanted power; None where no fall up to the flip rate is."""


@dataclass(frozen=True)
class Plan:
    """Rates are proportions; ``needed`` and ``for_fall`` are numbers of instances, None where none settles it."""

    budget: float
    expected: float
    flip_rate: float
    fall: float
    power: float
    confidence: float
    least: int
    """The fewest instances with which the budget can be kept at all."""
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
    confidence: float = 0.95,
    at: Sequence[int] = (),
) -> Plan:
    """Plan an evaluation that is to judge ``nfr:budget`` and to see accuracy fall by ``fall``.

    Args:
        expected: the negative flip rate that is thought to be true; half the budget where it is not given.
        flip_rate: NFR + PFR.
        fall: NFR − PFR that must not go unseen; the budget, or the flip rate where that is smaller.
        power: with what probability.
        at: numbers of instances to say more about; :data:`~compatcheck.compare.power.SIZES` where empty.

    Raises:
        InputError: rates that cannot be, or do not fit together.
    """
    least = sizes.least_to_pass(budget, confidence)
    expected = budget / 2 if expected is None else expected
    if expected > flip_rate:
        raise InputError(
            f"--expected {expected:g} exceeds --flip-rate {flip_rate:g}: negative flips are a part of all flips"
        )
    fall = min(budget, flip_rate) if fall is None else fall
    return Plan(
        budget=budget,
        expected=expected,
        flip_rate=flip_rate,
        fall=fall,
        power=power,
        confidence=confidence,
        least=least,
        needed=sizes.needed_to_settle(budget, expected, power, confidence),
        for_fall=sizes.needed_for_net(fall, flip_rate, power, confidence),
        table=tuple(
            Size(
                sizes.decision(n, budget, confidence),
                sizes.chance_to_settle(n, budget, expected, confidence),
                sizes.detectable_fall(n, flip_rate, power, confidence),
            )
            for n in (at or sizes.SIZES)
        ),
    )
