"""Recorded outputs that are too many to hold: checked a chunk at a time, kept on disk as the records of each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.errors import InputError
from compatcheck.readers.parts import (
    DEFAULT_TASK,
    Part,
    drop_repeats,
    frame_of,
    plain_part,
    said_of_rows,
    wanted_metrics,
)
from compatcheck.readers.recorded import no_such_task, targets_of
from compatcheck.records import NO_FILTER, Metric, StoredRun, TaskRun, score_column
from compatcheck.scratch import Scratch, database
from compatcheck.table.check import Columns
from compatcheck.table.layout import Layout
from compatcheck.table.reading import only_part, read_rows
from compatcheck.table.scoring import Options, recorded_metric, score_records, settle_scores, worst_score
from compatcheck.table.stored import Rows, by_key, stored
from compatcheck.table.values import NUMBER, REFERENCES

KEY = ("task", "filter")


def load_large(
    path: Path,
    scratch: Scratch,
    *,
    layout: Layout,
    side: str = "",
    metrics: Sequence[str] = (),
    task: str | None = None,
    tasks: Sequence[str] = (),
    limit: int | None = None,
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
    reader, raw = Columns(source, layout, side, targets, metrics), Rows(scratch)
    for columns in reader.tables():
        raw.add(_with_keys(pa.table(columns), task or DEFAULT_TASK))
    part = plain_part(reader.finish(pa.table({})), layout, task)
    return _Runs(raw.finish(reader.unfit), reader, part, layout, metrics, metric_options).all(path, tasks, limit)


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

    def all(self, path: Path, tasks: Sequence[str], limit: int | None) -> list[StoredRun]:
        repeats, keys = self._repeats(), self._keys()
        if tasks and not any(task in tasks for task, _ in keys):
            no_such_task(path, [TaskRun(task, name, (), pd.DataFrame()) for task, name in keys], tasks)
        dropped = pa.concat_arrays([*repeats.values()]) if repeats else pa.array([], pa.int64())
        found = []
        for key in keys:
            if (tasks and key[0] not in tasks) or self.layout.filter not in (None, key[1]):
                continue
            run = stored(self._scored(key, dropped, limit), self.raw.scratch)
            duplicates = len(repeats.get(key, ()))
            notes = (*self.part.notes, *(() if self.asked else self.part.score_notes))
            settings = said_of_rows(self.layout) | ({"limit": limit} if limit is not None else {})
            found.append(StoredRun(*key, run.metrics, run.table, settings, duplicates, notes))
        return found

    def _keys(self) -> list[tuple[str, str]]:
        """Tasks and filters, in the order in which they first appear, those of one task together."""
        with database(self.raw.scratch, self.raw.rows) as con:
            con.register("rows", self.raw.dataset())
            query = f"SELECT task, filter FROM rows GROUP BY ALL ORDER BY min({NUMBER})"
            found = [(str(task), str(name)) for task, name in con.execute(query).fetchall()]
        order = list(dict.fromkeys(task for task, _ in found))
        return sorted(found, key=lambda key: order.index(key[0]))

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

    def _tables(self, key: tuple[str, str], dropped: pa.Array, limit: int | None) -> Iterator[pa.Table]:
        """The rows that count, in their order."""
        left = limit
        for table in self.raw.tables(list(self.raw.types)):
            chosen = pc.and_(pc.equal(table["task"], key[0]), pc.equal(table["filter"], key[1]))
            if len(dropped):
                chosen = pc.and_(chosen, pc.invert(pc.is_in(table[NUMBER], value_set=dropped)))
            if not pc.all(chosen).as_py():
                table = table.filter(chosen)
            if left is not None:
                table, left = table.slice(0, left), max(left - len(table), 0)
            yield self.reader.settled(table)
            if left == 0:
                return

    def _scored(self, key: tuple[str, str], dropped: pa.Array, limit: int | None) -> Iterator[TaskRun]:
        """The records, with scores, part by part; recorded scores have to be known as a whole before."""
        names = self.raw.types
        kept = [name for name in self.part.rows.metrics if score_column(name) in names and name in self.wanted]
        recorded, worst = self._recorded(key, dropped, limit, kept)
        for table in self._tables(key, dropped, limit):
            numbers = table[NUMBER].to_numpy()

            def where(row: int, numbers: Any = numbers) -> str:
                return self.reader.source.at(int(numbers[row]))

            records = settle_scores(frame_of(table, kept), worst, where)
            references = table[REFERENCES].to_pylist() if REFERENCES in table.column_names else None
            records, metrics = score_records(
                records, self.wanted, references=references, options=self.options, where=where
            )
            found = tuple(recorded.get(metric.name, metric) for metric in metrics)
            yield TaskRun(*key, found, records)

    def _recorded(
        self, key: tuple[str, str], dropped: pa.Array, limit: int | None, kept: Sequence[str]
    ) -> tuple[dict[str, Metric], dict[str, float | None]]:
        """Metrics of the scores that the file carries, and what each gives where there is no answer.

        The least score, the greatest, and one that is neither 0 nor 1 tell all.
        """
        telling: Mapping[str, list[float]] = {name: [] for name in kept}
        for table in self._tables(key, dropped, limit) if kept else ():
            for name, values in telling.items():
                scores = table[score_column(name)].cast(pa.float64()).drop_null()
                if len(scores):
                    ends = pc.min_max(scores).as_py()
                    between = pc.and_(pc.not_equal(scores, 0.0), pc.not_equal(scores, 1.0))
                    values += [ends["min"], ends["max"], *scores.filter(between).slice(0, 1).to_pylist()]
        found = {
            name: recorded_metric(name, pd.Series(v, dtype=float), options=self.options) for name, v in telling.items()
        }
        least = {name: min(values, default=float("nan")) for name, values in telling.items()}
        return found, {name: worst_score(found[name], least[name]) for name in kept}
