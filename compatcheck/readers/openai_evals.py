"""OpenAI evals: the record file of ``oaieval`` (``LocalRecorder``), JSON lines of one run.

The first line is ``{"spec": {"eval_name", …}}``, another ``{"final_report": …}``; the others are events of a sample:
``{"run_id", "event_id", "sample_id", "type", "data", …}`` with the types ``sampling`` (``prompt``, ``sampled``),
``match`` (``correct``, ``expected``, ``picked``), ``metrics`` (any numbers), ``error`` and others. See
https://github.com/openai/evals/blob/main/evals/record.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compatcheck.readers.chat import answer, asked
from compatcheck.readers.recording import (
    Item,
    Record,
    Recording,
    count_scores,
    is_finite,
    records,
    same_kind_of_targets,
)
from compatcheck.table.reading import Row, read_rows

Events = dict[Any, tuple[int, Record]]
"""Of a sample the events by their numbers, each with its line."""


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One row per sample."""
    source = read_rows(path)
    recording = Recording(source, (), task or "evals")
    samples: dict[str, Events] = {}
    for number, record in records(source):
        if "spec" in record.value:
            recording.task = task or str(record.record("spec").get("eval_name", "a text", recording.task))
        elif "final_report" not in record.value:
            event = samples.setdefault(record.name("sample_id"), {})
            known = event.setdefault(record.whole("event_id"), (number, record))[1]
            if known is not record and known.value != record.value:
                raise record.fail(f"the event {record.value['event_id']} of this sample again, with other values")
            recording.duplicates += known is not record
    items = [_item(name, events) for name, events in samples.items()]
    for _, row, _ in items:
        if not row.get("error") and not any(key.startswith("score:") for key in row):
            row["error"] = "the sample was not scored"
    count_scores(items, recording)
    recording.items = same_kind_of_targets(items)
    return [recording]


def _item(name: str, events: Events) -> Item:
    """The row of a sample: what its first sampling said, and what its events found."""
    row: Row = {"id": name}
    first = min(number for number, _ in events.values())
    matches = []
    for _, (_, record) in sorted(events.items()):
        data = record.record("data")
        kind = record.get("type", "a text")
        if kind in ("sampling", "match") and "prediction" not in row and "sampled" in data.value:
            sampled = data.value["sampled"]
            row |= answer(sampled[0] if isinstance(sampled, list) and sampled else sampled)
            taken = answer({"usage": data.value.get("usage")})
            row |= {key: value for key, value in taken.items() if key.endswith("tokens")}
        if kind in ("sampling", "match") and "input" not in row and data.value.get("prompt") is not None:
            row["input"] = asked(data.value["prompt"])
        if kind == "match":
            matches.append(_matched(data, row))
        elif kind == "metrics":
            row |= {f"score:{key}": value for key, value in data.value.items() if is_finite(value)}
        elif kind == "error":
            row["error"] = str(data.get("message", "a text") or data.get("type", "a text") or "it failed")
    if matches:
        row["score:match"] = sum(matches) / len(matches)
    return first, row, _raw(events)


def _matched(data: Record, row: Row) -> bool:
    """Whether a match was one; its target and, where no text was sampled, what was picked go into the row."""
    correct = bool(data.need("correct", "a boolean"))
    expected = data.value.get("expected")
    if row.setdefault("target", expected) != expected:
        raise data.fail("this sample again, with another `expected`")
    row.setdefault("prediction", data.value.get("picked"))
    return correct


def _raw(events: Events) -> Row:
    """What field options look into: the data of the events by type, of several of one type the last."""
    return {str(record.value.get("type")): record.value.get("data") for _, record in events.values()}
