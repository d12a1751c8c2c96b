"""How many tokens at once, and what running out of memory looks like."""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Any

CPU_TOKENS = 1536
ACCELERATOR_TOKENS = 16_384
_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "defaultcpuallocator",
    "not enough memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whichever device."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def tokens_at_once(device: str) -> int:
    """Tokens of one forward: enough to keep the matrix products busy, few enough to stay in the caches of a CPU."""
    return CPU_TOKENS if device == "cpu" else ACCELERATOR_TOKENS


def _libc(function: str) -> Any:
    """A function of the C library; None where it has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), function)
    except (OSError, AttributeError, TypeError):
        return None


def keep_freed_memory() -> None:
    """Let glibc keep up to a gigabyte of freed memory for the next layer instead of handing it back and faulting it in.

    Activations of a few megabytes come and go hundreds of times a second: 5 to 10 % of a forward on a CPU. Does nothing
    with another C library.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if (mallopt := _libc("mallopt")) is not None:
        mallopt(mmap_threshold, 2**25)  # the largest glibc takes
        mallopt(trim_threshold, 2**30)


def available_bytes(device: str) -> int:
    """Free memory of the device, or a cautious guess where it does not tell."""
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return int(free)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 2**31


def give_back() -> None:
    """Return memory that nothing refers to any more, also what glibc would keep between blocks still in use."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if (trim := _libc("malloc_trim")) is not None:
        trim(0)
