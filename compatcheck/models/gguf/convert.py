"""One GGUF file to a folder: read by transformers, and everything in the file accounted for."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from compatcheck.errors import InputError
from compatcheck.models.gguf.checks import FACTORS, check_kind, check_settings, check_weights, llama3_rope
from compatcheck.models.quiet import quiet

_T = TypeVar("_T")
_LONGEST_KEPT = 1000
"""Entries of an array in the metadata beyond which it is a vocabulary, which transformers reads for itself."""


def convert(file: Path, into: Path) -> dict[str, Any]:
    """Write the model of a GGUF file as a folder of float32 safetensors with its tokenizer; returns ``quantization``,
    ``architecture`` and, where the file says it, ``name``. Raises InputError: see
    :func:`compatcheck.models.gguf.folder_of`."""
    from compatcheck.models.gguf.tokenizer import load_tokenizer

    metadata, tensors = _guarded(file, "not a GGUF file, or damaged or cut off", lambda: _read_header(file))
    check_kind(file, metadata)
    free = shutil.disk_usage(into.parent).free
    need = int(4.2 * sum(tensors.values()))
    if need > free:
        raise InputError(
            f"{file}: dequantised it takes {need / 1e9:.1f} GB in {into.parent}, of which {free / 1e9:.1f} GB are "
            "free; set COMPATCHECK_CACHE to a folder with more room"
        )
    with quiet(silent=True), contextlib.redirect_stderr(io.StringIO()):  # what it would warn of is checked here
        tokenizer = _guarded(file, "its tokenizer cannot be read", lambda: load_tokenizer(file, metadata))
        model = _guarded(file, "cannot be read", lambda: _read(file, metadata, tensors))
        _guarded(file, "cannot be dequantised", lambda: (model.save_pretrained(into), tokenizer.save_pretrained(into)))
    quantization = _quantization(metadata)
    config = json.loads((into / "config.json").read_text(encoding="utf-8"))
    # What `auto` computes in on an accelerator; quantised weights are of no type that could be.
    config["dtype"] = {"F32": "float32", "F16": "float16"}.get(quantization, "bfloat16")
    (into / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    named = {"name": metadata["general.name"]} if isinstance(metadata.get("general.name"), str) else {}
    return {"quantization": quantization, "architecture": str(metadata["general.architecture"]), **named}


def _guarded(file: Path, what: str, work: Callable[[], _T]) -> _T:
    """Readers of damaged files fail in every way there is."""
    try:
        return work()
    except InputError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(f"{file}: {what} ({type(error).__name__}: {lines[0][:200] if lines else ''})") from error


def _read_header(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Metadata but for vocabularies, and the number of elements of every tensor."""
    from gguf import GGUFReader

    with file.open("rb") as start:
        if start.read(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
    reader = GGUFReader(file)
    metadata = {
        name: field.contents()
        for name, field in reader.fields.items()
        if field.types and len(field.data) < _LONGEST_KEPT
    }
    size = file.stat().st_size
    for tensor in reader.tensors:
        if tensor.data_offset + tensor.n_bytes > size:
            raise ValueError(f"{tensor.name} ends beyond the end of the file")
    kinds: Counter[str] = Counter()
    for tensor in reader.tensors:
        if tensor.name == FACTORS:
            metadata[FACTORS] = [float(value) for value in tensor.data]
        kinds[tensor.tensor_type.name] += int(tensor.n_elements)
    metadata["tensor type"] = kinds.most_common(1)[0][0]
    return metadata, {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}


def _read(file: Path, metadata: Mapping[str, Any], tensors: Mapping[str, int]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32, output_loading_info=True
    )
    for name in ("quantization_config", "_pre_quantization_dtype"):  # it is dequantised
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.hf_quantizer = None
    check_weights(file, model, info, tensors)
    check_settings(file, model.config, metadata)
    if FACTORS in metadata:
        model.config.rope_parameters = llama3_rope(file, model.config, metadata[FACTORS])
    return model


def _quantization(metadata: Mapping[str, Any]) -> str:
    """As llama.cpp names it: ``Q4_K_M``."""
    from gguf import LlamaFileType

    try:
        name = LlamaFileType(int(metadata["general.file_type"])).name
    except (KeyError, ValueError, TypeError):
        return str(metadata["tensor type"])
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")
