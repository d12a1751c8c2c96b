"""Recorded rows into one checked table: ids, targets, predictions, scores and slice fields as columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from compatcheck.errors import InputError
from compatcheck.readers.reading import Chunk, Row, Source
from compatcheck.similarity import RECORDED
from compatcheck.table.columns import TEXT, TEXTS, Checked, Table, first_index, slice_columns, text_array
from compatcheck.table.layout import MISSING, Layout, field_names, picker
from compatcheck.table.targets import Targets
from compatcheck.text import text_hash

NUMBER = "__number"
REFERENCES = "__references"
"""Columns of the table that do not become columns of the records: the row's place, and lists of references."""

INPUT_HASH = "input:"
"""How a ``doc_hash`` begins that was made of the input alone, for rows that carry none of their own."""
PLAIN = ("input", "response", "doc_hash", "target_hash", "full_prompt", "task", "filter")
OWN_NAMES = frozenset({"id", "target", "prediction", "score", "error", "loglikelihoods", "doc_id", *PLAIN})


@dataclass
class _Field:
    """A field that a file may lack altogether, but not in some rows only."""

    name: str
    seen: bool = False
    gap: tuple[int, Row] | None = None
    """First row without it (and without an error)."""

    def note(self, values: list[Any], numbers: Sequence[int], rows: Sequence[Row], failed: Sequence[bool]) -> None:
        if MISSING not in values:
            self.seen = True
            return
        self.seen = self.seen or any(value is not MISSING for value in values)
        if self.gap is None:
            for value, number, row, error in zip(values, numbers, rows, failed, strict=True):
                if value is MISSING and not error:
                    self.gap = (number, row)
                    return


@dataclass
class RowTable:
    """All rows of one file."""

    table: pa.Table
    source: Source
    metrics: tuple[str, ...]
    """Names of the scores the file carries."""
    has_predictions: bool
    has_targets: bool
    first: tuple[int, Row]
    target_field: str = field(default="target")
    names_score: bool = False
    """Whether one of the scores is called just ``score``, so that it is the one that counts."""

    def missing(self, name: str, option: str) -> InputError:
        """The error of a field that no row has."""
        return missing_field(self.source, *self.first, name, option)


def missing_field(source: Source, number: int, row: Row, name: str, option: str) -> InputError:
    """The error of a row without a field; says which fields it has and which option names another."""
    there = ", ".join(field_names(row)) or "none"
    there = there if len(there) <= 300 else there[:299] + "…"
    return InputError(f"{source.at(number)}: no field `{name}` (fields: {there}); name it with {option}")


class Columns:
    """Turns the rows of one file into checked columns, chunk after chunk, and keeps what must hold across chunks."""

    def __init__(self, source: Source, layout: Layout, side: str, targets: Targets | None) -> None:
        self.source, self.layout, self.targets = source, layout, targets
        self.checked = Checked(source)
        self.option = (
            f"--prediction-field or --{side}-prediction-field" if side in ("old", "new") else "--prediction-field"
        )
        self.id_field = layout.id_field or "id"
        self.target, self.prediction = (
            _Field(layout.target_field or "target"),
            _Field(layout.prediction_field or "prediction"),
        )
        self.used = {self.id_field, self.target.name, self.prediction.name, *(OWN_NAMES - {"doc_id"})}
        self.metrics: dict[str, None] = {}
        """Names of the scores met so far."""
        self.names_score = False
        self.unfit: set[str] = set()
        """Fields that turned out to be no labels; what they gave is to be dropped."""
        self.first: tuple[int, Row] | None = None
        self._picks = tuple(picker(name) for name in (self.id_field, self.target.name, self.prediction.name))

    def of(self, numbers: Sequence[int], rows: list[Row]) -> dict[str, pa.Array]:
        """The columns of a chunk. Raises InputError for the first row that is not as it should be."""
        layout, checked, target, prediction = self.layout, self.checked, self.target, self.prediction
        pick_id, pick_target, pick_prediction = self._picks
        self.first = self.first or (numbers[0], rows[0])
        ids = pick_id(rows)
        if MISSING in ids:
            gap = ids.index(MISSING)
            raise missing_field(self.source, numbers[gap], rows[gap], self.id_field, "--id-field")
        keys = set(rows[0]) if _same_shape(rows) else set().union(*rows)
        columns: dict[str, pa.Array] = {"doc_id": checked.ids(ids, numbers, self.id_field)}
        failed = _errors(columns, rows) if "error" in keys else [False] * len(rows)
        for name in PLAIN:
            if name in keys and name not in (self.id_field, target.name, prediction.name):
                columns[name] = checked.texts(_column(rows, name), numbers, name)
        predictions = pick_prediction(rows)
        prediction.note(predictions, numbers, rows, failed)
        if prediction.seen:
            _add_predictions(columns, checked.texts(predictions, numbers, prediction.name), layout)
        if self.targets is None:
            values = pick_target(rows)
            target.note(values, numbers, rows, [False] * len(rows))
        else:
            values = self._given_targets(columns["doc_id"].to_pylist(), ids, numbers, failed)
        if target.seen:
            _add_targets(columns, values, checked, numbers, target.name, layout)
        for key in sorted(keys):
            if key == "score" or key.startswith("score:"):
                name = key.removeprefix("score:")
                self.metrics[name] = None
                self.names_score = self.names_score or key == RECORDED
                columns[f"score:{name}"] = checked.scores(_column(rows, key), numbers, key)
            elif key.startswith("prediction:"):
                columns[key] = checked.texts(_column(rows, key), numbers, key)
            else:
                continue
            self.used.add(key)
        if "loglikelihoods" in keys:
            columns["loglikelihoods"] = _number_lists(_column(rows, "loglikelihoods"), numbers, checked)
        if "input" in columns and "doc_hash" not in columns:
            columns["doc_hash"] = hashed(columns["input"], INPUT_HASH)
        for name, array in slice_columns(rows, self.used, self.unfit).items():
            columns["field:doc_id" if name == "doc_id" else name] = array
        columns[NUMBER] = pa.array(numbers, pa.int64())
        _check_gap(self.source, prediction, self.option)
        return columns

    def met(self, batch: pa.RecordBatch, numbers: Sequence[int]) -> None:
        """Take note of a table in which every row has all the fields."""
        if self.first is None:
            self.first = (numbers[0], batch.slice(0, 1).to_pylist()[0])
        names = batch.schema.names
        self.prediction.seen = self.prediction.seen or self.prediction.name in names
        self.target.seen = self.target.seen or self.target.name in names
        scores = [name for name in names if name == "score" or name.startswith("score:")]
        self.metrics |= {name.removeprefix("score:"): None for name in sorted(scores)}
        self.names_score = self.names_score or RECORDED in scores
        self.used |= {*scores, *(name for name in names if name.startswith("prediction:"))}

    def _given_targets(
        self, names: list[str], ids: list[Any], numbers: Sequence[int], failed: Sequence[bool]
    ) -> list[Any]:
        assert self.targets is not None
        self.target.seen = True
        values = self.targets.of(names)
        lacking = first_index(list(zip(values, failed, strict=True)), lambda pair: pair[0] is MISSING and not pair[1])
        if lacking >= 0:
            raise self.checked.fail(
                numbers[lacking], f"no target in {self.targets.path} for the id {ids[lacking]!r:.80}"
            )
        return values

    def finish(self) -> tuple[int, Row]:
        """Check what only the end can tell; returns the first row and its number."""
        assert self.first is not None, "a source without rows raises"
        if not self.prediction.seen and (self.layout.prediction_field is not None or not self.metrics):
            raise missing_field(self.source, *self.first, self.prediction.name, self.option)
        return self.first


def build_table(
    source: Source, chunks: Iterable[Chunk], layout: Layout, side: str, targets: Targets | None
) -> RowTable:
    """Read all rows. Raises InputError for the first row that is not as it should be."""
    reader, table = Columns(source, layout, side, targets), Table()
    for numbers, rows in chunks:
        table.add(len(rows), reader.of(numbers, rows))
    return row_table(reader, table.finish(reader.unfit))


def row_table(reader: Columns, table: pa.Table) -> RowTable:
    """The table with what the reader found out on the way."""
    first = reader.finish()
    metrics, target = tuple(reader.metrics), reader.target
    seen = reader.prediction.seen
    return RowTable(table, reader.source, metrics, seen, target.seen, first, target.name, reader.names_score)


def _same_shape(rows: Sequence[Row]) -> bool:
    keys = rows[0].keys()
    return all(row.keys() == keys for row in rows)


def _column(rows: Sequence[Row], name: str) -> list[Any]:
    return [row.get(name) for row in rows]


def _check_gap(source: Source, one: _Field, option: str) -> None:
    if one.seen and one.gap is not None:
        raise missing_field(source, *one.gap, one.name, f"{option}, or write null where there is no answer")


def _errors(columns: dict[str, pa.Array], rows: Sequence[Row]) -> list[bool]:
    """Add the error column: null, false and empty mean that there was none."""
    values = [row.get("error") or None for row in rows]
    columns["error"] = text_array(values)
    return [value is not None for value in values]


def _add_predictions(columns: dict[str, pa.Array], texts: pa.Array, layout: Layout) -> None:
    columns["prediction"] = texts
    if layout.extract is not None:
        raw = texts.to_pylist()
        columns["response"] = texts
        columns["prediction"] = pa.array([None if t is None else layout.extracted(t) for t in raw], TEXT)


def _add_targets(
    columns: dict[str, pa.Array], values: list[Any], checked: Checked, numbers: Sequence[int], name: str, layout: Layout
) -> None:
    columns["target"], references = checked.targets(values, numbers, name)
    if references is not None:
        columns[REFERENCES] = references
    if layout.extract is not None and "target_hash" not in columns:
        # What is taken out of two different targets may be the same: only the whole tells them apart.
        columns["target_hash"] = hashed(columns["target"])


def hashed(texts: pa.Array, prefix: str = "") -> pa.Array:
    """Fingerprints of texts; of a target the one that lm-eval writes, too."""
    return pa.array([None if text is None else prefix + text_hash(text) for text in texts.to_pylist()], TEXT)


def _number_lists(values: list[Any], numbers: Sequence[int], checked: Checked) -> pa.Array:
    try:
        return pa.array(values, pa.list_(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        bad = first_index(values, lambda v: v is not None and not _are_numbers(v))
        raise checked.fail(numbers[max(bad, 0)], "`loglikelihoods` must be a list of numbers") from None


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)


def extract_targets(rows: RowTable, layout: Layout) -> RowTable:
    """Take the answer out of every target.

    Where the pattern matches no target at all, targets are answers already and stay whole. Raises InputError where
    it matches some targets but not others.
    """
    table = rows.table
    if layout.extract is None or not rows.has_targets:
        return rows
    lists = REFERENCES in table.column_names
    whole = table[REFERENCES if lists else "target"].to_pylist()
    found = [None if one is None else [layout.extracted(text) for text in (one if lists else [one])] for one in whole]
    if all(one is None or all(text is None for text in one) for one in found):
        return rows
    for i, one in enumerate(found):
        if one is not None and None in one:
            number = table[NUMBER][i].as_py()
            raise InputError(
                f"{rows.source.at(number)}: --extract finds nothing in `{rows.target_field}`, though it does in other "
                "rows; mend the pattern or the target"
            )
    index = table.column_names.index
    texts = pa.array([None if one is None else " | ".join(dict.fromkeys(map(str, one))) for one in found], TEXT)
    table = table.set_column(index("target"), "target", texts)
    if lists:
        table = table.set_column(index(REFERENCES), REFERENCES, pa.array(found, TEXTS))
    rows.table = table
    return rows
