"""The table of instances: what a report shows of every pair."""

from __future__ import annotations

import numpy as np
import pandas as pd

from compatcheck.compare.pairing import Pairs, Rows, differ, take
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import INSTANCE_COLUMNS, PROMPT_COLUMNS
from compatcheck.records import ID_COLUMNS, TEXT_COLUMNS, TaskRun

STRING = pd.Series(["a"]).dtype
"""How this pandas keeps text: ``str`` from version 3 on, ``object`` before."""

_RESERVED = frozenset((*ID_COLUMNS, *TEXT_COLUMNS, "loglikelihoods"))
_OF_METRICS = ("score:", "prediction:", "agreed:")


def slice_fields(*records: pd.DataFrame) -> tuple[str, ...]:
    """The columns that are no part of the record itself, in the order they are first met."""
    names = (str(name) for each in records for name in each.columns)
    return tuple(dict.fromkeys(name for name in names if name not in _RESERVED and not name.startswith(_OF_METRICS)))


def from_either(column: str, old: TaskRun, new: TaskRun, pairs: Pairs) -> pd.Series:
    """A column as OLD has it, and where OLD has nothing as NEW has it; all null where neither knows it."""
    sides = [take(run.records[column], rows) for run, rows in _sides(old, new, pairs) if column in run.records]
    if not sides:
        return _empty(len(pairs.old))
    first = sides[0]
    if len(sides) == 1 or not first.hasnans:
        return first
    first, second = _alike(first, sides[1])
    return first.where(first.notna(), second)


def _alike(first: pd.Series, second: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Both columns in one type: numbers with and without gaps stay numbers; numbers and texts are objects."""
    if first.dtype == second.dtype:
        return first, second
    common = pd.api.types.pandas_dtype(_DTYPES[common_kind(kind_of(first), kind_of(second))])
    return first.astype(common), second.astype(common)


_DTYPES = {"boolean": "boolean", "integer": "Int64", "number": "Float64", "text": "object"}


def kind_of(column: pd.Series) -> str:
    """``boolean``, ``integer``, ``number`` or ``text`` (which is anything else, too)."""
    is_a = pd.api.types
    kinds = (("boolean", is_a.is_bool_dtype), ("integer", is_a.is_integer_dtype), ("number", is_a.is_float_dtype))
    return next((name for name, test in kinds if test(column.dtype)), "text")


def common_kind(one: str, other: str) -> str:
    """The kind that holds the values of both: of a whole and another number a number, of anything else text."""
    if one == other:
        return one
    return "number" if {one, other} == {"integer", "number"} else "text"


def build_instances(old: TaskRun, new: TaskRun, pairs: Pairs, found: Sorted) -> pd.DataFrame:
    """One row per pair, errors included: :data:`INSTANCE_COLUMNS` and the slice fields.

    Text columns in their order are shared with the records, not copied. A slice field with the name of another column
    becomes ``field:<name>``. Where the models were given different texts, these are :data:`PROMPT_COLUMNS`.
    """
    size = len(pairs.old)
    (_, old_rows), (_, new_rows) = _sides(old, new, pairs)
    changed = pd.array([None], dtype="boolean").take(np.zeros(size, dtype=np.intp))
    if found.changed is not None:
        changed = pd.arrays.BooleanArray(found.changed.copy(), ~found.scored)
    quadrant = pd.Categorical.from_codes(found.codes, pd.Index(found.names))
    columns: dict[str, pd.Series | pd.Categorical[str] | pd.api.extensions.ExtensionArray | np.ndarray] = {
        "task": _constant(old.task, size),
        "doc_id": take(old.records["doc_id"], old_rows),
        "filter": _constant(old.filter, size),
        "metric": _constant(found.metric.name, size),
        "input": from_either("input", old, new, pairs),
        "target": from_either("target", old, new, pairs),
        "prediction_old": _known(found.prediction_old, size),
        "prediction_new": _known(found.prediction_new, size),
        "response_old": _side("response", old, old_rows),
        "response_new": _side("response", new, new_rows),
        "score_old": found.old,
        "score_new": found.new,
        "gain": found.gain,
        "quadrant": pd.Series(quadrant).astype(STRING),
        "changed": changed,
        "error_old": _side("error", old, old_rows),
        "error_new": _side("error", new, new_rows),
        "doc_hash": from_either("doc_hash", old, new, pairs),
    }
    columns |= _prompts(old, new, old_rows, new_rows)
    for name in slice_fields(old.records, new.records):
        shown = f"field:{name}" if name in (*INSTANCE_COLUMNS, *PROMPT_COLUMNS) else name
        columns[shown] = from_either(name, old, new, pairs)
    return pd.DataFrame(columns, copy=False)


def _prompts(old: TaskRun, new: TaskRun, old_rows: Rows, new_rows: Rows) -> dict[str, pd.Series]:
    """The whole texts that the models were given, in the rows where they differ; nothing where they are all equal."""
    if not all("full_prompt" in run.records and "input" in run.records for run in (old, new)):
        return {}
    asked = []
    for run, rows in ((old, old_rows), (new, new_rows)):
        whole = take(run.records["full_prompt"], rows)
        asked.append(whole.where(whole.notna(), take(run.records["input"], rows)))
    different = differ(*asked)
    if not different.any():
        return {}
    return {name: one.where(different, None) for name, one in zip(PROMPT_COLUMNS, asked, strict=True)}


def _sides(old: TaskRun, new: TaskRun, pairs: Pairs) -> tuple[tuple[TaskRun, Rows], tuple[TaskRun, Rows]]:
    return (old, pairs.old), (new, pairs.new)


def _side(column: str, run: TaskRun, rows: Rows) -> pd.Series:
    return take(run.records[column], rows) if column in run.records else _empty(len(rows))


def _known(column: pd.Series | None, size: int) -> pd.Series:
    return _empty(size) if column is None else column


def _empty(size: int) -> pd.Series:
    return pd.Series(None, index=range(size), dtype=STRING)


def _constant(value: str, size: int) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(np.zeros(size, dtype=np.int8), pd.Index([value]))
