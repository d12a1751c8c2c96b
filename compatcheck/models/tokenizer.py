"""The tokenizer that was saved beside an adapter, and whether it differs from the base's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from compatcheck.models.files import object_in
from compatcheck.paths import cache_dir

VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Files of which each holds a whole vocabulary."""
TEMPLATE = "chat_template.jinja"
FILES = (
    *VOCABULARIES, "tokenizer_config.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", TEMPLATE,
    "chat_template.json",
)  # fmt: skip
"""What a tokenizer is read from."""
_SETTINGS = ("bos_token", "eos_token", "unk_token", "add_bos_token", "add_eos_token", "add_prefix_space", "legacy",
             "additional_special_tokens", "extra_special_tokens", "tokenizer_class", "do_lower_case",
             "split_special_tokens", "clean_up_tokenization_spaces")  # fmt: skip
"""Settings of a tokenizer that bear on texts. Padding and lengths do not."""


def differences(base: Path, adapter: Path) -> list[str]:
    """In what the tokenizer beside an adapter differs from the base's: ``vocabulary``, ``special tokens``, ``chat
    template``. What the adapter's folder does not hold does not differ."""
    found = []
    if _has_vocabulary(adapter):
        if _vocabulary(adapter) != _vocabulary(base):
            found.append("vocabulary")
        own, others = _config(adapter), _config(base)
        if any(_text_of(own.get(name)) != _text_of(others.get(name)) for name in _SETTINGS if name in own):
            found.append("special tokens")
    template = chat_template(adapter)
    if template is not None and template != chat_template(base):
        found.append("chat template")
    return found


def facts(model: Path, tokenizer: Path | None = None) -> dict[str, Any]:
    """What a model's tokenizer is known by, from its files: how many tokens the model embeds, and the special ones."""
    config = object_in(model / "config.json")
    inner = config.get("text_config")
    size = config.get("vocab_size") or (inner.get("vocab_size") if isinstance(inner, dict) else None)
    own = _config(tokenizer or model)
    found = {"tokens": size, "begin": _text_of(own.get("bos_token")), "end": _text_of(own.get("eos_token"))}
    if own.get("add_bos_token") is False:
        found["begin"] = None
    return {name: value for name, value in found.items() if isinstance(value, int | str)}


def folder_for(base: Path, adapter: Path | None) -> Path:
    """The folder to load the tokenizer of an adapter from: its own, where that differs from the base's.

    Where the adapter's folder holds a chat template alone, a copy of the base's tokenizer with that template is made in
    the user's cache."""
    if adapter is None or not differences(base, adapter):
        return base
    if _has_vocabulary(adapter):
        return adapter
    return _with_template(base, adapter)


def copy(source: Path, target: Path) -> None:
    """Copy what a folder holds of a tokenizer to another one."""
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def chat_template(folder: Path) -> Any:
    """The chat template in a folder, a text or several by name; None where there is none."""
    file = folder / TEMPLATE
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    old = object_in(folder / "chat_template.json").get("chat_template")
    return old if old is not None else _config(folder).get("chat_template")


def _with_template(base: Path, adapter: Path) -> Path:
    template = chat_template(adapter)
    digest = hashlib.sha256()
    for name in FILES:
        path = base / name
        digest.update(name.encode() + (path.read_bytes() if path.is_file() else b"-"))
    digest.update(json.dumps(template).encode())
    target = cache_dir("tokenizers") / digest.hexdigest()[:24]
    if target.is_dir():
        return target
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in FILES:
        if name not in (TEMPLATE, "chat_template.json") and (base / name).is_file():
            shutil.copyfile(base / name, temporary / name)
    shutil.copyfile(base / "config.json", temporary / "config.json")
    (temporary / "tokenizer_config.json").write_text(
        json.dumps({**_config(base), "chat_template": template}), encoding="utf-8"
    )
    try:
        temporary.replace(target)
    except OSError:  # another process was first
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _has_vocabulary(folder: Path) -> bool:
    return any((folder / name).is_file() for name in VOCABULARIES)


def _vocabulary(folder: Path) -> Any:
    """What texts become tokens by; comparable whatever version of tokenizers wrote it."""
    whole = object_in(folder / "tokenizer.json")
    if not whole:
        return [(folder / name).read_bytes() for name in VOCABULARIES if (folder / name).is_file()]
    model = dict(whole.get("model") or {}) if isinstance(whole.get("model"), dict) else {}
    merges = model.get("merges")
    if isinstance(merges, list):
        model["merges"] = [" ".join(pair) if isinstance(pair, list) else pair for pair in merges]
    return {**whole, "model": model, "padding": None, "truncation": None}


def _text_of(value: Any) -> Any:
    """A special token is written as a text or as an object with its text."""
    if isinstance(value, dict):
        return value.get("content", sorted((key, str(_text_of(one))) for key, one in value.items()))
    return [_text_of(one) for one in value] if isinstance(value, list) else value or None


def _config(folder: Path) -> dict[str, Any]:
    """Empty for what is no JSON object, which loading the tokenizer tells."""
    return object_in(folder / "tokenizer_config.json")
