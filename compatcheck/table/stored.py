"""Records on disk: those of one task and filter, as Arrow files in a scratch folder until the comparison is made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.records import Metric, StoredRun, TaskRun
from compatcheck.scratch import Scratch
from compatcheck.table.values import TEXT, text_of

BUFFER_ROWS = 20_000
BUFFER_BYTES = 16 << 20
"""Rows are written in batches of about so many, or of so many bytes where that is less."""
ROW = "__row"
"""The column that has the position of each row."""
NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
_KINDS = {pa.int64(): "integer", pa.float64(): "number", pa.bool_(): "boolean"}


class Rows:
    """Appended to table after table, then read as often as needed, column by column.

    Tables may differ in their columns and types. Reading gives every batch the same ones, by the rules of
    :meth:`compatcheck.table.values.Table.finish`: a column that a table lacks is null there, whole and other numbers
    are numbers, anything else that is mixed is text.
    """

    def __init__(self, scratch: Scratch) -> None:
        pa.set_io_thread_count(1)  # every thread more reads ahead, and keeps memory of its own
        pa.set_cpu_count(1)
        pa.set_memory_pool(pa.system_memory_pool())  # which gives back what is free
        self.scratch = scratch
        self.rows = 0
        self._files: list[Path] = []
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._schema: pa.Schema | None = None
        self._waiting: list[pa.Table] = []
        self._types: dict[str, set[pa.DataType]] = {}
        self._known: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._beside: Rows | None = None

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        for name in table.column_names:
            self._types.setdefault(name, set()).add(table[name].type)
            self._known[name] = self._known.get(name, 0) + len(table) - table[name].null_count
            self._bytes[name] = self._bytes.get(name, 0) + table[name].nbytes
        positions = pa.array(np.arange(self.rows, self.rows + len(table), dtype=np.int64))
        self.rows += len(table)
        table = table.append_column(ROW, positions)
        if self._waiting and self._waiting[-1].schema != table.schema:
            self._flush()
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= BUFFER_ROWS or sum(one.nbytes for one in self._waiting) >= BUFFER_BYTES:
            self._flush()

    def finish(self, leave_out: Iterable[str] = ()) -> Rows:
        """Write what waits; columns that are left out are not read any more."""
        self._flush()
        self._close()
        pa.default_memory_pool().release_unused()
        self._types = {name: kinds for name, kinds in self._types.items() if name not in set(leave_out)}
        return self

    def beside(self, more: Rows, order: Iterable[str]) -> Rows:
        """These rows, and of each what ``more`` has of it, with these columns in this order."""
        both = copy.copy(self)
        both._beside, both._known, both._bytes = more, self._known | more._known, self._bytes | more._bytes
        both._types = {name: more._types.get(name) or self._types[name] for name in order}
        return both

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Type of every column, in the order in which they were first met."""
        found = {}
        for name, kinds in self._types.items():
            known = kinds - {pa.null()}
            number = known == {pa.int64(), pa.float64()}
            found[name] = next(iter(known)) if len(known) == 1 else pa.float64() if number else TEXT
        return found

    @property
    def kinds(self) -> dict[str, str]:
        """Of every column ``text``, ``integer``, ``number`` or ``boolean``."""
        return {name: _KINDS.get(kind, "text") for name, kind in self.types.items()}

    @property
    def complete(self) -> frozenset[str]:
        """Columns without any null."""
        return frozenset(name for name in self._types if self._known.get(name, 0) == self.rows)

    @property
    def row_bytes(self) -> float:
        """About how large a row is as an uncompressed table."""
        return sum(self._bytes.get(name, 0) for name in self._types) / max(self.rows, 1)

    def dataset(self) -> Any:
        """All rows with one schema, the position of each among the columns."""
        import pyarrow.dataset as ds  # for records on disk alone

        own = [(name, kind) for name, kind in self.types.items() if not self._is_beside(name)]
        schema = pa.schema([*own, (ROW, pa.int64())])
        found = ds.dataset([str(path) for path in self._files], schema=schema, format="ipc")

        class OneAtATime(ds.FileSystemDataset):  # type: ignore[misc, unused-ignore]
            """Whoever reads it gets one batch after the other; what is read ahead takes hundreds of MB."""

            def scanner(self, **options: Any) -> Any:
                narrow = {"batch_readahead": 1, "fragment_readahead": 1, "use_threads": False}
                return super().scanner(**options | narrow)

        return OneAtATime(list(found.get_fragments()), schema, found.format, found.filesystem)

    def _is_beside(self, name: str) -> bool:
        return self._beside is not None and name in self._beside._types

    def tables(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """The rows in their order, with these columns; batches are as large as they were written."""
        further = [name for name in names if self._is_beside(name)]
        if self._beside is None or not further:
            yield from self._scanned(names)
            return
        others, waiting = self._beside._scanned(further), None
        for table in self._scanned([name for name in names if name not in further]):
            while waiting is None or len(waiting) < len(table):
                more = next(others)
                waiting = more if waiting is None else pa.concat_tables([waiting, more])
            columns = dict(zip(further, waiting.slice(0, len(table)).columns, strict=True))
            columns |= {name: table[name] for name in names if name not in columns}
            yield pa.table({name: columns[name] for name in names}).combine_chunks()
            waiting = waiting.slice(len(table))

    def _scanned(self, names: Sequence[str]) -> Iterator[pa.Table]:
        for batch in self.dataset().to_batches(columns=[*names] or [ROW]):
            if batch.num_rows:
                yield pa.Table.from_batches([batch])

    def read(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """As :meth:`tables`, as records."""
        for table in self.tables(names):
            yield table.to_pandas(types_mapper=NULLABLE.get)

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting = []
        if self._schema != table.schema:
            self._close()
        if self._writer is None:
            self._files.append(self.scratch.path("rows.arrow"))
            self._schema = table.schema
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_file(str(self._files[-1]), table.schema, options=options)
        self._writer.write_table(table)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def stored(parts: Iterable[TaskRun], scratch: Scratch) -> StoredRun:
    """One task and filter whose records come in parts, which agree in all the rest; the first part tells it."""
    rows = Rows(scratch)
    first: TaskRun | None = None
    for part in parts:
        first = first or part
        rows.add(_as_table(part.records))
    assert first is not None, "a run without rows has one empty part"
    about = (first.settings, first.duplicates, first.notes, first.typed)
    return StoredRun(first.task, first.filter, first.metrics, rows.finish(), *about)


def mapped(run: StoredRun, change: Callable[[TaskRun], TaskRun], metrics: Sequence[Metric] | None = None) -> StoredRun:
    """A stored run with every part of its records changed; ``metrics`` are those of the whole, where they are known."""
    empty = run.without_rows()

    def parts() -> Iterator[TaskRun]:
        for records in run.table.read(list(run.table.kinds)):
            made = change(TaskRun(run.task, run.filter, run.metrics, records, run.settings))
            yield TaskRun(made.task, made.filter, tuple(metrics or made.metrics), made.records, made.settings,
                          empty.duplicates, (*empty.notes, *made.notes), run.typed)  # fmt: skip

    return stored(parts(), run.table.scratch)


def _as_table(records: pd.DataFrame) -> pa.Table:
    """Records as Arrow; objects but log-likelihoods as text."""
    columns = {}
    for name in records.columns:
        column = records[name]
        if name == "loglikelihoods":
            array = pa.array(column, pa.list_(pa.float64()), from_pandas=True)
        elif column.dtype == object:
            column = column.map(lambda v: v if isinstance(v, str) else text_of(v), na_action="ignore")
            array = pa.array(column, TEXT, from_pandas=True) if column.notna().any() else pa.nulls(len(column))
        else:
            array = pa.array(column, from_pandas=True)
        columns[str(name)] = array.cast(TEXT) if pa.types.is_string(array.type) else array
    return pa.table(columns)


def distinct(table: pa.Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """The values of some columns, each combination once, in the order in which they first appear."""
    found: list[dict[str, Any]] = table.select(names).group_by(list(names), use_threads=False).aggregate([]).to_pylist()
    return found


def by_key(table: pa.Table, names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], pa.Table]]:
    """The rows of a table by the values of some columns, in the order in which these first appear."""
    for row in distinct(table, names):
        chosen = None
        for name in names:
            same = pc.equal(table[name], row[name])
            chosen = same if chosen is None else pc.and_(chosen, same)
        yield tuple(row[name] for name in names), table.filter(chosen)
