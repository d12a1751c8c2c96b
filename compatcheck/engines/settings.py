"""What the user's options mean to an engine: batch size, GPUs, threads."""

from __future__ import annotations

import os
from typing import Any

from compatcheck.errors import InputError


def has(package: str) -> bool:
    import importlib.metadata as installed

    try:
        installed.version(package)
    except installed.PackageNotFoundError:
        return False
    return True


def whole(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise InputError(f"--engine-arg {name}={value}: a whole number, 1 or more")
    return number


def batch_size(given: int | str) -> int | None:
    """Documents at once; None for "auto".

    Raises:
        InputError: neither a positive number nor "auto".
    """
    if str(given) == "auto":
        return None
    try:
        size = int(given)
    except ValueError:
        size = 0
    if size < 1:
        raise InputError(f"batch size {given!r}: a positive number or 'auto'")
    return size


def devices(device: str | None, build: str) -> list[str]:
    """Numbers of the GPUs that ``device`` names; empty for all that can be seen."""
    kind, _, number = (device or "").partition(":")
    if kind and kind != build:
        raise InputError(f"--device {device}: the installed vLLM is its {build} build")
    return [number] if number else []


def visible_devices() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named:
        return [name.strip() for name in named.split(",")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def cpu_threads(number: int, replicas: int) -> dict[str, str]:
    """Cores that an engine binds its threads to: its part where there are several engines. The user's word wins."""
    if "VLLM_CPU_OMP_THREADS_BIND" in os.environ:
        return {}
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    mine = cores[number::replicas] if replicas > 1 else []
    return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, mine)) if mine else "nobind"}
