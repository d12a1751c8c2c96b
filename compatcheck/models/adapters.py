"""Adapter folders: is this one whole, and does it fit its base? Reads safetensors headers, loads no weights."""

from __future__ import annotations

import re
from pathlib import Path

from compatcheck.errors import InputError
from compatcheck.models import files as model_files
from compatcheck.models.files import Shape, tensor_shapes

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_LAYER = re.compile(r"\.\d+\.")
"""A layer's number in the name of a weight. What lies outside of layers may be tied, or grown with the vocabulary."""


def check(text: str, folder: Path, base: Path) -> None:
    """Check that an adapter is stored as safetensors and, as far as names and shapes tell, that it fits the base.

    What cannot be told from files (quantised or fused weights, repeated layers, experts, a head tied to the embeddings)
    is left to the loading, which accounts for every weight.

    Raises:
        InputError: a pickle, a missing file, a layer the base lacks, or a shape that does not fit.
    """
    weights = folder / WEIGHTS
    if not weights.is_file():
        model_files.refuse_pickles(text, folder, "adapter")
        raise InputError(f"{text}: {WEIGHTS} is missing")
    shapes = tensor_shapes(weights)
    base_shapes = model_files.check_weight_files(str(base), base)
    changed = model_files.read_json(folder / CONFIG).get("layer_replication") if (folder / CONFIG).is_file() else None
    if not changed and not model_files.read_json(base / "config.json").get("quantization_config"):
        _check_shapes(text, base, _updates(shapes), base_shapes)


def _updates(shapes: dict[str, Shape]) -> dict[str, Shape]:
    """Module name -> shape (out, in) of the update that a LoRA pair makes."""
    pairs: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        for letter in "AB":
            marker = f".lora_{letter}."
            if marker in name and len(shape) == 2:
                module = name.split(marker)[0].removeprefix("base_model.model.")
                pairs.setdefault(module, {})[letter] = shape
    return {module: (p["B"][0], p["A"][1]) for module, p in pairs.items() if "A" in p and "B" in p}


def _check_shapes(text: str, base: Path, updates: dict[str, Shape], base_shapes: dict[str, Shape]) -> None:
    in_layers = {_LAYER.sub(".*.", name) for name in base_shapes if _LAYER.search(name)}
    for module, update in updates.items():
        names = (f"{module}.weight", f"{module.removeprefix('model.')}.weight")
        weight = next((base_shapes[name] for name in names if name in base_shapes), None)
        if weight is None:
            if any(_LAYER.search(name) and _LAYER.sub(".*.", name) in in_layers for name in names):
                raise InputError(
                    f"{text}: {WEIGHTS} adapts {module}, which the base {base} does not have; it was trained on "
                    "another base"
                )
            continue
        if _LAYER.search(module) and len(weight) == 2 and update not in (weight, weight[::-1]):
            raise InputError(
                f"{text}: {WEIGHTS}: shapes do not fit the base {base}: {module} is {_times(weight)} there, the "
                f"adapter was made for {_times(update)}; name the right base as BASE+ADAPTER"
            )


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape))
