"""What a model is called where its files lie elsewhere: the card of an adapter is read on other machines."""

from __future__ import annotations

import re
from pathlib import Path

from compatcheck.models import gguf
from compatcheck.paths import user_path

_ON_HUB = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(/.+\.gguf)?(@[\w.\-/]+)?", re.ASCII)


def elsewhere(text: str) -> str:
    """A reference without the folders of this machine: a file's or folder's own name, of a GGUF file also what its
    metadata call it; a hub id as it is."""
    path = user_path(text)
    if not path.exists():
        return "+".join(map(elsewhere, text.split("+"))) if "+" in text else text
    name = path.resolve().name
    if not gguf.is_gguf(path):
        return name
    facts = gguf.facts_of(gguf.folder_of(path))
    told = [facts[key] for key in ("name", "quantization") if facts.get(key)]
    return f"{name} ({', '.join(told)})"


def on_hub(text: str) -> str | None:
    """The repository of the model hub that a base is from; None for one that lies here."""
    found = None if user_path(text).exists() or Path(text).is_absolute() else _ON_HUB.fullmatch(text)
    return found["repo"] if found else None
