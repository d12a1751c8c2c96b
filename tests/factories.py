"""What many tests start from: rows as JSON lines, recorded answers, and a repository with both."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_rows(path: str | Path, rows: Iterable[Any]) -> Path:
    """Rows as JSON lines, packed where the name says so; a text among them is a line as it is. Makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def right(count: int, of: int = 100) -> str:
    """So many right answers for :func:`answered`, then wrong ones."""
    return "a" * count + "b" * (of - count)


def answered(answers: Iterable[str | None]) -> list[dict[str, Any]]:
    """Recorded rows of these answers, such as ``"aab"``; the target is always ``a``."""
    return [{"id": place, "target": "a", "prediction": answer} for place, answer in enumerate(answers)]


def repository(folder: Path, sides: Mapping[str, Iterable[str]]) -> Path:
    """A repository with the recorded answers of every side in a file of its name."""
    (folder / ".git").mkdir()
    for name, answers in sides.items():
        write_rows(folder / f"{name}.jsonl", answered(answers))
    return folder
