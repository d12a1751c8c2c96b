"""Engines turn requests into outputs. Every engine is an ``lm_eval.api.model.LM``.

``hf`` is our own fast version of lm-eval's, ``vllm`` its vLLM backend in processes of its own, ``ray`` an engine
on each of several machines; every other name is a backend of lm-eval. Importing this loads neither torch nor lm-eval.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.engines.choosing import Work, worth
from compatcheck.engines.progress import Progress
from compatcheck.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from lm_eval.api.model import LM

    from compatcheck.models.endpoints import Endpoint

__all__ = ["Progress", "Work", "choose", "engine_names", "open_endpoint", "open_engine"]


def engine_names() -> list[str]:
    """``auto``, ``hf``, ``vllm``, ``ray``, then the names of lm-eval's other backends."""
    from lm_eval.models import MODEL_MAPPING

    return ["auto", "hf", "vllm", "ray", *sorted(name for name in MODEL_MAPPING if name not in ("hf", "vllm"))]


def choose(name: str = "auto", work: Work | None = None, device: str | None = None) -> tuple[str, str]:
    """The engine that a name stands for, and why.

    Args:
        work: what is to be done; without it ``auto`` stands for ``hf``.
        device: as given by the user; None is what the installed build of vLLM runs on.

    Raises:
        InputError: no such engine, or one that is not installed.
    """
    known = engine_names()
    if name not in known:
        raise InputError(f"--engine {name}: no such engine{did_you_mean(name, known)}; known: {', '.join(known)}")
    if name == "auto":
        return _choose_for(work, device)
    if name == "vllm":
        from compatcheck.engines.vllm.plan import require_build

        require_build()
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError("--engine ray: Ray is not installed; pip install 'compatcheck[ray]'")
    return name, "asked for"


def _choose_for(work: Work | None, device: str | None) -> tuple[str, str]:
    from compatcheck.engines.vllm.plan import build

    installed = build()
    if installed is None:
        return "hf", "runs every transformers model and its adapters on any device; vLLM is not installed"
    if work is None:
        return "hf", "runs every transformers model and its adapters on any device"
    if device and device.partition(":")[0] != installed:
        return "hf", f"the installed vLLM does not run on {device}"
    taken, why = worth(work, installed)
    return ("vllm" if taken else "hf"), why


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
    log_file: Path | None = None,
    base_alone: bool = False,
    memory_share: float = 1.0,
) -> LM:
    """Load a model, and the adapters on it by name, once.

    The engine has ``activate(adapter name or None)``, ``close()``, ``notes`` and ``identity`` besides what an LM has.
    With adapters the first one is active; None is the base alone.

    Args:
        model: folder or hub id of a full model.
        batch_size: documents at once, or "auto".
        dtype: name of a torch dtype, or "auto".
        engine_args: handed to the engine as they are.
        log_file: takes what an engine in processes of its own writes; by default a file in the user's cache.
        base_alone: whether the base will be activated beside its adapters.
        memory_share: part of the device's memory it may take, where another engine runs beside it.

    Raises:
        InputError: no such engine, or something it cannot load.
    """
    name, _ = choose(name)
    options: dict[str, Any] = {
        "batch_size": batch_size, "dtype": dtype, "device": device, "seed": seed, "engine_args": engine_args,
        "trust_remote_code": trust_remote_code, "progress": progress,
    }  # fmt: skip
    if name == "hf":
        from compatcheck.engines.hf.engine import HFEngine

        return HFEngine(model, adapters, **options)
    if name == "vllm":
        from compatcheck.engines.vllm.engine import VLLMEngine

        own: dict[str, Any] = {"log_file": log_file, "base_alone": base_alone, "memory_share": memory_share}
        return VLLMEngine(model, adapters, **options, **own)
    if name == "ray":
        from compatcheck.engines.ray import RayEngine

        return RayEngine(model, adapters, **options, base_alone=base_alone)
    from compatcheck.engines.backends import BackendEngine

    return BackendEngine(name, model, adapters, **options)


def open_endpoint(
    models: Sequence[Endpoint],
    *,
    batch_size: int | str = "auto",
    seed: int = 0,
    engine_args: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> LM:
    """An engine that asks a server for the answers of its models; ``activate`` takes a model's name.

    Args:
        models: models of one server; the first is active.
        batch_size: requests in flight, or "auto".
        engine_args: see docs/endpoints.md.

    Raises:
        InputError: an argument is wrong.
    """
    from compatcheck.engines.endpoint.engine import EndpointEngine

    return EndpointEngine(models, batch_size=batch_size, seed=seed, engine_args=engine_args, progress=progress)
