"""Adapter folders: is this one whole, and does it fit its base? Reads safetensors headers, loads no weights."""

from __future__ import annotations

from pathlib import Path

from compatcheck import model_files
from compatcheck.errors import InputError
from compatcheck.model_files import Shape, tensor_shapes


def check(text: str, folder: Path, base: Path) -> None:
    """Check that an adapter is stored as safetensors and that its shapes fit the base.

    Raises:
        InputError: a pickle, a missing file, a module the base lacks, or a shape that does not fit.
    """
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        model_files.refuse_pickles(text, folder, "adapter")
        raise InputError(f"{text}: adapter_model.safetensors is missing")
    shapes = tensor_shapes(weights)
    _check_shapes(text, base, _updates(shapes), model_files.check_weight_files(str(base), base))


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
    found: dict[str, Shape | None] = {
        module: base_shapes.get(f"{module}.weight") or base_shapes.get(f"{module.removeprefix('model.')}.weight")
        for module in updates
    }
    if not any(found.values()):
        return  # the checkpoint names its weights otherwise (fused, quantised); PEFT itself will judge on loading
    for module, update in updates.items():
        weight = found[module]
        if weight is None:
            raise InputError(
                f"{text}: adapts {module}, which the base {base} does not have; it was trained on another base"
            )
        if update not in (weight, weight[::-1]):
            raise InputError(
                f"{text}: shapes do not fit the base {base}: {module} is {_times(weight)} there, the adapter was made "
                f"for {_times(update)}; name the right base as BASE+ADAPTER"
            )


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape))
