from __future__ import annotations

import numpy as np
import pytest

from compatcheck import similarity
from compatcheck.errors import InputError


def test_names() -> None:
    assert similarity.names() == (
        "bertscore", "bleu", "chrf", "contains", "exact_match", "judge", "rouge1", "rouge2", "rougeL", "score",
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
    assert {kinds.pop(name) for name in ("exact_match", "contains")} == {"discrete"}
    assert set(kinds.values()) == {"smooth"}
    assert all(similarity.get(name).higher_is_better for name in kinds)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 predictions but 1 targets"):
        similarity.get("exact_match").score(["a", "b"], ["a"])
