"""Engines turn requests into outputs. Every engine is an ``lm_eval.api.model.LM``.

``hf`` is our own fast version of lm-eval's; every other name is a backend of lm-eval. Importing this loads neither
torch nor lm-eval.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.engines.progress import Progress
from compatcheck.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from lm_eval.api.model import LM

__all__ = ["Progress", "choose", "engine_names", "open_engine"]


def engine_names() -> list[str]:
    """``auto``, ``hf``, then the names of lm-eval's backends."""
    from lm_eval.models import MODEL_MAPPING

    return ["auto", "hf", *sorted(name for name in MODEL_MAPPING if name != "hf")]


def choose(name: str = "auto") -> tuple[str, str]:
    """The engine that a name stands for, and why.

    Raises:
        InputError: no such engine.
    """
    known = engine_names()
    if name not in known:
        raise InputError(f"--engine {name}: no such engine{did_you_mean(name, known)}; known: {', '.join(known)}")
    if name == "auto":
        return "hf", "runs every transformers model and its adapters on any device"
    return name, "asked for"


def open_engine(
    name: str,
    model: str | Path,
    adapters: Mapping[str, str | Path] | None = None,
    *,
    batch_size: int | str = "auto",
    dtype: str = "auto",
    device: str | None = None,
    seed: int = 0,
    engine_args: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> LM:
    """Load a model, and the adapters on it by name, once.

    The engine has ``activate(adapter name or None)``, ``close()``, ``notes`` and ``identity`` besides what an LM has.
    With adapters the first one is active; None is the base alone.

    Args:
        model: folder or hub id of a full model.
        batch_size: documents at once, or "auto".
        dtype: name of a torch dtype, or "auto".
        engine_args: handed to the engine as they are.

    Raises:
        InputError: no such engine, or something it cannot load.
    """
    name, _ = choose(name)
    options: dict[str, Any] = {
        "batch_size": batch_size, "dtype": dtype, "device": device, "seed": seed, "engine_args": engine_args,
        "trust_remote_code": trust_remote_code, "progress": progress,
    }  # fmt: skip
    if name == "hf":
        from compatcheck.engines.hf import HFEngine

        return HFEngine(model, adapters, **options)
    from compatcheck.engines.backends import BackendEngine

    return BackendEngine(name, model, adapters, **options)
