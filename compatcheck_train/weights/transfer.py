"""Put the old adapter's update on the new base where shapes match: fine-tuning transfer (Lin et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compatcheck.errors import InputError
from compatcheck.models.files import tensor_shapes
from compatcheck_train.weights.blend import _reduced
from compatcheck_train.weights.files import base_name, read_lora, write_lora


@dataclass(frozen=True)
class Transferred:
    """``moved`` modules of the old adapter fit the new base; ``left`` do not and keep NEW's own update alone."""

    folder: Path
    moved: tuple[str, ...]
    left: tuple[str, ...]


def transfer(old: Path, base: Path, out: Path, new: Path | None = None, share: float = 1.0) -> Transferred:
    """Write an adapter for ``base``: ``share`` of the old adapter's update, on top of ``new``'s where there is one.

    Raises:
        InputError: no module of the old adapter has the shape of one of the new base.
    """
    source = read_lora(old)
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(base.glob("*.safetensors")):
        shapes |= {name: tuple(shape) for name, shape in tensor_shapes(path).items()}
    target = read_lora(new) if new is not None else None
    pairs = {}
    moved, left = [], []
    for module, (a, b) in source.pairs.items():
        if shapes.get(f"{module}.weight") != (b.shape[0], a.shape[1]):
            left.append(module)
            continue
        moved.append(module)
        lows, highs = [a], [share * source.scales[module] * b]
        if target is not None and module in target.pairs:
            lows.append(target.pairs[module][0])
            highs.append(target.scales[module] * target.pairs[module][1])
        pairs[module] = _reduced(lows, highs, None)
    if not moved:
        first = next(iter(source.pairs))
        a, b = source.pairs[first]
        there = shapes.get(f"{first}.weight")
        raise InputError(
            f"{old}: none of its {len(source.pairs)} modules fits {base} (its {first} is {b.shape[0]} × {a.shape[1]}, "
            f"the base's is {' × '.join(map(str, there)) if there else 'missing'}); --init transfer needs equal shapes"
        )
    for module, (a, b) in target.pairs.items() if target is not None else ():
        if module not in pairs:
            pairs[module] = (a, target.scales[module] * b)  # type: ignore[union-attr]
    config = target.config if target is not None else source.config
    name = base_name(new, target.config) if target is not None and new is not None else str(base.resolve())
    write_lora(out, config, pairs, name, target.others if target is not None else None)
    return Transferred(out, tuple(moved), tuple(left))
