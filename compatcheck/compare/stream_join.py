"""Rows of both sides brought together, a part at a time, in the order of OLD.

OLD is read in its order and cut into parts of equal size. Where the partners of NEW come in the same order, NEW is read
along with it; else its rows are first sorted into files on disk, one for each part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from compatcheck.compare.instances import STRING
from compatcheck.compare.slices import text_of
from compatcheck.compare.stream_pairing import Collision, StreamPairs
from compatcheck.records import StreamedRun
from compatcheck.scratch import Scratch

PART_ROWS = 100_000
PART_BYTES = 128 << 20
"""A part has so many rows, or as many as are about so large where that is fewer."""
MOST_PARTS = 200
"""Files that are open at once; beyond that many parts they grow."""
_PLACE = "__place"
_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


def join(
    old: StreamedRun,
    new: StreamedRun,
    pairs: StreamPairs,
    columns: tuple[Sequence[str], Sequence[str]],
    scratch: Scratch,
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Parts of the pairs: records of OLD and the records of NEW that belong to them, row by row.

    Args:
        columns: which of each side are wanted; ``doc_id`` (and ``doc_hash`` where that pairs) must be among them.

    Raises:
        Collision: two rows were paired whose keys differ.
    """
    size = _part_rows(old, new)
    wanted_old, wanted_new = columns
    if _in_order(pairs):
        theirs = _along(new, pairs, size, wanted_new)
    else:
        theirs = _sorted_parts(new, pairs, size, wanted_new, scratch)
    key = "doc_id" if pairs.key == "id" else "doc_hash"
    for start, mine in _cut(old.read(wanted_old), size):
        mine = mine[pairs.kept[start : start + len(mine)]].reset_index(drop=True)
        other = next(theirs)
        if len(mine) == 0:
            continue
        if not np.array_equal(mine[key].astype(object), other[key].astype(object)):
            raise Collision
        yield mine, other


def spill_bytes(old: StreamedRun, new: StreamedRun) -> int:
    """About how much disk the sorted rows of NEW need at most."""
    del old
    return int(new.rows * (new.row_bytes + 16))


def _part_rows(old: StreamedRun, new: StreamedRun) -> int:
    rows = min(PART_ROWS, int(PART_BYTES / max(old.row_bytes + new.row_bytes, 1)))
    return max(1, rows, -(-old.rows // MOST_PARTS))


def _in_order(pairs: StreamPairs) -> bool:
    places = pairs.place[pairs.place >= 0]
    return bool((places[1:] > places[:-1]).all())


def _cut(batches: Iterator[pd.DataFrame], size: int) -> Iterator[tuple[int, pd.DataFrame]]:
    """The same rows in batches of ``size``, with the place of the first."""
    waiting: list[pd.DataFrame] = []
    start = rows = 0
    for batch in batches:
        while rows + len(batch) >= size:
            head, batch = batch.iloc[: size - rows], batch.iloc[size - rows :]
            yield start, pd.concat([*waiting, head], ignore_index=True)
            start, rows, waiting = start + size, 0, []
        if len(batch):
            waiting.append(batch)
            rows += len(batch)
    if rows:
        yield start, pd.concat(waiting, ignore_index=True)


def _along(new: StreamedRun, pairs: StreamPairs, size: int, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """NEW's rows of each part, read in their own order."""
    parts = -(-len(pairs.kept) // size)
    waiting: list[pd.DataFrame] = []
    part = start = 0
    empty: pd.DataFrame | None = None
    for batch in new.read(columns):
        empty = batch.iloc[:0] if empty is None else empty
        places = pairs.place[start : start + len(batch)]
        start += len(batch)
        chosen = places >= 0
        batch, belongs = batch[chosen], places[chosen] // size
        while len(batch):
            cut = int(np.searchsorted(belongs, part, side="right"))
            if cut:
                waiting.append(batch.iloc[:cut])
            batch, belongs = batch.iloc[cut:], belongs[cut:]
            if len(batch):
                yield pd.concat([empty, *waiting], ignore_index=True) if waiting else empty
                part, waiting = part + 1, []
    assert empty is not None, "a run without rows is refused"
    for _ in range(part, parts):
        yield pd.concat(waiting, ignore_index=True) if waiting else empty
        waiting = []


def _sorted_parts(
    new: StreamedRun, pairs: StreamPairs, size: int, columns: Sequence[str], scratch: Scratch
) -> Iterator[pd.DataFrame]:
    """NEW's rows of each part, through files."""
    scratch.require(spill_bytes(new, new), "sorting NEW into the order of OLD")
    files: dict[int, _File] = {}
    start = 0
    try:
        for batch in new.read(columns):
            places = pairs.place[start : start + len(batch)]
            start += len(batch)
            order = np.argsort(places, kind="stable")
            order = order[np.searchsorted(places[order], 0) :]
            table = pa.Table.from_pandas(_plain(batch), preserve_index=False)
            table = table.append_column(_PLACE, pa.array(places)).take(pa.array(order))
            belongs = places[order] // size
            edges = [*np.flatnonzero(np.diff(belongs, prepend=-1)), len(order)]
            for low, high in itertools.pairwise(edges):
                part = int(belongs[low])
                if part not in files:
                    files[part] = _File(scratch.path("part.arrow"), table.schema)
                files[part].add(table.slice(low, high - low))
        del batch, table
        empty = pd.DataFrame({name: [] for name in columns})
        for part in range(-(-len(pairs.kept) // size)):
            file = files.pop(part, None)
            yield empty if file is None else file.read()
    finally:
        for file in files.values():
            file.close()


class _File:
    """The rows of one part, as they come."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema.remove_metadata()
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, self.schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))

    def add(self, table: pa.Table) -> None:
        self._writer.write_table(table.cast(self.schema).combine_chunks())

    def close(self) -> None:
        self._writer.close()
        self._sink.close()

    def read(self) -> pd.DataFrame:
        """All rows in the order of OLD; the file is gone afterwards."""
        self.close()
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as reader:
            table = reader.read_all()
        self.path.unlink()
        frame = table.sort_by(_PLACE).drop_columns([_PLACE]).to_pandas(types_mapper=_NULLABLE.get)
        return frame.reset_index(drop=True)


def _plain(batch: pd.DataFrame) -> pd.DataFrame:
    """Texts in a column of objects as a column of texts, so that a batch of nulls has the type of the others."""
    loose = [name for name in batch.columns if batch[name].dtype == object]
    return batch.assign(**{name: batch[name].map(text_of, na_action="ignore").astype(STRING) for name in loose})
