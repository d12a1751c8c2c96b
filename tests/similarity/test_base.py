from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compatcheck import similarity
from compatcheck.cli.app import run
from compatcheck.errors import InputError


def test_names() -> None:
    assert similarity.names() == (
        "bertscore", "bleu", "changed", "chrf", "contains", "exact_match", "json", "judge", "rouge1", "rouge2",
        "rougeL",
        "tool_call", "score",
    )  # fmt: skip


def test_unknown_metric_suggests_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"^unknown metric 'rogue1' \(did you mean 'rouge1'\?\); metrics are bertscore, "
    ):
        similarity.get("rogue1")


def test_recorded_score_is_not_computed() -> None:
    with pytest.raises(InputError, match="read from recorded outputs"):
        similarity.get("score")


@pytest.mark.parametrize("name", ["exact_match", "rouge1", "rouge2", "rougeL", "bleu", "chrf"])
def test_no_answer_scores_zero_and_a_copy_scores_one(name: str) -> None:
    scorer = similarity.get(name)
    text = "the quick brown fox jumps"
    scores = scorer.score([None, text, None], [text, text, ["a", "b"]])
    assert scores.dtype == np.float64
    assert scores == pytest.approx([0.0, 1.0, 0.0])
    assert scorer.score([], []).shape == (0,)


def test_kinds_and_direction() -> None:
    kinds = {name: similarity.get(name).kind for name in similarity.names() if name not in ("score", "judge")}
    assert {kinds.pop(name) for name in ("exact_match", "contains", "changed", "json", "tool_call")} == {"discrete"}
    assert set(kinds.values()) == {"smooth"}
    assert all(similarity.get(name).higher_is_better for name in kinds)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 predictions but 1 targets"):
        similarity.get("exact_match").score(["a", "b"], ["a"])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("rouge9", {"x": 1}, r"rouge9\.x: no metric of that name \(did you mean 'rouge"),
        ("exact_match", {"ignore_cas": True}, r"no such setting \(did you mean 'ignore_case'\?\)"),
        ("exact_match", {"strip": "maybe"}, r"strip=maybe: must be true or false"),
        ("rouge1", {"use_stemmer": 3}, r"use_stemmer=3: must be true or false"),
        ("bertscore", {"model_type": 3}, r"model_type=3: must be a text"),
        ("bertscore", {"num_layers": "x"}, r"num_layers=x: must be a whole number"),
        ("bertscore", {"batch_size": True}, r"batch_size=True: must be a whole number"),
        ("bertscore", {"batch_size": 0}, r"batch_size=0: must be at least 1"),
        ("json", {"number_tolerance": [1]}, r"must be a number"),
        ("judge", {"modl": "x"}, r"did you mean 'model'"),
    ],
)
def test_settings_that_cannot_be(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        similarity.check_settings(name, settings)
        similarity.get(name, **settings)


def test_settings_are_checked_whether_or_not_the_metric_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = tmp_path / "a.jsonl"
    row.write_text('{"id": 1, "target": "a", "prediction": "a"}\n')
    assert run(["diff", str(row), str(row), "--allow-same", "--metric-arg", "rouge9.x=1"]) == 2
    assert "--metric-arg rouge9.x: no metric of that name" in capsys.readouterr().err
