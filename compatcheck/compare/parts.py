"""The pairs of two runs part by part: one part of what is in memory, of what is on disk many, one at hand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from compatcheck.compare.answers import of_sides
from compatcheck.compare.differences import differences
from compatcheck.compare.pairing import KEYS, Pairs
from compatcheck.compare.tally import Part
from compatcheck.records import (
    ANSWER_COLUMNS,
    Metric,
    OldAsReference,
    StoredRun,
    TaskRun,
    agreed_column,
    prediction_column,
    score_column,
)

PART_ROWS = 20_000
PART_BYTES = 32 << 20
"""A part has so many rows, or as many as are about so large where that is fewer."""
_PLACE = "__place"


def parts(
    old: TaskRun | StoredRun, new: TaskRun | StoredRun, metrics: Sequence[Metric], pairs: Pairs
) -> Iterator[Part]:
    """The pairs of two runs, both in memory or both on disk, part by part, in the order of OLD."""
    if isinstance(old, TaskRun) and isinstance(new, TaskRun):
        yield old, new, pairs
        return
    assert isinstance(old, StoredRun) and isinstance(new, StoredRun)
    size = max(1, min(PART_ROWS, int(PART_BYTES / max(old.table.row_bytes + new.table.row_bytes, 1))))
    mine, theirs = _columns(old, new, metrics, pairs.key)
    in_step = bool((pairs.new[1:] > pairs.new[:-1]).all())
    other = (_kept if in_step else partial(_sorted, size=size))(new, theirs, pairs.new)
    empty = old.without_rows(), new.without_rows()
    both = zip(_cut(_kept(old, mine, pairs.old), size), _cut(other, size), strict=True)
    for number, (before, after) in enumerate(both):
        if number % 10 == 0:  # each time would cost more than the work itself
            pa.default_memory_pool().release_unused()
        rows = np.arange(len(before))
        yield replace(empty[0], records=before), replace(empty[1], records=after), Pairs(rows, rows, pairs.key, 0, 0, 0)


def _columns(old: StoredRun, new: StoredRun, metrics: Sequence[Metric], key: str) -> tuple[list[str], list[str]]:
    """The columns to read of each side: of NEW only what OLD does not know already."""
    scores = [score_column(each.name) for each in metrics if not isinstance(each, OldAsReference)]
    own = {
        "doc_id",
        "target",
        "prediction",
        "response",
        "error",
        "loglikelihoods",
        *ANSWER_COLUMNS,
        *of_sides(new.kinds),
    }
    own |= {name(metric.name) for metric in metrics for name in (prediction_column, agreed_column)}
    if key != "id":
        own |= {"doc_hash", KEYS[key]}
    prompts = other_prompts(old, new)
    if prompts:
        own |= {"input", "full_prompt"}
    mine = [name for name in old.kinds if prompts or name != "full_prompt"]
    theirs = [name for name in new.kinds if name in mine or name not in old.kinds]
    return [*mine, *scores], [*(name for name in theirs if name in own or name not in old.table.complete), *scores]


def _kept(run: StoredRun, names: Sequence[str], places: np.ndarray) -> Iterator[pa.RecordBatch]:
    """The rows of a run at these places, which grow, with these columns."""
    flags = np.zeros(run.rows, dtype=bool)
    flags[places] = True
    start = 0
    for table in run.table.tables(names):
        chosen = flags[start : start + len(table)]
        start += len(table)
        yield from (table if chosen.all() else table.filter(pa.array(chosen))).to_batches()


def _sorted(run: StoredRun, names: Sequence[str], places: np.ndarray, size: int) -> Iterator[pa.RecordBatch]:
    """The rows of a run at these places, in any order, with these columns; sorted through a file, in which the rows of
    every ``size`` of them lie together."""
    order = np.full(run.rows, -1, np.int32)
    order[places] = np.arange(len(places), dtype=np.int32)
    edges = np.arange(0, len(places) + size, size)
    path, found = run.table.scratch.path("sorted.arrow"), [list[int]() for _ in edges]
    count = start = 0
    writer = None
    for table in _gathered(run.table.tables(names)):
        row, start = order[start : start + len(table)], start + len(table)
        by_place = np.argsort(row, kind="stable")[np.count_nonzero(row < 0) :]
        table = table.take(pa.array(by_place)).append_column(_PLACE, pa.array(row[by_place])).combine_chunks()
        writer = writer or pa.ipc.new_file(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))
        bounds = np.searchsorted(row[by_place], edges)
        for part in np.flatnonzero(np.diff(bounds)):
            writer.write_table(table.slice(bounds[part], bounds[part + 1] - bounds[part]))
            found[part].append(count)
            count += 1
    if writer is not None:
        writer.close()
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for numbers in filter(None, found):
            table = pa.Table.from_batches([reader.get_batch(number) for number in numbers]).combine_chunks()
            place = table[_PLACE].to_numpy()
            yield from table.drop_columns(_PLACE).take(pa.array(np.argsort(place))).to_batches()
    path.unlink()


def _gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about :data:`PART_BYTES`."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(each.nbytes for each in waiting) >= PART_BYTES:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _cut(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pd.DataFrame]:
    """The same rows in parts of ``size``, as records."""
    waiting: list[pa.RecordBatch] = []
    rows = 0

    def part() -> pd.DataFrame:
        nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        frame: pd.DataFrame = pa.Table.from_batches(waiting).to_pandas(types_mapper=nullable.get)
        return frame

    for batch in batches:
        while rows + len(batch) >= size:
            waiting.append(batch.slice(0, size - rows))
            batch = batch.slice(size - rows)
            yield part()
            waiting, rows = [], 0
        if len(batch):
            waiting.append(batch)
            rows += len(batch)
    if rows:
        yield part()


def other_prompts(old: StoredRun, new: StoredRun) -> bool:
    """Whether the models were given different texts, and these were recorded."""
    known = all("full_prompt" in run.names and "input" in run.names for run in (old, new))
    return known and differences([(old.settings, new.settings)]).of_prompts
