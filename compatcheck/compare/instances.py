"""The table of instances: what a report shows of every pair."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from compatcheck.compare.coverage import ends
from compatcheck.compare.kinds import Flip, failure_kind, labels
from compatcheck.compare.pairing import Pairs, Rows, differ, take
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import FURTHER_COLUMNS, INSTANCE_COLUMNS, KIND_COLUMN, PROMPT_COLUMNS
from compatcheck.records import ANSWER_COLUMNS, ANSWER_NUMBERS, ID_COLUMNS, TEXT_COLUMNS, StoredRun, TaskRun

STRING = pd.Series(["a"]).dtype
"""How this pandas keeps text: ``str`` from version 3 on, ``object`` before."""

_RESERVED = frozenset((*ID_COLUMNS, *TEXT_COLUMNS, *ANSWER_COLUMNS, "loglikelihoods"))
_OF_METRICS = ("score:", "prediction:", "agreed:")


def slice_fields(*columns: Iterable[object]) -> tuple[str, ...]:
    """The columns that are no part of the record itself, in the order they are first met."""
    names = (str(name) for each in columns for name in each)
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


def failure_kinds(
    instances: pd.DataFrame, new: TaskRun, rows: Rows, known_labels: frozenset[str] | None
) -> pd.Series | None:
    """The kind of failure of every negative flip of which an answer is known, null elsewhere; None where there is none.
    Where both answers are one text, the score alone says that it got worse: that is of no kind.
    ``rows`` are those of NEW; labels are taken from the instances where they are not known."""
    answers = ["target", "prediction_old", "prediction_new", "response_old", "response_new"]
    worse = (instances["quadrant"] == "negative_flip").fillna(False).to_numpy(dtype=bool)
    told = instances[answers[1:]].notna().to_numpy().any(axis=1)
    other = [differ(instances[f"{name}_old"], instances[f"{name}_new"]) for name in ("prediction", "response")]
    places = np.flatnonzero(worse & told & (other[0] | other[1]))
    if not len(places):
        return None
    known = instances[answers].iloc[places]
    if known_labels is None:
        targets = (str(each) for each in instances["target"].dropna().unique())
        known_labels = labels(targets, len(instances))
    said = [take(new.records[name], rows).iloc[places] for name in new.records.columns if ends(name)]
    texts = (next((one for one in each if isinstance(one, str)), None) for each in zip(*said, strict=True))
    reasons = list(texts) if said else [None] * len(places)
    chosen = "loglikelihoods" in new.records
    columns = [known[name].astype(object).where(known[name].notna(), None).tolist() for name in answers]
    columns += [reasons, [chosen] * len(places)]
    column = np.full(len(instances), None, dtype=object)
    column[places] = [failure_kind(Flip._make(each), known_labels) for each in zip(*columns, strict=True)]
    return pd.Series(column, index=instances.index).astype(STRING)


def build_instances(old: TaskRun, new: TaskRun, pairs: Pairs, found: Sorted) -> pd.DataFrame:
    """One row per pair, errors included: :data:`INSTANCE_COLUMNS` and the slice fields.

    Text columns in their order are shared with the records, not copied. A slice field with the name of another column
    becomes ``field:<name>``. Where the models were given different texts, these are :data:`PROMPT_COLUMNS`.
    """
    size = len(pairs.old)
    (_, old_rows), (_, new_rows) = _sides(old, new, pairs)
    empty = _empty(size)

    def side(column: str, run: TaskRun, rows: Rows) -> pd.Series:
        return take(run.records[column], rows) if column in run.records else empty

    def either(column: str) -> pd.Series:
        known = column in old.records or column in new.records
        return from_either(column, old, new, pairs) if known else empty

    changed = pd.array([None], dtype="boolean").take(np.zeros(size, dtype=np.intp))
    if found.changed is not None:
        changed = pd.arrays.BooleanArray(found.changed.copy(), ~found.scored)
    quadrant = pd.Categorical.from_codes(found.codes, pd.Index(found.names))
    columns: dict[str, pd.Series | pd.Categorical[str] | pd.api.extensions.ExtensionArray | np.ndarray] = {
        "task": _constant(old.task, size),
        "doc_id": take(old.records["doc_id"], old_rows),
        "filter": _constant(old.filter, size),
        "metric": _constant(found.metric.name, size),
        "input": either("input"),
        "target": either("target"),
        "prediction_old": empty if found.prediction_old is None else found.prediction_old,
        "prediction_new": empty if found.prediction_new is None else found.prediction_new,
        "response_old": side("response", old, old_rows),
        "response_new": side("response", new, new_rows),
        "score_old": found.old,
        "score_new": found.new,
        "gain": found.gain,
        "quadrant": pd.Series(quadrant).astype(STRING),
        "changed": changed,
        "error_old": side("error", old, old_rows),
        "error_new": side("error", new, new_rows),
        "doc_hash": either("doc_hash"),
    }
    columns |= _prompts(old, new, old_rows, new_rows)
    for name in ANSWER_COLUMNS:
        sides = (("old", old, old_rows), ("new", new, new_rows))
        if any(name in run.records for _, run, _ in sides):
            columns |= {f"{name}_{each}": _of_answers(name, side(name, run, rows)) for each, run, rows in sides}
    for name in slice_fields(old.names, new.names):
        shown = shown_as(name)
        columns[shown] = from_either(name, old, new, pairs)
    return pd.DataFrame(columns, copy=False)


def shown_as(field: str) -> str:
    """The name that a slice field has among the columns of instances."""
    return f"field:{field}" if field in (*INSTANCE_COLUMNS, *FURTHER_COLUMNS) else field


def _of_answers(name: str, column: pd.Series) -> pd.Series:
    """What came with the answers of a side in one type; what is no number where one should be is not known."""
    return pd.to_numeric(column, errors="coerce").astype("float64") if name in ANSWER_NUMBERS else column


def _prompts(old: TaskRun, new: TaskRun, old_rows: Rows, new_rows: Rows) -> dict[str, pd.Series]:
    """The whole texts that the models were given, in the rows where they differ, of a user's own prompts in all rows
    where they are not the input; nothing where there is no such row."""
    if not all("full_prompt" in run.records and "input" in run.records for run in (old, new)):
        return {}
    asked = []
    for run, rows in ((old, old_rows), (new, new_rows)):
        whole, shown = take(run.records["full_prompt"], rows), take(run.records["input"], rows)
        # Where no row has another text, the column is shared: a copy would hold every text as an object of Python's.
        asked.append(whole.where(whole.notna(), shown) if whole.notna().any() else shown)
    different = differ(*asked)
    if "rows" in old.settings and "rows" in new.settings:
        for run, rows in ((old, old_rows), (new, new_rows)):
            different = different | take(run.records["full_prompt"], rows).notna().to_numpy(dtype=bool)
    if not different.any():
        return {}
    return {name: one.where(different, None) for name, one in zip(PROMPT_COLUMNS, asked, strict=True)}


def _sides(old: TaskRun, new: TaskRun, pairs: Pairs) -> tuple[tuple[TaskRun, Rows], tuple[TaskRun, Rows]]:
    return (old, pairs.old), (new, pairs.new)


def _empty(size: int) -> pd.Series:
    return pd.Series(None, index=range(size), dtype=STRING)


def _constant(value: str, size: int) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(np.zeros(size, dtype=np.int8), pd.Index([value]))


def instance_kinds(old: StoredRun, new: StoredRun, prompts: bool) -> dict[str, str]:
    """The columns of instances beside :data:`INSTANCE_COLUMNS`, with the kind that holds their values; ``prompts``:
    whether the models were given different texts."""
    found = {KIND_COLUMN: "text"} | (dict.fromkeys(PROMPT_COLUMNS, "text") if prompts else {})
    for name in ANSWER_COLUMNS:
        if name in {*old.names, *new.names}:
            found |= dict.fromkeys((f"{name}_old", f"{name}_new"), "number" if name in ANSWER_NUMBERS else "text")
    for name in slice_fields(old.names, new.names):
        kinds = [run.kinds[name] for run in (old, new) if name in run.kinds]
        kind, shown = kinds[0] if name in old.table.complete else common_kind(kinds[0], kinds[-1]), shown_as(name)
        found[shown] = common_kind(found[shown], kind) if shown in found else kind
    return found


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


def text_of(value: object) -> str:
    """A value as a name: text as it is, anything else (lists and objects too) as JSON."""
    if isinstance(value, str):
        return value
    plain = bool(value) if isinstance(value, np.bool_) else value
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, default=str)


def _array(column: pd.Series, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if pa.types.is_large_string(kind):
        if isinstance(column.dtype, pd.CategoricalDtype) and pd.api.types.is_string_dtype(column.cat.categories):
            return pa.array(column, from_pandas=True).cast(kind)
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(str)
        elif not pd.api.types.is_string_dtype(column.dtype) or column.dtype == object:
            column = column.map(_text, na_action="ignore").astype(object)
    return pa.array(column, kind, from_pandas=True)


def _text(value: Any) -> str:
    # Parquet is UTF-8, JSON can spell lone surrogates: these become visible escapes.
    return text_of(value).encode("utf-8", "backslashreplace").decode("utf-8")
