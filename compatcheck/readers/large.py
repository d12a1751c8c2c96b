"""Recorded outputs that are too many to hold: checked a chunk at a time, kept on disk as the records of each task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.errors import InputError
from compatcheck.readers.parts import (
    DEFAULT_TASK,
    Ids,
    Part,
    drop_repeats,
    plain_part,
    record_columns,
    said_of_rows,
    scored,
    wanted_ids,
    wanted_metrics,
    with_targets_left,
)
from compatcheck.readers.recorded import no_such_task, targets_of, task_of
from compatcheck.records import NO_FILTER, Metric, StoredRun, TaskRun, score_column
from compatcheck.scratch import Scratch, database
from compatcheck.table.check import Columns
from compatcheck.table.layout import Layout
from compatcheck.table.reading import only_part, read_rows
from compatcheck.table.scoring import Options
from compatcheck.table.stored import Rows, by_key, distinct
from compatcheck.table.values import NUMBER, REFERENCES

KEY = ("task", "filter")
_TELLING = ("doc_id", "target", "prediction", "error")
"""The columns by which rows are scored."""


def load_large(
    path: Path,
    scratch: Scratch,
    *,
    layout: Layout,
    side: str = "",
    metrics: Sequence[str] = (),
    tasks: Sequence[str] = (),
    limit: int | None = None,
    ids: Ids | None = None,
    metric_options: Options | None = None,
) -> list[StoredRun]:
    """Read a file of rows as :func:`~compatcheck.readers.load_recorded` does, with its records on disk.

    Not for what another tool wrote, nor with ``layout.extract``, whose targets are only known when all were seen.
    Raises InputError: as ``load_recorded``; or the disk has no room.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be 1 or more")
    targets = targets_of(layout.targets, layout) if layout.targets is not None else None
    source = only_part(read_rows(path, layout.part), layout.part, layout.model_field)
    task = task_of(tasks)
    reader, raw = Columns(source, layout, side, targets, metrics), Rows(scratch)
    keys: dict[tuple[str, str], None] = {}
    for columns in reader.tables():
        table = _with_keys(pa.table(columns), task or DEFAULT_TASK)
        keys |= dict.fromkeys((one["task"], one["filter"]) for one in distinct(table, KEY))
        raw.add(table)
    (part,) = with_targets_left([plain_part(reader.finish(pa.table({})), layout, task)], targets)
    found = _Runs(raw.finish(reader.unfit), reader, part, layout, metrics, metric_options)
    return found.all(list(keys), path, tasks, limit, ids)


def _with_keys(table: pa.Table, task: str) -> pa.Table:
    for name, default in zip(KEY, (task, NO_FILTER), strict=True):
        if name in table.column_names:
            place = table.column_names.index(name)
            table = table.set_column(place, name, pc.fill_null(table[name], default))
        else:
            table = table.append_column(name, pa.repeat(pa.scalar(default, pa.large_string()), len(table)))
    return table


class _Runs:
    """The checked rows of a file as the records of its tasks and filters."""

    def __init__(
        self, raw: Rows, reader: Columns, part: Part, layout: Layout, metrics: Sequence[str], options: Options | None
    ) -> None:
        self.raw, self.reader, self.part, self.layout = raw, reader, part, layout
        self.asked, self.options = metrics, options
        self.wanted = wanted_metrics(part.rows, metrics, part.default_metrics)

    def all(
        self, keys: list[tuple[str, str]], path: Path, tasks: Sequence[str], limit: int | None, ids: Ids | None
    ) -> list[StoredRun]:
        """The runs by task and filter, in the order in which these first appear, those of one task together."""
        repeats, order = self._repeats(), list(dict.fromkeys(task for task, _ in keys))
        keys.sort(key=lambda key: order.index(key[0]))
        if tasks and not any(task in tasks for task, _ in keys):
            no_such_task(path, [TaskRun(task, name, (), pd.DataFrame()) for task, name in keys], tasks)
        dropped = pa.concat_arrays([*repeats.values()]) if repeats else pa.array([], pa.int64())
        whole = len(keys) == 1 and not repeats and limit is None and not self.reader.source.untyped
        found = []
        for key in keys:
            if (tasks and key[0] not in tasks) or self.layout.filter not in (None, key[1]):
                continue
            only = wanted_ids(ids, *key)
            left, only = (None, only) if limit is not None and self._has(key, only) else (limit, only[:0])
            rows, metrics = self._stored(key, dropped, left, only, whole)
            duplicates = len(repeats.get(key, ()))
            notes = (*self.part.notes, *(() if self.asked else self.part.score_notes))
            settings = said_of_rows(self.layout) | ({"limit": limit} if limit is not None else {})
            found.append(StoredRun(*key, metrics, rows, settings, duplicates, notes, self.part.rows.typed))
        return found

    def _stored(
        self, key: tuple[str, str], dropped: pa.Array, limit: int | None, only: pa.Array, whole: bool
    ) -> tuple[Rows, tuple[Metric, ...]]:
        """The records of a task and filter; where they are all rows as these were read, with the scores beside them."""
        there = list(self.raw.types)
        kept = [name for name in self.part.rows.metrics if name in self.wanted and score_column(name) in there]
        names = record_columns(there, kept)
        known = (*KEY, NUMBER, REFERENCES, *_TELLING)
        read = [name for name in there if not whole or name in known or name.startswith("score:")]
        rows, scores, metrics = Rows(self.raw.scratch), dict[str, pa.Array](), tuple[Metric, ...]()
        tables = partial(self._tables, key, dropped, limit, only, read)
        parts = scored(self.part, self.wanted, self.options, tables, _TELLING)
        for table, records, metrics in parts:  # noqa: B007 - those of the last are those of all
            scores = {n: pa.array(records[n], from_pandas=True) for n in records.columns if n not in _TELLING}
            rows.add(pa.table(({} if whole else {name: table[name] for name in names}) | scores))
        finished, order = rows.finish(), dict.fromkeys([*names, *scores])
        return (self.raw.beside(finished, order) if whole else finished), metrics

    def _repeats(self) -> dict[tuple[str, str], pa.Array]:
        """Numbers of the rows that repeat an earlier one exactly, by task and filter."""
        with database(self.raw.scratch, self.raw.rows) as con:
            con.register("rows", self.raw.dataset())
            twice = "SELECT hash(task, filter, doc_id) AS code FROM rows GROUP BY code HAVING count(*) > 1"
            codes = con.execute(twice).fetchnumpy()["code"]
            if not len(codes):
                return {}
            con.register("twice", pa.table({"code": codes}))
            query = f"SELECT * FROM rows WHERE hash(task, filter, doc_id) IN (SELECT code FROM twice) ORDER BY {NUMBER}"
            suspects = con.sql(query).to_arrow_table()
        names = [name for name in suspects.column_names if not name.startswith("__row")]
        found = {}
        for key, rows in by_key(suspects.select(names), KEY):
            kept, count = drop_repeats(rows, self.reader.source)
            gone = rows.filter(pc.invert(pc.is_in(rows[NUMBER], value_set=kept[NUMBER].combine_chunks())))
            if count:
                found[key[0], key[1]] = gone[NUMBER].combine_chunks().cast(pa.int64())
        return found

    def _has(self, key: tuple[str, str], ids: pa.Array) -> bool:
        """Whether a row of a task and filter has one of the ids."""
        nothing = pa.array([], pa.int64())
        names = [*KEY, NUMBER, "doc_id"]
        return len(ids) > 0 and any(map(len, self._tables(key, nothing, None, ids, names)))

    def _tables(
        self, key: tuple[str, str], dropped: pa.Array, limit: int | None, only: pa.Array, names: Sequence[str]
    ) -> Iterator[pa.Table]:
        """The rows that count, in their order, with these columns; those of ``only``, where it has ids."""
        left = limit
        for table in self.raw.tables(names):
            chosen = pc.and_(pc.equal(table["task"], key[0]), pc.equal(table["filter"], key[1]))
            if len(only):
                chosen = pc.and_(chosen, pc.is_in(table["doc_id"], value_set=only))
            if len(dropped):
                chosen = pc.and_(chosen, pc.invert(pc.is_in(table[NUMBER], value_set=dropped)))
            if not pc.all(chosen).as_py():
                table = table.filter(chosen)
            if left is not None:
                table, left = table.slice(0, left), max(left - len(table), 0)
            yield self.reader.settled(table)
            if left == 0:
                return
