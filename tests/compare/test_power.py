"""Plans: the published figures, and that the gate agrees with what was planned."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from compatcheck.compare import plan
from compatcheck.compare.intervals import exact
from compatcheck.errors import InputError


@pytest.mark.parametrize(
    ("n", "passes_to", "fails_from"),
    [(100, None, 6), (149, 0, 7), (200, 0, 8), (500, 4, 16), (1000, 12, 29), (2000, 29, 52)],
)
def test_budget_of_two_percent(n: int, passes_to: int | None, fails_from: int) -> None:
    assert plan.decision(n, 0.02) == plan.Decision(n, passes_to, fails_from)


def test_a_budget_so_loose_that_nothing_breaks_it() -> None:
    assert plan.decision(2, 0.9) == plan.Decision(2, 0, None)  # 1 of 2: at most 0.975; 2 of 2: at least 0.22


def test_limits_are_those_of_the_bounds_for_every_count() -> None:
    for n in (1, 2, 17, 149, 640):
        for budget in (0.001, 0.02, 0.3, 0.97):
            kept = [k for k in range(n + 1) if exact(k, n, 0.95)[1] <= budget]
            broken = [k for k in range(n + 1) if exact(k, n, 0.95)[0] > budget]
            assert plan.decision(n, budget) == plan.Decision(n, kept[-1] if kept else None, (broken or [None])[0])


@pytest.mark.parametrize("budget", [0.01, 0.02, 0.05, 0.3])
def test_fewest_instances_that_can_pass(budget: float) -> None:
    n = plan.least_to_pass(budget)
    assert plan.decision(n, budget).passes_to == 0
    assert plan.decision(n - 1, budget).passes_to is None


@pytest.mark.parametrize(("budget", "rate"), [(0.02, 0.01), (0.02, 0.0), (0.02, 0.04), (0.1, 0.05), (0.05, 0.08)])
def test_planned_size_has_the_power_by_exact_summation(budget: float, rate: float) -> None:
    n = plan.needed_to_settle(budget, rate, 0.8)
    assert n is not None

    def settled(size: int) -> float:
        kept = [k for k in range(size + 1) if exact(k, size, 0.95)[1] <= budget]
        broken = [k for k in range(size + 1) if exact(k, size, 0.95)[0] > budget]
        return float(sum(binom.pmf(k, size, rate) for k in (kept if rate < budget else broken)))

    assert settled(n) >= 0.8
    assert settled(n - 1) < 0.8


def test_a_rate_at_the_budget_is_never_settled() -> None:
    assert plan.needed_to_settle(0.02, 0.02) is None


def test_net_regression_published_figure() -> None:
    assert plan.needed_for_net(0.02, 0.10) == 1544


def test_detectable_fall_is_the_inverse() -> None:
    fall = plan.detectable_fall(1544, 0.10)
    assert fall is not None
    assert plan.needed_for_net(fall, 0.10) <= 1544 < plan.needed_for_net(fall * 0.999, 0.10)
    assert fall == pytest.approx(0.02, rel=1e-3)
    assert plan.detectable_fall(10, 0.10) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: plan.decision(0, 0.02),
        lambda: plan.decision(10, 0.0),
        lambda: plan.needed_to_settle(0.02, -0.1),
        lambda: plan.needed_to_settle(0.02, 0.01, 1.0),
        lambda: plan.needed_for_net(0.2, 0.1),
        lambda: plan.detectable_fall(0, 0.1),
    ],
)
def test_what_cannot_be_meant_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(InputError):
        call()
