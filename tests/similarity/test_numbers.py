"""Numbers that count as the same, and several accepted targets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compatcheck import similarity
from compatcheck.errors import InputError
from compatcheck.similarity.numbers import Tolerance, number_of, tolerance


@pytest.mark.parametrize(
    ("metric", "prediction", "target", "near", "right"),
    [
        ("exact_match", "18.0", "18", 0.0, False),
        ("exact_match", "18.0", "18", 1e-9, True),
        ("exact_match", "1.1", "1", 0.1, True),
        ("exact_match", "1.11", "1", 0.1, False),
        ("exact_match", "-1.1", "1", 0.1, False),
        ("exact_match", "−5", "-5", 0.01, True),
        ("exact_match", "1,234.5", "1234.6", 0.5, True),
        ("exact_match", "101", "100", "1%", True),
        ("exact_match", "99", "100", "1%", True),
        ("exact_match", "101.1", "100", "1%", False),
        ("exact_match", "0.001", "0", "1%", False),
        ("exact_match", "1e3", "1000", 0.5, True),
        ("exact_match", "about 18", "18", 0.5, False),
        ("exact_match", "12:30", "12", 1.0, False),
        ("exact_match", "ten", "10", 1.0, False),
        ("exact_match", "ten", "ten", 1.0, True),
        ("contains", "It is 18.02 m.", "18", 0.05, True),
        ("contains", "It is 18.2 m.", "18", 0.05, False),
        ("contains", "from 3 to 7", "7.01", 0.05, True),
        ("contains", "A18 and 1,800", "18", 0.05, False),
        ("contains", "1,800.4 in all", "1800", 0.5, True),
        ("contains", "Paris", "Paris", 0.5, True),
        ("contains", "on 2024-12-01", "12", 0.5, False),
        ("contains", "on 01/12/2024", "12", 0.5, False),
        ("contains", "at 12:30", "12", 0.5, False),
        ("contains", "3/4 of it", "3", 0.5, False),
        ("contains", "version 12.4.1", "12.4", 0.5, False),
        ("contains", "10-12 days", "12", 0.5, True),
        ("contains", "between -5 and 5", "-5", 0.1, True),
        ("contains", "It is −5 here.", "-5", 0.0, True),
        ("contains", "It is -5 here.", "−5", 0.0, True),
        ("contains", "It is −5 here.", "5", 0.0, False),
        ("contains", "It costs $1,200.05.", "1200", 0.5, True),
        ("exact_match", "$1,200.05", "1200", 0.5, True),
        ("exact_match", "-$5", "-5.0", 0.5, True),
        ("exact_match", "1,200.05 €", "1200", 0.5, True),
        ("exact_match", "$5", "€5", 0.5, False),
        ("exact_match", "5.2%", "5 %", 0.5, True),
        ("exact_match", "5%", "5", 0.5, False),
    ],
)
def test_how_far_apart(metric: str, prediction: str, target: str, near: float | str, right: bool) -> None:
    scorer = similarity.get(metric, number_tolerance=near)
    assert scorer.score([prediction], [target]).tolist() == [float(right)]
    assert ("tolerance:" in scorer.signature) is (near != 0.0)


def test_with_punctuation_ignored_too() -> None:
    scorer = similarity.get("exact_match", number_tolerance="1%", ignore_punctuation=True)
    assert scorer.score(["$1,005.", "(99.5)", "12%"], ["1000", "100", "20"]).tolist() == [1, 1, 0]


@pytest.mark.parametrize("metric", ["exact_match", "contains", "json", "tool_call"])
@pytest.mark.parametrize("value", [-1, "-1%", "one", "1 %x", float("nan"), float("inf"), ""])
def test_what_is_no_tolerance(metric: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"--metric-arg {metric}.number_tolerance=.*: must be a number of at least 0"):
        similarity.get(metric, number_tolerance=value)


def test_numbers_beyond_floats_do_not_crash() -> None:
    assert not Tolerance(0.5).close(10**400, 1.5)
    assert Tolerance(0.5).close(10**400, 10**400)
    assert tolerance("json", "5%") == Tolerance(relative=0.05)
    assert number_of("12,34") is None
    assert similarity.get("exact_match", number_tolerance=1).score(["9" * 5000], ["1"]).tolist() == [0.0]


@pytest.mark.parametrize("metric", ["rouge1", "bleu", "chrf", "exact_match", "contains"])
def test_of_several_targets_the_best_counts(metric: str) -> None:
    listed = ["Paris is the capital", "City of Light"]
    said = ["Paris is the capital", "City of Light", "Rome", json.dumps(listed)]
    assert similarity.get(metric).score(said, [listed] * 4).tolist() == pytest.approx([1, 1, 0, 1], abs=0.2)


def test_a_text_that_is_a_list_is_one_target_of_a_smooth_score() -> None:
    target = '["Paris", "City of Light"]'
    assert similarity.get("rouge1").score([target, "Paris"], [target] * 2).tolist() == [1, 0.4]


@pytest.mark.parametrize("metric", ["exact_match", "contains"])
def test_a_list_as_json_text_is_several_accepted_targets(metric: str) -> None:
    target = '["Paris", "City of Light"]'
    scores = similarity.get(metric).score(["Paris", "City of Light", "Rome", target], [target] * 4)
    assert scores.tolist() == [1, 1, 0, 1]
    assert similarity.get(metric).score(["x"], ['["a", 1]']).tolist() == [0]
