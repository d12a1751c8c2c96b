"""Kept runs: one reference on its tasks, as a folder with manifest.json and records.parquet (see docs/runs.md)."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.records import Manifest, Metric, Run, TaskRun, score_column
from compatcheck.references import RUN_MANIFEST, RUN_SCHEMA, is_kept_run, read_json
from compatcheck.schema import from_json
from compatcheck.similarity import direction
from compatcheck.table.scoring import AS_RECORDED

if TYPE_CHECKING:
    from compatcheck.table.kept_table import Layout

RECORDS = "records.parquet"
LM_EVAL = "lm-eval"
"""Folder of lm-eval's own logs inside a kept run."""


@dataclass(frozen=True)
class Made:
    """How a run came about, for whoever finds the folder."""

    command: str = ""
    started: str = ""
    """UTC, as ISO 8601."""
    seconds: float | None = None
    """Wall time of making the run, loading included."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those that were not left at their defaults."""


@dataclass(frozen=True)
class KeptRun(Run):
    """A run as it was kept, with how it came about."""

    made: Made = field(default_factory=Made)
    version: str = ""
    """Version of compatcheck that wrote it."""


def check_folder(folder: Path) -> None:
    """Say before any work is paid for that a run cannot be kept here.

    Raises:
        InputError: a file, or a folder with something else's output in it.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder to keep the run in")
    if not folder.is_dir() or is_kept_run(folder):
        return
    other = next((path.name for path in sorted(folder.iterdir()) if not path.name.startswith(".")), None)
    if other is not None:
        raise InputError(
            f"{folder}: holds {other}, which is no kept run of compatcheck; name an empty or new folder for the run"
        )


def save_run(
    run: Run,
    folder: str | Path,
    *,
    made: Made | None = None,
    write_log: Callable[[Path], object] | None = None,
) -> Path:
    """Keep a run in a folder; an older kept run in it is replaced. Returns the folder.

    Everything is written beside its place and then moved, the manifest last, so that a failure leaves the older run.
    ``write_log`` gets an empty folder that becomes ``lm-eval`` in the kept run.

    Raises:
        InputError: the folder holds a manifest or records of something else, or cannot be written.
    """
    from compatcheck.table.kept_table import lay_out, plain, write_records

    folder = Path(folder)
    for name in (RUN_MANIFEST, RECORDS):
        if (folder / name).exists() and not is_kept_run(folder):
            raise InputError(f"{folder}: its {name} is not one of compatcheck; name another folder for the run")
    existed = folder.exists()
    beside: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".run-", dir=folder))
        layout = lay_out(run.tasks)
        rows = write_records(beside / RECORDS, run.tasks, layout)
        if write_log is not None:
            (beside / LM_EVAL).mkdir()
            write_log(beside / LM_EVAL)
        records = {"file": RECORDS, "sha256": _sha256(beside / RECORDS), "rows": rows}
        manifest = _manifest(run, layout, records, made or _made_of(run), LM_EVAL if write_log else None)
        text = json.dumps(manifest, indent=2, ensure_ascii=True, default=plain) + "\n"
        (beside / RUN_MANIFEST).write_text(text, encoding="utf-8", newline="\n")
        if is_kept_run(folder) and (folder / LM_EVAL).is_dir():
            (folder / LM_EVAL).replace(beside / "older-log")  # it told of the older run
        for name in (LM_EVAL, RECORDS, RUN_MANIFEST):
            if (beside / name).exists():
                (beside / name).replace(folder / name)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); name another folder for the run"
        ) from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return folder


@dataclass(frozen=True)
class Part:
    """One task and filter of a kept run on disk."""

    task: str
    filter: str
    rows: int
    metrics: tuple[Metric, ...]
    settings: Mapping[str, Any]
    duplicates: int
    notes: tuple[str, ...]
    kinds: Mapping[str, str]
    """Of every column; see :data:`compatcheck.table.kept_table.KINDS`."""
    layout: Layout
    groups: range
    """Row groups of the file that hold its records."""
    typed: frozenset[str] = frozenset()


def load_run(folder: str | Path, tasks: Sequence[str] = ()) -> KeptRun:
    """Read a kept run exactly as it was saved, or only some of its tasks, in the order of the run.

    Raises:
        InputError: no kept run, one of a newer schema, a damaged one, or a task that is not in it.
    """
    from compatcheck.table.kept_table import read_records

    folder = Path(folder)
    opened, parts = open_run(folder, tasks)
    runs = tuple(
        TaskRun(
            part.task,
            part.filter,
            part.metrics,
            read_records(folder / RECORDS, part.groups, part.kinds, part.layout),
            part.settings,
            part.duplicates,
            part.notes,
            part.typed,
        )
        for part in parts
    )
    return replace(opened, tasks=runs)


def open_run(folder: Path, tasks: Sequence[str] = ()) -> tuple[KeptRun, list[Part]]:
    """A kept run without its records, and where of each task these are; tasks as :func:`load_run` takes them.

    Raises:
        InputError: as :func:`load_run`.
    """
    from compatcheck.table.kept_table import Layout, row_groups

    manifest = read_manifest(folder)
    path = folder / RECORDS
    missing = [task for task in tasks if task not in {one["task"] for one in manifest["tasks"]}]
    if missing:
        there = list(dict.fromkeys(one["task"] for one in manifest["tasks"]))
        hint = did_you_mean(missing[0], there)
        raise InputError(f"--task {missing[0]}: not in the kept run {folder}{hint}; it has {', '.join(there)}")
    if not path.is_file():
        raise InputError(f"{path}: is missing; make the run again")
    records = manifest["records"]
    if _sha256(path) != records["sha256"]:
        raise InputError(f"{path}: is not the file its manifest was written for; make the run again")
    all_parts = manifest["tasks"]
    kinds = tuple(part["columns"] for part in all_parts)
    layout = Layout(kinds, frozenset(records.get("encoded", ())), records.get("stored_as", {}))
    groups = row_groups(path, [part["rows"] for part in all_parts])
    parts = [
        Part(
            part["task"],
            part["filter"],
            part["rows"],
            tuple(_metric(metric) for metric in part["metrics"]),
            part["settings"],
            part["duplicates"],
            tuple(part["notes"]),
            part["columns"],
            layout,
            where,
            frozenset(part.get("typed", ())),
        )
        for part, where in zip(all_parts, groups, strict=True)
        if not tasks or part["task"] in tasks
    ]
    about = Manifest(
        manifest["reference"], manifest["fingerprint"], manifest["kind"], manifest["engine"], manifest["settings"]
    )
    made = Made(
        manifest.get("command", ""), manifest.get("started", ""), manifest.get("seconds"), manifest.get("options") or {}
    )
    return KeptRun(about, (), tuple(manifest["notes"]), made, manifest.get("version", "")), parts


_TEXT, _OBJECT, _LIST, _COUNT = (str,), (dict,), (list,), (int,)
_FIELDS: Mapping[str, tuple[type, ...]] = {
    "reference": _TEXT, "fingerprint": _TEXT, "kind": _TEXT, "engine": _OBJECT, "settings": _OBJECT, "notes": _LIST,
    "records": _OBJECT, "tasks": _LIST,
}  # fmt: skip
_TASK_FIELDS: Mapping[str, tuple[type, ...]] = {
    "task": _TEXT, "filter": _TEXT, "rows": _COUNT, "duplicates": _COUNT, "metrics": _LIST, "settings": _OBJECT,
    "notes": _LIST, "columns": _OBJECT,
}  # fmt: skip
_FURTHER: Mapping[str, tuple[type, ...]] = {
    "command": _TEXT, "started": _TEXT, "seconds": (float, int, NoneType), "options": (dict, NoneType),
    "version": _TEXT,
}  # fmt: skip
_OF_RECORDS: Mapping[str, tuple[type, ...]] = {"encoded": _LIST, "stored_as": _OBJECT}
_METRIC_FIELDS: Mapping[str, tuple[type, ...]] = {
    "name": _TEXT, "kind": _TEXT, "higher_is_better": (bool,), "signature": _TEXT,
}  # fmt: skip


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a kept run, checked field by field; unknown fields are left as they are.

    Raises:
        InputError: none, damaged, or written by a newer compatcheck; the message names the field.
    """
    from compatcheck.table.kept_table import KINDS

    path = folder / RUN_MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: no {RUN_MANIFEST}, so it is no kept run; `compatcheck run` makes one")
    manifest = read_json(path)
    schema = str(manifest.get("schema"))
    if schema != RUN_SCHEMA:
        if schema.startswith(RUN_SCHEMA.partition("/")[0] + "/"):
            raise InputError(f"{path}: schema {schema} is not {RUN_SCHEMA}; it was kept by another version, upgrade")
        raise InputError(f"{path}: not the manifest of a kept run (its schema is not {RUN_SCHEMA})")
    _check(path, manifest, _FIELDS, "")
    _check(path, manifest, {name: kinds for name, kinds in _FURTHER.items() if name in manifest}, "")
    records = manifest["records"]
    _check(path, records, {"sha256": _TEXT, "rows": _COUNT}, "records.")
    _check(path, records, {name: kinds for name, kinds in _OF_RECORDS.items() if name in records}, "records.")
    _check_texts(path, "notes", manifest["notes"])
    _check_texts(path, "records.encoded", [*records.get("encoded", ()), *records.get("stored_as", {}).values()])
    for number, task in enumerate(manifest["tasks"]):
        place = f"tasks[{number}]"
        if not isinstance(task, dict):
            raise InputError(f"{path}: {place} is no object; make the run again")
        _check(path, task, _TASK_FIELDS, f"{place}.")
        _check_texts(path, f"{place}.notes", task["notes"])
        _check(path, task, {"typed": _LIST} if "typed" in task else {}, f"{place}.")
        _check_texts(path, f"{place}.typed", task.get("typed", ()))
        for name, kind in task["columns"].items():
            if not isinstance(kind, str) or kind not in KINDS:
                raise InputError(f"{path}: {place}.columns.{name} is {kind!r}; known: {', '.join(KINDS)}")
        for index, metric in enumerate(task["metrics"]):
            if not isinstance(metric, dict):
                raise InputError(f"{path}: {place}.metrics[{index}] is no object; make the run again")
            _check(path, metric, _METRIC_FIELDS, f"{place}.metrics[{index}].")
            from_json(Metric, metric, f"{path}: {place}.metrics[{index}]")
        for name in ("doc_id", *(score_column(metric["name"]) for metric in task["metrics"])):
            if name not in task["columns"]:
                raise InputError(f"{path}: {place}.columns lacks {name}; make the run again")
    return manifest


def _check_texts(path: Path, place: str, values: Sequence[Any]) -> None:
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"{path}: {place} holds something that is no text; make the run again")


def _metric(written: Mapping[str, Any]) -> Metric:
    """A metric of the manifest. Earlier versions told the direction of a recorded score from seven names alone."""
    metric = from_json(Metric, written, "a metric")
    if "assumed" in written:
        return metric
    recorded = metric.signature.endswith(AS_RECORDED)
    lower = recorded and metric.higher_is_better and direction.higher_is_better(metric.name) is False
    return replace(metric, higher_is_better=False) if lower else metric


def _check(path: Path, part: Mapping[str, Any], fields: Mapping[str, tuple[type, ...]], place: str) -> None:
    for name, kinds in fields.items():
        if name not in part:
            raise InputError(f"{path}: the field {place}{name} is missing; make the run again")
        if not isinstance(part[name], kinds):
            found = type(part[name]).__name__
            raise InputError(f"{path}: the field {place}{name} is a {found}, not a {kinds[0].__name__}")


def _manifest(run: Run, layout: Layout, records: dict[str, Any], made: Made, log: str | None) -> dict[str, Any]:
    from compatcheck.version import __version__

    records |= {"encoded": sorted(layout.encoded)} if layout.encoded else {}
    records |= {"stored_as": dict(layout.stored_as)} if layout.stored_as else {}
    about = run.manifest
    return {
        "schema": RUN_SCHEMA,
        "version": __version__,
        "reference": about.reference,
        "fingerprint": about.fingerprint,
        "kind": about.kind,
        "engine": dict(about.engine),
        "settings": dict(about.settings),
        "command": made.command,
        "started": made.started,
        "seconds": made.seconds,
        "options": made.options,
        "notes": list(run.notes),
        "records": records,
        **({"lm_eval_log": log} if log else {}),
        "tasks": [
            {
                "task": one.task,
                "filter": one.filter,
                "rows": len(one.records),
                "duplicates": one.duplicates,
                "metrics": [dict(vars(metric)) for metric in one.metrics],
                "settings": dict(one.settings),
                "notes": list(one.notes),
                "columns": dict(kinds),
                **({"typed": sorted(one.typed)} if one.typed else {}),
            }
            for one, kinds in zip(run.tasks, layout.kinds, strict=True)
        ],
    }


def _made_of(run: Run) -> Made:
    return run.made if isinstance(run, KeptRun) else Made()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
