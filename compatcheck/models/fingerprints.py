"""Fingerprints by content: the same files give the same one on every machine, whatever the folder is called."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compatcheck.models import tokenizer
from compatcheck.models.adapters import CONFIG, WEIGHTS
from compatcheck.paths import cache_dir

_VOLATILE = frozenset({"_name_or_path", "transformers_version", "base_model_name_or_path", "revision", "auto_mapping",
                       "peft_version", "inference_mode"})  # fmt: skip
"""Keys that say where or with what a file was written, not what it holds."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
                    "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")  # fmt: skip


def of_model(base: Path, adapter: Path | None = None) -> str:
    """Fingerprint of a full model, or of an adapter on its base: weights, configuration (sorted), tokenizer."""
    digest = hashlib.sha256(b"compatcheck.model/1")
    for path in sorted(base.glob("*.safetensors")):
        digest.update(_file_digest(path))
    for name in ("config.json", "generation_config.json", *_TOKENIZER_FILES):
        digest.update(_digest(base / name))
    _add_adapter(digest, adapter, base)
    return _shown(digest)


def of_gguf(file: Path, adapter: Path | None, revision: int) -> str:
    """Fingerprint of a GGUF file, which holds all of a model, or of an adapter on it; of our reading, its revision."""
    digest = hashlib.sha256(f"compatcheck.models.gguf/{revision}".encode())
    digest.update(_file_digest(file))
    _add_adapter(digest, adapter)
    return _shown(digest)


def of_file(file: Path) -> str:
    """sha256 of a file, as hexadecimal digits."""
    return _file_digest(file).hex()


def of_recorded(path: Path) -> str:
    """Fingerprint of recorded outputs: the bytes of the file, or of every samples file of a folder, or of all in it."""
    files = [path] if path.is_file() else sorted(path.glob("**/samples_*.jsonl*"))
    files = files or sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256(b"compatcheck.recorded/1")
    for file in files:
        digest.update(_file_digest(file))
    return _shown(digest)


def combine(parts: Iterable[str]) -> str:
    """Fingerprint of an ordered list of fingerprints or texts."""
    return _shown(hashlib.sha256("|".join(parts).encode()))


def _shown(digest: Any) -> str:
    return f"sha256:{digest.hexdigest()[:16]}"


def _add_adapter(digest: Any, adapter: Path | None, base: Path | None = None) -> None:
    """Configuration and weights of an adapter, and its own tokenizer unless it is the base's."""
    if adapter is None:
        return
    digest.update(_digest(adapter / CONFIG))
    digest.update(_file_digest(adapter / WEIGHTS))
    if base is None or tokenizer.differences(base, adapter):
        for name in tokenizer.FILES:
            digest.update(_digest(adapter / name))


def _digest(path: Path) -> bytes:
    """Digest of a file; of a JSON object with sorted keys and sorted lists of names, without volatile keys."""
    if not path.is_file():
        return b"-"
    if path.suffix != ".json":
        return _file_digest(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return _file_digest(path)
    return hashlib.sha256(json.dumps(_canonical(value), sort_keys=True).encode()).digest()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: sorted(item, key=str) if key == "target_modules" and isinstance(item, list) else _canonical(item)
            for key, item in value.items()
            if key not in _VOLATILE
        }
    return [_canonical(item) for item in value] if isinstance(value, list) else value


def _file_digest(path: Path) -> bytes:
    """sha256 of a file. A hub snapshot's blob is named by it; other large files are remembered by size and time."""
    real = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", real.name):
        return bytes.fromhex(real.name)
    stat = real.stat()
    if stat.st_size < 64 << 20:
        return _sha256(real)
    key = hashlib.sha256(f"{real}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()
    memo = cache_dir("fingerprints") / key
    if memo.is_file() and len(known := memo.read_bytes()) == 32:
        return known
    value = _sha256(real)
    temporary = memo.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(value)
    temporary.replace(memo)
    return value


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
