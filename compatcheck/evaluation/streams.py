"""Recorded sides that are too large to hold, as streams: when, and how."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from compatcheck.evaluation.task_scoring import score_with_task
from compatcheck.readers import lm_eval_samples
from compatcheck.readers.detect import tool_of
from compatcheck.records import Manifest, StreamedRun, TaskRun, score_column
from compatcheck.references import Reference
from compatcheck.table import kept, kept_table
from compatcheck.table.kept_side import kept_names
from compatcheck.table.layout import Layout
from compatcheck.table.reading import file_kind
from compatcheck.table.scoring import score_records
from compatcheck.tasks.load import TaskOptions

LIMIT_BYTES = 4 << 30
"""A comparison is streamed when it would take more memory than this, or than half of what is free."""
TABLE_TIMES = 3.0
"""Peak memory of a comparison that holds everything, over the size of both sides' rows as tables: 1,340 bytes a pair
where a row has 225, measured with a million rows (docs/scaling.md)."""
GZIP_TIMES, PLAIN_TIMES = 6.0, 1.2
"""Size of the rows as a table over the size of a text file, compressed and not."""
_SAMPLE_ROWS = 2_000
_KINDS = {
    "bool": "boolean", "boolean": "boolean", "int64": "integer", "Int64": "integer", "float64": "number",
}  # fmt: skip


@dataclass(frozen=True)
class StreamedSide:
    """OLD or NEW, with the records of its tasks as streams."""

    manifest: Manifest
    tasks: tuple[StreamedRun, ...]
    notes: tuple[str, ...] = ()


def why_not(reference: Reference, layout: Layout, options: TaskOptions) -> str | None:
    """Why a reference cannot be streamed; None where it can."""
    path = reference.recorded
    if path is None:
        return f"{reference.text} is evaluated, not recorded (keep it with `compatcheck run` and compare the kept runs)"
    if reference.kind == "run":
        narrowed = options.limit is not None or options.sample is not None
        return (
            f"--limit and --sample choose documents of {reference.text}, which is done in memory" if narrowed else None
        )
    if options.sample is not None:
        return "--sample does not apply to recorded outputs"
    tool = tool_of(path, replace(layout, tool=reference.tool))
    if tool is not None:
        return f"{reference.text} is what {tool} wrote (keep it with `compatcheck run {reference.text}` first)"
    if lm_eval_samples.is_samples(path):
        return f"{reference.text} is what lm-eval wrote (keep it with `compatcheck run {reference.text}` first)"
    if reference.part is not None:
        return f"#{reference.part} chooses rows of {reference.recorded}"
    if layout.repeats is not None:
        return "--repeats average gathers the rows of every id"
    if layout.extract is not None:
        return "--extract reads all targets before it decides what they are"
    return None


def memory_needed(paths: Sequence[Path]) -> int:
    """About the peak memory of comparing these files, or kept runs, with everything held; bytes."""
    return int(TABLE_TIMES * sum(map(table_bytes, paths)))


def table_bytes(path: Path) -> int:
    """About the size of a file's rows, or a kept run's, as a table in memory, from the first rows and their number."""
    path = path / kept.RECORDS if path.is_dir() else path
    if file_kind(path) != "parquet":
        size = path.stat().st_size
        return int(size * (GZIP_TIMES if path.name.lower().endswith(".gz") else PLAIN_TIMES))
    try:
        with pq.ParquetFile(path) as file:
            first = next(file.iter_batches(batch_size=_SAMPLE_ROWS), None)
            return int(_plain_bytes(first) * file.metadata.num_rows) if first is not None and len(first) else 0
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return 0  # reading it says what is wrong


def _plain_bytes(batch: pa.RecordBatch) -> float:
    decoded = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return float(sum(column.nbytes for column in decoded)) / len(batch)


def available_memory() -> int:
    """Bytes that the process can still use: of the machine, or of its control group where that allows less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError, AttributeError):
            return 2 * LIMIT_BYTES
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return free
    return min(free, max(most - used, 0))


def is_large(paths: Sequence[Path]) -> bool:
    """Whether comparing these is to be streamed; see :data:`LIMIT_BYTES`."""
    return memory_needed(paths) > min(LIMIT_BYTES, available_memory() // 2)


def stream_kept(
    folder: Path, tasks: Sequence[str], metrics: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> tuple[Manifest, list[StreamedRun], tuple[str, ...]]:
    """A kept run: what made it, the records of these tasks (none means all), and its notes.

    Raises:
        InputError: as :func:`compatcheck.table.kept.load_run`.
    """
    opened, parts = kept.open_run(folder, kept_names(folder, tasks))
    runs = [_KeptPart(folder / kept.RECORDS, part).run() for part in parts]
    return opened.manifest, [with_metrics(run, metrics, options) for run in runs], opened.notes


class _KeptPart:
    """One task and filter of a kept run."""

    def __init__(self, path: Path, part: kept.Part) -> None:
        self.path, self.part = path, part

    def run(self) -> StreamedRun:
        kinds = {
            name: _KINDS.get(kind, "text")
            for name, kind in self.part.kinds.items()
            if name != "loglikelihoods" and not name.startswith("score:")
        }
        part = self.part
        complete, size = self._statistics()
        return StreamedRun(
            part.task, part.filter, part.metrics, part.rows, kinds, complete & set(kinds), self.read, size,
            part.settings, part.duplicates, part.notes,
        )  # fmt: skip

    def _statistics(self) -> tuple[frozenset[str], float]:
        """Columns without nulls, and the size of a row."""
        nulls = dict.fromkeys(self.part.kinds, 0)
        size = 0
        with pq.ParquetFile(self.path) as file:
            for number in self.part.groups:
                group = file.metadata.row_group(number)
                size += group.total_byte_size
                by_name = {group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)}
                for name in nulls:
                    found = by_name.get(self.part.layout.stored(name))
                    nulls[name] += 1 if found is None or not found.has_null_count else found.null_count
        complete = frozenset(name for name, count in nulls.items() if not count)
        return complete, max(size, table_bytes(self.path)) / max(self.part.rows, 1)

    def read(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        wanted = {name: self.part.kinds[name] for name in names}
        gaps = {"int64": "Int64", "bool": "boolean"}  # one type, whether a batch has gaps or not
        loose = {name: gaps[kind] for name, kind in wanted.items() if kind in gaps}
        for number in self.part.groups:
            yield kept_table.read_records(self.path, [number], wanted, self.part.layout).astype(loose)


def with_metrics(run: StreamedRun, metrics: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> StreamedRun:
    """Keep the metrics asked for (none means all), computing those that the run lacks from prediction and target."""
    have = {metric.name: metric for metric in run.metrics}
    if not metrics:
        return run
    missing = [name for name in dict.fromkeys(metrics) if name not in have]
    empty = pd.DataFrame({name: [] for name in ("doc_id", "prediction", "target")})
    have |= {metric.name: metric for metric in score_records(empty, missing, options=options)[1]}
    wanted = tuple(have[name] for name in dict.fromkeys(metrics))
    if not missing:
        return replace(run, metrics=wanted)
    added = [score_column(name) for name in missing]

    def compute(records: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        scored = [name for name in missing if score_column(name) in names]
        return score_records(records, scored, options=options)[0]

    return replace(run, metrics=wanted, read=_computing(run, added, compute))


def score_stream(run: StreamedRun, task: str, trust: bool = False) -> list[StreamedRun]:
    """Score recorded texts as a task does, batch by batch."""
    names = [name for name in run.kinds if not name.startswith("prediction:")]
    none = TaskRun(run.task, run.filter, run.metrics, pd.DataFrame({name: [] for name in names}), run.settings)
    found = []
    for place, probe in enumerate(score_with_task(none, task, trust)):

        def compute(records: pd.DataFrame, names: Sequence[str], place: int = place) -> pd.DataFrame:
            return score_with_task(replace(none, records=records), task, trust)[place].records

        made = [name for name in ("prediction", "response") if name in probe.records]
        kinds = dict(run.kinds) | dict.fromkeys(made, "text")
        added = [*made, *(score_column(metric.name) for metric in probe.metrics)]
        found.append(
            replace(
                run,
                task=probe.task,
                filter=probe.filter,
                metrics=probe.metrics,
                kinds=kinds,
                complete=run.complete - set(made),
                read=_computing(run, added, compute),
            )
        )
    return found


def _computing(
    run: StreamedRun, added: Sequence[str], compute: Callable[[pd.DataFrame, Sequence[str]], pd.DataFrame]
) -> Callable[[Sequence[str]], Iterator[pd.DataFrame]]:
    """Reading with some columns computed from others, where they are wanted."""

    def read(names: Sequence[str]) -> Iterator[pd.DataFrame]:
        if not set(added) & set(names):
            yield from run.read(names)
            return
        basis = [name for name in ("doc_id", "prediction", "target", "error") if name in run.kinds]
        known = [name for name in names if name not in added and name not in basis]
        for records in run.read([*basis, *known]):
            yield compute(records, names)[list(names)]

    return read
