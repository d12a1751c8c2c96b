"""Adapter folders: is this one whole, and does it fit its base? Reads safetensors headers, loads no weights."""

from __future__ import annotations

import json
from pathlib import Path

from compatcheck.errors import InputError

Shape = tuple[int, ...]


def tensor_shapes(path: Path) -> dict[str, Shape]:
    """Shapes of the tensors in a safetensors file, from its header.

    The header is an 8-byte little-endian length followed by JSON (safetensors format description).

    Raises:
        InputError: the file is no safetensors file or is cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, 100_000_000):
            raise InputError(f"{path}: not a safetensors file (damaged or cut off)")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise InputError(f"{path}: not a safetensors file (its header is not JSON)") from None
    header.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if 8 + length + end > size:
        raise InputError(f"{path}: cut off ({size} bytes, its header promises {8 + length + end})")
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def check(text: str, folder: Path, base: Path) -> None:
    """Check that an adapter is stored as safetensors and that its shapes fit the base.

    Raises:
        InputError: a pickle, a missing file, a module the base lacks, or a shape that does not fit.
    """
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        pickled = next((p.name for pattern in ("*.bin", "*.pt", "*.pkl") for p in folder.glob(pattern)), None)
        if pickled:
            raise InputError(
                f"{text}: {pickled} is a pickle, which can run code when loaded; only safetensors are read "
                "(save the adapter again with save_pretrained)"
            )
        raise InputError(f"{text}: adapter_model.safetensors is missing")
    shapes = tensor_shapes(weights)
    base_shapes: dict[str, Shape] = {}
    for path in sorted(base.glob("*.safetensors")):
        base_shapes.update(tensor_shapes(path))
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
