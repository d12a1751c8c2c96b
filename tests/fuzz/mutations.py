"""Seeded damage to the files of a model folder: what editors, converters, disks and copy-and-paste do to them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 7, 2**31, 2**63, 10**30, -(10**30), 0.5, -2.5, 1e308, float("nan"), float("inf"),
    "", "x", "12", "\0", "a\0b", "\ud800", "é" * 300, "{{", "float16", "torch.int8", "../..", "/dev/null", [], [1],
    [None], ["a", "b"], [[[]]], {}, {"a": 1}, {"": None},
)  # fmt: skip
"""Values put in place of others."""
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
Path_ = tuple[Any, ...]


def mutate(folder: Path, file: str, number: int) -> str:
    """Damage one file of a folder, always alike for a number; returns what was done, in words."""
    rng = random.Random(f"{file}|{number}")
    path = folder / file
    kinds = _kinds(file)
    done = rng.choice(kinds)(path, rng)
    return f"{file}: {done}"


def _kinds(file: str) -> list[Callable[[Path, random.Random], str]]:
    if file.endswith(".safetensors"):
        return [_header_value] * 6 + [_header_key, _tensors_swapped, _dtype, _name, _truncated, _bytes, _length]
    if file.endswith(".json"):
        return [_value] * 8 + [_without] * 3 + [_added] * 5 + [_wrapped, _swapped, _deep, _whole, *_TEXT]
    return [_pieces] * 4 + [*_TEXT]


# JSON


def _places(value: Any, here: Path_ = ()) -> Iterator[Path_]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*here, key)
        yield from _places(item, (*here, key))


def _pick(document: Any, rng: random.Random) -> Path_:
    """A place, at the top as often as below: the vocabulary of a tokenizer has thousands of them."""
    places = list(_places(document))
    depth = rng.choice(sorted({len(place) for place in places}))
    return rng.choice([place for place in places if len(place) == depth])


def _parent(document: Any, place: Path_) -> Any:
    for key in place[:-1]:
        document = document[key]
    return document


def _edit(path: Path, change: Callable[[Any], str]) -> str:
    document = json.loads(path.read_text(encoding="utf-8"))
    done = change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    return done


def _value(path: Path, rng: random.Random) -> str:
    return _edit(path, lambda document: _set(document, rng))


def _set(document: Any, rng: random.Random) -> str:
    place, value = _pick(document, rng), rng.choice(ODD)
    _parent(document, place)[place[-1]] = value
    return f"{place} = {str(value)[:40]!r}"


def _without(path: Path, rng: random.Random) -> str:
    def change(document: Any) -> str:
        place = _pick(document, rng)
        del _parent(document, place)[place[-1]]
        return f"{place} taken away"

    return _edit(path, change)


def _wrapped(path: Path, rng: random.Random) -> str:
    def change(document: Any) -> str:
        place = _pick(document, rng)
        inside = _parent(document, place)
        inside[place[-1]] = rng.choice([lambda v: [v], lambda v: {"value": v}, str])(inside[place[-1]])
        return f"{place} wrapped"

    return _edit(path, change)


def _swapped(path: Path, rng: random.Random) -> str:
    def change(document: Any) -> str:
        keys = rng.sample(sorted(document), 2)
        document[keys[0]], document[keys[1]] = document[keys[1]], document[keys[0]]
        return f"{keys[0]} and {keys[1]} swapped"

    return _edit(path, change)


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


# Texts and bytes


def _truncated(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    size = rng.choice([0, 1, 7, rng.randrange(len(content)), len(content) - 1])
    path.write_bytes(content[:size])
    return f"cut off after {size} bytes"


def _bytes(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    end = min(len(content), 2_000)  # headers, and the beginnings of texts
    for _ in range(rng.choice([1, 4, 40])):
        content[rng.randrange(end)] = rng.choice([0, 0x22, 0x2C, 0x7D, 0x80, 0xFF, rng.randrange(256)])
    path.write_bytes(bytes(content))
    return "bytes changed"


def _nul(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    at = rng.randrange(len(content))
    path.write_bytes(content[:at] + bytes(rng.choice([1, 100])) + content[at:])
    return "NUL bytes inside"


def _encoding(path: Path, rng: random.Random) -> str:
    text = path.read_text(encoding="utf-8")
    name = rng.choice(["utf-16", "utf-8-sig", "utf-32"])
    path.write_bytes(text.encode(name))
    return name


def _no_file(path: Path, rng: random.Random) -> str:
    path.unlink()
    kind = rng.choice(["missing", "a folder", "a broken link"])
    if kind == "a folder":
        path.mkdir()
    elif kind == "a broken link":
        path.symlink_to("nowhere")
    return kind


_TEXT = [_truncated, _bytes, _nul, _encoding, _no_file]


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
    return _header(path, lambda header: _set(header, rng))


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
