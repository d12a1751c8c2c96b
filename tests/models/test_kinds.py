from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from compatcheck.models import kind_of

PLAIN = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"],
    "bias": "none", "init_lora_weights": True, "modules_to_save": None, "loftq_config": {}, "qalora_group_size": 16,
}  # fmt: skip
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def save(folder: Path, names: list[str] | None = None, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | settings))
    names = names or [f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"]
    save_file({name: np.zeros((2, 2), np.float32) for name in names}, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}}, {"init_lora_weights": "gaussian"},
     {"init_lora_weights": False}, {"runtime_config": {"ephemeral_gpu_offload": False}}, {"of_a_later_peft": None}],
    ids=str,
)  # fmt: skip
def test_lora_that_only_adds_may_share_a_base(settings: dict[str, Any], tmp_path: Path) -> None:
    kind = kind_of(save(tmp_path, **settings))
    assert kind.plain and not kind.in_forward


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "loading it changes the base's weights (pissa_niter_4)"),
        ({"init_lora_weights": "a_later_one"}, "loading it changes the base's weights (a_later_one)"),
        ({"bias": "all"}, "bias is set"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices is set"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "target_parameters is set"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication is set"),
        ({"of_a_later_peft": True}, "of_a_later_peft is set"),
        ({"peft_type": "IA3"}, "it is IA3"),
        ({"peft_type": ""}, "it is of no named kind"),
    ],
    ids=str,
)
def test_what_touches_the_base_gets_one_of_its_own(settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    assert kind_of(save(tmp_path, **settings)).own_base == why


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("base_model.model.model.embed_tokens.weight", "it holds whole weights (model.embed_tokens.weight)"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "it changes embed_tokens"),
        ("base_model.model.lm_head.lora_A.weight", "it changes lm_head"),
        (f"{LAYER}.bias", "it holds whole weights (model.layers.0.self_attn.q_proj.bias)"),
    ],
)
def test_the_weights_decide_too(name: str, why: str, tmp_path: Path) -> None:
    assert kind_of(save(tmp_path, [f"{LAYER}.lora_A.weight", name])).own_base == why


@pytest.mark.parametrize(
    "settings", [{"alora_invocation_tokens": [1, 2]}, {"peft_type": "PREFIX_TUNING"}, {"peft_type": "XLORA"}], ids=str
)
def test_what_works_in_the_call_of_the_whole_model_is_known(settings: dict[str, Any], tmp_path: Path) -> None:
    assert kind_of(save(tmp_path, **settings)).in_forward
