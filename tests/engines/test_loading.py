"""Nothing is filled with random numbers and nothing is left out: what does not fit is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from compatcheck.engines import open_engine
from compatcheck.engines.hf.adapters import Adapters, put_adapter
from compatcheck.engines.hf.checking import check_loading
from compatcheck.engines.hf.loading import load_causal, not_finite
from compatcheck.engines.hf.proof import alone, difference, probe
from compatcheck.errors import InputError
from compatcheck.models import check
from tests.engines.adapters import edit, plain, save_adapter, save_base, save_task, scored

WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_base(tmp_path / "base")


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {f"_orig_mod.{k}": v for k, v in w.items()}, r"the names in its files carry '_orig_mod\.'"),
        (lambda w: {f"module.{k}": v for k, v in w.items()}, r"the names in its files carry 'module\.'"),
        (lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"}, r"lack lm_head\.weight, which would be"),
        (lambda w: {k: v for k, v in w.items() if ".layers.1." not in k}, r"lack model\.layers\.1\..* and \d+ more"),
        (lambda w: {k: v for k, v in w.items() if "norm" not in k}, r"lack model\.layers\.0\.input_layernorm"),
        (lambda w: w | {"model.layers.9.mlp.up_proj.weight": w["lm_head.weight"].clone()}, "has no place for"),
        (lambda w: w | {"lm_head.weight": w["lm_head.weight"][:-1].clone()}, "shape|size"),
    ],
    ids=["compiled", "parallel", "no head", "no layer", "no norms", "a layer more", "a row less"],
)
def test_a_checkpoint_that_is_not_whole_is_refused(change: Any, message: str, base: Path) -> None:
    rewrite(base / WEIGHTS, change)
    with pytest.raises(InputError, match=message) as caught:
        load_causal(base)
    assert "\n" not in str(caught.value)


def test_a_tied_head_that_was_not_saved_is_whole(tmp_path: Path) -> None:
    base = save_base(tmp_path / "tied", tied=True)
    assert "lm_head.weight" not in load_file(base / WEIGHTS)
    load_causal(base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {k: v for k, v in w.items() if "layers.1." not in k}, "lacks .*layers.1"),
        (lambda w: w | {k.replace("q_proj", "o_proj"): v.clone() for k, v in w.items()}, "have no place: .*o_proj"),
        (lambda w: {k.replace("model.model.", "model._orig_mod.model."): v for k, v in w.items()}, "_orig_mod"),
    ],
    ids=["a layer less", "a module more", "compiled"],
)  # fmt: skip
def test_an_adapter_that_is_not_whole_is_refused(change: Any, message: str, base: Path, tmp_path: Path) -> None:
    folder = save_adapter(base, tmp_path / "adapter")
    rewrite(folder / ADAPTER, change)
    with pytest.raises(InputError, match=message) as caught:
        put_adapter(load_causal(base), folder, "a", [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [True, "fast", ["q_proj"], {"q": 1}], ids=str)
def test_a_setting_that_peft_would_leave_out_is_refused(value: Any, base: Path, tmp_path: Path) -> None:
    folder = save_adapter(base, tmp_path / "adapter")
    edit(folder / "adapter_config.json", of_a_later_peft=value)
    with pytest.raises(InputError, match=r"sets of_a_later_peft, which PEFT .* does not know"):
        put_adapter(load_causal(base), folder, "a", [])


def test_one_that_is_off_is_nothing_and_a_number_is_noted(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(base, tmp_path / "adapter")
    edit(folder / "adapter_config.json", of_a_later_peft=False, another=None, group_size=16)
    notes: list[str] = []
    put_adapter(load_causal(base), folder, "a", notes)
    assert len([note for note in notes if "sets group_size" in note]) == 1
    assert not [note for note in notes if "of_a_later_peft, " in note or "sets another" in note]


def test_kinds_that_touch_the_base_share_it_with_nothing(base: Path, tmp_path: Path) -> None:
    plain, pissa = save_adapter(base, tmp_path / "plain"), save_adapter(base, tmp_path / "p", init_lora_weights="pissa")
    with pytest.raises(InputError, match="cannot share a base with others"):
        Adapters(load_causal(base), {"plain": plain, "pissa": pissa})
    alone = Adapters(load_causal(base), {"pissa": pissa})
    with pytest.raises(InputError, match="the base cannot be used beside pissa"):
        alone.activate(None)


def test_a_kind_that_wants_more_than_texts_is_refused(base: Path, tmp_path: Path) -> None:
    kind = {"kind": "MultitaskPromptTuningConfig", "num_virtual_tokens": 4, "num_tasks": 2}
    adapter = save_adapter(base, tmp_path / "tasks", **kind)
    with pytest.raises(InputError, match="tasks: the model cannot be called with this adapter: task_ids"):
        scored([adapter], save_task(tmp_path / "task", documents=2))


def test_new_rows_of_one_of_two_matrices_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(base, tmp_path / "half", rows=6, target_modules=["q_proj", "embed_tokens"])
    with pytest.raises(InputError, match=r"half: .* holds 323 rows of model\.embed_tokens where its base has 317, but"):
        put_adapter(load_causal(base), adapter, "half", [])


def test_a_setting_that_counts_layers_and_makes_none_may_be_larger_than_the_model(tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    base = save_base(tmp_path / "qwen")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = Qwen2Config(vocab_size=400, num_hidden_layers=1, max_window_layers=28, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(base)
    check_loading(base)
    edit(base / "config.json", num_hidden_layers=1000, layer_types=None)
    with pytest.raises(InputError, match="num_hidden_layers is 1000, but the files hold"):
        check_loading(base)


def test_adaption_prompts_are_put_on(base: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=400, **sizes)).save_pretrained(base)
    adapter = save_adapter(base, tmp_path / "prompts", kind="AdaptionPromptConfig", adapter_layers=1, adapter_len=4)
    model = load_causal(base)
    alone = probe(model)
    loaded = Adapters(model, {"prompts": adapter})
    assert loaded.active == "prompts"
    assert difference(alone, probe(loaded.model)) > 1e-3


@pytest.mark.parametrize("names", [("run-10", "run-1"), ("run-1", "run-10"), ("1", "0"), ("model", "lora")], ids=str)
def test_adapters_may_have_any_names(names: tuple[str, str], base: Path, tmp_path: Path) -> None:
    folders = {
        name: save_adapter(base, tmp_path / "made" / name, seed=n, layers_to_transform=[n])
        for n, name in enumerate(names)
    }
    both = Adapters(load_causal(base), folders)
    for name, folder in folders.items():
        both.activate(name)
        assert difference(alone(base, folder, "cpu"), probe(both.model)) < 1e-5


def test_layers_may_be_repeated(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(base, tmp_path / "longer", layer_replication=[[0, 2], [0, 2]])
    task = save_task(tmp_path / "task", documents=4)
    check(str(adapter), adapter, base)
    for ours, theirs in zip(scored([adapter], task)[0], plain(base, adapter, task[1]), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_an_adapter_that_peft_loads_otherwise_each_time_is_refused(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(base, tmp_path / "adapter", init_lora_weights="pissa_niter_1")
    with pytest.raises(InputError, match="by a random method when it loads it, and otherwise each time"):
        open_engine("hf", base, {"a": folder})


def test_a_head_beside_embeddings_is_kept_where_the_config_says_they_are_tied(base: Path, tmp_path: Path) -> None:
    edit(base / "config.json", tie_word_embeddings=True)
    task = save_task(tmp_path / "task", documents=3)
    for ours, theirs in zip(scored([base], task)[0], plain(base, None, task[1]), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_vllm_is_not_given_a_head_that_it_would_leave_out(base: Path) -> None:
    check_loading(base, engine="vllm")
    edit(base / "config.json", tie_word_embeddings=True)
    check_loading(base, engine="hf")
    with pytest.raises(InputError, match=r"config\.json: says that head and embeddings are one .* vLLM would leave"):
        check_loading(base, engine="vllm")
    rewrite(base / WEIGHTS, lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"].clone()})
    check_loading(base, engine="vllm")


def test_weights_that_are_no_numbers_are_named(base: Path) -> None:
    model = load_causal(base)
    assert not_finite(model) == []
    model.model.layers[0].self_attn.q_proj.weight.data[0, 0] = float("nan")
    assert not_finite(model) == ["model.layers.0.self_attn.q_proj.weight"]
