"""The records of a kept run as one Parquet file, and back exactly as they were.

A column has one type in the whole file, whichever task and filter its rows belong to. Where tasks disagree on the type
of a field, and where a field holds what Parquet has no column for, the cells are JSON texts and the manifest says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from compatcheck.errors import InputError
from compatcheck.records import TaskRun

ROWS_AT_ONCE = 100_000
"""Rows of a row group; a row group holds rows of one task and filter."""
_KEYS = ("task", "filter")
KINDS: Mapping[str, pa.DataType] = {
    "text": pa.string(), "object": pa.string(), "bool": pa.bool_(), "boolean": pa.bool_(), "int64": pa.int64(),
    "Int64": pa.int64(), "float64": pa.float64(), "numbers": pa.list_(pa.float64()), "json": pa.string(),
}  # fmt: skip
"""Kinds of columns, as the manifest names them, and what they are in the file.

``boolean`` and ``Int64`` are pandas' types with gaps; ``object`` is text in a column of objects, ``numbers`` a list of
numbers in each row, ``json`` anything else.
"""


@dataclass(frozen=True)
class Layout:
    """How the columns of the tasks lie in the file.

    ``kinds`` has, for each task run, the kind of every column in order; ``encoded`` are the columns that are JSON texts
    in the file; ``stored_as`` has the names of columns that could not keep theirs.
    """

    kinds: tuple[Mapping[str, str], ...]
    encoded: frozenset[str]
    stored_as: Mapping[str, str]

    def stored(self, name: str) -> str:
        return self.stored_as.get(name, name)


def lay_out(runs: Sequence[TaskRun]) -> Layout:
    """Decide the type of every column."""
    kinds = tuple({str(name): _kind(run.records[name]) for name in run.records.columns} for run in runs)
    types: dict[str, set[pa.DataType]] = {}
    for each in kinds:
        for name, kind in each.items():
            types.setdefault(name, set()).add(KINDS[kind])
    encoded = {name for name, found in types.items() if len(found) > 1}
    encoded |= {name for each in kinds for name, kind in each.items() if kind == "json"}
    stored_as: dict[str, str] = {}
    for name in _KEYS:
        if name in types:
            other = f"field:{name}"
            while other in types:
                other = f"field:{other}"
            stored_as[name] = other
    return Layout(kinds, frozenset(encoded), stored_as)


def _kind(column: pd.Series) -> str:
    name = str(column.dtype)
    if name in ("bool", "boolean", "int64", "Int64", "float64"):
        return name
    values = [value for value in column.tolist() if value is not None and value is not pd.NA and value == value]
    if all(isinstance(value, str) for value in values):
        if not _encodable(values):
            return "json"
        return "object" if name == "object" else "text"
    if all(isinstance(value, list | np.ndarray) and all(isinstance(v, float) for v in value) for value in values):
        return "numbers"
    return "json"


def _encodable(texts: Sequence[str]) -> bool:
    """Whether UTF-8 can hold them: lone surrogates, which JSON can spell, it cannot."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_records(path: Path, runs: Sequence[TaskRun], layout: Layout) -> int:
    """Write the records of all task runs, in order; returns the number of rows."""
    import pyarrow.parquet as pq

    types: dict[str, pa.DataType] = {}
    for kinds in layout.kinds:
        for name, kind in kinds.items():
            types[name] = pa.string() if name in layout.encoded else KINDS[kind]
    fields = [(name, pa.string()) for name in _KEYS] + [(layout.stored(name), one) for name, one in types.items()]
    schema = pa.schema(fields)
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for run, kinds in zip(runs, layout.kinds, strict=True):
            for start in range(0, len(run.records), ROWS_AT_ONCE):
                part = run.records.iloc[start : start + ROWS_AT_ONCE]
                columns = {"task": pa.array([run.task] * len(part)), "filter": pa.array([run.filter] * len(part))}
                for name, one in types.items():
                    stored = layout.stored(name)
                    if name not in kinds:
                        columns[stored] = pa.nulls(len(part), one)
                    elif name in layout.encoded:
                        columns[stored] = pa.array([_to_json(value) for value in part[name].tolist()], pa.string())
                    else:
                        columns[stored] = _to_arrow(part[name], kinds[name])
                writer.write_table(pa.table(columns, schema=schema), row_group_size=ROWS_AT_ONCE)
                rows += len(part)
    return rows


def _to_arrow(column: pd.Series, kind: str) -> pa.Array:
    if kind == "numbers":
        return pa.array([None if _is_gap(value) else [float(v) for v in value] for value in column], KINDS[kind])
    return pa.array(column, KINDS[kind], from_pandas=True)


def _is_gap(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _to_json(value: Any) -> str | None:
    return None if value is None or value is pd.NA else json.dumps(value, default=plain)


def plain(value: Any) -> Any:
    """For ``json.dumps``: numpy's numbers and lists as Python's; what JSON cannot say otherwise as text."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def row_groups(path: Path, counts: Sequence[int]) -> list[range]:
    """Which row groups hold the records of each task run; ``counts`` are their rows, in the order of the file.

    Raises:
        InputError: the file is no Parquet, or does not hold what the manifest says.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    except (OSError, pa.ArrowException, ValueError) as error:
        raise _unreadable(path, error) from None
    groups, start = [], 0
    for count in counts:
        end, seen = start, 0
        while seen < count and end < len(sizes):
            seen, end = seen + sizes[end], end + 1
        if seen != count:
            raise InputError(f"{path}: holds other rows than the manifest says; make the run again")
        groups.append(range(start, end))
        start = end
    return groups


def read_records(path: Path, groups: Iterable[int], kinds: Mapping[str, str], layout: Layout) -> pd.DataFrame:
    """The records in some row groups, all of one task run, with the columns of ``kinds``.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            table = file.read_row_groups(list(groups), columns=[layout.stored(name) for name in kinds])
            for name, kind in kinds.items():
                there, expected = table[layout.stored(name)].type, KINDS["json" if name in layout.encoded else kind]
                if there not in (expected, pa.null()):
                    raise InputError(f"{path}: the column {name} holds {there}, not {expected}; make the run again")
            if table[layout.stored("doc_id")].null_count:
                raise InputError(f"{path}: a record has no doc_id; make the run again")
            return _frame(table, kinds, layout)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path}: cannot be read ({reason}); make the run again")


def _frame(table: pa.Table, kinds: Mapping[str, str], layout: Layout) -> pd.DataFrame:
    """The columns of one task run, as they were kept; ``table`` holds rows of the file with these columns."""
    columns: dict[str, pd.Series] = {}
    for name, kind in kinds.items():
        column = table[layout.stored(name)]
        if name in layout.encoded:
            values = [None if text is None else json.loads(text) for text in column.to_pylist()]
            columns[name] = _series(values, kind)
        elif kind in ("object", "numbers"):
            columns[name] = _series(column.to_pylist(), kind)
        elif kind in ("Int64", "boolean"):
            nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
            columns[name] = pa.table({name: column}).to_pandas(types_mapper=nullable.get)[name]
        else:
            whole = pa.table({name: column}).to_pandas()[name]
            columns[name] = whole if kind == "text" else whole.astype(kind)
    return pd.DataFrame(columns, copy=False)


def _series(values: list[Any], kind: str) -> pd.Series:
    if kind in ("object", "numbers", "json"):
        return pd.Series(values, dtype=object)
    if kind == "text":  # the type that this pandas gives texts
        texts = pd.Series(["", *values])
        return texts.iloc[1:].reset_index(drop=True)
    return pd.Series(values, dtype=kind)
