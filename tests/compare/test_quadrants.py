from __future__ import annotations

import math

import numpy as np
import pytest

from compatcheck.compare import compare
from compatcheck.compare.quadrants import resolve_metric
from compatcheck.errors import InputError
from compatcheck.records import Metric


def test_discrete_quadrants_and_gain(make_run):
    found = compare(make_run([1, 0, 1, 0]), make_run([1, 1, 0, 0]), metric="exact_match")
    assert found.instances["quadrant"].tolist() == ["both_correct", "positive_flip", "negative_flip", "both_wrong"]
    assert found.instances["gain"].tolist() == [0, 1, -1, 0]
    assert found.negative_flips["doc_id"].tolist() == ["d2"]


def test_smooth_groups_are_strict_without_a_dead_band(make_run, smooth):
    old = make_run([0.5, 0.5, 0.5], metric=smooth)
    new = make_run([0.5, 0.5 + 1e-8, 0.5 - 1e-8], metric=smooth)
    found = compare(old, new, metric="rouge1")
    assert found.quadrants == {"positive_flip": 1, "negative_flip": 1, "unchanged": 1}


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_sum_in_another_order_is_no_flip(make_run, smooth, scale):
    """The mean of the same samples in another order: the last digits differ, by more than nothing."""
    samples = np.random.default_rng(3).random((100, 9)) * scale
    old, new = samples.mean(axis=1), np.array([sum(row[::-1]) / 9 for row in samples])
    assert (old != new).sum() > 10
    found = compare(make_run(old, metric=smooth), make_run(new, metric=smooth), metric="rouge1")
    assert found.quadrants == {"positive_flip": 0, "negative_flip": 0, "unchanged": 100}
    assert found.metrics["mean_difference"].value == 0
    assert found.tests["permutation_p"] == 1.0


def test_a_threshold_is_reached_but_for_rounding(make_run, smooth):
    assert 0.1 + 0.2 > 0.3 > 0.3 - 1e-16
    old = make_run([0.3], metric=smooth)
    new = make_run([(0.7 - 0.4)], metric=smooth)  # 0.29999999999999993
    assert compare(old, new, metric="rouge1", correct_at=0.3).quadrants["both_correct"] == 1


def test_the_dead_band_includes_its_edge_whatever_the_rounding(make_run, smooth):
    assert 0.8 - 0.6 > 0.2  # rounding puts the difference beyond 0.2
    old = make_run([0.6, 0.8, 0.6, 0.8], metric=smooth)
    new = make_run([0.8, 0.6, 0.81, 0.59], metric=smooth)
    found = compare(old, new, metric="rouge1", epsilon=0.2)
    assert found.instances["quadrant"].tolist() == ["unchanged", "unchanged", "positive_flip", "negative_flip"]


def test_correct_at_makes_a_smooth_metric_discrete(make_run, smooth):
    old, new = make_run([0.5, 0.2, 0.7, 0.1], metric=smooth), make_run([0.9, 0.5, 0.4, 0.3], metric=smooth)
    found = compare(old, new, metric="rouge1", correct_at=0.5)
    assert found.kind == "discrete"
    assert found.instances["quadrant"].tolist() == ["both_correct", "positive_flip", "negative_flip", "both_wrong"]
    assert found.instances["gain"].round(9).tolist() == [0.4, 0.3, -0.3, 0.2]
    assert "|correct:>=0.5|" in found.signature
    assert "eps:" not in found.signature


def test_lower_is_better_turns_the_gain_and_the_threshold(make_run):
    loss = Metric("loss", "smooth", higher_is_better=False)
    old, new = make_run([2.0, 1.0, 3.0], metric=loss), make_run([1.5, 1.5, 3.0], metric=loss)
    found = compare(old, new, metric="loss")
    assert found.instances["gain"].tolist() == [0.5, -0.5, 0.0]
    assert found.instances["quadrant"].tolist() == ["positive_flip", "negative_flip", "unchanged"]
    assert found.metrics["score_old"].value == 2.0
    found = compare(old, new, metric="loss", correct_at=1.5)
    assert found.instances["quadrant"].tolist() == ["positive_flip", "both_correct", "both_wrong"]
    assert "|correct:<=1.5|" in found.signature


def test_a_discrete_metric_where_lower_is_better_has_zero_for_correct(make_run):
    toxic = Metric("toxic", "discrete", higher_is_better=False)
    found = compare(make_run([0, 1], metric=toxic), make_run([1, 0], metric=toxic), metric="toxic")
    assert found.instances["quadrant"].tolist() == ["negative_flip", "positive_flip"]


def test_errors_are_kept_and_never_scored(make_run):
    old = make_run([1, None, 1, None], error=[None, "timeout", None, "timeout"])
    new = make_run([0, 1, None, None], error=[None, None, "out of memory", "timeout"])
    found = compare(old, new, metric="exact_match")
    assert (found.n, found.pairing.paired) == (1, 1)
    assert (found.pairing.errors_old, found.pairing.errors_new) == (2, 2)
    assert sum(found.quadrants.values()) == 1
    table = found.instances
    assert len(table) == 4
    assert table["quadrant"].isna().tolist() == [False, True, True, True]
    assert table["gain"].isna().tolist() == [False, True, True, True]
    assert table["score_new"].iloc[1] == 1
    assert table["error_new"].iloc[2] == "out of memory"


def test_only_errors_leave_everything_undefined(make_run):
    old = make_run([None, None], error=["x", "y"])
    found = compare(old, make_run([1, 1]), metric="exact_match")
    assert found.n == 0
    assert {figure.value for figure in found.metrics.values()} == {None}
    assert all(figure.why for figure in found.metrics.values())
    assert found.tests == {"mcnemar_p": 1.0}


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_an_error(make_run, score):
    with pytest.raises(InputError, match=r"^NEW has the score -?(nan|inf) of 'exact_match' for id 'd1' on task"):
        compare(make_run([1, 0]), make_run([1, score]), metric="exact_match")


def test_a_discrete_score_is_zero_or_one(make_run):
    with pytest.raises(InputError, match=r"^OLD has the score 0.4 of 'exact_match' for id 'd0'.*--correct-at"):
        compare(make_run([0.4, 0]), make_run([1, 0]), metric="exact_match")


def test_changed_means_that_predictions_differ_and_null_equals_null(make_run):
    old = make_run([0, 0, 0, 1], prediction=["18", None, None, "7"])
    new = make_run([0, 0, 1, 1], prediction=["19", None, "5", "7"])
    found = compare(old, new, metric="exact_match")
    assert found.instances["changed"].tolist() == [True, False, True, False]
    assert (found.pairing.no_answer_old, found.pairing.no_answer_new) == (2, 1)
    assert found.metrics["inconsistency"].count == 1
    assert found.metrics["agreement"].value == 0.5


def test_a_metric_may_have_predictions_of_its_own(make_run):
    acc_norm = Metric("acc_norm", "discrete")
    old = make_run([0, 0], metric=acc_norm, prediction=["A", "B"], prediction__acc_norm=["C", "B"])
    new = make_run([0, 0], metric=acc_norm, prediction=["A", "C"], prediction__acc_norm=["D", "B"])
    found = compare(old, new, metric="acc_norm")
    assert found.instances["changed"].tolist() == [True, False]
    assert found.instances["prediction_old"].tolist() == ["C", "B"]


def test_without_predictions_the_behaviour_change_is_unknown(make_run):
    found = compare(make_run([1, 0], prediction=["1", "2"]), make_run([1, 0]), metric="exact_match")
    assert found.instances["changed"].isna().all()
    assert (found.pairing.no_answer_old, found.pairing.no_answer_new) == (0, 0)
    for name in ("nfr_mc", "inconsistency", "agreement", "both_correct_changed"):
        assert found.metrics[name].value is None
        assert found.metrics[name].why == "no predictions were recorded, only scores"
    assert found.metrics["nfr"].value == 0


def test_an_unknown_metric_names_the_closest(make_run):
    with pytest.raises(
        InputError, match=r"^OLD has no score 'exact_mtch' .*did you mean 'exact_match'\?\); it has exact_m"
    ):
        compare(make_run([1]), make_run([1]), metric="exact_mtch")


def test_sides_that_read_a_metric_differently(make_run, smooth):
    discrete = Metric("rouge1", "discrete", signature="other")
    merged = resolve_metric("rouge1", make_run([1], metric=discrete), make_run([0.5], metric=smooth))
    assert (merged.kind, merged.signature) == ("smooth", "other / rouge1|fmeasure")
    lower = Metric("rouge1", "smooth", higher_is_better=False)
    with pytest.raises(InputError, match="disagree on whether a higher 'rouge1' is better"):
        resolve_metric("rouge1", make_run([1], metric=lower), make_run([1], metric=smooth))
    assert resolve_metric(smooth, make_run([1], metric=discrete), make_run([1], metric=discrete)) is smooth


def test_the_sample_solutions_of_a_6b_and_a_175b_model(shared):
    """The published GSM8K solutions: 1,319 questions, answers read by the last match of a pattern."""
    import gzip
    import json
    import re

    import pandas as pd

    from compatcheck.records import TaskRun

    pattern = re.compile(r"A:\s*\$?(-?[0-9][0-9,]*(?:\.[0-9]+)?)")
    with gzip.open(shared / "gsm8k" / "example_model_solutions.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]

    def answer(text):
        found = pattern.findall(text)
        return found[-1].replace(",", "") if found else None

    def run(model):
        records = pd.DataFrame(
            {
                "doc_id": [str(place) for place in range(len(rows))],
                "target": [answer(row["ground_truth"]) for row in rows],
                "prediction": [answer(row[model]["solution"]) for row in rows],
            }
        )
        same = (records["prediction"] == records["target"]) & records["prediction"].notna()
        records["score:exact_match"] = same.astype(float)
        return TaskRun("gsm8k", "none", (Metric("exact_match", "discrete"),), records)

    found = compare(run("6b_finetuning"), run("175b_finetuning"), metric="exact_match")
    assert found.n == 1319
    assert found.quadrants == {"both_correct": 198, "positive_flip": 260, "negative_flip": 88, "both_wrong": 773}
    assert (found.pairing.no_answer_old, found.pairing.no_answer_new) == (4, 5)
