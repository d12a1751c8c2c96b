"""Folders and files that a kill at any moment leaves whole, or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def put(made: Path, target: Path) -> None:
    """Move a finished folder to its place: at every moment there is the one before, none, or this one, never a part."""
    gone = target.with_name(f".{target.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if target.exists():
        target.replace(gone)
    made.replace(target)
    shutil.rmtree(gone, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file under another name first, then move it to its place."""
    partial = partial_of(path)
    partial.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    partial.replace(path)


def partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def holds_other_things(folder: Path, mine: Iterable[Path]) -> bool:
    """Whether a folder has anything in it but these files, which a killed start may have left."""
    allowed = {path.name for path in mine}
    return folder.is_dir() and any(path.name not in allowed for path in folder.iterdir())
