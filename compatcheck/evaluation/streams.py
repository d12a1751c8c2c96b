"""Recorded sides that are too large to hold: which they are, and their records on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from compatcheck.evaluation.task_scoring import score_with_task
from compatcheck.memory import available_memory
from compatcheck.readers import lm_eval_samples
from compatcheck.readers.detect import tool_of
from compatcheck.records import Manifest, StoredRun, TaskRun
from compatcheck.references import Reference
from compatcheck.scratch import Scratch
from compatcheck.table import kept, kept_table
from compatcheck.table.kept_side import kept_names
from compatcheck.table.layout import Layout
from compatcheck.table.lists import references_of
from compatcheck.table.reading import file_kind, row_bytes
from compatcheck.table.scoring import score_records
from compatcheck.table.stored import mapped, stored
from compatcheck.tasks.load import TaskOptions

DISK_BYTES = 192 << 20
"""Rows of both sides that are larger than this as tables lie on disk while they are compared."""
LIMIT_BYTES = 4 << 30
"""What cannot lie on disk and takes more memory than this, or than half of what is free, is said before."""
TABLE_TIMES = 3.0
"""Peak memory of a comparison that holds everything, over the size of both sides' rows as tables: 1,340 bytes a pair
where a row has 225, measured with a million rows (docs/scaling.md)."""
PACKED_TIMES, PLAIN_TIMES = 6.0, 1.2
"""Size of the rows as a table over the size of a text file, compressed and not."""
_SAMPLE_ROWS = 2_000


def why_not(reference: Reference, layout: Layout, options: TaskOptions) -> str | None:
    """Why the records of a reference cannot lie on disk; None where they can."""
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
    if tool is None and lm_eval_samples.is_samples(path):
        tool = "lm-eval"
    if tool is not None:
        return f"{reference.text} is what {tool} wrote (keep it with `compatcheck run {reference.text}` first)"
    if layout.repeats is not None:
        return "--repeats average gathers the rows of every id"
    return "--extract reads all targets before it decides what they are" if layout.extract is not None else None


def memory_needed(paths: Sequence[Path]) -> int:
    """About the peak memory of comparing these files, or kept runs, with everything held; bytes."""
    return int(TABLE_TIMES * sum(map(table_bytes, paths)))


def table_bytes(path: Path) -> int:
    """About the size of a file's rows, or a kept run's, as a table in memory, from the first rows and their number."""
    path = path / kept.RECORDS if path.is_dir() else path
    if not path.is_file():
        return 0  # a folder of another tool's, which is read in memory
    if file_kind(path) != "parquet":
        packed = path.name.lower().endswith((".gz", ".xz", ".zst", ".bz2"))
        return int(path.stat().st_size * (PACKED_TIMES if packed else PLAIN_TIMES))
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            first = next(file.iter_batches(batch_size=_SAMPLE_ROWS), None)
            return row_bytes(first) * file.metadata.num_rows if first is not None and len(first) else 0
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return 0  # reading it says what is wrong


def is_large(paths: Sequence[Path]) -> bool:
    """Whether the records of these are to lie on disk; see :data:`DISK_BYTES`."""
    return sum(map(table_bytes, paths)) > DISK_BYTES


def is_heavy(paths: Sequence[Path]) -> bool:
    """Whether holding the records of these is to be said before; see :data:`LIMIT_BYTES`."""
    return memory_needed(paths) > min(LIMIT_BYTES, available_memory() // 2)


def stored_kept(
    folder: Path, tasks: Sequence[str], scratch: Scratch
) -> tuple[Manifest, list[StoredRun], tuple[str, ...]]:
    """A kept run: what made it, the records of these tasks (none means all), and its notes. Raises InputError: as
    :func:`compatcheck.table.kept.load_run`."""
    opened, parts = kept.open_run(folder, kept_names(folder, tasks))

    def records(part: kept.Part) -> Iterator[TaskRun]:
        about = (part.settings, part.duplicates, part.notes, part.typed)
        for number in part.groups:
            frame = kept_table.read_records(folder / kept.RECORDS, [number], part.kinds, part.layout)
            yield TaskRun(part.task, part.filter, part.metrics, frame, *about)
        if not part.groups:
            yield TaskRun(part.task, part.filter, part.metrics, pd.DataFrame({name: [] for name in part.kinds}), *about)

    return opened.manifest, [stored(records(part), scratch) for part in parts], opened.notes


def ids_of(run: TaskRun | StoredRun) -> list[str]:
    """The documents of a run, in their order."""
    if isinstance(run, TaskRun):
        return [str(one) for one in run.records["doc_id"]]
    return [one for table in run.table.tables(["doc_id"]) for one in table["doc_id"].to_pylist()]


def with_metrics(run: StoredRun, metrics: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> StoredRun:
    """Keep the metrics asked for (none means all), computing those that the run lacks from prediction and target."""
    have = {metric.name: metric for metric in run.metrics}
    missing = [name for name in dict.fromkeys(metrics) if name not in have]
    if missing:

        def scored(part: TaskRun) -> TaskRun:
            right = references_of(part.records, run.typed, missing)
            records, added = score_records(part.records, missing, references=right, options=options)
            return replace(part, records=records, metrics=(*part.metrics, *added))

        run = mapped(run, scored)
        have = {metric.name: metric for metric in run.metrics}
    return replace(run, metrics=tuple(have[name] for name in dict.fromkeys(metrics))) if metrics else run


def score_stored(run: StoredRun, task: str, trust: bool = False) -> list[StoredRun]:
    """Score recorded texts as a task does: one run for each of its filters."""

    def scored(place: int) -> Callable[[TaskRun], TaskRun]:
        return lambda part: score_with_task(part, task, trust)[place]

    count = len(score_with_task(run.without_rows(), task, trust))
    return [mapped(run, scored(place)) for place in range(count)]
