from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from compatcheck.compare import intervals
from compatcheck.compare.intervals import (
    bootstrap_sums,
    difference,
    exact,
    mean_bounds,
    net_below,
    net_lower,
    newcombe,
    percentiles,
    rate,
    relative,
    wilson,
    z_values,
)


@given(st.integers(1, 100_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_a_rate_equals_statsmodels_wilson_and_clopper_pearson(pair):
    count, of = pair
    estimate = rate(count, of, 0.95)
    assert (estimate.low, estimate.high) == pytest.approx(
        proportion_confint(count, of, alpha=0.05, method="wilson"), abs=1e-12
    )
    assert (estimate.lower, estimate.upper) == pytest.approx(
        proportion_confint(count, of, alpha=0.10, method="beta"), abs=1e-12
    )
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert 0 <= estimate.lower <= estimate.value <= estimate.upper <= 1
    assert estimate.one_sided(0.95) == (estimate.lower, estimate.upper)


def test_nothing_seen_still_has_an_upper_limit():
    nothing, everything = rate(0, 100, 0.95), rate(100, 100, 0.95)
    assert (nothing.value, nothing.low, nothing.lower) == (0, 0, 0)
    assert nothing.upper == pytest.approx(1 - 0.05**0.01)
    assert (everything.value, everything.high, everything.upper) == (1, 1, 1)
    assert everything.lower == pytest.approx(1 - nothing.upper)


def test_a_rate_of_nothing_is_undefined():
    estimate = rate(0, 0, 0.95, "the old model has no correct answer")
    assert (estimate.value, estimate.low, estimate.of) == (None, None, 0)
    assert estimate.why == "the old model has no correct answer"


# Newcombe 1998, Statistics in Medicine 17:2635, Table III, method 10: counts of both, first only, second only, neither.
@pytest.mark.parametrize(
    ("counts", "limits"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((20, 12, 2, 16), (0.0562, 0.3292)),
        ((18, 12, 2, 18), (0.0562, 0.3290)),
        ((36, 14, 0, 0), (0.1528, 0.4167)),
        ((35, 14, 0, 1), (0.1461, 0.4175)),
        ((18, 14, 0, 18), (0.1441, 0.3963)),
        ((2, 97, 1, 0), (0.8721, 0.9854)),
        ((1, 97, 1, 1), (0.8736, 0.9850)),
        ((0, 30, 0, 0), (0.8395, 1.0)),
        ((54, 0, 0, 0), (-0.0664, 0.0664)),
        ((30, 0, 0, 24), (-0.0358, 0.0358)),
    ],
)
def test_newcombe_gives_the_published_limits(counts, limits):
    # 1e-4 and not 5e-5: the paper prints 0.8736 where the formula gives 0.87367.
    assert newcombe(*counts, z_values(0.95)[0]) == pytest.approx(limits, abs=1e-4)


@given(st.tuples(*[st.integers(0, 400)] * 4).filter(any))
def test_the_net_interval_is_ordered_and_turns_with_the_sides(counts):
    both, positive, negative, wrong = counts
    bounds = difference(counts, 0.95)
    net = (positive - negative) / sum(counts)
    assert -1 <= bounds.low <= net + 1e-12
    assert -1 <= bounds.lower <= net + 1e-12
    assert net - 1e-12 <= bounds.upper <= bounds.high <= 1
    turned = difference((both, negative, positive, wrong), 0.95)
    assert (turned.low, turned.high) == pytest.approx((-bounds.high, -bounds.low))


def test_relative_nfr_has_an_upper_limit_when_no_flip_is_seen():
    bounds = relative((60, 10, 0, 30), 0.95, 2000, 0)
    assert 0 < bounds.upper < bounds.high < 0.3


def test_relative_nfr_agrees_with_the_plain_bootstrap_where_counts_are_large():
    counts = (3000, 900, 600, 2500)
    rng = np.random.default_rng(3)
    draws = rng.multinomial(7000, np.array(counts) / 7000, size=4000)
    old_correct, new_wrong = draws[:, 0] + draws[:, 2], draws[:, 2] + draws[:, 3]
    low, high = np.quantile(draws[:, 2] * 7000 / (old_correct * new_wrong), [0.025, 0.975])
    bounds = relative(counts, 0.95, 4000, 4)
    assert (bounds.low, bounds.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_bootstrap_sums_are_those_of_a_plain_loop():
    quantities = np.random.default_rng(1).random((3, 40))
    found = bootstrap_sums(quantities, 25, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    for row in found:
        chosen = rng.integers(0, 40, 40)
        assert row == pytest.approx([sum(line[place] for place in chosen) for line in quantities])


def test_percentiles_leave_the_tails_out():
    bounds = percentiles(np.arange(10_001) / 10_000, 0.95)
    assert tuple(bounds) == pytest.approx((0.025, 0.975, 0.05, 0.95))


def test_above_the_limit_the_normal_approximation_meets_the_bootstrap(monkeypatch):
    values = np.random.default_rng(5).gamma(2.0, 0.1, 4000)
    by_bootstrap = mean_bounds(values, 0.95, 4000, np.random.default_rng(6))
    monkeypatch.setattr(intervals, "LARGE", 1000)
    by_formula = mean_bounds(values, 0.95, 4000, np.random.default_rng(6))
    width = by_formula.high - by_formula.low
    assert width == pytest.approx(2 * 1.959964 * values.std(ddof=1) / math.sqrt(4000), rel=1e-6)
    assert tuple(by_bootstrap) == pytest.approx(tuple(by_formula), abs=0.05 * width)


def test_a_single_value_has_no_bounds():
    assert mean_bounds(np.array([0.3]), 0.95, 100, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("n", "most_that_pass", "least_that_fail"),
    [(100, None, 6), (200, 0, 8), (500, 4, 16), (1000, 12, 29), (2000, 29, 52)],
)
def test_what_a_budget_of_two_percent_takes(n, most_that_pass, least_that_fail):
    """By the binomial sums that the one-sided Clopper–Pearson bounds invert."""
    passing = [flips for flips in range(n + 1) if binom.cdf(flips, n, 0.02) <= 0.05]
    failing = [flips for flips in range(n + 1) if binom.sf(flips - 1, n, 0.02) < 0.05]
    assert (max(passing) if passing else None, min(failing)) == (most_that_pass, least_that_fail)
    assert passing == [flips for flips in range(n + 1) if exact(flips, n, 0.95)[1] <= 0.02]
    assert failing == [flips for flips in range(n + 1) if exact(flips, n, 0.95)[0] > 0.02]


def trinomial(n, better, worse):
    """Every (positive, negative) that is not hopelessly unlikely, with its probability."""
    for negative in range(int(binom.ppf(1 - 1e-7, n, worse)) + 1):
        share = better / (1 - worse)
        for positive in range(int(binom.ppf(1 - 1e-7, n - negative, share)) + 1):
            chance = binom.pmf(negative, n, worse) * binom.pmf(positive, n - negative, share)
            if chance > 1e-9:
                yield positive, negative, chance


@pytest.mark.parametrize(("n", "budget"), [(133, 0.02), (200, 0.01), (60, 0.05)])
@pytest.mark.parametrize("better", [0.0, 0.02])
def test_a_net_change_at_its_budget_errs_at_most_one_time_in_twenty(n, budget, better):
    passed = failed = 0.0
    for positive, negative, chance in trinomial(n, better, better + budget):
        passed += chance * (net_below(positive, negative, n, -budget) <= 0.05)
        rest = n - positive - negative
        failed += chance * (newcombe(rest / 2, positive, negative, rest / 2, z_values(0.95)[1])[1] < -budget)
    assert passed <= 0.05
    assert failed <= 0.05


def tango_lower(positive, negative, n):
    """Tango (1998), Statistics in Medicine 17:891: the score test inverted, its variance by numerical likelihood."""

    def score(difference):
        def likelihood(worse):
            cells = (worse + difference, worse, 1 - 2 * worse - difference)
            counts = (positive, negative, n - positive - negative)
            return -sum(c * math.log(max(p, 1e-300)) for c, p in zip(counts, cells, strict=True) if c)

        ends = max(0.0, -difference), (1 - difference) / 2
        worse = minimize_scalar(likelihood, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
        spread = n * (2 * worse + difference - difference * difference)
        return (positive - negative - n * difference) / math.sqrt(spread)

    return brentq(lambda d: score(d) - 1.6448536269514722, -0.999, (positive - negative) / n - 1e-9)


@pytest.mark.parametrize(
    ("positive", "negative", "n"), [(0, 0, 100), (0, 3, 200), (1, 3, 133), (5, 5, 100), (20, 12, 300), (40, 60, 1000)]
)
def test_the_passing_bound_of_net_is_never_above_tangos(positive, negative, n):
    lower = net_lower(positive, negative, n, 0.95)
    assert lower <= tango_lower(positive, negative, n) < lower + 3 / n + 0.01


@pytest.mark.parametrize(("positive", "negative", "n"), [(3, 5, 100), (100, 10, 1000), (2, 0, 149), (30, 0, 30)])
def test_the_passing_bound_of_net_is_the_quantile_of_drawn_weights(positive, negative, n):
    cells = [negative + 1, n - positive - negative, positive]
    shares = np.random.default_rng(1).dirichlet([max(cell, 1e-12) for cell in cells], 200_000)
    drawn = np.quantile(shares[:, 2] - shares[:, 0], 0.05)
    assert net_lower(positive, negative, n, 0.95) == pytest.approx(drawn, abs=2e-3 * max(1, n / 30) ** -0.5 + 1e-3)


@pytest.mark.parametrize("quadrants", [(0.0, 0.5, 0.3, 0.2), (0.5, 0.2, 0.3, 0.0)])
def test_relative_nfr_at_its_ceiling_is_missed_one_time_in_twenty(quadrants):
    """One quadrant is empty, so that NFR is all that OLD had right, or all that NEW has wrong."""
    both, _, negative, wrong = quadrants
    truth = negative / ((both + negative) * (negative + wrong))
    rng = np.random.default_rng(11)
    missed = 0
    for counts in rng.multinomial(30, quadrants, 600):
        missed += relative(tuple(counts), 0.95, 400, 1).upper < truth
    assert missed / 600 <= 0.05 + 1.645 * math.sqrt(0.05 * 0.95 / 600)


@pytest.mark.parametrize("n", [30, 50, 100, 133, 300, 1000])
def test_a_rate_at_its_budget_errs_at_most_one_time_in_twenty(n):
    """By exact sums; at a budget of 0.1 to 1 % Wilson's one-sided bound fails up to 20 % of samples."""
    z = z_values(0.95)[1]
    worst = {"pass": 0.0, "fail": 0.0, "wilson": 0.0}
    for budget in (0.001, 0.005, 0.01, 0.02, 0.05, 0.1):
        counts = range(int(binom.ppf(1 - 1e-9, n, budget)) + 1)
        bounds = [exact(count, n, 0.95) for count in counts]
        passed = sum(binom.pmf(k, n, budget) for k in counts if bounds[k][1] <= budget)
        failed = sum(binom.pmf(k, n, budget) for k in counts if bounds[k][0] > budget)
        by_wilson = sum(binom.pmf(k, n, budget) for k in counts if wilson(k, n, z)[0] > budget)
        worst = {
            "pass": max(worst["pass"], passed),
            "fail": max(worst["fail"], failed),
            "wilson": max(worst["wilson"], by_wilson),
        }
    assert worst["pass"] <= 0.05
    assert worst["fail"] <= 0.05
    assert worst["wilson"] > 0.05
