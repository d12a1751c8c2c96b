"""The pairs of two runs part by part: one part of what is in memory, of what is on disk many, one at hand at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from compatcheck.compare.answers import of_sides
from compatcheck.compare.differences import differences
from compatcheck.compare.pairing import KEYS, Pairs, pair, paired
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

if TYPE_CHECKING:
    import duckdb

PART_ROWS = 20_000
PART_BYTES = 32 << 20
"""A part has so many rows, or as many as are about so large where that is fewer."""


@contextmanager
def parts(
    old: TaskRun | StoredRun, new: TaskRun | StoredRun, metrics: Sequence[Metric]
) -> Iterator[tuple[Pairs, Iterable[Part]]]:
    """The pairs of two runs, both in memory or both on disk, and the same part by part, in the order of OLD.

    Raises InputError: as :func:`compatcheck.compare.pairing.pair`."""
    if isinstance(old, TaskRun) and isinstance(new, TaskRun):
        pairs = pair(old, new)
        yield pairs, [(old, new, pairs)]
        return
    assert isinstance(old, StoredRun) and isinstance(new, StoredRun)
    with paired(old, new) as (pairs, con):
        yield pairs, _on_disk(old, new, metrics, pairs, con)


def _on_disk(
    old: StoredRun, new: StoredRun, metrics: Sequence[Metric], pairs: Pairs, con: duckdb.DuckDBPyConnection
) -> Iterator[Part]:
    size = max(1, min(PART_ROWS, int(PART_BYTES / max(old.table.row_bytes + new.table.row_bytes, 1))))
    mine, theirs = _columns(old, new, metrics, pairs.key)
    if bool((pairs.new[1:] > pairs.new[:-1]).all()):
        other = _kept(new, theirs, pairs.new)
    else:
        names = ", ".join('n."' + name.replace('"', '""') + '"' for name in theirs)
        query = f"SELECT {names} FROM pairs JOIN n_rows AS n ON n.__row = pairs.new ORDER BY pairs.old"
        other = iter(con.sql(query).to_arrow_reader(size))
    empty = old.without_rows(), new.without_rows()
    for before, after in zip(_cut(_kept(old, mine, pairs.old), size), _cut(other, size), strict=True):
        if "target" in mine and "target" not in theirs and "target" in new.names:
            after["target"] = before["target"]
        rows = np.arange(len(before))
        yield replace(empty[0], records=before), replace(empty[1], records=after), Pairs(rows, rows, pairs.key, 0, 0, 0)
        pa.default_memory_pool().release_unused()


def _columns(old: StoredRun, new: StoredRun, metrics: Sequence[Metric], key: str) -> tuple[list[str], list[str]]:
    """The columns to read of each side: of NEW only what OLD does not know already."""
    scores = [score_column(each.name) for each in metrics if not isinstance(each, OldAsReference)]
    own = {"doc_id", "prediction", "response", "error", *ANSWER_COLUMNS, *of_sides(new.kinds)}
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
