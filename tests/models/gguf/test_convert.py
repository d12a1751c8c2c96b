"""A GGUF file is read whole and as its metadata says, or refused in one line."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compatcheck.errors import InputError
from compatcheck.models import gguf
from tests.models.gguf.writing import write_gguf

TEXT = "In 2018 the 12 birds  3 of them flew\n\nhome"


@pytest.fixture(scope="module")
def base(fixtures: Path) -> Path:
    return fixtures / "models" / "base-v1"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATCHECK_CACHE", str(tmp_path / "cache"))


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def logits(folder: Path) -> torch.Tensor:
    tokenizer, model = load(folder)
    with torch.inference_mode():
        return model(**tokenizer(TEXT, return_tensors="pt")).logits


def test_the_model_of_a_file_is_the_one_that_was_written(base: Path, tmp_path: Path) -> None:
    folder = gguf.folder_of(write_gguf(base, tmp_path / "model.gguf"))
    mine, original = load(folder)[0], load(base)[0]
    assert mine(TEXT)["input_ids"] == original(TEXT)["input_ids"]
    assert (mine.bos_token_id, mine.eos_token_id, mine.pad_token_id) == (None, 0, 1)
    torch.testing.assert_close(logits(folder), logits(base), atol=1e-4, rtol=0)
    assert gguf.facts_of(folder)["quantization"] == "F32"


def test_a_quantised_file_is_named_and_comes_close(base: Path, tmp_path: Path) -> None:
    folder = gguf.folder_of(write_gguf(base, tmp_path / "model.gguf", kind="Q8_0"))
    assert gguf.facts_of(folder)["quantization"] == "Q8_0"
    apart = (logits(folder).log_softmax(-1) - logits(base).log_softmax(-1)).abs()
    assert float(apart.max()) > 1e-3
    assert float(apart.mean()) < 0.1


def test_it_is_made_once_for_a_content_whatever_the_file_is_called(base: Path, tmp_path: Path) -> None:
    one = write_gguf(base, tmp_path / "one.gguf")
    folder = gguf.folder_of(one)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "two.gguf").write_bytes(one.read_bytes())
    assert gguf.folder_of(tmp_path / "two.gguf") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert gguf.folder_of(write_gguf(base, tmp_path / "three.gguf", change={"general.name": "x"})) != folder


@pytest.mark.parametrize(
    ("change", "first", "last"),
    [
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 1}, 1, None),
        ({"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.bos_token_id": 1}, None, None),
        ({"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.pre": "llama-bpe"}, 1,
         None),
        ({"tokenizer.ggml.add_eos_token": True}, None, 0),
    ],
)  # fmt: skip
def test_texts_begin_and_end_as_the_metadata_says(
    change: dict[str, Any], first: int | None, last: int | None, base: Path, tmp_path: Path
) -> None:
    tokenizer = load(gguf.folder_of(write_gguf(base, tmp_path / "model.gguf", change=change)))[0]
    bare = tokenizer("the bird", add_special_tokens=False)["input_ids"]
    assert tokenizer("the bird")["input_ids"] == [first] * (first is not None) + bare + [last] * (last is not None)


@pytest.mark.parametrize(
    ("rule", "pieces"),
    [("smollm", ["in", " ", "2", "0", "1", "8", "  ", "1"]), ("gpt-2", ["in", " 2018", " ", " 1"]),
     ("llama-bpe", ["in", " ", "201", "8", " ", " ", "1"])],
)  # fmt: skip
def test_texts_are_split_as_the_metadata_says(rule: str, pieces: list[str], base: Path, tmp_path: Path) -> None:
    change = {"tokenizer.ggml.pre": rule, "tokenizer.ggml.bos_token_id": 1}
    tokenizer = load(gguf.folder_of(write_gguf(base, tmp_path / "model.gguf", change=change)))[0]
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("in 2018  1")
    assert [piece.replace("Ġ", " ") for piece, _ in split] == pieces


def test_the_chat_template_comes_along(base: Path, tmp_path: Path) -> None:
    template = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    file = write_gguf(base, tmp_path / "model.gguf", change={"tokenizer.chat_template": template})
    tokenizer = load(gguf.folder_of(file))[0]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False) == "[user] hello\n"


def test_rotary_factors_of_llama_3_are_read(base: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = AutoConfig.from_pretrained(base)
    plain = 10000.0 ** -(np.arange(0, 32, 2) / 32)
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    config.rope_parameters = rope
    scaled = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0].numpy()
    factors = (plain / scaled).astype(np.float32)
    folder = gguf.folder_of(write_gguf(base, tmp_path / "model.gguf", tensors={"rope_freqs.weight": factors}))
    assert json.loads((folder / "config.json").read_text())["rope_parameters"] == rope
    factors[3] *= 1.5
    with pytest.raises(InputError, match="does not read its rotary factors"):
        gguf.folder_of(write_gguf(base, tmp_path / "other.gguf", tensors={"rope_freqs.weight": factors}))


@pytest.mark.parametrize(
    ("change", "tensors", "said"),
    [
        ({"general.type": "adapter"}, {}, "of the kind 'adapter', not of a model"),
        ({"split.count": 3}, {}, "one of 3 parts of a model; join them"),
        ({"tokenizer.ggml.pre": "viking"}, {}, r"how its tokenizer splits texts \('viking'\) is not known"),
        ({"tokenizer.ggml.pre": None}, {}, "how its tokenizer splits texts"),
        ({"tokenizer.ggml.add_bos_token": True}, {}, "take a BOS token, and it names none"),
        ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}, {}, r"rotary scaling \(yarn, 4\)"),
        ({"llama.attention.key_length": 64}, {}, "its attention.key_length is 64, transformers takes 32"),
        ({}, {"blk.0.ffn_gate.weight": None}, "has no model.layers.0.mlp.gate_proj.weight"),
        ({}, {"blk.0.attn_q.bias": np.ones(128, np.float32)}, "reads it only in part"),
        (
            {},
            {"blk.1.ffn_up.weight": np.ones((96, 128), np.float32)},
            r"has the shape \(96, 128\), the model needs \(352, 128\)",
        ),
        ({"tokenizer.ggml.eos_token_id": 99_999}, {}, "its tokenizer cannot be read"),
        ({"tokenizer.ggml.model": "rwkv"}, {}, "its tokenizer cannot be read"),
    ],
)
def test_what_would_be_another_model_is_refused(
    change: dict[str, Any], tensors: dict[str, Any], said: str, base: Path, tmp_path: Path
) -> None:
    file = write_gguf(base, tmp_path / "model.gguf", change=change, tensors=tensors)
    with pytest.raises(InputError) as caught:
        gguf.folder_of(file)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    assert re.search(said, message), message
    assert not list((tmp_path / "cache" / "gguf").iterdir())


@pytest.mark.slow
def test_damaged_files_are_refused_in_one_line_or_read(base: Path, tmp_path: Path) -> None:
    whole = write_gguf(base, tmp_path / "whole.gguf").read_bytes()
    rng = random.Random(0)
    sizes = [0, 3, 4, 20, 200, 5_000, 60_000, len(whole) // 2, len(whole) - 1]
    damaged = [whole[:size] for size in sizes]
    for _ in range(25):  # the first 900 bytes hold the counts, keys, types and lengths
        one = bytearray(whole)
        for _ in range(rng.choice((1, 2, 8))):
            one[rng.randrange(900)] = rng.randrange(256)
        damaged.append(bytes(one))
    refused = 0
    for number, content in enumerate(damaged):
        file = tmp_path / f"{number}.gguf"
        file.write_bytes(content)
        try:
            gguf.folder_of(file)
        except InputError as error:
            assert str(file) in str(error)
            assert "\n" not in str(error)
            refused += 1
        file.unlink()
    assert refused >= len(sizes)
