"""LoRA adapters as files: read what a blend needs of one, write one that any PEFT program loads."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError
from compatcheck.models import ACTIVATED, CONFIG, WEIGHTS, kind_of
from compatcheck.paths import user_path
from compatcheck.references import read_json
from compatcheck_train.folders import put

if TYPE_CHECKING:
    import torch

_PREFIX = "base_model.model."


@dataclass(frozen=True)
class LoraFile:
    """A LoRA adapter's factors. The update of a module is ``scale · B @ A``.

    ``pairs`` has for every module (by its name in the base) A of shape (rank, in) and B of shape (out, rank), float32.
    ``others`` are further tensors, such as modules that are saved whole.
    """

    folder: Path
    config: Mapping[str, Any]
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    scales: Mapping[str, float]
    others: Mapping[str, torch.Tensor]


def read_lora(folder: Path) -> LoraFile:
    """Read a LoRA adapter.

    Raises:
        InputError: no adapter, none of low rank, or a variant whose update is not ``scale · B @ A``.
    """
    from safetensors.torch import load_file

    config = read_json(folder / CONFIG)
    told = _other_kind(folder, config)
    if told:
        raise InputError(f"{folder}: {told}; only plain LoRA adapters can be worked on as weights")
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder}: has no {WEIGHTS}")
    tensors = load_file(path)
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name in sorted(tensors):
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
            other = name.replace(".lora_A.", ".lora_B.")
            if other not in tensors:
                raise InputError(f"{path}: {other} is missing beside {name}")
            pairs[module] = (tensors[name].float(), tensors[other].float())
    used = {f"{_PREFIX}{module}.lora_{factor}.weight" for module in pairs for factor in "AB"}
    odd = next((name for name in tensors if name not in used and ".lora_" in name), None)
    if odd is not None:
        raise InputError(f"{folder}: has {odd}; only plain LoRA of linear layers can be worked on as weights")
    scales = {module: _scale(config, module, a.shape[0]) for module, (a, _) in pairs.items()}
    return LoraFile(folder, config, pairs, scales, {n: t for n, t in tensors.items() if n not in used})


def _other_kind(folder: Path, config: Mapping[str, Any]) -> str:
    """What makes an adapter's update another than ``scale · B @ A`` on its base as it is; empty where nothing does."""
    kind = kind_of(folder).name
    if kind not in ("LoRA", ACTIVATED):
        return f"its kind is {kind}"
    odd = next((name for name in ("use_dora", "fan_in_fan_out", "target_parameters") if config.get(name)), "")
    return f"{odd} is set" if odd else ""


def why_not_blended(folder: Path) -> str:
    """Why an adapter cannot be worked on as weights; empty where it can."""
    try:
        read_lora(folder)
    except InputError as error:
        return str(error)
    return ""


def write_lora(
    folder: Path, config: Mapping[str, Any], pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    base: str, others: Mapping[str, torch.Tensor] | None = None,
) -> None:  # fmt: skip
    """Write an adapter whose update is plainly ``B @ A``: rank and alpha are equal, for every module its own.

    Raises:
        InputError: the folder cannot be written, or holds something else.
    """
    from safetensors.torch import save_file

    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: holds something that is no adapter; choose another folder")
    ranks = {module: a.shape[0] for module, (a, _) in pairs.items()}
    usual = max(ranks.values())
    own = {module: rank for module, rank in sorted(ranks.items()) if rank != usual}
    written = {
        **config, "r": usual, "lora_alpha": usual, "use_rslora": False, "rank_pattern": own, "alpha_pattern": own,
        "lora_dropout": 0.0, "inference_mode": True, "base_model_name_or_path": base,
        "target_modules": sorted({module.rpartition(".")[2] for module in pairs}),
    }  # fmt: skip
    tensors = {f"{_PREFIX}{m}.lora_A.weight": a.contiguous() for m, (a, _) in pairs.items()}
    tensors |= {f"{_PREFIX}{m}.lora_B.weight": b.contiguous() for m, (_, b) in pairs.items()}
    tensors |= dict(others or {})
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        save_file(dict(sorted(tensors.items())), beside / WEIGHTS, metadata={"format": "pt"})
        (beside / CONFIG).write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        put(beside, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def base_name(folder: Path, config: Mapping[str, Any]) -> str:
    """The base an adapter names, so that it is found from any other folder: a hub id, or an absolute path."""
    name = str(config.get("base_model_name_or_path") or "")
    for candidate in (folder / name, user_path(name)):
        if name and candidate.is_dir():
            return str(candidate.resolve())
    return name


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = _of_module(config.get("alpha_pattern") or {}, module, config.get("lora_alpha", rank))
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_module(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """PEFT's rule: a pattern is the end of a module's name, at a dot."""
    return next((v for k, v in pattern.items() if module == k or module.endswith(f".{k}")), default)
