"""Nothing is filled with random numbers and nothing is left out: what does not fit is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from compatcheck.engines.loading import Adapters, load_causal, put_adapter
from compatcheck.errors import InputError
from tests.engines.adapters import edit, save_adapter, save_base

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
