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


def updates(folder: Path) -> dict[str, torch.Tensor]:
    lora = read_lora(folder)
    return {module: lora.scales[module] * (b @ a) for module, (a, b) in lora.pairs.items()}


def logits(base: Path, adapter: Path) -> torch.Tensor:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        out: torch.Tensor = PeftModel.from_pretrained(model, str(adapter)).eval()(torch.arange(1, 30)[None]).logits
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


def test_adapters_that_do_not_belong_together(pair: tuple[Path, Path, Path], fixtures: Path, tmp_path: Path) -> None:
    _, compat, new = pair
    with pytest.raises(InputError, match="only adapters of one base"):
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


def test_transfer_to_a_base_of_another_shape_is_refused(fixtures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs equal shapes"):
        transfer(fixtures / "adapters" / "piqa-v1", fixtures / "models" / "base-v2", tmp_path / "x")
