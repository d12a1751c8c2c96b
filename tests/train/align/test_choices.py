"""Likelihoods of choices across tokenizers, against lm-eval's own backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from compatcheck.references import resolve
from compatcheck_train import preset
from compatcheck_train.align.choices import choice_logliks
from compatcheck_train.examples import load_examples
from compatcheck_train.training.models import load_old, load_tokenizer

FIXTURES = Path(__file__).parents[3] / "fixtures"


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_they_are_lm_evals(version: str) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    adapter = FIXTURES / "adapters" / f"hellaswag-{version}"
    settings = preset("quick", device="cpu")
    reference = resolve(str(adapter))
    examples = load_examples("hellaswag", data=FIXTURES / "data", limit=8).train
    model = load_old(reference, settings, "cpu").get_base_model()
    found = choice_logliks(model, load_tokenizer(reference, settings), examples, batch_size=3)
    theirs = HFLM(
        pretrained=str(FIXTURES / "models" / f"base-{version}"), peft=str(adapter), device="cpu", dtype="float32"
    )
    pairs = [pair for example in examples for pair in example.pairs]
    requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    expected = [value for value, _ in theirs.loglikelihood(requests, disable_tqdm=True)]
    assert [len(part) for part in found] == [4] * len(examples)
    assert [value for part in found for value in part.tolist()] == pytest.approx(expected, abs=1e-3)
