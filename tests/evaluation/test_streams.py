"""Kept runs and task scores on disk: the same records as in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compatcheck.errors import InputError
from compatcheck.evaluation import streams
from compatcheck.evaluation.task_scoring import score_with_task
from compatcheck.readers import Layout, load_recorded
from compatcheck.readers.large import load_large
from compatcheck.records import Manifest, Metric, Run, StoredRun, TaskRun
from compatcheck.references import Reference
from compatcheck.scratch import Scratch
from compatcheck.table import kept_table
from compatcheck.table.kept import load_run, save_run
from compatcheck.tasks.load import TaskOptions
from tests.factories import write_rows


def cells(frame: pd.DataFrame) -> list[list[Any]]:
    return [
        [list(one) if np.ndim(one) else None if pd.isna(one) else one for one in row] for row in frame.values.tolist()
    ]


def assert_streams(stream: StoredRun, run: TaskRun, names: Sequence[str] | None = None) -> None:
    names = list(names or [*stream.kinds, *(f"score:{metric.name}" for metric in stream.metrics)])
    assert cells(pd.concat(stream.table.read(names), ignore_index=True)) == cells(run.records[names])
    assert (stream.task, stream.filter, stream.metrics, stream.rows) == (
        run.task,
        run.filter,
        run.metrics,
        len(run.records),
    )
    assert (dict(stream.settings), stream.duplicates, stream.notes) == (dict(run.settings), run.duplicates, run.notes)
    for name in stream.kinds:
        assert (name in stream.table.complete) <= (not run.records[name].isna().any()), name


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept_table, "ROWS_AT_ONCE", 3)
    acc = Metric("acc", "discrete", signature="acc|lm-eval")

    def records(size: int, **more: Any) -> pd.DataFrame:
        base = {
            "doc_id": [str(n) for n in range(size)],
            "target": ["4"] * size,
            "prediction": [None if n % 4 == 3 else str(n) for n in range(size)],
            "score:acc": [float("nan") if n == 2 else float(n == 4) for n in range(size)],
            "error": ["timeout" if n == 2 else None for n in range(size)],
            "loglikelihoods": [[-1.0, -0.5]] * size,
        }
        return pd.DataFrame(base | more)

    level = pd.array([1, None, 3, 4, 5, 6, 7], dtype="Int64")
    tasks = (
        TaskRun("piqa", "none", (acc,), records(7, level=level), {"num_fewshot": 0}, 2, ("a note",)),
        TaskRun("arc", "none", (acc,), records(4, level=["x", "y", "z", "x"])),
    )
    return save_run(Run(Manifest("old", "sha256:0", "model"), tasks, ("said",)), tmp_path / "run")


def test_a_kept_run_is_stored_as_it_was_kept(kept: Path, tmp_path: Path) -> None:
    manifest, found, notes = streams.stored_kept(kept, (), Scratch(tmp_path))
    whole = load_run(kept)
    assert (manifest, notes) == (whole.manifest, whole.notes)
    for stream, run in zip(found, whole.tasks, strict=True):
        assert_streams(stream, run)
    assert found[0].kinds["level"] == "integer"
    assert "loglikelihoods" in found[0].kinds
    assert "doc_id" in found[0].table.complete


def test_metrics_that_a_kept_run_lacks_are_computed(kept: Path, tmp_path: Path) -> None:
    (stream,) = streams.stored_kept(kept, ("arc",), Scratch(tmp_path))[1]
    stream = streams.with_metrics(stream, ("exact_match", "acc"), {})
    assert [metric.name for metric in stream.metrics] == ["exact_match", "acc"]
    scores = pd.concat(stream.table.read(["score:acc", "score:exact_match", "prediction"]), ignore_index=True)
    assert cells(scores) == [[0.0, 0.0, "0"], [0.0, 0.0, "1"], [None, None, "2"], [0.0, 0.0, None]]


def test_a_task_that_was_not_kept_is_named(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--task arcs: .*did you mean 'arc'"):
        streams.stored_kept(kept, ("arcs",), Scratch(tmp_path))


def test_texts_are_scored_as_a_task_does(tmp_path: Path) -> None:
    path = tmp_path / "old.parquet"
    texts = ["6 + 6 = 12 #### 12", "#### 13", None, "no number", "so the answer is 12."]
    pq.write_table(pa.table({"id": list(range(5)), "target": ["#### 12"] * 5, "prediction": texts}), path)
    scratch = Scratch(tmp_path)
    (plain,) = load_large(path, scratch, layout=Layout(), tasks=["gsm8k"])
    (run,) = load_recorded(path, tasks=["gsm8k"])
    expected = score_with_task(run, "gsm8k")
    assert len(expected) == 2
    for stream, one in zip(streams.score_stored(plain, "gsm8k"), expected, strict=True):
        assert_streams(stream, one)


def test_several_right_texts_are_scored_as_a_task_does(tmp_path: Path) -> None:
    rows = [{"id": n, "target": ["#### 12", "#### 13"], "prediction": f"#### {n}"} for n in (11, 12, 13)]
    (run,) = load_recorded(write_rows(tmp_path / "old.jsonl", rows), tasks=["gsm8k"])
    assert score_with_task(run, "gsm8k")[0].records["score:exact_match"].tolist() == [0, 1, 1]


def reference(path: Path, kind: str = "recorded") -> Reference:
    return Reference(str(path), kind, recorded=path)


def test_what_cannot_be_streamed_says_why(kept: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "prediction": "a", "target": "a"}\n')
    samples = tmp_path / "samples_arc.jsonl"
    samples.write_text('{"doc_id": 1, "doc": {}, "resps": [], "filtered_resps": []}\n')
    some = TaskOptions(limit=2)
    assert streams.why_not(reference(rows), Layout(), some) is None
    assert streams.why_not(reference(kept, "run"), Layout(), TaskOptions()) is None
    for given, layout, options, why in (
        (reference(kept, "run"), Layout(), some, "--limit and --sample choose documents"),
        (reference(samples), Layout(), some, "is what lm-eval wrote"),
        (reference(rows), Layout(extract="a"), some, "--extract reads all targets"),
        (Reference("org/model", "model"), Layout(), some, "org/model is evaluated, not recorded"),
    ):
        assert why in str(streams.why_not(given, layout, options))


def test_size_decides_and_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet"
    # Half of the rows share a text, which a dictionary in the file would hide.
    pq.write_table(pa.table({"id": range(10_000), "prediction": ["x" * 192] * 10_000}), path)
    size = streams.table_bytes(path)
    assert 2_000_000 <= size <= 2_100_000  # 8 bytes of the id, 4 or 8 of the offset, and the text
    assert streams.memory_needed([path, path]) == int(6.0 * size)
    monkeypatch.setattr(streams, "available_memory", lambda: 13 * size)
    assert not streams.is_heavy([path, path])
    monkeypatch.setattr(streams, "available_memory", lambda: 11 * size)
    assert streams.is_heavy([path, path])
    monkeypatch.setattr(streams, "available_memory", lambda: 10**12)
    monkeypatch.setattr(streams, "LIMIT_BYTES", 5 * size)
    assert streams.is_heavy([path, path])
    assert not streams.is_large([path, path])
    monkeypatch.setattr(streams, "DISK_BYTES", size)
    assert streams.is_large([path, path])


def test_memory_that_can_be_used_is_a_plausible_number() -> None:
    assert 1 << 20 < streams.available_memory() < 1 << 50
