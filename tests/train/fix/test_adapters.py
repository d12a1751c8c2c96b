"""Whole fixes of a NEW whose adapter is no plain LoRA, on a base with tied embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compatcheck.engines.hf.proof import alone, difference
from compatcheck.errors import InputError
from compatcheck_train.fix.request import check
from compatcheck_train.fix.run import fix
from tests.engines.adapters import save_adapter
from tests.train.fix.conftest import request_of

pytestmark = pytest.mark.slow
KINDS: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "saves-head": {"modules_to_save": ["lm_head"]},
    "ia3": {"kind": "IA3Config", "target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_fix_of_another_kind(kind: str, fixtures: Path, tmp_path: Path) -> None:
    base = fixtures / "models" / "base-v2"
    new = save_adapter(base, tmp_path / "new", moved=0.05, **KINDS[kind])
    request = request_of(
        fixtures, tmp_path, new=str(new), strategy="choice-ce+choice-ensemble", candidate=(), train_limit=30, limit=20,
        most=20, dev=None, force=True, settings={"max_steps": 2, "learning_rate": 1e-2},
    )  # fmt: skip
    plain = kind == "saves-head"
    if not plain:
        with pytest.raises(InputError, match=r"--blend 0.5: .*only plain LoRA adapters .*; say --blend none"):
            check(request.with_(blend=0.5))
    fixed = fix(request, tmp_path / "out")
    assert (fixed.frontier is None) is not plain
    assert any("No blends with NEW are tried" in note for note in fixed.notes) is not plain
    assert fixed.proof.metrics[0].n == (15 if plain else 20), "where nothing is chosen every document proves"
    config, before = (json.loads((f / "adapter_config.json").read_text()) for f in (fixed.adapter, new))
    for name in ("peft_type", "init_lora_weights", "modules_to_save"):
        assert config.get(name) == before.get(name)
    assert difference(alone(base, new, "cpu"), alone(base, fixed.adapter, "cpu")) > 1e-4, "it was trained"
