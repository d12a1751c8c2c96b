"""Blends of compat and new on one base, after training: θ = a·compat + (1 − a)·new.

The idea is BCWI's (Schumann et al. 2024). The blend of the *updates* is exact: ranks add up, and a > 1 goes on beyond
compat. PEFT's own merging methods are there too; those with ``linear`` in their name mix the factors, not the updates.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compatcheck.errors import InputError, did_you_mean
from compatcheck_train.weights.files import LoraFile, base_name, read_lora, write_lora

if TYPE_CHECKING:
    from torch import Tensor

EXACT = "exact"
METHODS = (
    EXACT, "linear", "svd", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd",
    "magnitude_prune", "magnitude_prune_svd",
)  # fmt: skip
"""Ways to blend: ``exact`` is ours, the others are PEFT's ``combination_type``."""
_TOLERANCE = 1e-6


def blend(compat: Path, new: Path | None, share: float, out: Path, rank: int | None = None) -> Path:
    """Write the adapter whose update is ``share``·compat + (1 − ``share``)·new; returns its folder.

    Args:
        new: None where NEW is a full model, whose update is nothing: the blend scales compat's.
        rank: at most this rank, by singular values, where exactness may be given up; None keeps it exact. Rank that the
            sum does not need is left out in any case.

    Raises:
        InputError: the adapters do not belong together, or cannot be read or written.
    """
    first = read_lora(compat)
    second = read_lora(new) if new is not None else None
    if second is not None:
        _check_fit(first, second)
    pairs = {}
    for module, (a, b) in first.pairs.items():
        lows, highs = [a], [share * first.scales[module] * b]
        if second is not None and module in second.pairs:
            lows.append(second.pairs[module][0])
            highs.append((1 - share) * second.scales[module] * second.pairs[module][1])
        pairs[module] = _reduced(lows, highs, rank)
    for module, (a, b) in second.pairs.items() if second is not None else ():
        if module not in pairs:
            pairs[module] = _reduced([a], [(1 - share) * second.scales[module] * b], rank)  # type: ignore[union-attr]
    others = _mixed_others(first, second, share)
    write_lora(out, first.config, pairs, base_name(compat, first.config), others)
    return out


def merge(base: Path, compat: Path, new: Path, share: float, method: str, out: Path, density: float = 0.5) -> Path:
    """Blend by one of PEFT's merging methods, with weights ``share`` and 1 − ``share``; returns the folder.

    Raises:
        InputError: no such method, or PEFT refuses the adapters.
    """
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise InputError(f"--blend-method {method}: no such method{did_you_mean(method, METHODS)}; known: {known}")
    if method == EXACT:
        return blend(compat, new, share, out)
    import shutil
    import tempfile

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wrapped = PeftModel.from_pretrained(model, str(compat), adapter_name="compat")
    wrapped.load_adapter(str(new), adapter_name="new")
    torch.manual_seed(0)  # dare drops at random
    sparse = {} if method in ("linear", "svd") else {"density": density}
    try:
        wrapped.add_weighted_adapter(["compat", "new"], [share, 1 - share], "blend", combination_type=method, **sparse)
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"--blend-method {method}: PEFT cannot merge these adapters: {str(error).splitlines()[0]}"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        wrapped.save_pretrained(folder, selected_adapters=["blend"], safe_serialization=True)
        made = read_lora(Path(folder, "blend"))
    pairs = {module: (a, made.scales[module] * b) for module, (a, b) in made.pairs.items()}
    config = read_lora(compat).config
    write_lora(out, config, pairs, base_name(compat, config), made.others)
    shutil.rmtree(out / "blend", ignore_errors=True)
    return out


def _reduced(lows: list[Tensor], highs: list[Tensor], rank: int | None) -> tuple[Tensor, Tensor]:
    """B @ A of the stacked factors with as few ranks as it needs: QR of both, singular values of the small product."""
    import torch

    a, b = torch.cat(lows, 0), torch.cat(highs, 1)
    if len(lows) == 1 and rank is None:
        return a, b
    left, small_b = torch.linalg.qr(b.double())
    right, small_a = torch.linalg.qr(a.double().T)
    u, s, v = torch.linalg.svd(small_b @ small_a.T)
    keep = int((s > _TOLERANCE * max(float(s[0]), 1e-30)).sum()) if len(s) else 0
    keep = max(1, min(keep, rank or keep))
    root = s[:keep].sqrt()
    return (root[:, None] * (v[:keep] @ right.T)).float(), ((left @ u[:, :keep]) * root).float()


def _check_fit(first: LoraFile, second: LoraFile) -> None:
    if base_name(first.folder, first.config) != base_name(second.folder, second.config):
        raise InputError(
            f"{first.folder} is on base '{first.config.get('base_model_name_or_path')}' and {second.folder} on "
            f"'{second.config.get('base_model_name_or_path')}': only adapters of one base can be blended"
        )
    for module in first.pairs.keys() & second.pairs.keys():
        (a, b), (c, d) = first.pairs[module], second.pairs[module]
        if (a.shape[1], b.shape[0]) != (c.shape[1], d.shape[0]):
            raise InputError(f"{first.folder} and {second.folder}: module {module} has other shapes in the two")


def _mixed_others(first: LoraFile, second: LoraFile | None, share: float) -> dict[str, Tensor]:
    """Tensors that are saved whole are mixed as they are; both adapters must have them."""
    names = set(first.others) | set(second.others if second is not None else ())
    if second is None or names - (first.others.keys() & second.others.keys()):
        if names:
            raise InputError(f"{first.folder}: saves whole modules ({sorted(names)[0]}), which cannot be blended here")
        return {}
    return {
        name: (share * first.others[name].float() + (1 - share) * second.others[name].float()).to(
            first.others[name].dtype
        )
        for name in sorted(names)
    }
