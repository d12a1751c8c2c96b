"""The folder of a training, and its checkpoints: trained weights, optimiser and state. Safetensors and JSON, no pickle.

The data order and the learning rate are functions of seed and step, and no dropout draws numbers, so this is all that a
resumed run needs to continue as if nothing had happened, to the bit.
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
from compatcheck.models.files import object_in
from compatcheck_train.folders import Claim, partial_of, put, write, write_json

SCHEMA = "compatcheck.train/1"
Parameters = dict[str, torch.nn.Parameter]


@dataclass
class TrainingState:
    """How far a training has come. ``history`` has one entry per finished epoch; epoch 0 is the start."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    finished: bool = False
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    """Of the epoch that is under way: loss, followed, steps."""


class Output:
    """``run.json`` (what decides the result, and the result), ``adapter/``, ``checkpoints/``, ``metrics.jsonl``: one
    line per optimiser step and per epoch, in order; and the trackers that were asked for."""

    def __init__(self, folder: Path, accelerator: Any) -> None:
        self.adapter, self.checkpoints = folder / "adapter", folder / "checkpoints"
        self.best, self._metrics = folder / "best.safetensors", folder / "metrics.jsonl"
        self._claim = Claim(folder / "run.json", SCHEMA, "training")
        self._accelerator = accelerator

    def claim(self, identity: dict[str, Any]) -> None:
        """Take the folder for a training, or resume the one that is there; InputError where it holds something else."""
        if self._accelerator.is_main_process:
            self._claim.take(identity)
        self._accelerator.wait_for_everyone()

    def finished(self) -> dict[str, Any] | None:
        result = object_in(self._claim.path).get("result")
        if result is None or not (self.adapter / "adapter_model.safetensors").is_file():
            return None
        self._tidy()
        return {**result, "history": tuple(result["history"]), "notes": tuple(result["notes"])}

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result and remove what only a resumed run would need."""
        write_json(self._claim.path, {**object_in(self._claim.path), "result": result})
        self._tidy()

    def _tidy(self) -> None:
        if self._accelerator.is_main_process:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            self.best.unlink(missing_ok=True)

    def cut_metrics(self, step: int) -> None:
        """Leave out what a killed run wrote after the checkpoint that is resumed."""
        kept = []
        for line in self._metrics.read_text().splitlines() if step and self._metrics.is_file() else []:
            try:
                number = json.loads(line)["step"]
            except ValueError:  # the last line of a killed run
                break
            kept += [f"{line}\n"] * (number <= step)
        if self._accelerator.is_main_process:
            write(self._metrics, "".join(kept))

    def log(self, step: int, values: dict[str, float]) -> None:
        if self._accelerator.is_main_process:
            with self._metrics.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        self._accelerator.log(values, step=step)

    def save(self, state: TrainingState, parameters: Parameters, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint beside the last one, then remove that: a kill at any moment leaves a whole one."""
        target = self.checkpoints / f"step-{state.step:07}"
        partial = partial_of(target)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_tensors(partial / "weights.safetensors", parameters)
        moments = {
            f"{name}|{key}": torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float32)
            for name, parameter in parameters.items()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        save_tensors(partial / "optimizer.safetensors", moments)
        write_json(partial / "state.json", asdict(state))
        put(partial, target)
        for other in self.checkpoints.glob("step-*"):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)

    def last(self) -> Path | None:
        found = sorted(path for path in self.checkpoints.glob("step-*") if (path / "state.json").is_file())
        return found[-1] if found else None

    def resume(self, parameters: Parameters, optimizer: torch.optim.Optimizer) -> TrainingState | None:
        """Put weights and optimiser of the last checkpoint back; None where there is none. InputError for one that is
        damaged or of another adapter."""
        path = self.last()
        if path is None:
            return None
        from safetensors.torch import load_file

        try:
            load_weights(path / "weights.safetensors", parameters)
            states: dict[str, dict[str, Tensor]] = {}
            for full, value in load_file(path / "optimizer.safetensors").items():
                name, _, key = full.rpartition("|")
                parameter = parameters[name]
                moved = value if key == "step" else value.to(parameter.device, parameter.dtype)
                states.setdefault(name, {})[key] = moved
            for name, state in states.items():
                optimizer.state[parameters[name]] = state
            return TrainingState(**json.loads((path / "state.json").read_text()))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(f"{path}: the checkpoint cannot be read ({error}); remove it to start again") from None


def save_tensors(path: Path, tensors: Any) -> None:
    from safetensors.torch import save_file

    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial_of(path))
    partial_of(path).replace(path)


def load_weights(path: Path, parameters: Parameters) -> None:
    from safetensors.torch import load_file

    kept = load_file(path)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(kept[name])
