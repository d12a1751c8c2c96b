"""Builds of one GGUF model at other precisions, by the package ``gguf``: what a quantised build is compared with.

``3-bit`` values lie on eight levels a block of 32, with one float16 scale each. They are kept in Q4_0 blocks, which
hold them exactly: the package reads K-quants of three bits and writes none, and they need rows of 256.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("F32", "Q8_0", "Q5_1", "Q4_0", "3-bit")
_BLOCK = 32


def rewrite(source: Path, target: Path, kind: str) -> Path:
    """The same model with its matrices quantised to ``kind``; embeddings and head to eight bits, about as llama.cpp
    has them by default, and vectors stay as they are."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, quants

    stored = {"3-bit": "Q4_0"}.get(kind, kind)
    reader = GGUFReader(source)
    writer = GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], inner)
    writer.add_file_type(LlamaFileType[f"{'ALL' if kind == 'F32' else 'MOSTLY'}_{stored}"])
    for tensor in reader.tensors:
        weight: Any = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if weight.ndim == 2 and kind != "F32":
            outer = tensor.name in ("token_embd.weight", "output.weight")
            kept = GGMLQuantizationType["Q8_0" if outer else stored]
            packed = three_bits(weight) if kind == "3-bit" and not outer else quants.quantize(weight, kept)
            writer.add_tensor(tensor.name, packed, raw_dtype=kept)
        else:
            writer.add_tensor(tensor.name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def three_bits(weight: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Rows of Q4_0 blocks whose values are −4 … 3 times the block's scale, chosen as Q4_0 chooses its −8 … 7."""
    blocks = weight.reshape(-1, _BLOCK)
    furthest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1, keepdims=True), axis=-1)
    scale = furthest / -4
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    levels = np.clip(np.trunc(blocks * inverse + 4.5), 0, 7).astype(np.uint8) + np.uint8(4)
    halves = levels.reshape(-1, 2, _BLOCK // 2)
    packed = np.concatenate([scale.astype(np.float16).view(np.uint8), halves[:, 0] | (halves[:, 1] << 4)], axis=-1)
    return packed.reshape(weight.shape[0], -1)
