"""Which engine a name stands for, and opening it.

``auto`` takes vLLM where the work outweighs its start-up, ``hf`` otherwise. The rule estimates what generating costs
the hf engine and what vLLM would save of it. The figures for a CPU were measured with benchmarks/bench_vllm.py
(docs/benchmarks.md); those for a GPU are assumptions on the cautious side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from lm_eval.api.model import LM

    from compatcheck.models.endpoints import Endpoint

RATES = {"cpu": (30.0, 6.6e10, 1.35), "cuda": (90.0, 2.0e13, 4.0)}
"""Of a device: seconds until vLLM answers, operations a second that the hf engine makes of generated tokens, how many
times faster vLLM generates."""


@dataclass(frozen=True)
class Work:
    """What is to be done by both sides together, at most."""

    generated: int = 0
    """Tokens that may be generated."""
    operations: float = 0.0
    """Floating-point operations that these take: two a parameter and token."""
    starts: int = 1
    """Models that must be started; adapters on one base share a start."""
    scored: int = 0
    """Requests for log-likelihoods."""


def worth(work: Work, device: str) -> tuple[bool, str]:
    """Whether vLLM saves time on ``device`` (cpu or cuda), and why, in one clause."""
    if work.scored >= work.generated:
        return False, "scores choices faster: it reads every context once"
    seconds, operations, speed = RATES[device]
    saved, start = work.operations / operations * (1 - 1 / speed), seconds * work.starts
    what = f"up to {work.generated:,} tokens to generate, {saved:,.0f} s to save at most"
    if saved > start:
        return True, f"{what}, outweigh a start-up of about {start:.0f} s"
    return False, f"{what}, do not outweigh vLLM's start-up of about {start:.0f} s"


def engine_names() -> list[str]:
    """``auto``, ``hf``, ``vllm``, ``ray``, then the names of lm-eval's other backends."""
    from lm_eval.models import MODEL_MAPPING

    return ["auto", "hf", "vllm", "ray", *sorted(name for name in MODEL_MAPPING if name not in ("hf", "vllm"))]


def choose(name: str = "auto", work: Work | None = None, device: str | None = None) -> tuple[str, str]:
    """The engine that a name stands for, and why. Without ``work`` ``auto`` stands for ``hf``; ``device`` is as given
    by the user, None what the installed build of vLLM runs on. Raises InputError: no such engine, or none installed."""
    from compatcheck.engines.vllm.plan import build, require_build

    known = engine_names()
    if name not in known:
        raise InputError(f"--engine {name}: no such engine{did_you_mean(name, known)}; known: {', '.join(known)}")
    if name == "vllm":
        require_build()
    if name == "ray" and find_spec("ray") is None:
        raise InputError("--engine ray: Ray is not installed; pip install 'compatcheck[ray]'")
    if name != "auto":
        return name, "asked for"
    any_model = "runs every transformers model and its adapters on any device"
    installed = build()
    if installed is None:
        return "hf", f"{any_model}; vLLM is not installed"
    if work is None:
        return "hf", any_model
    if device and device.partition(":")[0] != installed:
        return "hf", f"the installed vLLM does not run on {device}"
    taken, why = worth(work, installed)
    return ("vllm" if taken else "hf"), why


def open_engine(
    name: str,
    model: str | Path,
    adapters: Mapping[str, str | Path] | None = None,
    *,
    engine_args: Mapping[str, Any] | None = None,
    log_file: Path | None = None,
    base_alone: bool = False,
    memory_share: float = 1.0,
    **options: Any,
) -> LM:
    """Load a model, and the adapters on it by name, once.

    The engine has ``activate(adapter name or None)``, ``close()``, ``notes`` and ``identity`` besides what an LM has.
    With adapters the first one is active; None is the base alone.

    ``model`` is a folder or hub id; ``engine_args`` are handed to the engine as they are; ``log_file`` takes what an
    engine in processes of its own writes (by default a file in the user's cache); ``base_alone`` says whether the base
    will be activated beside its adapters, ``memory_share`` which part of the device's memory it may take, where another
    engine runs beside it. ``options``: ``batch_size`` (documents at once, or "auto"), ``dtype`` (name of a torch dtype,
    or "auto"), ``device``, ``seed``, ``trust_remote_code``, ``progress``. Raises InputError: no such engine, or
    something it cannot load."""
    name, _ = choose(name)
    options["engine_args"] = engine_args
    if name == "hf":
        from compatcheck.engines.patches import load_transformers

        load_transformers()
        from compatcheck.engines.hf.engine import HFEngine

        return HFEngine(model, adapters, **options)
    if name == "vllm":
        from compatcheck.engines.vllm.engine import VLLMEngine

        own: dict[str, Any] = {"log_file": log_file, "base_alone": base_alone, "memory_share": memory_share}
        return VLLMEngine(model, adapters, **options, **own)
    if name == "ray":
        from compatcheck.engines.ray import RayEngine

        return RayEngine(model, adapters, opener=open_engine, **options, base_alone=base_alone)
    from compatcheck.engines.backends import BackendEngine

    return BackendEngine(name, model, adapters, **options)


def open_endpoint(models: Sequence[Endpoint], **options: Any) -> LM:
    """An engine that asks a server for the answers of its models, of which the first is active; ``activate`` takes a
    model's name. ``options``: ``batch_size`` (requests in flight, or "auto"), ``seed``, ``engine_args`` (see
    docs/endpoints.md), ``progress``. Raises InputError: an argument is wrong."""
    from compatcheck.engines.endpoint.engine import EndpointEngine

    return EndpointEngine(models, **options)
