"""NeMo Evaluator: ``results.jsonl`` of a run (0.3), ``byob_predictions.jsonl`` of an own benchmark (0.2).

A result is ``{"problem_idx", "repeat", "reward", "scorer_rewards", "prompt", "model_response", "extracted_answer",
"expected_answer", "scoring_details", "metadata", "tokens", "latency_ms"}``; a prediction ``{"sample_id", "prompt",
"response", "target", "scores", "status", "error", "metadata"}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compatcheck.errors import InputError
from compatcheck.readers.recording import (
    Record,
    Recording,
    average_repeats,
    count_scores,
    labels,
    need_tasks,
    records,
    seconds,
)
from compatcheck.table.reading import Row, read_json, read_rows


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One row per problem, its repeats averaged; of a folder the benchmarks in it."""
    if path.is_file():
        return [_recording(path, task)]
    files: dict[str, Path] = {}
    for file in sorted(path.rglob("results.jsonl")):
        name = _benchmark(file)
        if files.setdefault(name, file) != file:
            both = " and ".join(str(one.parent.relative_to(path)) for one in (files[name], file))
            raise InputError(f"{path}: several results of {name} ({both}); name the folder of one run")
    need_tasks(path, list(files), tasks, "results.jsonl")
    return [_recording(file, None) for name, file in files.items() if not tasks or name in tasks]


def _benchmark(file: Path) -> str:
    """The name of the benchmark in the bundle that lies beside the results, else that of the folder."""
    bundle = next(iter(sorted(file.parent.glob("eval-*.json"))), None)
    name = None if bundle is None else Record(read_json(bundle), str(bundle)).record("benchmark").get("name", "a text")
    return name or file.resolve().parent.name


def _recording(path: Path, task: str | None) -> Recording:
    source = read_rows(path)
    recording = Recording(source, (), task or _benchmark(path))
    items = [(number, _plain(record), record.value) for number, record in records(source)]
    recording.higher = bool(items) and "sample_id" not in items[0][2]  # rewards
    count_scores(items, recording)
    recording.items = average_repeats(items, "repeat", "repeats", recording)
    return recording


def _plain(record: Record) -> Row:
    row = _prediction(record) if "sample_id" in record.value else _result(record)
    row |= seconds(record, {"latency_ms": 1000})
    return labels(record.get("metadata", "an object", {})) | row


def _result(record: Record) -> Row:
    """A row of ``results.jsonl``; an extracted answer is what was judged."""
    details = record.record("scoring_details")
    said, extracted = record.get("model_response", "a text"), record.get("extracted_answer", "a text")
    row: Row = {"id": record.name("problem_idx"), "input": record.get("prompt", "a text")}
    row |= {"target": record.value.get("expected_answer"), "prediction": said if extracted is None else extracted}
    if extracted not in (None, said):
        row["response"] = said
    if details.value.get("method") == "solve_failed" or details.value.get("error"):
        return row | {"prediction": None, "error": str(details.value.get("error") or "the request failed")}
    scorers = record.get("scorer_rewards", "an object", {})
    row |= {f"score:{name.removeprefix('scorer:')}": value for name, value in scorers.items()}
    return row | {"score:reward": record.value.get("reward")}


def _prediction(record: Record) -> Row:
    row: Row = {"id": record.name("sample_id"), "input": record.get("prompt", "a text")}
    row |= {"target": record.value.get("target"), "prediction": record.get("response", "a text")}
    status = record.get("status", "a text", "scored")
    if status != "scored" or record.value.get("error"):
        return row | {"error": str(record.value.get("error") or status)}
    scores = record.get("scores", "an object", {})
    return row | {f"score:{name}": value for name, value in scores.items() if not isinstance(value, str | list | dict)}
