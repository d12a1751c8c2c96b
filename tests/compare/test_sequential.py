"""Evidence that holds at every look: martingales, their error rates, and bounds that agree with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from compatcheck.compare.sequential import MeanEvidence, RateEvidence, log_evidence

ALPHA = 0.05
NEED = -math.log(ALPHA)


def reached(rate: float, threshold: float, *, looks: np.ndarray, runs: int, seed: int) -> tuple[float, float]:
    """How often the evidence against each side is ever enough, at one of the looks."""
    draw = np.random.default_rng(seed)
    steps = np.diff(looks, prepend=0)
    counts = draw.binomial(steps, rate, size=(runs, len(looks))).cumsum(axis=1)
    above, below = log_evidence(counts, looks, threshold)
    return float((above >= NEED).any(axis=1).mean()), float((below >= NEED).any(axis=1).mean())


@pytest.mark.parametrize("threshold", [0.001, 0.02, 0.3, 0.9])
@pytest.mark.parametrize("n", [1, 25, 200])
def test_expects_one_at_the_threshold(threshold: float, n: int) -> None:
    """A test martingale has the mean 1 where its hypothesis is just true."""
    k = np.arange(n + 1)
    chance = binom.logpmf(k, n, threshold)
    for logarithm in log_evidence(k, n, threshold):
        assert float(np.exp(chance + logarithm).sum()) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(("threshold", "inside"), [(0.02, 0.01), (0.3, 0.2)])
def test_expects_at_most_one_inside_the_hypothesis(threshold: float, inside: float) -> None:
    k = np.arange(301)
    above, _ = log_evidence(k, 300, threshold)
    _, below = log_evidence(k, 300, threshold)
    assert float(np.exp(binom.logpmf(k, 300, inside) + above).sum()) <= 1
    assert float(np.exp(binom.logpmf(k, 300, 2 * threshold - inside) + below).sum()) <= 1


@pytest.mark.parametrize("threshold", [0.001, 0.005, 0.02, 0.1, 0.5])
def test_rates_keep_their_error_at_every_look(threshold: float) -> None:
    looks = np.arange(25, 4001, 25)
    breaks, keeps = reached(threshold, threshold, looks=looks, runs=2000, seed=11)
    noise = 3 * math.sqrt(ALPHA * (1 - ALPHA) / 2000)
    assert breaks <= ALPHA + noise
    assert keeps <= ALPHA + noise


def test_looking_again_with_fixed_bounds_does_not() -> None:
    """What this module is for: one-sided Clopper–Pearson bounds, asked every 25 of 4,000, err far more often."""
    from scipy.stats import beta

    looks = np.arange(25, 4001, 25)
    draw = np.random.default_rng(11)
    counts = draw.binomial(25, 0.02, size=(2000, len(looks))).cumsum(axis=1)
    upper = beta.ppf(1 - ALPHA, counts + 1, looks - counts)
    assert float((upper <= 0.02).any(axis=1).mean()) > 0.12


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "most"), [(0.002, 250), (0.01, 1250), (0.04, 550), (0.06, 200), (0.1, 75)])
def test_settles_soon(rate: float, most: int) -> None:
    """Median number of instances to a verdict at a budget of 2 %."""
    looks = np.arange(25, 10_001, 25)
    counts = np.random.default_rng(5).binomial(25, rate, size=(600, len(looks))).cumsum(axis=1)
    above, below = log_evidence(counts, looks, 0.02)
    right = (below if rate < 0.02 else above) >= NEED
    first = np.where(right.any(axis=1), (right.argmax(axis=1) + 1) * 25, 10**9)
    assert float(np.median(first)) <= most


@pytest.mark.parametrize(("count", "of"), [(0, 150), (3, 150), (40, 1000), (1000, 1000), (1, 1)])
def test_bounds_of_a_rate_are_where_the_evidence_is_enough(count: int, of: int) -> None:
    gathered = RateEvidence(0.02)
    gathered.add(count, of)
    lower, upper = gathered.bounds(ALPHA)
    assert 0 <= lower <= count / of <= upper <= 1
    assert gathered.value() == count / of
    if lower > 0:
        assert float(log_evidence(count, of, lower)[0]) >= NEED > float(log_evidence(count, of, lower + 1e-4)[0])
    if upper < 1:
        assert float(log_evidence(count, of, upper)[1]) >= NEED > float(log_evidence(count, of, upper - 1e-4)[1])


def test_a_budget_of_nothing_is_broken_by_one_and_never_kept() -> None:
    gathered = RateEvidence(0.0)
    gathered.add(0, 10_000)
    assert gathered.evidence().below == -math.inf
    assert gathered.evidence().above < NEED
    gathered.add(1, 1)
    assert gathered.evidence().above == math.inf


@pytest.mark.parametrize("threshold", [0.01, 0.02, 0.2])
def test_the_mixture_is_that_of_confseq(threshold: float) -> None:
    """Howard et al.'s own implementation, with the mixture's precision chosen so that it is the same beta."""
    boundaries = pytest.importorskip("confseq.boundaries", reason="confseq builds from source alone, with Boost")
    precision = 0.5 * (1 - threshold)
    need = 2 * math.log(1 / (2 * ALPHA))
    v_opt = (precision + threshold * (1 - threshold)) * (need + math.log(1 + need))
    count, of = np.array([0.0, 4, 40, 150]), np.array([100.0, 150, 1000, 1000])
    excess, variance = count - of * threshold, of * threshold * (1 - threshold)
    above, below = log_evidence(count, of, threshold)
    for mine, sign, low, high in ((above, 1, threshold, 1 - threshold), (below, -1, 1 - threshold, threshold)):
        theirs = boundaries.beta_binomial_log_mixture(
            sign * excess, variance, v_opt, low, high, ALPHA, is_one_sided=True
        )
        shown = np.isfinite(np.asarray(theirs))
        assert shown.any()
        assert mine[shown] == pytest.approx(np.asarray(theirs)[shown], abs=1e-6)


def gains(rng: np.random.Generator, kind: str, n: int) -> tuple[np.ndarray, float]:
    """Differences in −1 to 1 and their mean."""
    if kind == "rare losses":
        return -(rng.random(n) < 0.01).astype(float), -0.01
    if kind == "both ways":
        return np.where((u := rng.random(n)) < 0.06, -1.0, np.where(u < 0.1, 1.0, 0.0)), -0.02
    return rng.normal(-0.02, 0.1, n).clip(-1, 1), -0.02


@pytest.mark.parametrize("kind", ["rare losses", "both ways", "normal"])
def test_means_keep_their_error_at_every_look(kind: str) -> None:
    rng = np.random.default_rng(3)
    runs, wrong = 300, np.zeros(2)
    for _ in range(runs):
        values, mean = gains(rng, kind, 2000)
        gathered, ever = MeanEvidence(mean, -1, 1), np.zeros(2, dtype=bool)
        for start in range(0, 2000, 25):
            gathered.add(values[start : start + 25])
            ever |= np.array(gathered.evidence()) >= NEED
        wrong += ever
    assert (wrong / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)).all()


def test_means_are_settled_soon() -> None:
    gathered, n = MeanEvidence(-0.02, -1, 1), 0
    values = np.random.default_rng(0).normal(0, 0.1, 2000).clip(-1, 1)
    while gathered.evidence().above < NEED:
        gathered.add(values[n : n + 25])
        n += 25
    assert n <= 500


def test_the_order_of_values_plays_no_part() -> None:
    values = np.random.default_rng(1).normal(0.01, 0.2, 400).clip(-1, 1)
    first, second = MeanEvidence(0, -1, 1), MeanEvidence(0, -1, 1)
    first.add(values)
    second.add(values[::-1][:100])
    second.add(values[::-1][100:])
    assert first.evidence() == pytest.approx(second.evidence())
    assert first.bounds(ALPHA) == pytest.approx(second.bounds(ALPHA))


def test_bounds_of_a_mean_are_where_the_evidence_is_enough() -> None:
    values = np.random.default_rng(1).normal(0.05, 0.2, 400).clip(-1, 1)
    gathered = MeanEvidence(0, -1, 1)
    gathered.add(values)
    lower, upper = gathered.bounds(ALPHA)
    assert lower < values.mean() < upper
    for threshold, side, enough in (
        (lower, 0, True),
        (lower + 1e-3, 0, False),
        (upper, 1, True),
        (upper - 1e-3, 1, False),
    ):
        at = MeanEvidence(threshold, -1, 1)
        at.add(values)
        assert (at.evidence()[side] >= NEED) is enough


def test_no_wider_than_the_betting_interval_of_confseq(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the predictable bets of Waudby-Smith & Ramdas: the same data, one-sided bounds of the same level."""
    monkeypatch.setattr(np, "float_", np.float64, raising=False)  # confseq was written for NumPy 1
    betting = pytest.importorskip("confseq.betting", reason="confseq builds from source alone, with Boost")
    values = np.random.default_rng(4).normal(0.52, 0.08, 800).clip(0, 1)
    low, high = betting.betting_cs(values, alpha=2 * ALPHA, running_intersection=False, parallel=False, breaks=1000)
    gathered = MeanEvidence(0.5, 0, 1)
    gathered.add(values)
    lower, upper = gathered.bounds(ALPHA)
    assert low[-1] <= values.mean() <= high[-1]
    assert upper - lower <= 1.25 * (high[-1] - low[-1])


def test_values_outside_the_range_are_refused() -> None:
    for wrong in (1.2, -1.2, math.nan):
        with pytest.raises(ValueError, match="outside -1 to 1"):
            MeanEvidence(0, -1, 1).add(np.array([0.0, wrong]))


def test_a_threshold_at_the_end_of_the_range() -> None:
    gathered = MeanEvidence(1, 0, 1)
    gathered.add(np.array([1.0, 1.0]))
    assert gathered.evidence() == (-math.inf, 0)
    gathered.add(np.array([0.5]))
    assert gathered.evidence() == (-math.inf, math.inf)


@pytest.mark.parametrize("threshold", [-1.5, -1, 0, 1, 1.5])
def test_without_a_value_there_is_no_evidence(threshold):
    assert MeanEvidence(threshold, -1, 1).evidence() == (0, 0)
