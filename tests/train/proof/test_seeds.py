"""Several trainings: means and intervals that hold for further documents and further seeds."""

from __future__ import annotations

import numpy as np
import pytest

from compatcheck_train.fix.change import mean_over_seeds
from compatcheck_train.fix.proof import prove
from compatcheck_train.fix.verdict import Judgement, both
from tests.train.proof.test_proof import RIGHT, random_scores, run_of


def test_means_are_counted_per_document_and_seed() -> None:
    old, new, *trained = random_scores(400, (0.7, 0.75, 0.8, 0.82, 0.78), 1)
    runs = [run_of(each, RIGHT) for each in trained]
    control = run_of(new, RIGHT)
    sides = {"new": run_of(new, RIGHT), "compat": runs[1], "control": control}
    for number, run in enumerate(runs):
        sides |= {("compat", number): run, ("control", number): control}  # type: ignore[dict-item]
    found = prove(run_of(old, RIGHT), sides).metrics[0]
    seeds = found.seeds
    assert seeds is not None and seeds.numbers == (0, 1, 2)
    flips = [((old == 1) & (each == 0)).mean() for each in (new, *trained)]
    assert seeds.changes["nfr"].value == pytest.approx(np.mean(flips[1:]) - flips[0])
    assert seeds.changes["nfr_relative"].value == pytest.approx(np.mean(flips[1:]) / flips[0] - 1)
    assert seeds.changes["score"].value == pytest.approx(np.mean(trained) - new.mean())
    assert [each["score"] for each in seeds.each] == pytest.approx([one.mean() - new.mean() for one in trained])
    assert seeds.each_control == ({"nfr": 0.0, "score": 0.0},) * 3
    assert found.changes["score"].value == pytest.approx(trained[1].mean() - new.mean()), "of the one given"
    assert set(found.comparisons) == {"new", "compat", "control"}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_intervals_hold_for_further_seeds(count: int) -> None:
    """Seeds that differ by 3 points among themselves; an interval over documents alone covers far less."""
    rng = np.random.default_rng(count)
    covered = alone = 0
    for draw in range(80):
        change = 0.02 + rng.normal(0, 0.03, (count, 1)) + rng.normal(0, 0.3, (count, 400))
        found = mean_over_seeds(change, draw)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0.02 <= found.high
        error = change.mean(axis=0).std() / 20
        alone += abs(change.mean() - 0.02) <= 1.96 * error
    assert covered >= 71, "95 % but for chance"
    assert alone < 60


def test_both_the_mean_and_what_is_delivered_must_be_better() -> None:
    mean = Judgement("better", "a", "open", "control")
    assert both(mean, ("better", "b")) == Judgement("better", "over all seeds, a", "open", "control")
    assert both(mean, ("inconclusive", "b")).reason == "with the seed that is delivered, b"
    assert both(mean, ("not better", "b")).verdict == "not better"
    assert both(Judgement("inconclusive", "a"), ("better", "b")).verdict == "inconclusive"
