"""What exports of tracing tools share: one record a call, with what was asked, said, expected and scored.

A :class:`Shape` says where a tool keeps what; its reader says which records count (:mod:`.langfuse`,
:mod:`.langsmith`, :mod:`.braintrust`).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.readers.chat import answer, asked, calls_text, first_of, is_calls, parsed
from compatcheck.readers.recording import (
    Item,
    Record,
    Recording,
    count_scores,
    fingerprint,
    is_finite,
    labels,
    mean,
    records,
    reduced,
)
from compatcheck.table.reading import Row, Source, file_kind, read_json, read_rows
from compatcheck.table.values import text_of
from compatcheck.text import text_hash

Paths = tuple[str, ...]
_NAMES_ONE = re.compile(r"(^|_|[a-z])(id|ids|Id|time|Time|at|At)$|timestamp|created|order")
"""Fields that name one record or a moment: nothing to slice by."""


@dataclass(frozen=True)
class Shape:
    """The fields of a tool's records, as dotted paths of which the first that is there counts."""

    tool: str
    inside: Paths
    """Where the list of records is in an export that is one object."""
    parent: Paths
    """What a record names that is a step of another one."""
    id: Paths
    """What names the document on both sides; a trace's own id is another one in every run."""
    input: Paths
    output: Paths
    target: Paths
    start: Paths
    end: Paths
    latency: Paths
    cost: Paths
    prompt_tokens: Paths
    output_tokens: Paths
    model: Paths
    trace: Paths
    kind: Paths
    """What a step is: those that are a ``tool`` are calls, of the tool in ``name``."""
    error: Paths = ("error",)
    name: Paths = ("name",)
    scores: Paths = ("scores",)
    told: Paths = ("metadata",)
    """Objects whose scalars become labels."""


def read_traces(path: Path, task: str | None, shape: Shape) -> list[Recording]:
    """One row a trace: of the records that belong to no other one, where there are such."""
    recording, rows = open_traces(path, task, shape)
    return compared(roots(rows, shape, recording), rows, shape, recording)


def open_traces(path: Path, task: str | None, shape: Shape) -> tuple[Recording, list[tuple[int, Record]]]:
    """The records of an export: rows of JSON lines, of a JSON list or of CSV, or of a list in a JSON object."""
    notes: list[str] = []
    value = _object_in(path)
    if value is not None and first_of(value, shape.input) is None:
        found = first_of(value, shape.inside)
        if not isinstance(found, list) or not found:
            raise Record(value, str(path)).fail(f"no list of records (fields: {', '.join(map(str, value))[:300]})")
        source = Source(path, "record", iter([(range(1, len(found) + 1), found)]))
        there = first_of(value, ("meta.totalItems", "meta.total_items"))
        if is_finite(there) and there > len(found):
            notes.append(f"{path} holds {len(found):,} of {there:,} records: it is one page of several; export all")
    else:
        source = read_rows(path) if value is None else Source(path, "record", iter([([1], [value])]))
    rows = [
        (number, Record(_nested(record.value) if source.untyped else record.value, record.place))
        for number, record in records(source)
    ]
    return Recording(source, (), task or shape.tool, notes=notes), rows


def _object_in(path: Path) -> Row | None:
    """The one object that a JSON file holds; None for lists, lines and anything else."""
    if file_kind(path) != "json":
        return None
    try:
        value = read_json(path)
    except InputError:
        return None  # lines, or damage that reading these tells
    return value if isinstance(value, dict) else None


def _nested(row: Row) -> Row:
    """A row of CSV with its columns ``a.b`` as objects, its cells of JSON parsed, and empty ones left out."""
    found: Row = {}
    for name, cell in row.items():
        if cell in (None, ""):
            continue
        first, dot, rest = name.partition(".")
        value = parsed(cell)
        if not dot:
            found[name] = value
        elif isinstance(found.setdefault(first, {}), dict):
            found[first][rest] = value
    return found


def compared(
    chosen: Iterable[tuple[int, Record]], rows: Iterable[tuple[int, Record]], shape: Shape, recording: Recording
) -> list[Recording]:
    """One plain row of each chosen record, with the calls that its trace has among all rows."""
    calls, items = _calls(rows, shape), list[Item]()
    for number, record in chosen:
        called = calls.get(str(first_of(record.value, shape.trace)), ())
        items.append((number, _plain(record, shape, called), record.value))
    count_scores(items, recording)
    recording.items = items
    return [recording]


def _calls(rows: Iterable[tuple[int, Record]], shape: Shape) -> dict[str, list[dict[str, Any]]]:
    """The tools that were called in each trace, in the order of time."""
    found: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for _, record in rows:
        trace, name = (first_of(record.value, paths) for paths in (shape.trace, shape.name))
        if (
            str(first_of(record.value, shape.kind)).lower() == "tool"
            and isinstance(trace, str)
            and isinstance(name, str)
        ):
            call = {"name": name, "arguments": parsed(first_of(record.value, shape.input))}
            found.setdefault(trace, []).append((_moment(first_of(record.value, shape.start)) or 0.0, call))
    return {trace: [call for _, call in sorted(calls, key=lambda one: one[0])] for trace, calls in found.items()}


def _plain(record: Record, shape: Shape, calls: Sequence[Mapping[str, Any]]) -> Row:
    """The plain row of a record; ``calls`` are those of its steps."""
    value = record.value
    question, target = first_of(value, shape.input), first_of(value, shape.target)
    own = first_of(value, shape.id)
    if own is None and question is None:
        record.need(shape.input[0], "a text")
    document = fingerprint(question)
    right = {path.rpartition(".")[2] for path in shape.target}
    objects = [found for path in shape.told if isinstance(found := first_of(value, (path,)), Mapping)]
    told = {key: inner for found in objects for key, inner in found.items() if key not in right}
    known = {path.partition(".")[0] for paths in vars(shape).values() if isinstance(paths, tuple) for path in paths}
    told |= {
        key: inner
        for key, inner in value.items()
        if key not in known and not isinstance(inner, Mapping) and not _NAMES_ONE.search(key)
    }
    row: Row = labels(told)
    row |= {"id": document, "doc_hash": f"asked:{document}", "input": asked(question)}
    if own is not None:
        row |= {"id": own, "doc_hash": f"id:{text_hash(text_of(own))}"}
    row |= answer(first_of(value, shape.output))
    if target is not None:
        row["target"] = answer(target)["prediction"]
    if calls:  # of the steps of this trace; they are the answer where calls are what is right
        row["tool_calls"] = calls_text(calls)
        if is_calls(parsed(target)):
            row |= {"response": row["prediction"], "prediction": row["tool_calls"]}
    if error := first_of(value, shape.error):
        row |= {"prediction": None, "error": text_of(error)}
    row |= _taken(value, shape)
    scores: dict[str, list[Any]] = {}
    for name, score in _scores(value, shape.scores, record):
        scores.setdefault(f"score:{name}", []).append(score)
    return row | {name: found[0] if len(found) == 1 else reduced(found, mean) for name, found in scores.items()}


def _taken(value: Mapping[str, Any], shape: Shape) -> Row:
    """Seconds, cost and tokens, where they are known."""
    row: Row = {}
    for name in ("latency", "cost", "prompt_tokens", "output_tokens"):
        found = first_of(value, getattr(shape, name))
        if found is not None:
            row[name] = _number(found)
    if "latency" not in row:
        start, end = (_moment(first_of(value, paths)) for paths in (shape.start, shape.end))
        row |= {} if start is None or end is None else {"latency": round(end - start, 6)}
    model = first_of(value, shape.model)
    return row | ({"model": model} if isinstance(model, str) else {})


def _number(value: Any) -> Any:
    """The number that a text holds; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _moment(value: Any) -> float | None:
    """Seconds since the epoch of a time, which is a number of them or a text."""
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        except (ValueError, OverflowError):
            return None
    return value if is_finite(value) and not isinstance(value, bool) else None


def _scores(value: Mapping[str, Any], paths: Paths, record: Record) -> Iterator[tuple[str, Any]]:
    """Name and value of each score: in an object by name, or in a list of objects; null is none."""
    found = first_of(value, paths)
    if isinstance(found, Mapping):
        for name, score in found.items():
            inner = score.get("avg", score.get("score")) if isinstance(score, Mapping) else score
            if inner is not None:
                yield str(name), inner
    elif isinstance(found, list):
        for place, one in enumerate(found):
            inner_record = Record(one, f"{record.place}, score {place + 1}")
            name = inner_record.value.get("name", inner_record.value.get("key"))
            score = inner_record.value.get("value", inner_record.value.get("score"))
            if isinstance(name, str) and score is not None and one.get("dataType") not in ("CATEGORICAL", "TEXT"):
                yield name, score


def roots(rows: Sequence[tuple[int, Record]], shape: Shape, recording: Recording) -> list[tuple[int, Record]]:
    """The records that belong to no other one, where there are such; a note says how many were left out."""
    found = [(number, record) for number, record in rows if not first_of(record.value, shape.parent)]
    if found and len(found) < len(rows):
        recording.notes.append(f"{len(rows) - len(found):,} steps within traces are left out; the traces are compared")
    return found or list(rows)
