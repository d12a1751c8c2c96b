"""Adapter folders: is this one whole, does it fit its base, and what does it do to the model it is put on?

Sides may share one loaded base only where every adapter adds to it and leaves it as it is. Whatever replaces weights,
embeddings, the head or biases, or works while the whole model is called, gets a base of its own. Reads safetensors
headers, loads no weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.models import files
from compatcheck.models.files import Shape, read_json, tensor_shapes, times

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
HEADS = frozenset({"lm_head", "embed_out", "output_layer"})
EMBEDDINGS = frozenset({"embed_tokens", "wte", "embed_in", "word_embeddings"})
ACTIVATED = "activated LoRA"
"""Name of the one kind of LoRA that works while the whole model is called."""
_LAYER = re.compile(r"\.\d+\.")
"""A layer's number in the name of a weight. What lies outside of layers may be tied, or grown with the vocabulary."""
_ADDS = frozenset(
    {"peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
     "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "fan_in_fan_out", "use_rslora", "use_dora",
     "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_core", "qalora_group_size",
     "init_lora_weights"}
)  # fmt: skip
"""Settings of LoRA that leave the base as it is. One that is not here, and is set, counts as changing it: a setting
that a later PEFT brings is then loaded alone, not wrongly."""
_INITIAL = ("gaussian", "orthogonal")
"""Texts in ``init_lora_weights`` that leave the base's weights as they are; PiSSA, OLoRA, LoftQ ... change them."""
_IN_FORWARD = frozenset({"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE",
                         "ADAPTION_PROMPT", "XLORA"})  # fmt: skip
"""Kinds of which a part, virtual tokens for one, works in the call of the whole model, not in its layers."""


@dataclass(frozen=True)
class AdapterKind:
    """How an adapter must be loaded.

    ``own_base`` says in a few words why it needs a base that nothing else uses; empty where it only adds to its base.
    ``in_forward`` is true where the layers alone do not make its outputs: the whole PEFT model must be called."""

    name: str
    own_base: str
    in_forward: bool

    @property
    def plain(self) -> bool:
        """Low-rank updates beside linear layers, and nothing else."""
        return not self.own_base


def read_config(folder: Path) -> dict[str, Any]:
    """``adapter_config.json`` of a folder. Raises InputError where it cannot be read or is no JSON object."""
    return read_json(folder / CONFIG)


def kind_of(folder: Path) -> AdapterKind:
    """The kind of the adapter in a folder. Raises InputError: its configuration or the header of its weights cannot be
    read."""
    config = read_config(folder)
    kind = str(config.get("peft_type", "")).upper()
    if kind != "LORA":
        return AdapterKind(kind or "unknown", f"it is {kind or 'of no named kind'}", kind in _IN_FORWARD)
    initial = config.get("init_lora_weights", True)
    if config.get("alora_invocation_tokens"):
        return AdapterKind(ACTIVATED, "it is active in part of a text only", True)
    if isinstance(initial, str) and initial not in _INITIAL:
        return AdapterKind(f"LoRA ({initial})", f"loading it changes the base's weights ({initial})", False)
    return AdapterKind("LoRA", _changes_base(folder, config), False)


def _changes_base(folder: Path, config: dict[str, Any]) -> str:
    for name, value in sorted(config.items()):
        if name == "runtime_config" and isinstance(value, dict) and not any(value.values()):
            continue
        if name not in _ADDS and value not in (None, False, "", [], {}) and (name, value) != ("bias", "none"):
            return f"{name} is set"
    weights = folder / WEIGHTS
    for name in sorted(tensor_shapes(weights) if weights.is_file() else {}):
        module = name.split(".lora_")[0].rsplit(".", 1)[-1]
        if ".lora_" not in name:
            return f"it holds whole weights ({name.removeprefix('base_model.model.')})"
        if ".lora_embedding_" in name or module in HEADS | EMBEDDINGS:
            return f"it changes {module}"
    return ""


def check(text: str, folder: Path, base: Path) -> None:
    """Check that an adapter is stored as safetensors and, as far as names and shapes tell, that it fits the base.

    What cannot be told from files (quantised or fused weights, repeated layers, experts, a head tied to the embeddings)
    is left to the loading, which accounts for every weight. Raises InputError: a pickle, a missing file, a layer the
    base lacks, or a shape that does not fit."""
    weights = folder / WEIGHTS
    if not weights.is_file():
        files.refuse_pickles(text, folder, "adapter")
        raise InputError(f"{text}: {WEIGHTS} is missing")
    shapes = tensor_shapes(weights)
    base_shapes = files.check_weight_files(str(base), base)
    changed = read_config(folder).get("layer_replication") if (folder / CONFIG).is_file() else None
    if changed or read_json(base / "config.json").get("quantization_config"):
        return
    in_layers = {_LAYER.sub(".*.", name) for name in base_shapes if _LAYER.search(name)}
    for module, update in _updates(shapes).items():
        names = (f"{module}.weight", f"{module.removeprefix('model.')}.weight")
        weight = next((base_shapes[name] for name in names if name in base_shapes), None)
        if weight is None:
            if any(_LAYER.search(name) and _LAYER.sub(".*.", name) in in_layers for name in names):
                raise InputError(
                    f"{text}: {WEIGHTS} adapts {module}, which the base {base} does not have; it was trained on "
                    "another base"
                )
        elif _LAYER.search(module) and len(weight) == 2 and update not in (weight, weight[::-1]):
            raise InputError(
                f"{text}: {WEIGHTS}: shapes do not fit the base {base}: {module} is {times(weight)} there, the "
                f"adapter was made for {times(update)}; name the right base as BASE+ADAPTER"
            )


def _updates(shapes: dict[str, Shape]) -> dict[str, Shape]:
    """Module name -> shape (out, in) of the update that a LoRA pair makes."""
    pairs: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        module, _, letter = name.partition(".lora_")
        if letter[:2] in ("A.", "B.") and len(shape) == 2:
            pairs.setdefault(module.removeprefix("base_model.model."), {})[letter[0]] = shape
    return {module: (p["B"][0], p["A"][1]) for module, p in pairs.items() if "A" in p and "B" in p}
