"""Instances on disk, written as they come: ``instances.parquet`` of a comparison that is too large to hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import pyarrow as pa

from compatcheck.compare.result import INSTANCE_COLUMNS
from compatcheck.compare.slices import text_of

_NUMBERS = frozenset({"score_old", "score_new", "gain"})
_TYPES = {"text": pa.large_string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}


class InstanceFile:
    """A Parquet file of instances; each call of :meth:`write` makes a row group.

    Args:
        fields: the slice fields of all comparisons, with their kind: ``text``, ``integer``, ``number``, ``boolean``.
    """

    def __init__(self, path: Path, fields: Mapping[str, str]) -> None:
        import pyarrow.parquet as pq  # half a second of import, needed for this alone

        kinds = {name: "number" if name in _NUMBERS else "text" for name in INSTANCE_COLUMNS} | {"changed": "boolean"}
        self.path = path
        self._schema = pa.schema([(name, _TYPES[kind]) for name, kind in (kinds | dict(fields)).items()])
        # The repeated columns gain from a dictionary; those of texts only grow one and give it up.
        repeated = ["task", "filter", "metric", "quadrant", *fields]
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=repeated)

    def write(self, instances: pd.DataFrame) -> None:
        """Append rows; fields that they lack are null."""
        columns = []
        for column in self._schema:
            there = column.name in instances
            columns.append(
                _array(instances[column.name], column.type) if there else pa.nulls(len(instances), column.type)
            )
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=len(instances))

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> InstanceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _array(column: pd.Series, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if pa.types.is_large_string(kind):
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(str)
        elif not pd.api.types.is_string_dtype(column.dtype) or column.dtype == object:
            column = column.map(_text, na_action="ignore").astype(object)
    return pa.array(column, kind, from_pandas=True)


def _text(value: Any) -> str:
    # Parquet is UTF-8, JSON can spell lone surrogates: these become visible escapes.
    return text_of(value).encode("utf-8", "backslashreplace").decode("utf-8")
