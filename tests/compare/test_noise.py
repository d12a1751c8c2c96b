from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, binomtest, fisher_exact

from compatcheck.compare.intervals import exact
from compatcheck.compare.noise import above_noise, noise_floor
from compatcheck.compare.result import Estimate
from compatcheck.records import Metric, TaskRun

Maker = Callable[..., TaskRun]
EXACT = Metric("exact_match", "discrete")


def test_flips_of_all_reruns_are_pooled(make_run: Maker) -> None:
    """Counted by hand: 10 instances, two reruns with 1 + 2 negative and 1 + 0 positive flips."""
    old = make_run([1, 1, 1, 1, 1, 0, 0, 0, 0, 0], prediction=list("aaaaabbbbb"))
    first = make_run([0, 1, 1, 1, 1, 1, 0, 0, 0, 0], prediction=list("xaaaaabbbb"))
    second = make_run([0, 0, 1, 1, 1, 0, 0, 0, 0, 0], prediction=list("xyaaabbbbc"))
    floor = noise_floor([(old, first), (old, second)], EXACT, source="2 reruns")
    found = {name: (figure.count, figure.of) for name, figure in floor.metrics.items()}
    assert (floor.source, floor.reruns, floor.n) == ("2 reruns", 2, 10)
    assert found == {
        "nfr": (3, 20), "pfr": (1, 20), "flips": (4, 20), "nfr_mc": (4, 20), "inconsistency": (1, 20),
        "both_correct_changed": (0, 20), "btc": (7, 10), "bec": (9, 10), "nfi": (3, 12), "pfi": (1, 8),
        "agreement": (15, 20),
    }  # fmt: skip
    assert floor.metrics["nfr"].value == 0.15


def test_reruns_of_the_same_instances_do_not_narrow_the_interval(make_run: Maker) -> None:
    """Three reruns that repeat each other say as much as one: Wilson's interval for 4 of 50."""
    old = make_run([1.0] * 50)
    rerun = make_run([0.0] * 4 + [1.0] * 46)
    expected = binomtest(4, 50).proportion_ci(method="wilson")
    for count in (1, 3):
        nfr = noise_floor([(old, rerun)] * count, EXACT, source="").metrics["nfr"]
        assert (nfr.low, nfr.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert (nfr.count, nfr.of, nfr.value) == (4 * count, 50 * count, 0.08)


def test_no_flip_still_has_an_upper_bound(make_run: Maker) -> None:
    nfr = noise_floor([(make_run([1.0] * 100), make_run([1.0] * 100))], EXACT, source="").metrics["nfr"]
    assert (nfr.value, nfr.low) == (0.0, 0.0)
    assert nfr.upper == pytest.approx(binomtest(0, 100).proportion_ci(0.90, "exact").high, abs=1e-12)


def test_smooth_scores_count_what_is_beyond_the_dead_band(make_run: Maker, smooth: Metric) -> None:
    old = make_run([0.5, 0.5, 0.5, 0.5], metric=smooth, prediction=list("abcd"))
    again = make_run([0.5, 0.55, 0.7, 0.2], metric=smooth, prediction=list("abxy"))
    floor = noise_floor([(old, again)], smooth, source="", epsilon=0.1)
    found = {name: (figure.count, figure.of) for name, figure in floor.metrics.items()}
    assert found == {"nfr": (1, 4), "pfr": (1, 4), "flips": (2, 4), "agreement": (2, 4)}
    assert noise_floor([(old, again)], smooth, source="", correct_at=0.5).metrics["nfr"].count == 1


def test_without_predictions_agreement_is_undefined(make_run: Maker) -> None:
    floor = noise_floor([(make_run([1.0, 0.0]), make_run([1.0, 1.0]))], EXACT, source="")
    assert floor.metrics["agreement"].value is None
    assert floor.metrics["agreement"].why == "no predictions were recorded, only scores"
    assert floor.metrics["btc"].value == 1.0
    assert floor.metrics["nfi"].why == "the new model has no wrong answer"


@pytest.mark.parametrize(("flips", "reruns"), [(12, 1), (12, 3), (40, 3)])
def test_nfr_is_tested_against_the_noise(flips: int, reruns: int) -> None:
    """Fisher's exact test; three reruns of the same instances say no more than one."""
    nfr, noise = Estimate(None, count=flips, of=500), Estimate(None, count=10 * reruns, of=500 * reruns)
    table = [[flips, 500 - flips], [10, 490]]
    assert above_noise(nfr, noise, reruns) == pytest.approx(fisher_exact(table, "greater").pvalue)
    assert above_noise(Estimate(None), noise, reruns) is None


def test_the_same_model_again_is_rarely_above_its_noise() -> None:
    rng = np.random.default_rng(2)
    found = [
        above_noise(Estimate(None, count=int(new), of=200), Estimate(None, count=int(again), of=200), 1)
        for new, again in rng.binomial(200, 0.05, (2000, 2))
    ]
    assert np.mean([p is not None and p < 0.05 for p in found]) <= 0.05


@pytest.mark.parametrize("noise", [0.005, 0.02, 0.05])
def test_a_budget_at_twice_the_noise_is_rarely_an_error(noise: float) -> None:
    """By exact sums: of measurements on 100 instances, those whose lower bound is beyond twice the true noise."""
    flips = np.arange(101)
    beyond = np.array([exact(int(k), 100, 0.95)[0] > 2 * noise for k in flips])
    assert binom.pmf(flips[beyond], 100, noise).sum() <= 0.01
    by_point = binom.pmf(flips[flips / 100 >= 2 * noise], 100, noise).sum()
    assert by_point > 0.02
