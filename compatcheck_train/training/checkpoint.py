"""Checkpoints: trained weights, optimiser and where the training stands. Safetensors and JSON, no pickle.

The data order and the learning rate are functions of seed and step, and no dropout draws numbers, so this is all that a
resumed run needs to go on as if nothing had happened, to the bit.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compatcheck.errors import InputError


@dataclass
class Standing:
    """Where a training stands. ``history`` has one entry per finished epoch; epoch 0 is NEW itself."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float | None = None
    finished: bool = False
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    """Of the epoch that is under way: loss, followed, steps."""


def save(
    folder: Path, standing: Standing, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint beside the last one, then remove that: a kill at any moment leaves a whole one."""
    target = folder / f"step-{standing.step:07}"
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_weights(partial / "weights.safetensors", parameters)
    _save(partial / "optimizer.safetensors", optimizer_tensors(parameters, optimizer))
    (partial / "standing.json").write_text(json.dumps(asdict(standing), indent=1) + "\n")
    if target.exists():
        shutil.rmtree(target)
    partial.replace(target)
    for other in folder.glob("step-*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def last(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    found = sorted(p for p in folder.glob("step-*") if (p / "standing.json").is_file())
    return found[-1] if found else None


def load(path: Path, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> Standing:
    """Put weights and optimiser back; returns where the training stood.

    Raises:
        InputError: the checkpoint is damaged or of another adapter.
    """
    try:
        load_weights(path / "weights.safetensors", parameters)
        _load_optimizer(path / "optimizer.safetensors", parameters, optimizer)
        return Standing(**json.loads((path / "standing.json").read_text()))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: the checkpoint cannot be read ({error}); remove it to start again") from None


def save_weights(path: Path, parameters: dict[str, torch.nn.Parameter]) -> None:
    """The trained weights, written under another name first."""
    _save(path, dict(parameters))


def load_weights(path: Path, parameters: dict[str, torch.nn.Parameter]) -> None:
    from safetensors.torch import load_file

    kept = load_file(path)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(kept[name])


def optimizer_tensors(parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors named ``<parameter>|<key>``."""
    found: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"{name}|{key}"] = value if isinstance(value, Tensor) else torch.tensor(float(value))
    return found


def _load_optimizer(path: Path, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    from safetensors.torch import load_file

    kept = load_file(path)
    states: dict[str, dict[str, Tensor]] = {}
    for full, value in kept.items():
        name, _, key = full.rpartition("|")
        states.setdefault(name, {})[key] = value
    for name, parameter in parameters.items():
        if name in states:
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device, parameter.dtype)
                for key, value in states[name].items()
            }


def _save(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    partial = path.with_suffix(".partial")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial)
    partial.replace(path)
