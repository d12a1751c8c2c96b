"""Whether transformers reads a GGUF file as what it is: every number of it, and every setting it names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError

WAY_OUT = "name the model's safetensors checkpoint instead"
FACTORS = "rope_freqs.weight"
"""What Llama 3.1 and later divide their rotary frequencies by."""
_SETTINGS = {
    "block_count": ("num_hidden_layers", "n_layer"),
    "context_length": ("max_position_embeddings", "n_positions", "n_ctx"),
    "embedding_length": ("hidden_size", "n_embd"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.sliding_window": ("sliding_window",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
}
"""What the metadata says of a model, and what transformers calls it; both must say the same."""


def check_kind(file: Path, metadata: Mapping[str, Any]) -> None:
    kind = metadata.get("general.type") or "model"
    if kind != "model":
        raise InputError(f"{file}: a GGUF file of the kind '{kind}', not of a model; a GGUF reference is a full model")
    parts = int(metadata.get("split.count") or 1)
    if parts > 1:
        raise InputError(f"{file}: one of {parts} parts of a model; join them with llama-gguf-split --merge")


def check_weights(file: Path, model: Any, info: Mapping[str, Any], tensors: Mapping[str, int]) -> None:
    """Every weight of the model comes from the file, and every number of the file went into the model."""
    import torch

    if missing := sorted(map(str, info.get("missing_keys") or ())):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{file}: has no {missing[0]}{more}, which the model needs; {WAY_OUT}")
    with torch.device("meta"):
        wanted = {name: weight.shape for name, weight in type(model)(model.config).state_dict().items()}
    for name, weight in model.state_dict().items():
        if wanted.get(name) != weight.shape:
            found_shape, right = tuple(weight.shape), tuple(wanted.get(name, ()))
            raise InputError(f"{file}: {name} has the shape {found_shape}, the model needs {right}; {WAY_OUT}")
    held = sum(parameter.numel() for parameter in model.parameters())
    given = sum(count for name, count in tensors.items() if name != FACTORS)
    if given != held or info.get("unexpected_keys"):
        raise InputError(
            f"{file}: transformers reads it only in part ({held:,} of {given:,} numbers became weights); {WAY_OUT}"
        )


def check_settings(file: Path, config: Any, metadata: Mapping[str, Any]) -> None:
    """What transformers took for the model's settings is what the metadata says."""
    architecture = metadata["general.architecture"]
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none")
    factor = float(metadata.get(f"{architecture}.rope.scaling.factor") or 1.0)
    if (scaling != "none" and factor != 1.0) and scaling not in str(rope):
        raise InputError(f"{file}: transformers does not read its rotary scaling ({scaling}, {factor:g}); {WAY_OUT}")
    parts = [part for part in [rope, *rope.values()] if isinstance(part, dict)]
    bases = {float(part["rope_theta"]) for part in parts if part.get("rope_theta") is not None}
    base = metadata.get(f"{architecture}.rope.freq_base")
    if base is not None and bases and not any(_same(base, other) for other in bases):
        raise InputError(f"{file}: its rope.freq_base is {base:g}, transformers takes {sorted(bases)}; {WAY_OUT}")
    for key, names in _SETTINGS.items():
        said = metadata.get(f"{architecture}.{key}")
        taken = next((value for name in names if (value := getattr(config, name, None)) is not None), None)
        if isinstance(said, int | float) and taken is not None and not _same(said, taken):
            raise InputError(f"{file}: its {key} is {said}, transformers takes {taken}; {WAY_OUT}")


def llama3_rope(file: Path, config: Any, factors: list[float]) -> dict[str, Any]:
    """The rotary settings of Llama 3.1 and later, which transformers does not read from a GGUF file.

    The file holds the factors that these settings make; they are taken where they make the same ones."""
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    plain = dict(config.rope_parameters)
    rope = plain | {
        "rope_type": "llama3", "factor": max(factors), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config.rope_parameters = rope
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    size = 2 * len(scaled)
    frequencies = plain["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float32) / size)
    if len(factors) != len(scaled) or not torch.allclose(frequencies / scaled, torch.tensor(factors), rtol=1e-3):
        raise InputError(f"{file}: transformers does not read its rotary factors ({FACTORS}); {WAY_OUT}")
    return rope


def _same(one: Any, two: Any) -> bool:
    return isinstance(two, int | float) and math.isclose(one, two, rel_tol=1e-5)
