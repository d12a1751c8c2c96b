"""Columns on disk: checked rows of one task and filter, kept as Arrow files until the comparison is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.scratch import Scratch
from compatcheck.table.values import TEXT

BUFFER_ROWS = 50_000
BUFFER_BYTES = 32 << 20
"""Rows are written in batches of about so many, or of so many bytes where that is less."""


class Spool:
    """Appended to chunk after chunk, then read as often as needed, column by column.

    Chunks may differ in their columns and types. Reading gives every batch the same ones, by the rules of
    :meth:`compatcheck.table.values.Table.finish`: a column that a chunk lacks is null there, whole and other
    numbers are numbers, anything else that is mixed is text.
    """

    def __init__(self, scratch: Scratch) -> None:
        self.rows = 0
        self.bytes = 0
        """Size of all rows as uncompressed tables."""
        self._scratch = scratch
        self._files: list[Path] = []
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._schema: pa.Schema | None = None
        self._waiting: list[pa.Table] = []
        self._waiting_rows = self._waiting_bytes = 0
        self.kinds: dict[str, set[pa.DataType]] = {}
        """The types that every column was met with, in the order in which columns were first met."""
        self._known: dict[str, int] = {}

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        for name in table.column_names:
            self.kinds.setdefault(name, set()).add(table[name].type)
            self._known[name] = self._known.get(name, 0) + len(table) - table[name].null_count
        size = table.nbytes
        self.rows, self.bytes = self.rows + len(table), self.bytes + size
        if self._waiting and self._waiting[-1].schema != table.schema:
            self._flush()
        self._waiting.append(table)
        self._waiting_rows, self._waiting_bytes = self._waiting_rows + len(table), self._waiting_bytes + size
        if self._waiting_rows >= BUFFER_ROWS or self._waiting_bytes >= BUFFER_BYTES:
            self._flush()

    def finish(self, kinds: Mapping[str, set[pa.DataType]]) -> None:
        """Write what waits; reading shows the columns of ``kinds``, which may be those of several spools together."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.kinds = dict(kinds)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Type of every column, in the order in which they were first met."""
        found = {}
        for name, kinds in self.kinds.items():
            known = kinds - {pa.null()}
            number = known == {pa.int64(), pa.float64()}
            found[name] = next(iter(known)) if len(known) == 1 else pa.float64() if number else TEXT
        return found

    @property
    def complete(self) -> frozenset[str]:
        """Columns without any null."""
        return frozenset(name for name in self.kinds if self._known.get(name, 0) == self.rows)

    def batches(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """The rows in their order, with these columns; batches are as large as they were written."""
        types = self.types
        for path in self._files:
            # Not mapped into memory: pages of the file would count as this process's own.
            with pa.OSFile(str(path)) as file:
                there = pa.ipc.open_file(file).schema
                wanted = [there.get_field_index(name) for name in names if name in there.names]
                anything = wanted or [there.get_field_index("doc_id")]  # for the number of rows
                reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=sorted(anything)))
                for index in range(reader.num_record_batches):
                    batch = reader.get_batch(index)
                    columns = {name: _as(batch, name, types[name]) for name in names}
                    yield pa.table(columns)

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        if self._writer is not None and self._schema != table.schema:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._files.append(self._scratch.path("rows.arrow"))
            self._schema = table.schema
            self._writer = pa.ipc.new_file(
                str(self._files[-1]), table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
            )
        self._writer.write_table(table)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0


def _as(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    if name not in batch.schema.names:
        return pa.nulls(batch.num_rows, kind)
    column = batch.column(name)
    return column if column.type == kind else pc.cast(column, kind)
