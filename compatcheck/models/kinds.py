"""What an adapter does to the model it is put on, read from its folder: here is decided how its side is loaded.

Sides may share one loaded base only where every adapter adds to it and leaves it as it is. Whatever replaces weights,
embeddings, the head or biases, or works while the whole model is called, gets a base of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatcheck.models.adapters import CONFIG, WEIGHTS
from compatcheck.models.files import read_json, tensor_shapes

HEADS = frozenset({"lm_head", "embed_out", "output_layer"})
EMBEDDINGS = frozenset({"embed_tokens", "wte", "embed_in", "word_embeddings"})
_ADDS = frozenset(
    {"peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
     "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "fan_in_fan_out", "use_rslora", "use_dora",
     "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_core", "qalora_group_size"}
)  # fmt: skip
"""Settings of LoRA that leave the base as it is. One that is not here, and is set, counts as changing it: a setting
that a later PEFT brings is then loaded alone, not wrongly."""
_INITIAL = (True, False, None, "gaussian", "orthogonal")
"""Values of ``init_lora_weights`` that leave the base's weights as they are; PiSSA, OLoRA, LoftQ ... change them."""
ACTIVATED = "activated LoRA"
"""Name of the one kind of LoRA that works while the whole model is called."""
_IN_FORWARD = frozenset({"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE",
                         "ADAPTION_PROMPT", "XLORA"})  # fmt: skip
"""Kinds of which a part, virtual tokens for one, works in the call of the whole model, not in its layers."""


@dataclass(frozen=True)
class AdapterKind:
    """How an adapter must be loaded.

    ``own_base`` says in a few words why it needs a base that nothing else uses; empty where it only adds to its base.
    ``in_forward`` is true where the layers alone do not make its outputs: the whole PEFT model must be called.
    """

    name: str
    own_base: str
    in_forward: bool

    @property
    def plain(self) -> bool:
        """Low-rank updates beside linear layers, and nothing else."""
        return not self.own_base


def kind_of(folder: Path) -> AdapterKind:
    """The kind of the adapter in a folder.

    Raises:
        InputError: its configuration or the header of its weights cannot be read.
    """
    config = read_config(folder)
    kind = str(config.get("peft_type", "")).upper()
    if kind != "LORA":
        return AdapterKind(kind or "unknown", f"it is {kind or 'of no named kind'}", kind in _IN_FORWARD)
    initial = config.get("init_lora_weights", True)
    activated = bool(config.get("alora_invocation_tokens"))
    if activated:
        return AdapterKind(ACTIVATED, "it is active in part of a text only", True)
    if isinstance(initial, str) and initial not in _INITIAL:
        return AdapterKind(f"LoRA ({initial})", f"loading it changes the base's weights ({initial})", False)
    return AdapterKind("LoRA", _changes_base(folder, config), False)


def _changes_base(folder: Path, config: dict[str, Any]) -> str:
    for name, value in sorted(config.items()):
        known = name in _ADDS or name == "init_lora_weights" or (name == "bias" and value == "none")
        if not known and value not in (None, False, "", [], {}) and not _is_default_runtime(name, value):
            return f"{name} is set"
    weights = folder / WEIGHTS
    names = tensor_shapes(weights) if weights.is_file() else {}
    for name in sorted(names):
        module = name.split(".lora_")[0].rsplit(".", 1)[-1]
        if ".lora_" not in name:
            return f"it holds whole weights ({name.removeprefix('base_model.model.')})"
        if ".lora_embedding_" in name or module in HEADS | EMBEDDINGS:
            return f"it changes {module}"
    return ""


def _is_default_runtime(name: str, value: Any) -> bool:
    return name == "runtime_config" and isinstance(value, dict) and not any(value.values())


def read_config(folder: Path) -> dict[str, Any]:
    """``adapter_config.json`` of a folder.

    Raises:
        InputError: it cannot be read or is no JSON object.
    """
    return read_json(folder / CONFIG)
