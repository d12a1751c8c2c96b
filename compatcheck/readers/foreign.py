"""Outputs that other evaluation tools wrote: whose they are, and the way to their reader.

A tool is known by what its files hold, never by a name alone; ``TOOL:PATH`` as the reference says it outright, and
``PATH#PART`` which of several models, providers or splits is meant. docs/importers.md says what becomes of each field.
"""

from __future__ import annotations

import importlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError
from compatcheck.readers.reading import Row, file_kind, open_bytes
from compatcheck.readers.recording import Recording, as_part
from compatcheck.references import LAYOUTS, tool_of_folder
from compatcheck.table.layout import Layout
from compatcheck.table.targets import Targets, read_targets

if TYPE_CHECKING:
    from compatcheck.readers.recorded import Part

READERS = {
    "lighteval": "lighteval",
    "inspect": "inspect_logs",
    "promptfoo": "promptfoo",
    "helm": "helm",
    "alpaca_eval": "alpaca_eval",
    "datasets": "hf_datasets",
}
"""Tool as the user writes it (:data:`compatcheck.references.LAYOUTS`) and the module here that reads it."""

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


def read_foreign(
    path: Path, tool: str, layout: Layout, side: str, task: str | None, tasks: Sequence[str]
) -> list[Part]:
    """Read what a tool wrote. ``task`` names the task where the tool's outputs name none.

    Raises InputError for an unknown tool, and for anything that is not as this tool writes it.
    """
    from compatcheck.readers import hf_datasets
    from compatcheck.readers.recorded import part_of_rows

    targets = None
    if layout.targets is not None:
        targets = targets_of(layout.targets, layout)
    if tool == "datasets":
        return [part_of_rows(hf_datasets.read_source(path, layout.part), layout, side, task, targets)]
    recordings = _recordings(path, tool, layout, task, tasks)
    return [as_part(recording, layout, side, targets) for recording in recordings]


def targets_of(path: Path, layout: Layout) -> Targets:
    """Targets by id out of a file of plain rows, or of a tool's outputs: its targets, or else what its model said."""
    from compatcheck.readers import hf_datasets

    inner = replace(layout, tool=None, part=None, prediction_field=None, targets=None)
    tool = tool_of(path, inner)
    if tool is None:
        return read_targets(path, layout)
    if tool == "datasets":
        return read_targets(path, layout, hf_datasets.read_source(path, None))
    by_id: dict[str, Any] = {}
    for recording in _recordings(path, tool, inner, None, ()):
        for number, row, _ in recording.items:
            target = row.get("target") if row.get("target") is not None else row.get("prediction")
            if target is None:
                raise InputError(f"{recording.source.at(number)}: neither target nor prediction to serve as a target")
            if by_id.setdefault(row["id"], target) != target:
                raise InputError(f"{recording.source.at(number)}: the id {row['id']!r:.80} again, with another target")
    return Targets(path, by_id)


def _recordings(path: Path, tool: str, layout: Layout, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    assert set(READERS) == set(LAYOUTS) - {_ROWS}
    reader = importlib.import_module(f"compatcheck.readers.{READERS[tool]}")
    read: Callable[..., list[Recording]] = reader.read
    return read(path, layout.part, task, tasks)


def _head(path: Path) -> str:
    """The first bytes of a file as text, damaged ones replaced; empty where it cannot be read."""
    try:
        with open_bytes(path) as file:
            return file.read(_HEAD_BYTES).decode("utf-8", errors="replace").removeprefix("\ufeff").lstrip()
    except (OSError, EOFError, zlib.error):
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
