"""Recorded outputs as task runs, whoever wrote them: finds the reader, and of a file of targets what is right."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from compatcheck.errors import InputError, did_you_mean
from compatcheck.readers import hf_datasets, lm_eval_samples
from compatcheck.readers.detect import tool_of
from compatcheck.readers.parts import Ids, Part, as_part, plain_part, runs_of, with_targets_left
from compatcheck.readers.recording import Recording
from compatcheck.records import TaskRun
from compatcheck.references import LAYOUTS, tool_of_folder
from compatcheck.table.check import build_table
from compatcheck.table.layout import Layout
from compatcheck.table.reading import file_kind, only_part, read_rows
from compatcheck.table.rows import extract_targets
from compatcheck.table.targets import Targets, read_targets

READERS = tuple(name for name in LAYOUTS if name not in ("datasets", "rows"))
"""Tools with a module of their name here, whose ``read`` reads what they wrote."""
_MODULES = {"inspect": "inspect_logs"}
"""But for a module that would have the name of one of Python's."""


def load_recorded(
    path: Path,
    *,
    layout: Layout | None = None,
    side: str = "",
    metrics: Sequence[str] = (),
    tasks: Sequence[str] = (),
    limit: int | None = None,
    ids: Ids | None = None,
    metric_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[TaskRun]:
    """Read recorded outputs: a JSONL, JSON, CSV, Excel or Parquet file, or what lm-eval or another tool wrote.

    Args:
        path: file, or output folder of lm-eval (of each task the newest samples file) or of another tool
            (:mod:`compatcheck.readers.detect`).
        layout: which fields are what, and what to extract.
        side: ``old`` or ``new``, for the option names in messages.
        metrics: scores by name; empty means the recorded scores, or else exact match.
        tasks: keep only these of the tasks that the rows name; empty keeps all. One alone is that of rows that name
            none.
        limit: keep the first documents of every task and filter.
        ids: with a limit those to keep instead, by task and filter, where one of them is there.
        metric_options: settings of metrics by name, as :func:`compatcheck.similarity.get` takes them.

    Raises:
        InputError: anything wrong with file, rows or options; the message names file, line and field.
    """
    layout = layout or Layout()
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be 1 or more")
    targets = targets_of(layout.targets, layout) if layout.targets is not None else None
    parts = with_targets_left(_parts(path, layout, side, targets, tasks, metrics), targets)
    runs = [run for part in parts for run in runs_of(part, layout, metrics, limit, metric_options, ids)]
    return [run for run in runs if not tasks or run.task in tasks] or no_such_task(path, runs, tasks)


def is_recorded(path: str | Path) -> bool:
    """Whether a path names recorded outputs: by a file's name, or what lies in a folder."""
    path = Path(path)
    if path.is_dir():
        return next(path.rglob("samples_*.jsonl*"), None) is not None or tool_of_folder(path) is not None
    return file_kind(path) is not None or path.suffix.lower() == ".eval"


def _parts(
    path: Path, layout: Layout, side: str, targets: Targets | None, tasks: Sequence[str], metrics: Sequence[str]
) -> list[Part]:
    """What a file or folder holds."""
    tool, task = tool_of(path, layout), task_of(tasks)
    if tool in READERS:
        recordings = _recordings(path, tool, layout, task, tasks)
        return [as_part(recording, layout, side, targets, metrics) for recording in recordings]
    if tool is None and lm_eval_samples.is_samples(path):
        return lm_eval_samples.read_samples(path, layout, side, targets, task, tasks, metrics)
    if tool == "datasets":
        source = hf_datasets.read_source(path, layout.part)
    else:
        source = only_part(read_rows(path, layout.part), layout.part, layout.model_field)
    rows = extract_targets(build_table(source, layout, side, targets, metrics), layout)
    return [plain_part(rows, layout, task)]


def task_of(tasks: Sequence[str]) -> str | None:
    """The task of rows that name none."""
    return tasks[0] if len(tasks) == 1 else None


def _recordings(path: Path, tool: str, layout: Layout, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    module = importlib.import_module(f"compatcheck.readers.{_MODULES.get(tool, tool)}")
    recordings: list[Recording] = module.read(path, layout.part, task, tasks)
    return recordings


def targets_of(path: Path, layout: Layout) -> Targets:
    """Targets by id out of a file of plain rows, or of a tool's outputs: its targets, or else what its model said."""
    inner = replace(layout, tool=None, part=None, prediction_field=None, targets=None)
    tool = tool_of(path, inner)
    if tool not in READERS:
        return read_targets(path, layout, hf_datasets.read_source(path, None) if tool == "datasets" else None)
    by_id: dict[str, Any] = {}
    for recording in _recordings(path, tool, inner, None, ()):
        for number, row, _ in recording.items:
            target = row.get("target") if row.get("target") is not None else row.get("prediction")
            if target is None:
                raise InputError(f"{recording.source.at(number)}: neither target nor prediction to serve as a target")
            if by_id.setdefault(row["id"], target) != target:
                raise InputError(f"{recording.source.at(number)}: the id {row['id']!r:.80} again, with another target")
    return Targets(path, by_id)


def no_such_task(path: Path, runs: Sequence[Any], tasks: Sequence[str]) -> NoReturn:
    """Raise the error of a file that holds none of the tasks that are wanted."""
    there = list(dict.fromkeys(run.task for run in runs))
    wanted = ", ".join(tasks)
    hint = did_you_mean(tasks[0], there) if tasks else ""
    raise InputError(f"{path}: recorded for task {', '.join(there)}, not for {wanted}{hint}")
