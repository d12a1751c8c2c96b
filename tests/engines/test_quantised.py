"""Quantised folders as OLD and NEW: read by the library that can, or one line that says what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import compatcheck
from compatcheck.engines.hf.checking import check_loading
from compatcheck.errors import InputError
from compatcheck.models import files
from compatcheck.references import resolve
from tests import tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantised")
    words = tiny.tokenizer()
    tiny.save(tiny.llama(words, hidden_size=64, intermediate_size=128, initializer_range=0.1), words, folder / "old")
    tiny.tasks(folder)
    return folder


def configured(place: Path, into: Path, packed: Any) -> Path:
    """The model with a quantization_config that its weights know nothing of."""
    shutil.copytree(place / "old", into)
    config = json.loads((into / "config.json").read_text()) | {"quantization_config": packed}
    (into / "config.json").write_text(json.dumps(config))
    return into


def quantised(place: Path, name: str, config: Any) -> Path:
    """The model quantised by transformers, as its users save one."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        place / "old", quantization_config=config, dtype=torch.float32, device_map="cpu"
    )
    model.save_pretrained(place / name)
    AutoTokenizer.from_pretrained(place / "old").save_pretrained(place / name)
    return place / name


def diff(place: Path, new: Path, **given: Any) -> compatcheck.Diff:
    given = {"task": str(place / "tinychoice.yaml"), "engine": "hf", "metric": ["acc", "kl"], **given}
    return compatcheck.diff(place / "old", new, data=place / "data", num_fewshot=0, **given)


def mean_kl(result: compatcheck.Diff) -> float:
    value = result.only.metrics["kl"].value
    assert value is not None
    return value


def test_torchao_weights_of_eight_and_four_bits(place: Path) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig
    from transformers import TorchAoConfig

    eight = diff(place, quantised(place, "int8", TorchAoConfig(Int8WeightOnlyConfig())))
    four = diff(place, quantised(place, "int4", TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=torch.int4))))
    assert 1e-6 < mean_kl(eight) < 0.01 < mean_kl(four)
    for result, precision in ((eight, "torchao Int8WeightOnlyConfig"), (four, "torchao IntxWeightOnlyConfig int4")):
        assert result.new.engine["precision"] == precision
        assert result.differences is not None
        assert result.differences.sentence == f"OLD and NEW differ in: precision (float32 → {precision})"


def test_compressed_tensors_weights_of_eight_bits(place: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config, preset_name_to_scheme
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(place / "old")
    groups = {"group_0": preset_name_to_scheme("W8A8", ["Linear"])}
    apply_quantization_config(
        model, QuantizationConfig(config_groups=groups, ignore=["lm_head"], quantization_status="initialized")
    )
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            module.weight_scale.data = module.weight.data.abs().amax(-1, keepdim=True) / 127
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(place / "w8a8")
    compressor.update_config(place / "w8a8")
    AutoTokenizer.from_pretrained(place / "old").save_pretrained(place / "w8a8")
    result = diff(place, place / "w8a8")
    assert 1e-6 < mean_kl(result) < 0.01
    assert result.new.engine["precision"] == "compressed-tensors int-quantized"


def test_a_gguf_file_says_its_precision(place: Path, fixtures: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="gguf is not installed")
    from tests.models.gguf.writing import write_gguf

    base = fixtures / "models" / "base-v1"
    file = write_gguf(base, tmp_path / "model.gguf", kind="Q8_0")
    assert (resolve(str(base)).precision, resolve(str(file)).precision) == ("float32", "Q8_0")
    result = compatcheck.diff(
        base, file, task="piqa", data=fixtures / "data", limit=6, num_fewshot=0, engine="hf", metric=["acc", "kl"]
    )
    assert 0 < mean_kl(result) < 0.05
    assert result.differences is not None and "precision (float32 → Q8_0)" in result.differences.sentence


NEEDS = [
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, ["optimum", "--engine vllm"]),
    ({"quant_method": "awq", "bits": 4, "group_size": 128}, ["gptqmodel", "--engine vllm"]),
    ({"quant_method": "fbgemm_fp8"}, ["GPU", "--engine vllm"]),
    ({"quant_method": "quanto", "weights": "int8"}, ["optimum-quanto"]),
    ({"quant_method": "spqr"}, ["GPU"]),
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, ["modelopt", "--engine vllm"]),
    ({"quant_method": "nosuch"}, ["nosuch"]),
    ({"quant_method": 5}, ["'5'"]),
    ({"bits": 4}, ["no quant_method"]),
    ("int8", ["no object"]),
    ([1], ["no object"]),
]


@pytest.mark.parametrize(("packed", "words"), NEEDS, ids=[str(packed)[:40] for packed, _ in NEEDS])
def test_what_cannot_be_read_here_is_one_line_before_anything_is_loaded(
    packed: Any, words: list[str], place: Path, tmp_path: Path
) -> None:
    folder = configured(place, tmp_path / "model", packed)
    with pytest.raises(InputError) as error:
        check_loading(folder)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_weights_that_are_not_those_of_the_config_are_one_line(place: Path, tmp_path: Path) -> None:
    folder = configured(place, tmp_path / "model", {"quant_method": "bitnet"})
    with pytest.raises(InputError, match=r"lack .*weight_scale"):
        diff(place, folder)


@pytest.mark.parametrize(
    ("config", "precision"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "float16"),
        ({}, None),
        ({"dtype": 3}, None),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq 4-bit"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "bitsandbytes 8-bit"),
        ({"quantization_config": {"quant_method": "fp8"}, "dtype": "bfloat16"}, "fp8"),
        ({"quantization_config": {"quant_method": "torchao", "quant_type": {"default": 4}}}, "torchao"),
        ({"quantization_config": 4, "dtype": "float32"}, "float32"),
    ],
)
def test_precisions_in_words(config: dict[str, Any], precision: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert files.precision(tmp_path) == precision
