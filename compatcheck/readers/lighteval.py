"""lighteval: ``details_<task>_<time>.parquet`` in ``<output>/details/<model>/<time>/``, from version 0.10 on.

Each row is one document: ``doc`` (``id``, ``query``, ``choices``, ``gold_index``, ``specific`` …), ``model_response``
(``text``, ``text_post_processed``, ``logprobs`` …) and ``metric`` (a number for each metric). Where the model chose,
the prediction is the choice with the highest log-likelihood. See https://huggingface.co/docs/lighteval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.readers.recording import Item, Record, Recording, labels, need_tasks, of_one_model, records
from compatcheck.table.reading import Row, Source, json_kind, read_rows
from compatcheck.table.values import text_of

_NAME = re.compile(r"details_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.parquet")
_SHOTS = re.compile(r"(?P<task>.+?)\|(?P<shots>\d+)(?:\|\d+)?")


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One file, or of every task in a folder the newest. ``part`` is a model, where a folder holds several."""
    if not path.is_dir():
        match = _NAME.fullmatch(path.name)
        return [_recording(path, match["task"] if match else "lighteval", task)]
    found = _newest(path, part)
    if task is not None and len(found) == 1:
        return [_recording(*next(iter(found.values())), task)]
    need_tasks(path, list(found), tasks, "details")
    return [_recording(*found[name], name) for name in (tasks or sorted(found))]


def _newest(folder: Path, part: str | None) -> dict[str, tuple[Path, str]]:
    """File and full name of every task, of one model."""
    files = [(path, match) for path in folder.rglob("details_*.parquet") if (match := _NAME.fullmatch(path.name))]
    if not files:
        raise InputError(f"{folder}: no details_<task>_<time>.parquet; run lighteval with --save-details")
    models: dict[str, list[tuple[str, Path, str]]] = {}
    for path, match in files:
        models.setdefault(_model(path, folder), []).append((match["time"], path, match["task"]))
    mine = of_one_model(folder, models, part, "details")
    newest = {name: (path, name) for _, path, name in sorted(mine)}
    alone = [_split_name(name)[0] for name in newest]
    return {base if alone.count(base) == 1 else name: newest[name] for base, name in zip(alone, newest, strict=True)}


def _model(path: Path, folder: Path) -> str:
    """The folders between ``details`` and the time, which lighteval names after the model."""
    parts = path.relative_to(folder).parts[:-2]
    if "details" in parts:
        parts = parts[parts.index("details") + 1 :]
    return "/".join(parts)


def _split_name(name: str) -> tuple[str, int | None]:
    """Task and number of examples out of ``gsm8k|5``."""
    match = _SHOTS.fullmatch(name)
    return (match["task"], int(match["shots"])) if match else (name, None)


def _recording(path: Path, full: str, task: str | None) -> Recording:
    source = read_rows(path)
    name, shots = _split_name(full)
    recording = Recording(source, (), task or name, {"num_fewshot": shots} if shots is not None else {})
    recording.items = _items(source, recording)
    return recording


def _items(source: Source, recording: Recording) -> Iterator[Item]:
    left_out: set[str] = set()
    for number, record in records(source):
        if "doc" not in record.value and "full_prompt" in record.value:
            raise record.fail("details of lighteval before 0.10, which are not read; evaluate with a newer one")
        yield number, _plain(record, left_out, recording), record.value


def _plain(record: Record, left_out: set[str], recording: Recording) -> Row:
    record.need("doc", "an object")
    record.need("model_response", "an object")
    doc, response = record.record("doc"), record.record("model_response")
    choices = doc.get("choices", "a list", [])
    row: Row = {
        "id": doc.name("id"),
        "input": doc.get("query", "a text"),
        "target": _target(doc, choices),
        "prediction": None,
    }
    said = response.get("text_post_processed", "a list") or response.get("text", "a list", [])
    logprobs = response.get("logprobs", "a list", [])
    if said:
        row["prediction"] = None if said[0] is None else text_of(said[0])
        whole = response.get("text", "a list", [])
        if whole and whole[0] != said[0]:
            row["response"] = whole[0]
    elif logprobs and len(logprobs) == len(choices):
        row["loglikelihoods"] = [_finite(value, response, "logprobs") for value in logprobs]
        best = max(range(len(choices)), key=lambda i: (row["loglikelihoods"][i], -i))
        row["prediction"] = text_of(choices[best])
    row |= labels(doc.get("specific", "an object", {}))
    for name, value in record.get("metric", "an object", {}).items():
        if isinstance(value, list | dict | str):
            if name not in left_out:
                left_out.add(name)
                recording.notes.append(f"{name} gives {json_kind(value)}, not a number per document; not compared")
        elif value is not None:
            row[f"score:{name}"] = value
    return row


def _target(doc: Record, choices: Sequence[Any]) -> Any:
    gold = doc.value.get("gold_index")
    indices = gold if isinstance(gold, list) else [] if gold is None else [gold]
    for index in indices:
        if not isinstance(index, int) or isinstance(index, bool):
            raise doc.fail(f"`gold_index` has {json_kind(index)} in it, but it must be whole numbers")
        if not 0 <= index < len(choices):
            raise doc.fail(f"`gold_index` is {index}, but there are {len(choices)} choices")
    right = [text_of(choices[index]) for index in indices]
    return (right[0] if len(right) == 1 else right) if right else None


def _finite(value: Any, record: Record, name: str) -> float:
    if not isinstance(value, int | float) or math.isnan(value):
        raise record.fail(f"`{name}` has {'NaN' if isinstance(value, float) else json_kind(value)} in it")
    return float(value)
