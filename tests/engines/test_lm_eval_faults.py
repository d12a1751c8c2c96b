"""Where lm-eval's ``hf`` backend fails: tokenizers without start tokens, temperature 0, encoder-decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import compatcheck
from compatcheck.engines.hf.engine import HFEngine
from compatcheck.errors import InputError
from tests import tiny


def evaluate(model: Path, folder: Path, task: str, **options: Any) -> pd.DataFrame:
    run = compatcheck.evaluate(model, task=str(folder / f"{task}.yaml"), data=folder / "data", engine="hf", **options)
    return run.run.tasks[0].records if hasattr(run, "run") else run.tasks[0].records


@pytest.mark.parametrize(("bos", "eos", "pad"), [(None, None, None), (None, None, "<pad>"), (None, "</s>", None)])
@pytest.mark.parametrize("batch_size", ["auto", 3])
def test_without_start_tokens_scores_are_those_of_transformers(
    bos: str | None, eos: str | None, pad: str | None, batch_size: Any, tmp_path: Path
) -> None:
    words = tiny.tokenizer(bos, eos, pad)
    model = tiny.llama(words)
    folder = tiny.save(model, words, tmp_path / "m")
    rows = tiny.tasks(tmp_path)
    records = evaluate(folder, tmp_path, "tinychoice", batch_size=batch_size)
    for row, given in zip(rows, records["loglikelihoods"], strict=True):
        truth = tiny.loglikelihoods(model, words, tiny.PROMPT.format(row["question"]), row["choices"])
        assert list(given) == pytest.approx(truth, abs=1e-4)
    texts = evaluate(folder, tmp_path, "tinygen", batch_size=batch_size)["prediction"]
    for row, text in zip(rows, texts, strict=True):
        prompt = torch.tensor([words(tiny.PROMPT.format(row["question"]))["input_ids"]])
        written = model.generate(prompt, max_new_tokens=12, do_sample=False, pad_token_id=0)[0][prompt.shape[1] :]
        assert text == words.decode(written, skip_special_tokens=True).split("\n")[0]


def test_lm_evals_own_paths_work_without_start_tokens(tmp_path: Path) -> None:
    """Sliding windows, and whatever else cannot be packed, takes them."""
    words = tiny.tokenizer(None, None, None)
    folder = tiny.save(tiny.llama(words), words, tmp_path / "m")
    engine = HFEngine(folder, dtype="float32", device="cpu")
    assert engine.tok_encode("red blue") == words("red blue")["input_ids"]
    assert engine.tok_encode("red blue green", left_truncate_len=1) == words("red blue green")["input_ids"][-1:]
    from lm_eval.api.instance import Instance

    engine._refusal, engine._checked = "of the test", True
    requests = [
        Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 5, "do_sample": False}), 0, ("t", 0, 1))
        for text in ("red blue", "green", "stone river cloud mouse")
    ]
    own = engine.generate_until(requests)
    engine._refusal = None
    engine._checked = False
    assert own == engine.generate_until(requests)


def test_an_empty_context_needs_a_start_token(tmp_path: Path) -> None:
    words = tiny.tokenizer(None, None, None)
    folder = tiny.save(tiny.llama(words), words, tmp_path / "m")
    tiny.tasks(tmp_path, text="")
    with pytest.raises(InputError, match=r"neither a BOS nor an EOS token.*--engine-arg prefix_token_id=N"):
        evaluate(folder, tmp_path, "tinychoice")
    named = evaluate(folder, tmp_path, "tinychoice", engine_args={"prefix_token_id": 5})
    assert named["prediction"].notna().all()
    with pytest.raises(InputError, match="document 0: the prompt is empty"):
        evaluate(folder, tmp_path, "tinygen")


@pytest.mark.parametrize("defaults", [{}, {"do_sample": True, "temperature": 0.7}, {"do_sample": True, "top_k": 3}])
def test_temperature_zero_is_greedy(defaults: dict[str, Any], tmp_path: Path) -> None:
    words = tiny.tokenizer()
    model = tiny.llama(words)
    folder = tiny.save(model, words, tmp_path / "m")
    tiny.tasks(tmp_path)
    greedy = evaluate(folder, tmp_path, "tinygen")["prediction"].tolist()
    model.generation_config.update(**defaults)
    model.generation_config.save_pretrained(folder)
    assert evaluate(folder, tmp_path, "tinygen")["prediction"].tolist() == greedy
    tiny.tasks(tmp_path, do_sample=True, temperature=0.0)
    assert evaluate(folder, tmp_path, "tinygen")["prediction"].tolist() == greedy
    tiny.tasks(tmp_path, do_sample=True)
    sampled = evaluate(folder, tmp_path, "tinygen")["prediction"].tolist()
    assert len(sampled) == len(greedy)


def test_an_encoder_decoder_writes_no_more_than_asked_for(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    words = tiny.tokenizer()
    torch.manual_seed(3)
    settings = T5Config(
        vocab_size=len(words), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0,
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, initializer_factor=3.0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(settings).eval()
    folder = tiny.save(model, words, tmp_path / "m")
    rows = tiny.tasks(tmp_path, max_gen_toks=6)
    texts = {size: evaluate(folder, tmp_path, "tinygen", batch_size=size)["prediction"].tolist() for size in (1, 8)}
    assert texts[1] == texts[8]
    for row, text in zip(rows, texts[1], strict=True):
        prompt = torch.tensor([words(tiny.PROMPT.format(row["question"]))["input_ids"]])
        written = model.generate(prompt, max_new_tokens=6, do_sample=False)[0]
        assert text == words.decode(written, skip_special_tokens=True).split("\n")[0]
