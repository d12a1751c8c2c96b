"""Outputs that other evaluation tools wrote: whose they are, and the way to their reader.

A tool is known by what its files hold, never by a name alone; ``TOOL:PATH`` as the reference says it outright, and
``PATH#PART`` which of several models, providers or splits is meant. docs/importers.md says what becomes of each field.
"""

from __future__ import annotations

import json
from pathlib import Path

from compatcheck.references import tool_of_folder
from compatcheck.table.files import DAMAGED, open_bytes
from compatcheck.table.layout import Layout
from compatcheck.table.reading import Row, file_kind

_ROWS = "rows"
"""How the user says that a file holds plain rows, or lm-eval's, whatever it looks like."""
_HEAD_BYTES = 1 << 20


def tool_of(path: Path, layout: Layout) -> str | None:
    """The tool that wrote a file or folder; None for plain rows and for what lm-eval wrote.

    Where the user names fields, a file of rows is read as rows.
    """
    if layout.tool is not None:
        return None if layout.tool == _ROWS else layout.tool
    if path.is_dir():
        return tool_of_folder(path)
    if not path.is_file():
        return None
    if path.suffix.lower() == ".eval":
        return "inspect"
    kind = file_kind(path)
    if kind == "parquet":
        return None if layout.names_fields else _tool_of_parquet(path)
    if kind not in ("json", "jsonl"):
        return None
    return _tool_of_json(_head(path), layout)


def _head(path: Path) -> str:
    """The first bytes of a file as text, damaged ones replaced; empty where it cannot be read."""
    try:
        with open_bytes(path) as file:
            return file.read(_HEAD_BYTES).decode("utf-8", errors="replace").removeprefix("\ufeff").lstrip()
    except (OSError, *DAMAGED):
        return ""  # reading it says what is wrong


def _tool_of_json(head: str, layout: Layout) -> str | None:
    if head.startswith("["):
        first = _first_object(head[1:])
        return None if layout.names_fields else _tool_of_row(first)
    if not head.startswith("{"):
        return None
    line = head.partition("\n")[0].strip()
    row = _parsed(line)
    if row is not None:
        tool = _tool_of_row(row)
        if tool is not None:
            return None if layout.names_fields else tool
        return _tool_of_keys(set(row))
    return _tool_of_keys(_first_keys(head))


def _tool_of_row(row: Row) -> str | None:
    keys = set(row)
    if keys >= {"id", "prediction"}:
        return None  # plain rows that carry a tool's fields along
    if keys >= {"instruction", "output", "generator"} or keys >= {"instruction", "output_1", "output_2", "preference"}:
        return "alpaca_eval"
    if keys >= {"instance", "request", "result"} or (
        "instance_id" in keys and ("stats" in keys) and ("predicted_text" in keys or "train_trial_index" in keys)
    ):
        return "helm"
    if keys >= {"promptIdx", "testIdx", "vars"}:
        return "promptfoo"
    return None


def _tool_of_keys(keys: set[str]) -> str | None:
    """The tool whose file is one object with these keys (perhaps not all of them)."""
    if keys >= {"version", "status", "eval"}:
        return "inspect"
    if "adapter_spec" in keys or "request_states" in keys:
        return "helm"
    if keys & {"configs", "versions"}:
        return None  # lm-eval's summary
    by_keys = ({"evalId", "results"}, {"results", "config"}, {"results", "stats", "version"})
    return "promptfoo" if any(keys >= one for one in by_keys) else None


def _parsed(text: str) -> Row | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _first_object(text: str) -> Row:
    try:
        value, _ = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _first_keys(text: str) -> set[str]:
    """Keys of an object at the beginning of a text that may end anywhere."""
    keys: set[str] = set()
    decoder = json.JSONDecoder()
    place = 1
    try:
        while True:
            place = _skip(text, place)
            key, place = decoder.raw_decode(text, place)
            if not isinstance(key, str):
                return keys
            keys.add(key)
            place = _skip(text, place)
            if text[place : place + 1] != ":":
                return keys
            _, place = decoder.raw_decode(text, _skip(text, place + 1))
            place = _skip(text, place)
            if text[place : place + 1] != ",":
                return keys
            place += 1
    except (ValueError, RecursionError):
        return keys


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _tool_of_parquet(path: Path) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return None  # reading it says what is wrong
    if names >= {"doc", "metric", "model_response"}:
        return "lighteval"
    return "lighteval" if names >= {"full_prompt", "predictions", "metrics", "gold_index"} else None
