"""Local JSONL files in place of a data set on the hub."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, one_line

if TYPE_CHECKING:
    from datasets import Dataset

_SUFFIXES = (".jsonl", ".jsonl.gz")


def find_split(data: Path, task: str, split: str) -> Path | None:
    """The file of a split, ``DATA/<task>/<split>.jsonl[.gz]`` or ``DATA/<split>.jsonl[.gz]``, or None."""
    there = (folder / f"{split}{suffix}" for folder in (data / task, data) for suffix in _SUFFIXES)
    return next((path for path in there if path.is_file()), None)


def files_for(data: Path, task: str) -> list[Path]:
    """Every split file a task could use in a folder, for error messages."""
    folder = data / task if (data / task).is_dir() else data
    return sorted(p for p in folder.iterdir() if p.name.endswith(_SUFFIXES)) if folder.is_dir() else []


DEEPEST = 20
"""Levels of lists and objects in a row: the time that datasets takes grows with their power."""


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row) of a JSONL file. Raises InputError: unreadable, cut off, not UTF-8, or a line that is no
    JSON object."""
    opener = gzip.open if path.name.endswith(".gz") else open
    number = 0
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, dict):
                    raise InputError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
                if _depth(row) > DEEPEST:
                    raise InputError(f"{path}:{number}: values nested more than {DEEPEST} deep")
                yield number, row
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the gzip file is damaged or cut off after line {number} ({error})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}:{number}: not JSON that can be read ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def load_split(path: Path) -> Dataset:
    """Read a split into memory. Raises InputError: empty, or a field holds values of different types (with the first
    line of each)."""
    import pyarrow
    from datasets import Dataset

    rows = dict(read_rows(path))
    if not rows:
        raise InputError(f"{path}: no rows")
    try:
        return Dataset.from_list(list(rows.values()))
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(_mixed_types(path, rows) or f"{path}: {one_line(error)}") from None


def _mixed_types(path: Path, rows: dict[int, dict[str, Any]]) -> str | None:
    first: dict[str, tuple[str, int]] = {}
    for number, row in rows.items():
        for key, value in row.items():
            kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
            seen, line = first.setdefault(key, (kind, number)) if value is not None else (kind, number)
            if seen != kind:
                return f"{path}:{number}: field '{key}' is {kind} here and {seen} in line {line}; make it one type"
    return None
