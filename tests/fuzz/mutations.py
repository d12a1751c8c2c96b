"""Seeded damage to the files of a model folder: what editors, converters, disks and copy-and-paste do to them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.fuzz.damage import FILES, ODD, VALUES, Change, cut_off, damage_value, other_bytes, other_value

KEYS: dict[str, list[str]] = {
    "config.json": [
        "architectures", "quantization_config", "rope_scaling", "num_labels", "id2label", "sliding_window", "dtype",
        "attn_implementation", "tie_word_embeddings", "is_encoder_decoder", "layer_types", "text_config", "head_dim",
        "torch_dtype", "pad_token_id", "attention_bias", "transformers_weights", "pretraining_tp",
    ],
    "tokenizer.json": ["truncation", "padding", "normalizer", "post_processor", "added_tokens"],
    "tokenizer_config.json": [
        "chat_template", "add_bos_token", "add_eos_token", "extra_special_tokens", "padding_side", "truncation_side",
        "split_special_tokens", "model_input_names", "unk_token", "additional_special_tokens", "vocab_file", "use_fast",
    ],
    "generation_config.json": [
        "repetition_penalty", "no_repeat_ngram_size", "num_beams", "stop_strings", "suppress_tokens", "bad_words_ids",
        "forced_eos_token_id", "guidance_scale", "max_length", "max_new_tokens", "min_length", "penalty_alpha", "top_k",
        "early_stopping", "use_cache", "cache_implementation", "num_return_sequences", "eos_token_id", "max_time",
    ],
    "adapter_config.json": [
        "layers_to_transform", "rank_pattern", "modules_to_save", "init_lora_weights", "use_dora", "use_rslora", "bias",
        "task_type", "fan_in_fan_out", "revision", "target_parameters", "trainable_token_indices", "layer_replication",
        "exclude_modules", "r", "lora_alpha", "peft_type", "inference_mode",
    ],
    "model.safetensors.index.json": ["weight_map", "metadata"],
}  # fmt: skip
"""Keys that the programs which read these files know."""


def mutate(folder: Path, file: str, number: int) -> str:
    """Damage one file of a folder, always alike for a number; returns what was done, in words."""
    rng = random.Random(f"{file}|{number}")
    path = folder / file
    kinds = _kinds(file)
    done = rng.choice(kinds)(path, rng)
    return f"{file}: {done}"


def _kinds(file: str) -> list[Callable[[Path, random.Random], str]]:
    if file.endswith(".safetensors"):
        return [_header_value] * 6 + [_header_key, _tensors_swapped, _dtype, _name, cut_off, other_bytes, _length]
    if file.endswith(".json"):
        values = [partial(_value, change=change) for change in VALUES]
        return [*values, *values, *[_added] * 5, _deep, _whole, *FILES]
    return [*[_pieces] * 4, *FILES]


# JSON


def _edit(path: Path, change: Callable[[Any], str]) -> str:
    document = json.loads(path.read_text(encoding="utf-8"))
    done = change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    return done


def _value(path: Path, rng: random.Random, change: Change) -> str:
    return _edit(path, lambda document: damage_value(document, rng, [change]))


def _added(path: Path, rng: random.Random) -> str:
    def change(document: Any) -> str:
        key, value = rng.choice(["unknown", "", "auto_map", *KEYS[path.name]]), rng.choice(ODD)
        document[key] = value
        return f"{key!r} = {str(value)[:40]!r} added"

    return _edit(path, change)


def _deep(path: Path, rng: random.Random) -> str:
    depth = rng.choice([50, 5_000, 100_000])
    text = json.dumps(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(text[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}", encoding="utf-8")
    return f"{depth} levels deep"


def _whole(path: Path, rng: random.Random) -> str:
    value = rng.choice(["null", "[]", "{}", "3", '"text"', "true", "[{}]", "NaN"])
    path.write_text(value, encoding="utf-8")
    return f"{value} in all"


# Texts


def _pieces(path: Path, rng: random.Random) -> str:
    """A chat template with a piece taken away or put in."""
    text = path.read_text(encoding="utf-8")
    at = rng.randrange(len(text))
    piece = rng.choice(
        [
            "{%", "{{", "%}", "{{ raise_exception('no') }}", "{{ 1 / 0 }}", "{{ messages[99].content }}", "{% endif %}",
            "{{ messages | tojson }}", "{{ [] | first }}", "{% for i in range(10 ** 9) %}{% endfor %}", "{{ a.b.c }}",
            "{% set messages = 3 %}", "{{ ''.__class__ }}", "{% include 'x' %}", "{{ messages | length }}", "{#",
        ]
    )  # fmt: skip
    end = at + rng.choice([0, 0, 5, 40])
    path.write_text(text[:at] + piece + text[end:], encoding="utf-8")
    return f"{text[at:end]!r} replaced by {piece!r}"


# Safetensors


def _header(path: Path, change: Callable[[dict[str, Any]], str]) -> str:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    done = change(header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    return done


def _tensors(header: dict[str, Any]) -> list[str]:
    return sorted(name for name in header if name != "__metadata__")


def _header_value(path: Path, rng: random.Random) -> str:
    return _header(path, lambda header: damage_value(header, rng, [other_value]))


def _header_key(path: Path, rng: random.Random) -> str:
    def change(header: dict[str, Any]) -> str:
        name = rng.choice(_tensors(header))
        key = rng.choice([None, "dtype", "shape", "data_offsets"])
        if key is None:
            del header[name]
        else:
            del header[name][key]
        return f"{name} {key or ''} taken away"

    return _header(path, change)


def _tensors_swapped(path: Path, rng: random.Random) -> str:
    def change(header: dict[str, Any]) -> str:
        one, two = rng.sample(_tensors(header), 2)
        key = rng.choice(["shape", "data_offsets", "dtype"])
        header[one][key], header[two][key] = header[two][key], header[one][key]
        return f"{key} of {one} and {two} swapped"

    return _header(path, change)


def _dtype(path: Path, rng: random.Random) -> str:
    def change(header: dict[str, Any]) -> str:
        name, dtype = rng.choice(_tensors(header)), rng.choice(["I32", "U32", "F16", "F64", "BOOL", "F8_E4M3", "X9"])
        header[name]["dtype"] = dtype
        return f"dtype of {name} is {dtype}"

    return _header(path, change)


def _name(path: Path, rng: random.Random) -> str:
    def change(header: dict[str, Any]) -> str:
        name = rng.choice(_tensors(header))
        new = rng.choice([f"_orig_mod.{name}", f"{name}.1", "", "x\0", name.upper(), "__metadata__"])
        header[new] = header.pop(name)
        return f"{name} is named {new!r}"

    return _header(path, change)


def _length(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    size = rng.choice([0, 1, 2, 2**31, 2**63, len(content), int.from_bytes(content[:8], "little") - 1])
    path.write_bytes(size.to_bytes(8, "little") + content[8:])
    return f"length of the header is {size}"
