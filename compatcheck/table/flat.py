"""Columns of an Arrow batch without a detour over Python rows, where all that matters is flat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.records import GREATEST
from compatcheck.table.values import INPUT_HASH, NUMBER, PLAIN, TEXT, hashed, text_array

_NUMBERS = frozenset(
    {pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.float32(), pa.float64()}
)
_TEXTS = frozenset({pa.string(), pa.large_string(), pa.string_view()})


def flat_columns(reader: Any, batch: pa.RecordBatch, numbers: Sequence[int]) -> dict[str, pa.Array] | None:
    """What ``reader``, a :class:`compatcheck.table.check.Columns`, gives for this batch.

    None where that needs the rows, or is an error to tell.
    """
    schema, layout = batch.schema, reader.layout
    target, prediction, asked = reader.target.name, reader.prediction.name, reader.input_field
    flat = all(_is_flat(field.name, field.type) for field in schema) and len(set(schema.names)) == len(schema)
    by_row = reader.structured or reader.by_content or reader.faults or reader.targets is not None
    if not flat or layout.rewrites or by_row:
        return None
    if reader.id_field not in schema.names or any(
        "." in n and n not in schema.names for n in (target, prediction, asked)
    ):
        return None
    if layout.input_field is not None and asked not in schema.names:
        return None
    given = {name: _plain(batch.column(name)) for name in schema.names}
    ids = given[reader.id_field]
    if ids.null_count or pa.types.is_floating(ids.type):
        return None
    texts = [
        given[name].type in _TEXTS or pa.types.is_null(given[name].type)
        for name in (target, prediction)
        if name in given
    ]
    if any(texts) and not all(texts):
        return None  # numbers and texts have to be spelled alike, row by row
    scores = {name: _scores(given[name]) for name in sorted(given) if name == "score" or name.startswith("score:")}
    if any(column is None for column in scores.values()):
        return None
    columns = {"doc_id": _text(ids)}
    if "error" in given:
        columns["error"] = _errors(given["error"])
    for name in PLAIN:
        if name in given and name not in (reader.id_field, target, prediction):
            columns[name] = _text(given[name])
    if asked in given:
        columns["input"] = _text(given[asked])
    if target in given:
        columns["target"] = _text(given[target])
    if prediction in given:
        columns["prediction"] = _text(given[prediction])
    reader.met(batch)
    for name in sorted(given):
        if name in scores:
            columns[f"score:{name.removeprefix('score:')}"] = scores[name]
        elif name.startswith("prediction:"):
            columns[name] = _text(given[name])
    if "loglikelihoods" in given:
        columns["loglikelihoods"] = given["loglikelihoods"].cast(pa.list_(pa.float64()))
    if "input" in columns and "doc_hash" not in columns:
        columns["doc_hash"] = hashed(columns["input"], INPUT_HASH)
    for name, column in given.items():
        if name not in reader.used and column.null_count < len(column):
            own = name in ("doc_id", "id", "target", "prediction", "score")
            columns[f"field:{name}" if own else name] = _label(column)
    columns[NUMBER] = pa.array(numbers, pa.int64())
    return columns


def is_typed(column: pa.Array) -> bool:
    """Whether a flat column has numbers or booleans, not texts."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return kind not in _TEXTS and column.null_count < len(column)


def _is_flat(name: str, kind: pa.DataType) -> bool:
    if name == "loglikelihoods":
        return bool(pa.types.is_list(kind) and pa.types.is_floating(kind.value_type))
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in _TEXTS or kind in _NUMBERS or pa.types.is_boolean(kind) or pa.types.is_null(kind)


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _text(column: pa.Array) -> pa.Array:
    if column.type in _TEXTS or pa.types.is_integer(column.type):
        return column.cast(TEXT)
    return text_array(column.to_pylist())


def _errors(column: pa.Array) -> pa.Array:
    """Null, false and empty mean that there was none."""
    if column.type in _TEXTS:
        return _text(pc.if_else(pc.equal(column, pa.scalar("", column.type)), pa.scalar(None, column.type), column))
    return text_array([value or None for value in column.to_pylist()])


def _scores(column: pa.Array) -> pa.Array | None:
    if column.type not in _NUMBERS and not pa.types.is_boolean(column.type) and not pa.types.is_null(column.type):
        return None
    column = column.cast(pa.float64())
    return column if pc.all(pc.less_equal(pc.abs(column), GREATEST)).as_py() in (True, None) else None


def _label(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    return column if pa.types.is_boolean(column.type) else column.cast(TEXT)
