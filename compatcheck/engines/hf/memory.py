"""Memory of the device: how much is free, giving it back, and what running out of it looks like."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

from compatcheck.memory import available_memory

CPU_TOKENS, ACCELERATOR_TOKENS = 1536, 16_384
"""Tokens of one forward: enough to keep the matrix products busy, few enough to stay in the caches of a CPU."""
_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "defaultcpuallocator",
          "not enough memory")  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whichever device."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def _libc(function: str) -> Any:
    """A function of the C library; None where it has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), function)
    except (OSError, AttributeError, TypeError):
        return None


def keep_freed_memory() -> None:
    """Let glibc keep up to a gigabyte of freed memory for the next layer instead of handing it back and faulting it in.

    Activations of a few megabytes come and go hundreds of times a second: 5 to 10 % of a forward on a CPU. Does nothing
    with another C library."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if (mallopt := _libc("mallopt")) is not None:
        mallopt(mmap_threshold, 2**25)  # the largest glibc takes
        mallopt(trim_threshold, 2**30)


def available_bytes(device: str) -> int:
    """Free memory of the device."""
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return available_memory()


def give_back() -> None:
    """Return memory that nothing refers to any more, also what glibc would keep between blocks still in use."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if (trim := _libc("malloc_trim")) is not None:
        trim(0)
