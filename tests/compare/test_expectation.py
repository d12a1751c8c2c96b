"""What is to be expected of an evaluation that stops when it is decided."""

from __future__ import annotations

import math

import pytest

from compatcheck.compare.plan import make_sequential_plan
from compatcheck.compare.sequential import RateEvidence
from compatcheck.errors import InputError


def test_errors_at_the_budget_and_power_away_from_it() -> None:
    plan = make_sequential_plan(0.02, [0.02, 0.002, 0.1], most=4000)
    at, below, above = plan.table
    noise = 3 * math.sqrt(0.05 * 0.95 / plan.runs)
    assert max(at.passes, at.fails) <= 0.05 + noise
    assert (at.median, at.ninety) == (None, None)
    assert below.passes > 0.98
    assert above.fails > 0.98
    assert below.median is not None and below.ninety is not None
    assert plan.least <= below.median <= 250 <= below.ninety
    assert above.median is not None
    assert above.median <= 75


def test_without_a_flip_it_passes_at_the_least() -> None:
    plan = make_sequential_plan(0.02, [0.0], step=1, most=400, runs=10)
    assert plan.table[0].median == plan.table[0].ninety == plan.least
    for n, enough in ((plan.least, True), (plan.least - 1, False)):
        gathered = RateEvidence(0.02)
        gathered.add(0, n)
        assert (gathered.evidence().below >= math.log(20)) is enough


def test_the_last_look_is_at_the_end() -> None:
    plan = make_sequential_plan(0.5, [1.0], step=100, most=30, runs=10)
    assert plan.table[0].median == 30
    assert make_sequential_plan(0.02, step=100, most=50, runs=10).least == 50


def test_the_same_seed_says_the_same() -> None:
    first, again = (make_sequential_plan(0.05, [0.04], most=1000, runs=200, seed=3) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": 0.0}, "budget 0"),
        ({"rates": [1.5]}, "--rate 1.5"),
        ({"step": 0}, "--step 0"),
        ({"most": 0}, "--max 0"),
    ],
)
def test_what_cannot_be(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_sequential_plan(**{"budget": 0.02, **options})  # type: ignore[arg-type]
