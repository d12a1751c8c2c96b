"""LoRA adapters as weights: read and write them, blend compat and NEW on one base after training, and put an old
adapter's update on the new base.

A blend is θ = a·compat + (1 − a)·new; the idea is BCWI's (Schumann et al. 2024). The blend of the *updates* is exact:
ranks add up, and a > 1 goes on beyond compat. PEFT's own merging methods are there too; those with ``linear`` in their
name mix the factors, not the updates.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.models import ACTIVATED, CONFIG, WEIGHTS, kind_of, tokenizer
from compatcheck.models.files import tensor_shapes
from compatcheck.paths import user_path
from compatcheck.references import read_json
from compatcheck_train.folders import partial_of, put

if TYPE_CHECKING:
    from torch import Tensor

METHODS = (
    "exact", "linear", "svd", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd",
    "magnitude_prune", "magnitude_prune_svd",
)  # fmt: skip
"""Ways to blend: ``exact`` is ours, the others are PEFT's ``combination_type``."""
_PREFIX = "base_model.model."
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class LoraFile:
    """A LoRA adapter's factors. The update of a module is ``scale · B @ A``.

    ``pairs`` has for every module (by its name in the base) A of shape (rank, in) and B of shape (out, rank), float32.
    ``others`` are further tensors, such as modules that are saved whole."""

    folder: Path
    config: Mapping[str, Any]
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    scales: Mapping[str, float]
    others: Mapping[str, Tensor]

    @property
    def base(self) -> str:
        """The base it names, so that it is found from any other folder: a hub id, or the absolute path of a folder or
        GGUF file."""
        name = str(self.config.get("base_model_name_or_path") or "")
        for candidate in (self.folder / name, user_path(name)):
            if name and candidate.exists():
                return str(candidate.resolve())
        return name


def read_lora(folder: Path) -> LoraFile:
    """Read a LoRA adapter; InputError for no adapter, none of low rank, or a variant whose update is not
    ``scale · B @ A`` on its base as it is."""
    from safetensors.torch import load_file

    config, kind = read_json(folder / CONFIG), kind_of(folder).name
    odd = next((name for name in ("use_dora", "fan_in_fan_out", "target_parameters") if config.get(name)), "")
    told = f"its kind is {kind}" if kind not in ("LoRA", ACTIVATED) else f"{odd} is set" if odd else ""
    if told:
        raise InputError(f"{folder}: {told}; only plain LoRA adapters can be worked on as weights")
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder}: has no {WEIGHTS}")
    tensors = load_file(path)
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name in sorted(tensors):
        if name.endswith(".lora_A.weight"):
            other = name.replace(".lora_A.", ".lora_B.")
            if other not in tensors:
                raise InputError(f"{path}: {other} is missing beside {name}")
            module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
            pairs[module] = (tensors[name].float(), tensors[other].float())
    used = {f"{_PREFIX}{module}.lora_{factor}.weight" for module in pairs for factor in "AB"}
    further = next((name for name in tensors if name not in used and ".lora_" in name), None)
    if further is not None:
        raise InputError(f"{folder}: has {further}; only plain LoRA of linear layers can be worked on as weights")
    scales = {module: _scale(config, module, a.shape[0]) for module, (a, _) in pairs.items()}
    return LoraFile(folder, config, pairs, scales, {n: t for n, t in tensors.items() if n not in used})


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    from peft.utils.other import get_pattern_key

    own = config.get("alpha_pattern") or {}
    alpha = own.get(get_pattern_key(own, module), config.get("lora_alpha", rank))
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def why_not_blended(folder: Path) -> str:
    """Why an adapter cannot be worked on as weights; empty where it can."""
    try:
        read_lora(folder)
    except InputError as error:
        return str(error)
    return ""


def write_lora(
    folder: Path, config: Mapping[str, Any], pairs: Mapping[str, tuple[Tensor, Tensor]], base: str,
    others: Mapping[str, Tensor] | None = None, like: Path | None = None,
) -> None:  # fmt: skip
    """Write an adapter whose update is plainly ``B @ A``: rank and alpha are equal, for every module its own. Which
    modules it is on is the configuration's; the tokenizer is that beside ``like``, if any. InputError where the folder
    cannot be written, or holds something else."""
    from safetensors.torch import save_file

    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: holds something that is no adapter; choose another folder")
    ranks = {module: a.shape[0] for module, (a, _) in pairs.items()}
    usual = max(ranks.values())
    own = {module: rank for module, rank in sorted(ranks.items()) if rank != usual}
    written = {
        **config, "r": usual, "lora_alpha": usual, "use_rslora": False, "rank_pattern": own, "alpha_pattern": own,
        "lora_dropout": 0.0, "inference_mode": True, "base_model_name_or_path": base,
    }  # fmt: skip
    tensors = {
        f"{_PREFIX}{module}.lora_{factor}.weight": tensor.contiguous()
        for module, pair in pairs.items()
        for factor, tensor in zip("AB", pair, strict=True)
    } | dict(others or {})
    beside = partial_of(folder)
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        save_file(dict(sorted(tensors.items())), beside / WEIGHTS, metadata={"format": "pt"})
        (beside / CONFIG).write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if like is not None:
            tokenizer.copy(like, beside)
        put(beside, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _on(modules: Iterable[str]) -> dict[str, Any]:
    """What a configuration says of these modules alone, in a base of more layers too."""
    whole = dict.fromkeys(("exclude_modules", "layers_to_transform", "layers_pattern"))
    return {**whole, "target_modules": sorted(modules)}


def _summed(parts: Sequence[tuple[LoraFile, float]]) -> dict[str, tuple[Tensor, Tensor]]:
    """The factors of Σ factor · update, with as few ranks as the sum needs: QR of both, singular values of the small
    product."""
    import torch

    summed = {}
    for module in dict.fromkeys(module for lora, _ in parts for module in lora.pairs):
        mine = [(lora, factor, *lora.pairs[module]) for lora, factor in parts if module in lora.pairs]
        a = torch.cat([low for *_, low, _ in mine], 0)
        b = torch.cat([factor * lora.scales[module] * high for lora, factor, _, high in mine], 1)
        if len(mine) > 1:
            left, small_b = torch.linalg.qr(b.double())
            right, small_a = torch.linalg.qr(a.double().T)
            u, s, v = torch.linalg.svd(small_b @ small_a.T)
            keep = max(1, int((s > _TOLERANCE * max(float(s[0]), 1e-30)).sum()) if len(s) else 0)
            root = s[:keep].sqrt()
            a, b = (root[:, None] * (v[:keep] @ right.T)).float(), ((left @ u[:, :keep]) * root).float()
        summed[module] = (a, b)
    return summed


def blend(compat: Path, new: Path | None, share: float, out: Path) -> Path:
    """Write the adapter whose update is ``share``·compat + (1 − ``share``)·new; returns its folder.

    ``new`` is None where NEW is a full model, whose update is nothing. Both are on one base, whatever they call it; the
    name that ``compat`` has for it is written. InputError where shapes differ, or they cannot be read or written."""
    first = read_lora(compat)
    parts = [(first, share)] + ([(read_lora(new), 1 - share)] if new is not None else [])
    names = sorted({name for lora, _ in parts for name in lora.others})
    for second, _ in parts[1:]:
        for module in first.pairs.keys() & second.pairs.keys():
            (a, b), (c, d) = first.pairs[module], second.pairs[module]
            if (a.shape[1], b.shape[0]) != (c.shape[1], d.shape[0]):
                raise InputError(f"{first.folder} and {second.folder}: module {module} has other shapes in the two")
    if names and (len(parts) == 1 or any(name not in lora.others for lora, _ in parts for name in names)):
        raise InputError(f"{first.folder}: saves whole modules ({names[0]}), which cannot be blended here")
    others = {}
    for name in names:  # mixed as they are
        mixed = share * first.others[name].float() + (1 - share) * parts[1][0].others[name].float()
        others[name] = mixed.to(first.others[name].dtype)
    summed = _summed(parts)
    more = {} if summed.keys() == first.pairs.keys() else _on(summed)
    write_lora(out, {**first.config, **more}, summed, first.base, others, compat)
    return out


def merge(base: Path, compat: Path, new: Path, share: float, method: str, out: Path) -> Path:
    """Blend by one of PEFT's merging methods, with weights ``share`` and 1 − ``share``; returns the folder. InputError
    for an unknown method, or where PEFT refuses the adapters."""
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise InputError(f"--blend-method {method}: no such method{did_you_mean(method, METHODS)}; known: {known}")
    if method == "exact":
        return blend(compat, new, share, out)
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wrapped = PeftModel.from_pretrained(model, str(compat), adapter_name="compat")
    wrapped.load_adapter(str(new), adapter_name="new")
    torch.manual_seed(0)  # dare drops at random
    sparse = {} if method in ("linear", "svd") else {"density": 0.5}
    try:
        wrapped.add_weighted_adapter(["compat", "new"], [share, 1 - share], "blend", combination_type=method, **sparse)
    except (ValueError, NotImplementedError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise InputError(f"--blend-method {method}: PEFT cannot merge these adapters: {why}") from None
    with tempfile.TemporaryDirectory() as folder:
        wrapped.save_pretrained(folder, selected_adapters=["blend"], safe_serialization=True)
        made = read_lora(Path(folder, "blend"))
    own = read_lora(compat)
    write_lora(out, own.config, _summed([(made, 1.0)]), own.base, made.others, compat)
    return out


def fitting(old: LoraFile, base: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """The old adapter's modules whose shapes a base has. InputError where none fits."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(base.glob("*.safetensors")):
        shapes |= {name: tuple(shape) for name, shape in tensor_shapes(path).items()}
    moved = {
        module: (a, b)
        for module, (a, b) in old.pairs.items()
        if shapes.get(f"{module}.weight") == (b.shape[0], a.shape[1])
    }
    if not moved:
        first, (a, b) = next(iter(old.pairs.items()))
        there = " × ".join(map(str, shapes.get(f"{first}.weight") or ("missing",)))
        raise InputError(
            f"{old.folder}: none of its {len(old.pairs)} modules fits {base} (its {first} is {b.shape[0]} × "
            f"{a.shape[1]}, the base's is {there}); --init transfer needs equal shapes"
        )
    return moved


def transfer(
    old: Path, base: Path, out: Path, new: Path | None = None, share: float = 1.0
) -> tuple[list[str], list[str]]:
    """Fine-tuning transfer (Lin et al. 2025): write an adapter for ``base`` with ``share`` of the old adapter's update
    where shapes match, on top of ``new``'s where there is one; returns the modules that fit, and those that do not or
    are saved whole. InputError where none fits."""
    source, target = read_lora(old), read_lora(new) if new is not None else None
    moved = fitting(source, base)
    parts = [(replace(source, pairs=moved), share)] + ([(target, 1.0)] if target is not None else [])
    summed = _summed(parts)
    if target is not None:
        more = {} if summed.keys() == target.pairs.keys() else _on(summed)
        write_lora(out, {**target.config, **more}, summed, target.base, target.others, new)
    else:
        kept = ("peft_type", "task_type", "alora_invocation_tokens")
        config = {name: source.config[name] for name in kept if name in source.config}
        write_lora(out, {**config, **_on(summed)}, summed, str(base.resolve()))
    return list(moved), [*(module for module in source.pairs if module not in moved), *source.others]
