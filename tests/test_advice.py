from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from compatcheck.advice import advise
from compatcheck.compare import compare
from compatcheck.compare.noise import above_noise
from compatcheck.compare.result import Comparison, Estimate, Gate, NoiseFloor
from compatcheck.records import Metric, TaskRun


def discrete(old: list[int], new: list[int], task: str = "t") -> Comparison:
    """A comparison of answers that are right (1) or wrong (0), made by the real code."""

    def run(scores: list[int]) -> TaskRun:
        records = pd.DataFrame(
            {
                "doc_id": [str(i) for i in range(len(scores))],
                "target": "a",
                "prediction": ["a" if score else "b" for score in scores],
                "score:exact_match": [float(score) for score in scores],
            }
        )
        return TaskRun(task, "none", (Metric("exact_match", "discrete"),), records)

    return compare(run(old), run(new), metric=Metric("exact_match", "discrete"))


def flips(n: int, negative: int, positive: int, task: str = "t") -> Comparison:
    old = [1] * (n // 2) + [0] * (n - n // 2)
    new = [0] * negative + old[negative : n - positive] + [1] * positive
    return discrete(old, new, task)


def with_noise(comparison: Comparison, flips: int, n: int = 1000) -> Comparison:
    """The comparison with a noise floor of so many flips each way in one rerun of ``n`` instances."""
    rate = {name: Estimate(flips / n, count=flips, of=n) for name in ("nfr", "pfr")}
    p = above_noise(comparison.metrics["nfr"], rate["nfr"], 1)
    return replace(comparison, noise=NoiseFloor("1 rerun", 1, n, rate), tests={"noise_p": p})


def test_no_flip_among_many_is_a_patch_with_its_bound() -> None:
    advice = advise([flips(1000, 0, 0)], "none")
    assert advice.bump == "patch"
    assert advice.reason == (
        "behaviour is unchanged within a margin of 1 %; no noise floor was measured: at most 0.3 % flip"
    )


def test_a_hundred_points_are_written_out() -> None:
    advice = advise([discrete([1] * 30, [0] * 30)], "none")
    assert "net change −100 points, with 95 % confidence at most −88" in advice.reason
    assert "e+" not in advise([discrete([1], [1])], "none").reason


def test_no_flip_among_few_shows_nothing() -> None:
    advice = advise([flips(100, 0, 0)], "none")  # the upper bound is 3 %
    assert advice.bump == "undecided"
    assert "net change at least −3 points, flips up to 3 % against a margin of 1 %" in advice.reason


@pytest.mark.parametrize(("n", "bump"), [(298, "undecided"), (299, "patch")])
def test_the_least_sample_that_can_show_no_change(n: int, bump: str) -> None:
    """0.99^n ≤ 5 %."""
    assert advise([flips(n, 0, 0)], "none").bump == bump


def test_the_margin_lies_above_the_measured_noise() -> None:
    comparison = flips(1000, 10, 10)  # upper bounds 1.7 %
    assert advise([comparison], "none").bump == "undecided"
    advice = advise([with_noise(comparison, 10)], "none")
    assert advice.bump == "patch"
    assert "within a margin of 2 %, 1 point above the noise floor of 1 %: at most 1.7 % flip" in advice.reason


def test_better_is_minor_and_worse_is_major() -> None:
    better, worse = flips(1000, 20, 100), flips(1000, 100, 20)
    assert advise([better], "none").bump == "minor"
    assert advise([better], "none").reason.startswith("better, and no regression is shown: net change +8 points, with")
    advice = advise([flips(1000, 20, 100, "a"), replace(worse, task="b")], "none")
    assert advice.bump == "major"
    assert advice.reason == (
        "a regression is shown: b/exact_match: net change −8 points, with 95 % confidence at most −6.2"
    )
    short = advise([flips(20, 4, 0)], "none")  # shown by its one-sided bound, and not by the ends of an interval
    assert short.reason == "a regression is shown: net change −20 points, with 95 % confidence at most −3"


def test_a_fall_that_is_shown_is_major_however_small() -> None:
    """900 of 100,000 got worse and none better: it was "unchanged", as both rates lay below 1 %."""
    advice = advise([flips(100_000, 900, 0)], "none")
    assert (advice.bump, "net change −0.9 points" in advice.reason) == ("major", True)
    assert advise([flips(100_000, 500, 300)], "none").bump == "major"


def test_a_large_fall_that_is_not_shown_is_undecided() -> None:
    """7 of 30 got worse and 3 better: −13 points, which was "minor"."""
    assert flips(30, 7, 3).metrics["net"].value == pytest.approx(-4 / 30)
    assert advise([flips(30, 7, 3)], "none").bump == "undecided"
    assert advise([with_noise(flips(30, 7, 3), 0, 30)], "none").bump == "undecided"


def test_other_answers_in_balance_are_no_change_that_is_shown_without_a_noise_floor() -> None:
    advice = advise([flips(10_000, 500, 500)], "none")
    assert advice.bump == "undecided"
    assert advice.reason.startswith(
        "no regression is shown, and not that answers are the same: 500 of 10,000 got worse, 500 got better"
    )
    assert advice.reason.endswith("--noise-floor says how many flip without any change")


def test_other_answers_in_balance_are_minor_where_the_noise_is_known_to_be_less() -> None:
    advice = advise([with_noise(flips(10_000, 500, 500), 200, 10_000)], "none")
    assert advice.bump == "minor"
    assert advice.reason.startswith("more answers changed than without any change (NFR against the noise floor: p = ")
    assert "500 of 10,000 got worse, 500 got better" in advice.reason
    assert advise([with_noise(flips(10_000, 500, 500), 490, 10_000)], "none").bump == "patch"


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [1, 20])
def test_the_same_model_again_is_rarely_anything_but_undecided_or_a_patch(tasks: int) -> None:
    """A rerun with 5 % of noise each way, its noise floor measured on as many instances."""
    rng = np.random.default_rng(6)
    bumps: Counter[str] = Counter()
    for _ in range(200 // tasks * 2):
        each = rng.multinomial(300, (0.05, 0.05, 0.9), tasks)
        again = rng.binomial(300, 0.05, tasks)
        several = [
            with_noise(flips(300, worse, better, f"t{place}"), int(again[place]), 300)
            for place, (worse, better, _) in enumerate(each)
        ]
        bumps[advise(several, "none").bump] += 1
    total = sum(bumps.values())
    for bump in ("minor", "major"):
        assert bumps[bump] / total <= 0.05 + 1.645 * (0.05 * 0.95 / total) ** 0.5


def test_one_comparison_that_is_open_keeps_the_others_from_a_minor() -> None:
    better, unsure = flips(1000, 20, 100), replace(flips(30, 7, 3), task="b")
    assert advise([better, unsure], "none").bump == "undecided"


def test_budgets_decide_before_figures() -> None:
    better = flips(1000, 20, 100)
    broken = better.with_gates((Gate("nfr:1%", "fail", "…"),))
    assert advise([broken], "fail").bump == "major"
    assert advise([broken], "fail").reason == "a regression is shown: budget nfr:1% is broken"
    advisory = better.with_gates((Gate("nfr:1%", "fail", "…", tier="advisory"),))
    assert advise([advisory], "none").bump == "minor"
    unsure = better.with_gates((Gate("nfr:2%", "inconclusive", "…", 4000),))
    advice = advise([unsure], "inconclusive")
    assert (advice.bump, advice.reason) == ("undecided", "a budget is open: nfr:2%; more instances would settle it")


def test_nothing_scored_and_nothing_compared_are_undecided() -> None:
    assert advise([], "none").bump == "undecided"
    nothing = {name: Estimate(None, of=0, why="no pair could be scored") for name in ("nfr", "pfr", "net")}
    assert advise([replace(flips(10, 0, 0), n=0, metrics=nothing)], "none").bump == "undecided"
