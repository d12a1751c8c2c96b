"""Runs as files that other tools read: lm-eval's samples, or a table as Parquet, CSV or JSON lines.

What is written is read again as recorded outputs and compares as the run itself does: same instances, scores, errors
and hashes. Where a format cannot hold a run, that is said and nothing is written.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.records import TEXT_COLUMNS, Metric, Run, TaskRun, score_column
from compatcheck.references import resolve
from compatcheck.similarity import RECORDED
from compatcheck.table.choices import NO_MATCH, OWN_FIELD
from compatcheck.table.scoring import recorded_metric
from compatcheck.table.sheets import FORMULA_SAFE, formula_safe
from compatcheck.text import text_hash

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("lm-eval", "parquet", "csv", "plain-csv", "jsonl")
"""``plain-csv`` has every text as it is; in ``csv`` none can be run by a spreadsheet."""
PLACEHOLDER = "{task}"


def check_export(reference: str, to: str) -> None:
    """Raise InputError for an unknown format, and for a reference that is no record but would have to be evaluated."""
    if to not in FORMATS:
        raise InputError(f"--to {to}: unknown{did_you_mean(to, FORMATS)}; known: {', '.join(FORMATS)}")
    if resolve(reference).recorded is None:
        raise InputError(f"{reference}: is no record; make one first: compatcheck run {reference} --out DIR")


def export_run(run: Run, to: str, out: Path) -> list[Path]:
    """Write a run in one of the :data:`FORMATS`; returns the files.

    ``out`` is a file for a table (``{task}`` in it stands for the task's name: one file a task), a folder for lm-eval.
    A file that is there is replaced; a folder must be new or empty.

    Raises:
        InputError: unknown format, something that the format cannot hold, or a place that cannot be written.
    """
    if to not in FORMATS:
        raise InputError(f"--to {to}: unknown{did_you_mean(to, FORMATS)}; known: {', '.join(FORMATS)}")
    if not run.tasks:
        raise InputError(f"{run.manifest.reference}: nothing to export")
    if to == "lm-eval":
        return _write_samples(run, out)
    write = {"parquet": _parquet, "csv": _csv, "plain-csv": _plain_csv, "jsonl": _jsonl}[to]
    files: dict[Path, list[TaskRun]] = {}
    for one in run.tasks:
        files.setdefault(Path(str(out).replace(PLACEHOLDER, _file_name(one.task))), []).append(one)
    frames = {path: table_of(tasks, out) for path, tasks in files.items()}
    for path, frame in frames.items():
        if to.endswith("csv"):
            _check_csv(frame, path)
    for path, frame in frames.items():
        with _replacing(path) as temporary:
            write(frame, temporary)
    return list(frames)


def table_of(tasks: Sequence[TaskRun], out: Path) -> pd.DataFrame:
    """One row per task, filter and document, with the columns that recorded rows have.

    Raises InputError where tasks have different metrics, so that a score would be missing in some rows, and for a
    metric of which a table would not say that smaller is better.
    """
    import pandas as pd

    names = [metric.name for metric in tasks[0].metrics]
    for one in tasks:
        if [metric.name for metric in one.metrics] != names:
            raise InputError(
                f"{tasks[0].task} and {one.task} have different metrics; write one file a task: "
                f"--out {out.with_name(PLACEHOLDER + out.suffix)}, or name one with --task"
            )
        for metric in one.metrics:
            read = recorded_metric(metric.name, one.records[score_column(metric.name)])
            if metric.higher_is_better != read.higher_is_better:
                better = "larger" if metric.higher_is_better else "smaller"
                raise InputError(f"a table does not say that a {better} {metric.name} is better; use --to lm-eval")
    frames = []
    for one in tasks:
        frame = one.records.rename(columns={"doc_id": "id"}).drop(columns=["task", "filter"], errors="ignore")
        if names == [RECORDED]:
            frame = frame.rename(columns={score_column(RECORDED): RECORDED})
        frame.insert(0, "task", one.task)
        frame.insert(1, "filter", one.filter)
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    known = ["task", "filter", "id", *TEXT_COLUMNS]
    return frame[[*(n for n in known if n in frame), *(n for n in frame if n not in known)]]


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise InputError(f"{path.name}: Parquet cannot hold a column ({str(error).splitlines()[0]})") from None


def _jsonl(frame: pd.DataFrame, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in _rows(frame):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _check_csv(frame: pd.DataFrame, path: Path) -> None:
    """Raise InputError for what CSV cannot tell apart."""
    for name in frame:
        column = frame[name]
        if (column == "").any():
            first = frame["id"].iloc[int((column == "").to_numpy(dtype=bool, na_value=False).argmax())]
            raise InputError(
                f"{path}: `{name}` of the id {first!r:.80} is an empty text, which CSV cannot tell from no answer; "
                "use --to jsonl or parquet"
            )


def _csv(frame: pd.DataFrame, path: Path) -> None:
    names = [str(name) for name in frame if name != "loglikelihoods"]
    rows = itertools.chain([names], (row.values() for row in _rows(frame[names])))
    unsafe = any(isinstance(cell, str) and formula_safe(cell) != cell for row in rows for cell in row)
    _plain_csv(frame.assign(**{FORMULA_SAFE: "yes"}) if unsafe else frame, path, safe=unsafe)


def _plain_csv(frame: pd.DataFrame, path: Path, safe: bool = False) -> None:
    import csv

    def cell(value: Any) -> Any:
        return "" if value is None else formula_safe(value) if safe and isinstance(value, str) else value

    names = [str(name) for name in frame if name != "loglikelihoods"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(cell, names))
        for row in _rows(frame[names]):
            writer.writerow(cell(row[name]) for name in names)


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows as JSON can hold them: Python's own numbers, None for what is missing."""
    for row in frame.to_dict("records"):
        yield {str(name): _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        value = value.tolist() if hasattr(value, "tolist") else list(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return None  # pandas' NA


def _write_samples(run: Run, out: Path) -> list[Path]:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is not empty; name a new folder for lm-eval's files")
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
    by_task: dict[str, list[TaskRun]] = {}
    for one in run.tasks:
        _file_name(one.task)
        by_task.setdefault(one.task, []).append(one)
    for task, parts in by_task.items():
        if len({tuple(metric.name for metric in part.metrics) for part in parts}) > 1:
            raise InputError(f"{task}: its filters have different metrics; name one with --metric")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        results = _results(run.manifest.reference, by_task)
        (temporary / f"results_{time}.json").write_text(
            json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        for task, parts in by_task.items():
            with (temporary / f"samples_{task}_{time}.jsonl").open("w", encoding="utf-8") as file:
                for part in parts:
                    for row in _samples(part):
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if out.is_dir():
            out.rmdir()
        temporary.chmod(0o755)
        temporary.rename(out)
    except (OSError, UnicodeEncodeError) as error:
        raise _unwritten(out, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(out.iterdir())


def _results(reference: str, by_task: Mapping[str, Sequence[TaskRun]]) -> dict[str, Any]:
    """lm-eval's results file, as far as a run knows it."""

    def of_tasks(value: Callable[[Sequence[TaskRun]], Any]) -> dict[str, Any]:
        found = {task: value(parts) for task, parts in by_task.items()}
        return {task: one for task, one in found.items() if one is not None}

    return {
        "results": of_tasks(_means),
        "configs": {task: {"task": task} for task in by_task},
        "versions": of_tasks(lambda parts: parts[0].settings.get("version")),
        "n-shot": of_tasks(lambda parts: parts[0].settings.get("num_fewshot")),
        "higher_is_better": of_tasks(lambda parts: {m.name: m.higher_is_better for m in parts[0].metrics}),
        "n-samples": of_tasks(lambda parts: {"original": len(parts[0].records), "effective": len(parts[0].records)}),
        "config": {"model": "compatcheck", "model_args": {"pretrained": reference}},
    }


def _means(parts: Sequence[TaskRun]) -> dict[str, Any]:
    found: dict[str, Any] = {"alias": parts[0].task}
    for part in parts:
        for metric in part.metrics:
            mean = part.records[score_column(metric.name)].mean()
            found[f"{metric.name},{part.filter}"] = None if math.isnan(mean) else float(mean)
    return found


def _samples(run: TaskRun) -> Iterator[dict[str, Any]]:
    """lm-eval's rows; what they cannot say lies in a field of compatcheck's own, which other readers leave alone."""
    names = [str(name) for name in run.records if name != "doc_id" and not str(name).startswith("score:")]
    own = (*TEXT_COLUMNS, "loglikelihoods")
    labels = [name for name in names if name not in own and not name.startswith("prediction:")]
    for row in _rows(run.records):
        prompt, target = row.get("input") or "", row.get("target")
        prediction = row.get("prediction")
        response = row.get("response") or prediction
        yield {
            "doc_id": int(row["doc_id"]) if _is_number(row["doc_id"]) else row["doc_id"],
            "doc": {name: row[name] for name in labels},
            "target": target,
            "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {}}},
            "resps": [[response]],
            "filtered_resps": [NO_MATCH if prediction is None else prediction],
            "filter": run.filter,
            "metrics": [metric.name for metric in run.metrics],
            "doc_hash": row.get("doc_hash") or text_hash(str(row["doc_id"])),
            "prompt_hash": text_hash(prompt),
            "target_hash": row.get("target_hash") or text_hash(str(target)),
            OWN_FIELD: {name: row[name] for name in names if row[name] is not None or name == "prediction"},
        } | _scores(row, run.metrics)


def _scores(row: Mapping[str, Any], metrics: Sequence[Metric]) -> dict[str, Any]:
    """Scores by name; one that an instance lacks, which failed, is left out."""
    found = {metric.name: row[score_column(metric.name)] for metric in metrics}
    return {name: value for name, value in found.items() if value is not None}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and text == str(int(text))


def _file_name(task: str) -> str:
    if set(task) & set("/\\\0") or task in (".", ".."):
        raise InputError(f"the task name {task!r} cannot stand in a file name; name a file: --to jsonl --out FILE")
    return task


def _unwritten(out: Path, error: OSError | UnicodeEncodeError) -> InputError:
    if isinstance(error, OSError):
        return InputError(f"--out {out}: cannot be written ({error.strerror or error})")
    return InputError(f"--out {out}: a text has half a surrogate pair in it, which UTF-8 cannot hold")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place when all went well. Raises InputError where it cannot be written."""
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; name a file")
    temporary = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".export-", dir=path.parent)  # a new file: no link can wait there
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o644)
        yield temporary
        temporary.replace(path)
    except (OSError, UnicodeEncodeError) as error:
        raise _unwritten(path, error) from None
    finally:
        if temporary != path:
            temporary.unlink(missing_ok=True)
