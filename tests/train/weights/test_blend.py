"""Blends and transfers: the update of the written adapter is the sum that was asked for, in PEFT itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from compatcheck.errors import InputError
from compatcheck_train.weights import METHODS, blend, merge, read_lora, transfer, write_lora
from tests.engines.adapters import KINDS, edit, save_adapter, save_base, save_task, scored


def updates(folder: Path) -> dict[str, torch.Tensor]:
    lora = read_lora(folder)
    return {module: lora.scales[module] * (b @ a) for module, (a, b) in lora.pairs.items()}


def loaded(base: Path, adapter: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(adapter)).eval()


def logits(base: Path, adapter: Path) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = loaded(base, adapter)(torch.arange(1, 30)[None]).logits
    return out


@pytest.fixture
def pair(fixtures: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A base, an adapter on it, and another one a little away from it."""
    new = fixtures / "adapters" / "piqa-v2"
    lora = read_lora(new)
    torch.manual_seed(3)
    moved = {
        module: (a + 0.02 * torch.randn_like(a), lora.scales[module] * (b + 0.02 * torch.randn_like(b)))
        for module, (a, b) in lora.pairs.items()
    }
    base = fixtures / "models" / "base-v2"
    write_lora(tmp_path / "compat", lora.config, moved, str(base.resolve()))
    return base, tmp_path / "compat", new


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0, 1.5, -0.5])
def test_the_update_is_the_sum(pair: tuple[Path, Path, Path], tmp_path: Path, share: float) -> None:
    base, compat, new = pair
    out = blend(compat, new, share, tmp_path / "blend")
    a, b, mixed = updates(compat), updates(new), updates(out)
    assert mixed.keys() == a.keys() == b.keys()
    for module in a:
        torch.testing.assert_close(mixed[module], share * a[module] + (1 - share) * b[module], atol=2e-6, rtol=1e-4)
    if share in (0.0, 1.0):
        torch.testing.assert_close(logits(base, out), logits(base, new if share == 0 else compat), atol=2e-4, rtol=1e-4)


def test_rank_that_is_not_needed_is_left_out(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, compat, new = pair
    assert read_lora(blend(new, new, 0.3, tmp_path / "same")).config["r"] == read_lora(new).config["r"]
    assert read_lora(blend(compat, new, 0.3, tmp_path / "both")).config["r"] == 2 * read_lora(new).config["r"]


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in METHODS if m != "exact"])
def test_pefts_own_methods_give_adapters_that_load(pair: tuple[Path, Path, Path], tmp_path: Path, method: str) -> None:
    base, compat, new = pair
    out = merge(base, compat, new, 0.5, method, tmp_path / "merged")
    assert torch.isfinite(logits(base, out)).all()
    if method == "svd":  # the one that mixes the updates themselves
        a, b, mixed = updates(compat), updates(new), updates(out)
        exact = 0.5 * a["model.layers.0.mlp.up_proj"] + 0.5 * b["model.layers.0.mlp.up_proj"]
        lost = (mixed["model.layers.0.mlp.up_proj"] - exact).norm() / exact.norm()
        assert lost < 0.5


def test_full_model_as_new_scales_the_update(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, compat, _ = pair
    a, mixed = updates(compat), updates(blend(compat, None, 0.5, tmp_path / "half"))
    for module in a:
        torch.testing.assert_close(mixed[module], 0.5 * a[module])


@pytest.mark.parametrize("kind", ["rslora", "bias-all", "saves-both", "tokens", "by-pattern", "in-one-layer"])
def test_a_blend_is_the_mean_of_both_models_weights(kind: str, tmp_path: Path) -> None:
    """PEFT merges both adapters into their base; the mean of the two models answers as the blend does."""
    odd: dict[str, dict[str, Any]] = {
        "by-pattern": {"alpha_pattern": {r".*layers\.0\..*q_proj": 16, "^model.layers.1.self_attn.q_proj": 2}},
        "in-one-layer": {"target_modules": ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]},
    }
    base, given = save_base(tmp_path / "base"), odd.get(kind) or KINDS[kind]
    one, other = (save_adapter(base, tmp_path / f"{seed}", seed=seed, moved=0.5, **given) for seed in (1, 2))
    mean, second = (loaded(base, adapter).merge_and_unload() for adapter in (one, other))
    weights = second.state_dict()
    mean.load_state_dict({name: 0.4 * value + 0.6 * weights[name] for name, value in mean.state_dict().items()})
    out = blend(one, other, 0.4, tmp_path / "blend")
    scored([out], save_task(tmp_path / "task"))  # our own loading accounts for every weight
    blended = loaded(base, out)
    with torch.no_grad():
        expected, found = (model(torch.arange(5, 60)[None]).logits for model in (mean, blended))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_base_may_be_named_otherwise_in_the_two(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """As NEW's is where the user names BASE+ADAPTER; that of the first stands in the blend."""
    base, compat, new = pair
    named = tmp_path / "named"
    shutil.copytree(new, named)
    edit(named / "adapter_config.json", base_model_name_or_path="someone/their-base")
    out = blend(compat, named, 0.4, tmp_path / "blend")
    assert read_lora(out).base == str(base.resolve())
    torch.testing.assert_close(logits(base, out), logits(base, blend(compat, new, 0.4, tmp_path / "same")))


def test_adapters_that_do_not_belong_together(pair: tuple[Path, Path, Path], fixtures: Path, tmp_path: Path) -> None:
    _, compat, new = pair
    with pytest.raises(InputError, match="has other shapes in the two"):
        blend(compat, fixtures / "adapters" / "piqa-v1", 0.5, tmp_path / "x")
    with pytest.raises(InputError, match=r"did you mean 'ties'"):
        merge(tmp_path, compat, new, 0.5, "tise", tmp_path / "x")
    dora = tmp_path / "dora"
    shutil.copytree(new, dora)
    config = json.loads((dora / "adapter_config.json").read_text())
    (dora / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(InputError, match="use_dora is set; only plain LoRA"):
        blend(dora, new, 0.5, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="no adapter; choose another folder"):
        blend(compat, new, 0.5, tmp_path / "full")


def test_transfer_moves_what_fits(fixtures: Path, tmp_path: Path) -> None:
    base, new = fixtures / "models" / "base-v2", fixtures / "adapters" / "piqa-v2"
    other = fixtures / "adapters" / "gsm8k-v2"
    moved, left = transfer(other, base, tmp_path / "moved", new, share=0.5)
    assert moved and left == []
    a, b, mixed = updates(other), updates(new), updates(tmp_path / "moved")
    for module in a:
        torch.testing.assert_close(mixed[module], 0.5 * a[module] + b[module], atol=2e-6, rtol=1e-4)
    transfer(other, base, tmp_path / "alone")
    torch.testing.assert_close(logits(base, tmp_path / "alone"), logits(base, other), atol=2e-4, rtol=1e-4)


def test_transfer_leaves_what_is_saved_whole(tmp_path: Path) -> None:
    """Of OLD's adapter the updates go over, to a full model and to an adapter on other modules."""
    base, other = save_base(tmp_path / "base"), save_base(tmp_path / "other", seed=5)
    old = save_adapter(base, tmp_path / "old", moved=0.5, modules_to_save=["lm_head"])
    new = save_adapter(
        other, tmp_path / "new", seed=2, moved=0.5, target_modules=["k_proj"], exclude_modules=["q_proj"]
    )
    for on, to in ((None, tmp_path / "alone"), (new, tmp_path / "both")):
        moved, left = transfer(old, other, to, on)
        assert (len(moved), left) == (4, ["base_model.model.lm_head.weight"])
        scored([to], save_task(tmp_path / "task"))
        assert updates(to).keys() == {*moved, *(updates(on) if on else ())}


def test_transfer_to_a_base_of_another_shape_is_refused(fixtures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs equal shapes"):
        transfer(fixtures / "adapters" / "piqa-v1", fixtures / "models" / "base-v2", tmp_path / "x")
