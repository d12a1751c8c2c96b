"""Comparisons where OLD's answers are the reference: figures held against counts made here by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from compatcheck.compare import Result, Side, compare
from compatcheck.compare.serialise import join_instances, result_from_dict, result_to_dict
from compatcheck.errors import InputError
from compatcheck.evaluation.against import grade_of, metrics_of
from compatcheck.records import OldAsReference, TaskRun

OLD = ["a b c d", "x", None, None, "same", "", "ü", "lost"]
NEW = ["a b c e", "y", None, "now", "same", "", "ü", None]
CHANGED = [True, True, False, True, False, False, False, True]


def run_of(answers: list[str | None], **columns: list[Any]) -> TaskRun:
    ids = [f"d{place}" for place in range(len(answers))]
    records = pd.DataFrame({"doc_id": ids, "prediction": pd.Series(answers, dtype=object), **columns})
    return TaskRun("chat", "none", (), records)


def compared(name: str, old: TaskRun, new: TaskRun, **how: Any) -> Any:
    (metric,) = metrics_of([name], {})
    return compare(old, new, metric=metric, grade=grade_of([name], {}), **how)


def test_what_changed_is_counted_and_nothing_is_right_or_wrong() -> None:
    found = compared("changed", run_of(OLD), run_of(NEW))
    assert (found.kind, found.reference, found.n) == ("discrete", "old", 8)
    assert found.quadrants == {"unchanged": 4, "changed": 4}
    assert {name: (each.count, each.of) for name, each in found.metrics.items()} == {
        "agreement": (4, 8), "changed": (4, 8),
    }  # fmt: skip
    assert found.instances["changed"].tolist() == CHANGED
    assert found.first_shown["doc_id"].tolist() == ["d0", "d1", "d3", "d7"]
    assert len(found.negative_flips) == 0
    assert found.tests == {}


def test_similarity_is_the_mean_over_all_pairs_and_the_same_answer_is_wholly_alike() -> None:
    """ROUGE finds no word in "ü" or "" and would score 0: equal texts are asked of no metric."""
    found = compared("rouge1", run_of(OLD), run_of(NEW))
    assert found.kind == "smooth"
    assert found.instances["score_new"].tolist() == [0.75, 0, 1, 0, 1, 1, 1, 0]
    similarity = found.metrics["similarity"]
    assert (similarity.value, similarity.count, similarity.of) == (pytest.approx(4.75 / 8), 8, 8)
    assert similarity.lower < similarity.value < similarity.upper
    assert similarity.low < similarity.value < similarity.high
    near = compared("rouge1", run_of(OLD), run_of(NEW), epsilon=0.25)
    assert near.quadrants == {"unchanged": 5, "changed": 3}
    reached = compared("rouge1", run_of(OLD), run_of(NEW), correct_at=0.75)
    assert (reached.kind, reached.quadrants) == ("discrete", {"unchanged": 5, "changed": 3})
    assert "similarity" not in reached.metrics


def test_a_metric_says_what_counts_as_the_same() -> None:
    old = run_of(['{"a": 1, "b": 2}', "no json", "no json", '{"a": 1}'])
    new = run_of(['```json\n{"b": 2.0, "a": 1}\n```', "no json either", "no json", "none"])
    assert compared("json", old, new).instances["changed"].tolist() == [False, True, False, True]
    assert compared("changed", old, new).instances["changed"].tolist() == [True, True, False, True]


def test_a_dead_band_is_for_similarities() -> None:
    assert compared("changed", run_of(["a", "b"]), run_of(["a", "x"]), epsilon=1.0).quadrants["changed"] == 1
    assert compared("rouge1", run_of(["a", "b"]), run_of(["a", "x"]), epsilon=1.0).quadrants["changed"] == 0


def test_nothing_that_can_be_compared_is_undefined_and_not_0() -> None:
    found = compared("rouge1", run_of(["a"], error=["timeout"]), run_of(["b"]))
    assert found.n == 0
    assert {name: (each.value, each.why) for name, each in found.metrics.items()} == dict.fromkeys(
        ("agreement", "changed", "similarity"), (None, "no pair could be scored")
    )


def test_errors_are_not_compared() -> None:
    old = run_of(["a", "b", "c"], error=[None, "timeout", None])
    new = run_of(["a", "x", "y"], error=[None, None, "refused"])
    found = compared("changed", old, new)
    assert (found.n, found.quadrants) == (1, {"unchanged": 1, "changed": 0})
    assert (found.pairing.errors_old, found.pairing.errors_new) == (1, 1)


def test_slices_and_clusters_count_what_changed() -> None:
    kinds = ["odd", "odd", "odd", "odd", "even", "even", "even", "even"]
    found = compared("rouge1", run_of(OLD, kind=kinds), run_of(NEW, kind=kinds), slice_by=["kind"])
    assert {part.value: (part.changed.count, part.n) for part in found.slices} == {"odd": (3, 4), "even": (1, 4)}
    assert all(part.nfr.value is None and "reference" in part.nfr.why for part in found.slices)
    assert all(part.negative_flips == part.positive_flips == 0 and part.lost is None for part in found.slices)
    pairs = [str(place // 2) for place in range(8)]
    grouped = compared("rouge1", run_of(OLD, pair=pairs), run_of(NEW, pair=pairs), cluster_by="pair")
    assert grouped.clusters.count == 4
    for name in ("agreement", "changed"):
        assert grouped.metrics[name].value == found.metrics[name].value
        assert grouped.metrics[name].effective <= 8
    assert grouped.metrics["similarity"].value == found.metrics["similarity"].value


def test_a_side_without_answers_is_refused() -> None:
    scores = TaskRun("chat", "none", (), pd.DataFrame({"doc_id": ["d0"], "score:x": [1.0]}))
    with pytest.raises(InputError, match="NEW has no answers on task 'chat', only scores"):
        compared("changed", run_of(["a"]), scores)


def judged(verdicts: dict[str, tuple[float, float]]) -> Callable[..., Any]:
    """Score and self-agreement by NEW's answer."""

    def grade(metric: Any, old: list[str], new: list[str], inputs: list[str | None]) -> Any:
        found = np.array([verdicts[each] for each in new])
        return found[:, 0], found[:, 1]

    return grade


def test_a_judge_prefers_one_only_in_both_orders() -> None:
    old = run_of(["o", "o", "o", "o", "o", "o", None, "o"])
    new = run_of(["better", "worse", "first", "half", "o", "tie", "answer", None])
    verdicts = {"better": (1.0, 1.0), "worse": (0.0, 1.0), "first": (0.5, 0.0), "half": (0.75, 0.0), "tie": (0.5, 1.0)}
    found = compare(old, new, metric=OldAsReference("judge", "smooth", preference=True), grade=judged(verdicts))
    assert found.quadrants == {"unchanged": 1, "new_preferred": 2, "old_preferred": 2, "tied": 3}
    counts = {name: (each.count, each.of) for name, each in found.metrics.items()}
    assert counts == {
        "agreement": (1, 8), "changed": (7, 8), "noticed": (4, 8), "preferred_new": (2, 8), "preferred_old": (2, 8),
        "tied": (3, 8), "self_agreement": (3, 5),
    }  # fmt: skip
    assert found.tests == {"sign_p": 1.0}


def test_the_sign_test_is_of_both_sides_wins_alone() -> None:
    new = ["better"] * 9 + ["worse"] + ["tie"] * 5
    verdicts = {"better": (1.0, 1.0), "worse": (0.0, 1.0), "tie": (0.5, 1.0)}
    metric = OldAsReference("judge", "smooth", preference=True)
    found = compare(run_of(["o"] * 15), run_of(new), metric=metric, grade=judged(verdicts))
    assert found.tests["sign_p"] == pytest.approx(binomtest(1, 10).pvalue)


def test_report_json_has_null_quadrants_with_the_reason_and_is_read_back_equal() -> None:
    kinds = ["odd", "even"] * 4
    old, new = run_of(OLD, kind=kinds), run_of(NEW, kind=kinds)
    both = tuple(compared(name, old, new, slice_by=["kind"]) for name in ("changed", "rouge1"))
    result = Result(Side("old", "sha256:aa"), Side("new", "sha256:bb"), both, "none", "0.1.0")
    data = json.loads(json.dumps(result_to_dict(result), allow_nan=False))
    first = data["comparisons"][0]
    assert first["quadrants"] is None
    assert "OLD's answers are the reference" in first["quadrants_why"]
    assert (first["changes"], first["reference"]) == ({"unchanged": 4, "changed": 4}, "old")
    assert first["metrics"]["agreement"]["count"] == 4
    assert result_from_dict(data, join_instances(result)) == result
    del first["changes"]
    with pytest.raises(InputError, match="quadrants"):
        result_from_dict(data, join_instances(result))
