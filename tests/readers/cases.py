"""A whole file of every kind that is read, as a value that tests damage and write."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compatcheck.readers import Layout, load_recorded
from compatcheck.records import TaskRun
from tests.readers.foreign_samples import (
    ALPACA,
    ANNOTATIONS,
    DATA,
    HELM_STATES,
    HELM_STATS,
    helm_run,
    inspect_log,
)

Rows = list[dict[str, Any]]
PLAIN = [
    {"id": "a", "target": "1", "prediction": "1", "score": 1.0, "meta": {"level": 1}},
    {"id": "b", "target": "2", "prediction": None, "score": 0.0, "meta": {"level": 2}},
    {"id": "c", "target": "3", "error": "timeout", "meta": {"level": 2}},
]
SAMPLES = [
    {
        "doc_id": n,
        "doc": {"question": f"What is {n} plus {n}?", "level": n},
        "target": str(2 * n),
        "arguments": {"gen_args_0": {"arg_0": f"What is {n} plus {n}?", "arg_1": {"until": ["\n"]}}},
        "resps": [[f"It is {2 * n}"]],
        "filtered_resps": [str(2 * n)],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": f"{n:064d}",
        "prompt_hash": f"{n:064d}",
        "target_hash": f"{n:064d}",
        "exact_match": 1.0,
    }
    for n in range(3)
]


def _gzipped(name: str) -> Any:
    return json.loads(gzip.decompress((DATA / "promptfoo" / name).read_bytes()))


def _inspect_json() -> Any:
    return json.loads(inspect_log("old", "sums-small").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Case:
    """A kind of file: a value with rows in it, how it is written, and where in the value its rows are."""

    name: str
    value: Callable[[], Any]
    write: Callable[[Path, Any], Path]
    rows: Callable[[Any], Rows]
    identity: str
    """Dotted field that says which row is which; empty where its place in the file does."""
    score: str = ""
    """Dotted field of a score."""
    layout: Layout = field(default_factory=Layout)
    columns: bool = False
    """Whether a field is a column of one type, null where a row lacks it."""

    def load(self, folder: Path, value: Any) -> list[TaskRun]:
        return load_recorded(self.write(folder, value), layout=self.layout)


def _file(name: str) -> Callable[[Path, Any], Path]:
    def write(folder: Path, value: Any) -> Path:
        text = json.dumps(value)
        if ".jsonl" in name:
            text = "".join(json.dumps(row) + "\n" for row in value)
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return write


class NoColumn(Exception):
    """A fault that a file of columns cannot have."""


def _table(rows: Rows) -> pa.Table:
    """Every field of any row as a column: a table made of rows has those of the first alone."""
    names = dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row)
    try:
        return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    except (pa.ArrowException, UnicodeEncodeError, AttributeError):
        raise NoColumn from None


def _parquet(name: str) -> Callable[[Path, Any], Path]:
    def write(folder: Path, value: Any) -> Path:
        try:
            pq.write_table(_table(value), folder / name)
        except pa.ArrowException:
            raise NoColumn from None
        return folder / name

    return write


def _datasets(folder: Path, value: Any) -> Path:
    """What ``save_to_disk`` writes, as far as it is read; a folder of the library's own is in ``test_foreign.py``."""
    table = _table(value)
    (folder / "hf").mkdir(exist_ok=True)
    arrow = str(folder / "hf" / "data-00000-of-00001.arrow")
    with pa.OSFile(arrow, "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    (folder / "hf" / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    return folder / "hf"


def _eval(folder: Path, value: Any) -> Path:
    """An inspect log as the zip file that it is by default: a header, and a file per sample."""
    path = folder / "2026_t_x.eval"
    header = {key: inner for key, inner in value.items() if key != "samples"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps(header))
        for number, sample in enumerate(value.get("samples") or []):
            archive.writestr(f"samples/{number}_epoch_1.json", json.dumps(sample))
    return path


def csv_file(folder: Path, value: Any) -> Path:
    names = list(dict.fromkeys(key for row in value if isinstance(row, dict) for key in row))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    writer.writerows(value)
    (folder / "rows.csv").write_text(file.getvalue(), encoding="utf-8")
    return folder / "rows.csv"


def helm_folder(folder: Path, value: Any) -> Path:
    shutil.rmtree(folder / "run", ignore_errors=True)
    return helm_run(folder / "run", value.get("states", []), value.get("stats", []))


def _itself(value: Any) -> Any:
    return value


def _lighteval_rows() -> Rows:
    rows: Rows = pq.read_table(DATA / "lighteval" / "choosing.old.parquet").to_pylist()
    return rows


def _lines(name: str, count: int | None = None) -> Callable[[], Rows]:
    """The rows of a file in ``data/``."""

    def read() -> Rows:
        rows = [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]
        return rows[:count]

    return read


def _beside(name: str, other: str, source: str) -> Callable[[Path, Any], Path]:
    """Write a file with one of ``data/`` beside it."""

    def write(folder: Path, value: Any) -> Path:
        shutil.copy(DATA / source, folder / other)
        return _file(name)(folder, value)

    return write


def _first_turns() -> Rows:
    rows = _lines("fastchat/model_answer/old.jsonl")()
    for row in rows:
        row["choices"][0]["turns"] = row["choices"][0]["turns"][:1]
    return rows


def _judged() -> Rows:
    return [row for row in _lines("fastchat/model_judgment/gpt-4_single.jsonl")() if row["model"] == "gpt-4"]


def _matches() -> Rows:
    return [row for row in _lines("openai_evals/old.jsonl")() if row.get("type") == "match"]


def _logged() -> Rows:
    return [row | {"target": "4"} for row in _lines("chat_log/old.log.jsonl")()]


def _traced() -> Rows:
    return [row for row in _lines("langfuse/old.observations.jsonl")() if row["type"] == "SPAN"]


def _experiment() -> Rows:
    """The columns of an experiment as the JSON that its page gives."""
    with (DATA / "langsmith" / "old.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                "id": row["id"],
                "inputs": {"question": row["inputs.question"]},
                "outputs": {"answer": row["outputs.answer"]},
                "reference_outputs": {"answer": row["reference.answer"]},
                "feedback": {"correct": float(row["feedback.correct"])},
                "latency": float(row["execution_time"]),
            }
            for row in csv.DictReader(file)
        ]


def _numbered(folder: Path, value: Any) -> Path:
    return _file("sums.json")(folder, {str(number): row for number, row in enumerate(value)})


CASES = [
    Case("jsonl", lambda: copy.deepcopy(PLAIN), _file("rows.jsonl"), _itself, "id", "score"),
    Case("json", lambda: copy.deepcopy(PLAIN), _file("rows.json"), _itself, "id", "score"),
    Case("parquet", lambda: copy.deepcopy(PLAIN), _parquet("rows.parquet"), _itself, "id", "score", columns=True),
    Case("datasets", lambda: copy.deepcopy(PLAIN), _datasets, _itself, "id", "score", columns=True),
    Case("lm-eval", lambda: copy.deepcopy(SAMPLES), _file("samples_t.jsonl"), _itself, "doc_id", "exact_match"),
    Case("inspect", _inspect_json, _file("2026_t_x.json"), lambda v: v["samples"], "id", "scores.pattern.value"),
    Case("inspect-eval", _inspect_json, _eval, lambda v: v["samples"], "id", "scores.pattern.value"),
    Case(
        "promptfoo",
        lambda: _gzipped("sums.json.gz"),
        _file("out.json"),
        lambda v: v["results"]["results"],
        "vars.a",
        "namedScores.exact",
        Layout(part="new"),
    ),
    Case(
        "promptfoo-lines",
        lambda: _gzipped("sums.json.gz")["results"]["results"],
        _file("out.jsonl"),
        _itself,
        "vars.a",
        "namedScores.exact",
        Layout(part="new"),
    ),
    Case(
        "helm",
        lambda: {"states": copy.deepcopy(HELM_STATES), "stats": copy.deepcopy(HELM_STATS)},
        helm_folder,
        lambda v: v["states"],
        "instance.id",
    ),
    Case("helm-lines", lambda: copy.deepcopy(HELM_STATES), _file("states.jsonl"), _itself, "instance.id"),
    Case(
        "helm-stats",
        lambda: copy.deepcopy(HELM_STATS),
        _file("per_instance_stats.json"),
        _itself,
        "instance_id",
        "stats.0.mean",
    ),
    Case(
        "alpaca",
        lambda: copy.deepcopy(ALPACA),
        _file("outputs.json"),
        _itself,
        "instruction",
        layout=Layout(targets=DATA / "alpaca_targets.json"),
    ),
    Case(
        "annotations",
        lambda: copy.deepcopy(ANNOTATIONS),
        _file("annotations.json"),
        _itself,
        "instruction",
        "preference",
    ),
    Case(
        "lighteval",
        _lighteval_rows,
        _parquet("details_t|0_2026-01-01T00-00-00.parquet"),
        _itself,
        "doc.id",
        "metric.acc",
        columns=True,
    ),
    Case(
        "fastchat",
        _first_turns,
        _beside("m.jsonl", "question.jsonl", "fastchat/question.jsonl"),
        _itself,
        "question_id",
    ),
    Case("fastchat-judgments", _judged, _file("gpt-4_single.jsonl"), _itself, "question_id", "score"),
    Case("openai_evals", _matches, _file("record.jsonl"), _itself, "sample_id"),
    Case("chat_log", _logged, _file("log.jsonl"), _itself, "request.messages"),
    Case(
        "batch",
        _lines("chat_log/old.batch_output.jsonl"),
        _beside("output.jsonl", "input.jsonl", "chat_log/old.batch_input.jsonl"),
        _itself,
        "custom_id",
        layout=Layout(targets=DATA / "chat_log" / "targets.jsonl"),
    ),
    Case("langfuse", _traced, _file("traces.jsonl"), _itself, "input"),
    Case("langsmith", _experiment, _file("experiment.json"), _itself, "inputs", "feedback.correct"),
    Case("braintrust", _lines("braintrust/old.results.jsonl"), _file("e.jsonl"), _itself, "input", "scores.exact"),
    Case(
        "deepeval",
        lambda: json.loads((DATA / "deepeval" / "old.json").read_text(encoding="utf-8")),
        _file("run.json"),
        lambda v: v["testCases"],
        "input",
        "metricsData.0.score",
    ),
    Case(
        "nemo_evaluator",
        lambda: [row for row in _lines("nemo_evaluator/old/results.jsonl")() if row["repeat"] == 0],
        _file("results.jsonl"),
        _itself,
        "problem_idx",
        "reward",
    ),
    Case(
        "opencompass",
        lambda: list(json.loads((DATA / "opencompass/predictions/old/sums.json").read_text(encoding="utf-8")).values()),
        _numbered,
        _itself,
        "",
    ),
]
BY_NAME = {case.name: case for case in CASES}


def put(row: Any, path: str, value: Any) -> None:
    *way, last = path.split(".")
    for part in way:
        row = row[int(part)] if isinstance(row, list) else row[part]
    row[int(last) if isinstance(row, list) else last] = value


def drop(row: Any, path: str) -> None:
    *way, last = path.split(".")
    for part in way:
        row = row[int(part)] if isinstance(row, list) else row[part]
    del row[int(last) if isinstance(row, list) else last]
