from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from compatcheck.advice import ASSUMED_NOISE, Noise, advise
from compatcheck.compare import compare
from compatcheck.compare.result import Comparison, Estimate, Gate
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


def test_no_flip_among_many_is_a_patch_with_its_bound() -> None:
    advice = advise([flips(1000, 0, 0)], "none")
    assert advice.bump == "patch"
    assert advice.reason == (
        "behaviour is unchanged within the noise (1 % assumed, as no noise floor was measured): at most 0.3 % flip"
    )


def test_no_flip_among_few_shows_nothing() -> None:
    advice = advise([flips(100, 0, 0)], "none")  # the upper bound is 3 %
    assert advice.bump == "undecided"
    assert "bounds up to 3 % against a noise of 1 %" in advice.reason


@pytest.mark.parametrize(("n", "bump"), [(298, "undecided"), (299, "patch")])
def test_the_least_sample_that_can_show_no_change(n: int, bump: str) -> None:
    """0.99^n ≤ 5 %."""
    assert advise([flips(n, 0, 0)], "none").bump == bump


def test_a_measured_noise_floor_takes_the_place_of_the_assumed_one() -> None:
    comparison = flips(1000, 10, 10)  # upper bounds 1.7 %
    assert ASSUMED_NOISE == 0.01
    assert advise([comparison], "none").bump == "undecided"
    advice = advise([comparison], "none", Noise(0.02, "measured by rerunning the old model"))
    assert advice.bump == "patch"
    assert "2 % measured by rerunning the old model" in advice.reason


def test_better_is_minor_and_worse_is_major() -> None:
    better, worse = flips(1000, 20, 100), flips(1000, 100, 20)
    assert advise([better], "none").bump == "minor"
    assert advise([better], "none").reason.startswith("better, and no regression is shown: net change +8 points (95 %:")
    advice = advise([flips(1000, 20, 100, "a"), replace(worse, task="b")], "none")
    assert advice.bump == "major"
    assert advice.reason.startswith("a regression is shown: b/exact_match: net change −8 points (95 %: −10 to −5.9)")


def test_other_answers_in_balance_are_minor() -> None:
    advice = advise([flips(1000, 80, 80)], "none")
    assert advice.bump == "minor"
    assert "80 of 1,000 got worse, 80 got better" in advice.reason


def test_budgets_decide_before_figures() -> None:
    better = flips(1000, 20, 100)
    broken = better.with_gates((Gate("nfr:1%", "fail", "…"),))
    assert advise([broken], "fail").bump == "major"
    assert advise([broken], "fail").reason == "a regression is shown: budget nfr:1% is broken"
    unsure = better.with_gates((Gate("nfr:2%", "inconclusive", "…", 4000),))
    advice = advise([unsure], "inconclusive")
    assert (advice.bump, advice.reason) == ("undecided", "a budget is open: nfr:2%; more instances would settle it")


def test_a_tiny_regression_within_the_noise_is_no_regression() -> None:
    comparison = flips(100_000, 500, 300)
    assert comparison.metrics["net"].high is not None and comparison.metrics["net"].high < 0
    assert advise([comparison], "none").bump == "patch"


def test_nothing_scored_and_nothing_compared_are_undecided() -> None:
    assert advise([], "none").bump == "undecided"
    nothing = {name: Estimate(None, of=0, why="no pair could be scored") for name in ("nfr", "pfr", "net")}
    assert advise([replace(flips(10, 0, 0), n=0, metrics=nothing)], "none").bump == "undecided"
