"""Logs of inspect_ai: ``.eval`` (a zip of JSON files, deflated or Zstandard) and ``.json``.

A log is one task with one model: ``eval`` (task, model, dataset …), ``status``, ``samples``. A sample has ``id``,
``epoch``, ``input``, ``target``, ``output.completion``, ``scores`` by scorer (``value``, ``answer``) and, where it
failed, ``error``. Values C, I, P and N are 1, 0, 0.5 and 0, as inspect's ``value_to_float`` has it; a value that is a
mapping gives a metric for each of its keys. NaN is inspect's own mark of what a scorer could not score.
See https://inspect.aisi.org.uk/eval-logs.html.
"""

from __future__ import annotations

import json
import math
import statistics
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.readers.recording import (
    Item,
    Record,
    Recording,
    Reduce,
    average_repeats,
    labels,
    need_tasks,
    of_one_model,
)
from compatcheck.table import files
from compatcheck.table.reading import Row, Source, json_kind, parse_json, read_json
from compatcheck.table.values import LABEL_LENGTH, text_of

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"true": 1.0, "yes": 1.0, "correct": 1.0, "false": 0.0, "no": 0.0, "incorrect": 0.0}
_GRADES = ("correct", "incorrect")
_ZSTANDARD = 93
"""Number of the compression in a zip file; Python's zipfile knows it from 3.14 on."""
_BROKEN = (zipfile.BadZipFile, EOFError, zlib.error, OSError, struct.error, NotImplementedError, ValueError, KeyError)


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One log, or of every task in a folder the newest. ``part`` is a model, where a folder holds several."""
    if not path.is_dir():
        return [_recording(path)]
    newest = _newest(path, part)
    need_tasks(path, list(newest), tasks, "log")
    return [_recording(newest[name], name) for name in (tasks or sorted(newest))]


def _newest(folder: Path, part: str | None) -> dict[str, Path]:
    """The newest log of each task of one model. One task with several arguments (``-T``) is several tasks."""
    files = sorted([*folder.rglob("*.eval"), *folder.rglob("[0-9]*_*_*.json")], key=lambda path: path.name)
    models: dict[str, dict[str, dict[str, tuple[Path, Row]]]] = {}
    for path in files:
        header = Record(_header(path), str(path)).record("eval")
        arguments = header.get("task_args", "an object", {})
        tasks = models.setdefault(header.name("model"), {}).setdefault(header.name("task"), {})
        tasks[json.dumps(arguments, sort_keys=True)] = path, arguments
    newest: dict[str, Path] = {}
    for task, logs in of_one_model(folder, models, part, "logs").items():
        keys = sorted({key for _, arguments in logs.values() for key in arguments})
        apart = [key for key in keys if len({json.dumps(one.get(key)) for _, one in logs.values()}) > 1]
        for path, arguments in logs.values():
            said = ",".join(f"{key}={text_of(arguments[key])}" for key in apart if key in arguments)
            newest[f"{task}:{said}" if said else task] = path
    return newest


def _recording(path: Path, name: str | None = None) -> Recording:
    log = Record(_header(path), str(path))
    about = log.record("eval")
    version = about.value.get("task_version")
    recording = Recording(Source(path, "sample", iter(())), (), name or about.name("task"))
    recording.settings = {"version": version} if version else {}
    status = log.name("status")
    items = _items(path, log, recording)
    recording.higher_is_better = _graded(raw for _, _, raw in items)
    reducer = _reducer(about, recording)
    recording.items = average_repeats(_settled(items), "epoch", "epochs", recording, reducer)
    expected = about.record("dataset").value.get("samples")
    if status != "success":
        of = f" of {expected}" if isinstance(expected, int) else ""
        recording.notes.append(f"the log's status is {status}: it holds {len(recording.items):,}{of} samples")
    return recording


def _reducer(about: Record, recording: Recording) -> Reduce | None:
    """How the log makes one score of an instance's epochs; None for the mean. Of several the first.

    As inspect_ai's reducers of these names. Raises InputError for one that is not known.
    """
    named = about.record("config").value.get("epochs_reducer")
    named = named[0] if isinstance(named, list) and named else named
    if not isinstance(named, str) or named == "mean":
        return None
    word, _, number = named.rpartition("_")
    k = int(number) if number.isdecimal() else 0
    simple: dict[str, Reduce] = {"median": statistics.median, "max": max, "mode": statistics.mode}
    counted: dict[str, Reduce] = {
        "at_least": lambda values: float(sum(value >= 1 for value in values) >= k),
        "pass_at": lambda values: _pass_at(values, k),
    }
    reduce = simple.get(named) or (counted.get(word) if k else None)
    if reduce is None:
        known = ", ".join(["mean", *simple, "at_least_K", "pass_at_K"])
        raise about.fail(f"`epochs_reducer` is {named!r:.80}, which is not read; known: {known}")
    recording.settings = {**recording.settings, "epochs_reducer": named}
    return reduce


def _pass_at(values: Sequence[Any], k: int) -> float:
    """The unbiased estimate that one of k samples is right (Chen et al. 2021, arXiv:2107.03374)."""
    wrong = sum(value < 1 for value in values)
    return 1.0 if wrong < k else 1.0 - math.comb(wrong, k) / math.comb(len(values), k)


def _header(path: Path) -> Any:
    if path.suffix.lower() != ".eval":
        return read_json(path)
    archive = _Archive(path)
    name = "header.json" if "header.json" in archive.names else "_journal/start.json"
    header = archive.json(name)
    if name != "header.json" and isinstance(header, dict):
        header = {"status": "started", **header}  # killed before its end
    return header


def _items(path: Path, log: Record, recording: Recording) -> list[Item]:
    if path.suffix.lower() != ".eval":
        samples = log.get("samples", "a list")
        if samples is None:
            raise log.fail("no samples in this log; run inspect without --no-log-samples")
        return [(n, *_plain(Record(one, f"{path}: sample {n}"))) for n, one in enumerate(samples, 1)]
    archive = _Archive(path)
    names = [name for name in archive.names if name.startswith("samples/") and name.endswith(".json")]
    if not names:
        raise log.fail("no samples in this log; run inspect without --no-log-samples")
    return [(n, *_plain(Record(archive.json(name), f"{path}: {name}"))) for n, name in enumerate(names, 1)]


class _Archive:
    """The JSON files in a zip file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = {one.filename: one for one in archive.infolist()}
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except _BROKEN as error:
            what = "no rows in this file" if not path.stat().st_size else f"not a whole .eval file ({error})"
            raise InputError(f"{path}: {what}") from None

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def json(self, name: str) -> Any:
        if name not in self._members:
            raise InputError(f"{self.path}: no {name} in it, which every log of inspect has")
        try:
            data = self._bytes(self._members[name])
        except _BROKEN as error:
            raise InputError(f"{self.path}: {name} is damaged ({error}); copy the file again") from None
        return parse_json(data, f"{self.path}: {name}")

    def _bytes(self, member: zipfile.ZipInfo) -> bytes:
        if member.file_size > files.most_bytes():
            raise files.too_large(self.path, member.filename)
        if member.compress_type != _ZSTANDARD:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(member)
        import pyarrow as pa

        with self.path.open("rb") as file:
            file.seek(member.header_offset)
            start = file.read(30)
            if len(start) < 30 or start[:4] != b"PK\x03\x04":
                raise zipfile.BadZipFile("bad local header")
            name_length, extra_length = struct.unpack("<HH", start[26:30])
            file.seek(name_length + extra_length, 1)
            packed = file.read(member.compress_size)
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
            data: bytes = stream.read()
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise zipfile.BadZipFile("bad checksum")
        return data


def _plain(sample: Record) -> tuple[Row, Row]:
    """The plain row of a sample, with every scorer's answer as ``answer:<scorer>``, and the sample itself."""
    attachments, target = sample.get("attachments", "an object", {}), sample.value.get("target")
    target = target[0] if isinstance(target, list) and len(target) == 1 else target
    row: Row = {
        "id": sample.name("id"),
        "input": _said(sample.value.get("input"), sample, "input", attachments),
        "target": target if target not in ([], "") else None,
        "prediction": None,
    }
    error = sample.value.get("error")
    if error:
        row["error"] = str(error.get("message") or error) if isinstance(error, dict) else str(error)
    row["prediction"] = _completion(sample, attachments)
    choices = sample.record("output").get("choices", "a list", [])
    reason = choices[0].get("stop_reason") if choices and isinstance(choices[0], dict) else None
    row |= {"finish_reason": reason} if isinstance(reason, str) else {}
    row |= labels(sample.get("metadata", "an object", {}))
    unscored = []
    for scorer, value in sample.get("scores", "an object", {}).items():
        score = Record(value, f"{sample.place}, score `{scorer}`")
        row[f"answer:{scorer}"] = score.get("answer", "a text")
        value = score.value.get("value")
        each = {f".{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {"": value}
        for key, inner in each.items():
            metric, number = f"{scorer}{key}", _number(inner, score, f"value{key}")
            row[f"score:{metric}"] = number
            if isinstance(number, float) and number != number:
                row[f"score:{metric}"] = None
                unscored.append(f"{metric}: not scored ({score.value.get('reason') or 'unscored'})")
    if unscored and not row.get("error"):
        row["error"] = "; ".join(unscored)
    return row, sample.value


def _completion(sample: Record, attachments: Mapping[str, Any]) -> str | None:
    output = sample.record("output")
    said = output.value.get("completion")
    if said is None:
        choices = output.get("choices", "a list", [])
        if not choices:
            return None
        said = Record(choices[0], f"{output.place}, choices[0]").record("message").value.get("content")
    if said == "" and not output.get("choices", "a list", []):
        return None
    return _said(said, output, "completion", attachments)


def _said(value: Any, record: Record, name: str, attachments: Mapping[str, Any]) -> str | None:
    """A text, or the texts of messages and of the parts of their content, one under the other."""
    if value is None:
        return None
    if isinstance(value, str):
        stored = attachments.get(value.removeprefix("attachment://")) if value.startswith("attachment://") else None
        return stored if isinstance(stored, str) else value
    if not isinstance(value, list):
        raise record.fail(f"`{name}` is {json_kind(value)}, but it must be a text or a list")
    texts = []
    for one in value:
        if not isinstance(one, dict):
            raise record.fail(f"`{name}` has {json_kind(one)} in it, but its items must be objects")
        inner = one.get("content", one.get("text"))
        if isinstance(inner, str | list):
            texts.append(_said(inner, record, name, attachments) or "")
    return "\n".join(texts)


def _graded(samples: Iterable[Row]) -> dict[str, bool]:
    """The scores that are C, I, P or N somewhere: a higher one is better, whatever the scorer is called."""
    found: dict[str, bool] = {}
    for sample in samples:
        for scorer, score in (sample.get("scores") or {}).items():
            value = score.get("value")
            each = {f".{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {"": value}
            found |= {f"{scorer}{key}": True for key, inner in each.items() if inner in _LETTERS or inner in _GRADES}
    return found


def _number(value: Any, score: Record, name: str) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return float(value) if isinstance(value, bool) else value
    if isinstance(value, str):
        if value in _LETTERS:
            return _LETTERS[value]
        if value.strip().lower() in _WORDS:
            return _WORDS[value.strip().lower()]
        try:
            return float(value)
        except ValueError:
            shown = value if len(value) <= LABEL_LENGTH else value[:LABEL_LENGTH] + "…"
            raise score.fail(f"`{name}` is {shown!r}, but a score is a number or one of C, I, P, N") from None
    raise score.fail(f"`{name}` is {json_kind(value)}, but a score is a number or one of C, I, P, N")


def _settled(items: Sequence[Item]) -> Iterator[Item]:
    """Rows whose prediction is the answer that the first scorer took out, where it takes out any.

    Scorers after it that take out other answers get predictions of their own.
    """
    scorers = dict.fromkeys(key for _, row, _ in items for key in row if key.startswith("answer:"))
    taking = [key for key in scorers if any(row.get(key) is not None for _, row, _ in items)]
    for number, row, raw in items:
        plain = {key: value for key, value in row.items() if not key.startswith("answer:")}
        if taking and "error" not in plain:
            said = plain["prediction"]
            plain["prediction"] = row.get(taking[0])
            if said != plain["prediction"]:
                plain["response"] = said
            for key in taking[1:]:
                for name in [name for name in plain if name.startswith("score:" + key.removeprefix("answer:"))]:
                    plain["prediction:" + name.removeprefix("score:")] = row.get(key)
        yield number, plain, raw
