"""Recorded outputs that are too many to hold: checked once, kept on disk, read in batches as often as needed.

What is checked and how rows become records is that of :mod:`compatcheck.readers.recorded`; only a chunk of them
is in memory at a time, beside one 64-bit fingerprint of every id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from compatcheck.errors import InputError
from compatcheck.readers import parts
from compatcheck.readers.recorded import no_such_task, targets_of
from compatcheck.readers.spool import Spool
from compatcheck.records import NO_FILTER, Metric, StreamedRun, score_column
from compatcheck.scratch import Scratch
from compatcheck.similarity import RECORDED
from compatcheck.table.check import Columns, RowTable
from compatcheck.table.layout import Layout
from compatcheck.table.reading import Source, read_rows
from compatcheck.table.scoring import Options, recorded_metric, score_records
from compatcheck.table.values import NUMBER, REFERENCES

_KINDS = {pa.int64(): "integer", pa.float64(): "number", pa.bool_(): "boolean"}
_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


def stream_recorded(
    path: Path,
    scratch: Scratch,
    *,
    layout: Layout | None = None,
    side: str = "",
    metrics: Sequence[str] = (),
    task: str | None = None,
    tasks: Sequence[str] = (),
    limit: int | None = None,
    metric_options: Options | None = None,
) -> list[StreamedRun]:
    """Read a file of recorded outputs as :func:`~compatcheck.readers.load_recorded` does, a chunk at a time.

    Not for what lm-eval wrote, nor with ``layout.extract``, whose targets are only known when all were seen.

    Raises:
        InputError: as ``load_recorded``; or the disk has no room.
    """
    layout = layout or Layout()
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be 1 or more")
    rows, spools = _survey(path, scratch, layout, side, task or parts.DEFAULT_TASK, metrics)
    default = (RECORDED,) if rows.names_score else rows.metrics or ("exact_match",)
    wanted = parts.wanted_metrics(rows, metrics, default)
    settings = parts.said_of_rows(layout) | ({"limit": limit} if limit is not None else {})
    runs = []
    for (name, filter), spool in spools.items():
        part = _Part(spool, rows.source, wanted, rows.metrics, metric_options)
        duplicates = part.drop_repeats()
        if limit is not None:
            part.keep_first(limit)
        notes = () if metrics else parts.score_notes(rows, default)
        runs.append(replace(part.run(name, filter, settings, duplicates), notes=notes))
    return [run for run in runs if not tasks or run.task in tasks] or no_such_task(path, runs, tasks)


def _survey(
    path: Path, scratch: Scratch, layout: Layout, side: str, task: str, metrics: Sequence[str] = ()
) -> tuple[RowTable, dict[tuple[str, str], Spool]]:
    """Check all rows and keep them, by task and filter in the order of :func:`recorded.split_rows`."""
    targets = targets_of(layout.targets, layout) if layout.targets is not None else None
    source = read_rows(path)
    reader = Columns(source, layout, side, targets, metrics)
    spools: dict[tuple[str, str], Spool] = {}
    for columns in reader.tables():
        table = pa.table(columns)
        for key, part in _by_key(table, task):
            if key not in spools:
                spools[key] = Spool(scratch)
            spools[key].add(part)
    kinds: dict[str, set[pa.DataType]] = {}
    for spool in spools.values():
        for name, found in spool.kinds.items():
            if name not in reader.unfit:
                kinds.setdefault(name, set()).update(found)
    for spool in spools.values():
        spool.finish(kinds)
    rows = reader.finish(pa.table({}))
    order = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in spools))}
    return rows, {key: spools[key] for key in sorted(spools, key=lambda key: order[key[0]])}


def _by_key(table: pa.Table, task: str) -> Iterator[tuple[tuple[str, str], pa.Table]]:
    columns = {}
    for column, default in (("task", task), ("filter", NO_FILTER)):
        there = column in table.column_names
        columns[column] = pc.fill_null(table[column], default) if there else pa.repeat(default, len(table))
    keys = pa.table(columns)
    for row in keys.group_by(["task", "filter"], use_threads=False).aggregate([]).to_pylist():
        chosen = pc.and_(pc.equal(keys["task"], row["task"]), pc.equal(keys["filter"], row["filter"]))
        yield (row["task"], row["filter"]), table.filter(chosen)


class _Part:
    """The rows of one task and filter."""

    def __init__(
        self, spool: Spool, source: Source, wanted: Sequence[str], carried: Sequence[str], options: Options | None
    ) -> None:
        self.spool, self.source, self.wanted, self.options = spool, source, wanted, options
        self.carried = [name for name in carried if score_column(name) in spool.types and name in wanted]
        """Scores that are read, not computed."""
        self.worst: dict[str, float | None] = {}
        """Of these, what no answer scores."""
        self.dropped: NDArray[np.int64] = np.empty(0, np.int64)
        """Places of rows that repeat an earlier one."""
        self.rows = spool.rows

    def drop_repeats(self) -> int:
        """Find the rows that repeat an earlier one exactly; returns how many. See :func:`parts.drop_repeats`."""
        keys = np.concatenate([_fingerprints(table["doc_id"]) for table in self.spool.batches(["doc_id"])])
        ordered = np.sort(keys)
        suspects = np.isin(keys, ordered[1:][ordered[1:] == ordered[:-1]])
        del keys, ordered
        if suspects.any():
            self.dropped = self._repeats(suspects)
            self.rows -= len(self.dropped)
        return len(self.dropped)

    def _repeats(self, suspects: NDArray[np.bool_]) -> NDArray[np.int64]:
        names = [name for name in self.spool.types if name != NUMBER]
        first: dict[str, tuple[int, int]] = {}
        dropped = []
        for start, table in self._placed(names):
            places = np.flatnonzero(suspects[start : start + len(table)])
            for place, row in zip(places, table.take(pa.array(places)).to_pylist(), strict=True):
                content = hash(repr(row))
                since, earlier = first.setdefault(row["doc_id"], (start + int(place), content))
                if since == start + place:
                    continue
                if content != earlier:
                    parts.drop_repeats(self._pick([since, start + int(place)]), self.source)
                dropped.append(start + int(place))
        return np.array(dropped, np.int64)

    def _pick(self, places: Sequence[int]) -> pa.Table:
        found = []
        for start, table in self._placed(list(self.spool.types)):
            inside = [place - start for place in places if start <= place < start + len(table)]
            found.append(table.take(pa.array(inside, pa.int64())))
        return pa.concat_tables(found)

    def _placed(self, names: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        start = 0
        for table in self.spool.batches(names):
            yield start, table
            start += len(table)

    def keep_first(self, limit: int) -> None:
        self.rows = min(self.rows, limit)

    def tables(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """The rows that count, in their order."""
        left = self.rows
        for start, table in self._placed(names):
            low, high = np.searchsorted(self.dropped, (start, start + len(table)))
            if high > low:
                kept = np.ones(len(table), dtype=bool)
                kept[self.dropped[low:high] - start] = False
                table = table.filter(pa.array(kept))
            if left <= 0:
                return
            yield table.slice(0, left)
            left -= len(table)

    def run(self, task: str, filter: str, settings: Mapping[str, Any], duplicates: int) -> StreamedRun:
        types = self.spool.types
        names = [name for name in parts.record_columns(list(types), self.carried) if name != "loglikelihoods"]
        plain = [name for name in names if not name.startswith("score:")]
        return StreamedRun(
            task,
            filter,
            self._metrics(),
            self.rows,
            {name: _KINDS.get(types[name], "text") for name in plain},
            self.spool.complete & set(plain),
            self.read,
            self.spool.bytes / max(self.spool.rows, 1),
            dict(settings),
            duplicates,
        )

    def _metrics(self) -> tuple[Metric, ...]:
        """What a table in memory gives: a recorded score is discrete when every one is 0 or 1."""
        found = {}
        computed = [name for name in self.wanted if name not in self.carried]
        telling: dict[str, pd.Series] = {name: pd.Series([], dtype=float) for name in self.carried}
        names = [score_column(name) for name in self.carried]
        for table in self.tables(names) if names else ():
            for name in self.carried:  # the least, the greatest, and one that is neither 0 nor 1 tell all
                scores = pd.concat([telling[name], table[score_column(name)].to_pandas().dropna()])
                ordered = scores.sort_values()
                telling[name] = pd.concat([ordered[:1], ordered[-1:], scores[~scores.isin((0.0, 1.0))][:1]])
        for name in self.carried:
            found[name] = recorded_metric(name, telling[name], options=self.options)
            self.worst[name] = parts.worst_score(found[name], telling[name].min())
        for records in self.read(names) if names else ():
            del records  # reading them says what is wrong
        if computed:
            empty = pd.DataFrame({"doc_id": [], "prediction": [], "target": []})
            found |= {metric.name: metric for metric in score_records(empty, computed, options=self.options)[1]}
        return tuple(found[name] for name in self.wanted)

    def read(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Batches of the records with these columns; scores that are computed need others to be read."""
        types = self.spool.types
        scores = [name.removeprefix("score:") for name in names if name.startswith("score:")]
        needed = [name for name in names if name in types]
        extra: list[str] = []
        if scores:
            extra = [name for name in ("doc_id", "prediction", "target", "error", NUMBER, REFERENCES) if name in types]
        for table in self.tables(list(dict.fromkeys([*needed, *extra]))):
            frame = _frame(table, [name for name in table.column_names if name not in (NUMBER, REFERENCES)])
            if scores:
                frame = self._scored(frame, table, scores)
            yield frame[list(names)]

    def _scored(self, records: pd.DataFrame, table: pa.Table, scores: Sequence[str]) -> pd.DataFrame:
        numbers = table[NUMBER].to_numpy()

        def where(row: int) -> str:
            return self.source.at(int(numbers[row]))

        records = parts.settle_scores(records, {n: self.worst[n] for n in scores if n in self.carried}, where)
        references = table[REFERENCES].to_pylist() if REFERENCES in table.column_names else None
        return score_records(records, scores, references=references, options=self.options, where=where)[0]


def _frame(table: pa.Table, names: Sequence[str]) -> pd.DataFrame:
    return table.select(list(names)).to_pandas(types_mapper=_NULLABLE.get)


def _fingerprints(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    texts = column.to_numpy()
    return pd.util.hash_array(np.asarray(texts, dtype=object), categorize=False)
