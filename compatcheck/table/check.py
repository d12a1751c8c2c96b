"""Recorded rows into one checked table: ids, targets, predictions, scores and slice fields as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from compatcheck.errors import InputError, one_line
from compatcheck.similarity import RECORDED, STRUCTURED
from compatcheck.table import thinking
from compatcheck.table.figures import Figures, in_one_unit
from compatcheck.table.flat import flat_columns, is_typed
from compatcheck.table.layout import MISSING, Layout, field_names, listed, obvious, picker, proposed
from compatcheck.table.lists import Lists
from compatcheck.table.reading import Row, Source
from compatcheck.table.rows import Field, RowTable, missing_field
from compatcheck.table.targets import Targets, in_one_layout
from compatcheck.table.untyped import Untyped
from compatcheck.table.values import (
    INPUT_HASH,
    NUMBER,
    OWN_NAMES,
    PLAIN,
    REFERENCES,
    TEXT,
    Checked,
    Table,
    aligned,
    failure,
    first_index,
    has_values,
    hashed,
    is_gap,
    plain_json,
    slice_columns,
    text_array,
    text_of,
)
from compatcheck.text import value_text

NESTED = ("input", "response", "full_prompt")
"""Fields that may hold an object or a list, of which the text is kept."""
_OPTIONS = {"id": "--id-field", "target": "--target-field", "prediction": "--prediction-field"}
Batch = tuple[Sequence[int], "pa.RecordBatch | list[Row]"]


class Columns:
    """Turns the rows of one file into checked columns, chunk after chunk, and keeps what must hold across chunks.

    ``metrics`` are the scores that were asked for by name: what they do not need may be missing.
    """

    def __init__(
        self, source: Source, layout: Layout, side: str, targets: Targets | None, metrics: Sequence[str] = ()
    ) -> None:
        self.source, self.layout, self.targets, self.side = source, layout, targets, side
        self.asked = tuple(metrics)
        self.nested = layout.reference is not None or not STRUCTURED.isdisjoint(metrics)
        """Targets and predictions may be objects and lists, and are then their JSON."""
        self.structured = bool(metrics) and STRUCTURED.issuperset(metrics)
        self.checked = Checked(source)
        option = _OPTIONS["prediction"]
        self.option = f"{option} or --{side}-prediction-field" if side in ("old", "new") else option
        self.id_field = layout.id_field or "id"
        self.input_field = layout.input_field or "input"
        self.target = Field(layout.target_field or "target")
        self.prediction = Field(layout.prediction_field or "prediction")
        self.by_content = False
        """The rows have no id: what was asked serves as one."""
        self.used: set[str] = set()
        self.metrics: dict[str, None] = {}
        """Names of the scores met so far."""
        self.names_score = False
        self.faults: dict[str, InputError] = {}
        self.unfit: set[str] = set()
        """Fields that turned out to be no labels; what they gave is to be dropped."""
        self.first: tuple[int, Row] | None = None
        self.notes: list[str] = []
        self.looked = False
        """Whether reasoning was looked for."""
        self.figures = Figures(source)
        self.typed: set[str] = set()
        """Which of target and prediction are numbers or booleans, not texts."""
        self.numbers, self.lists = Untyped(), Lists()

    def tables(self) -> Iterator[dict[str, pa.Array]]:
        """The columns of all chunks. Raises InputError for the first row that is not as it should be."""
        batches: Iterable[Batch] = self.source.batches if self.source.batches is not None else self.source.chunks
        for numbers, rows in batches:
            yield self.of(numbers, rows)

    def of(self, numbers: Sequence[int], rows: pa.RecordBatch | list[Row]) -> dict[str, pa.Array]:
        """The columns of a chunk."""
        if isinstance(rows, pa.RecordBatch):
            try:
                rows.validate(full=True)  # texts of damaged files may be no UTF-8
            except pa.ArrowException as error:
                raise InputError(
                    f"{self.source.path}: cannot be read ({one_line(error)}); copy the file again"
                ) from None
        if self.first is None:
            self._start(numbers, rows if isinstance(rows, list) else rows.slice(0, 1_000).to_pylist())
        columns = None if isinstance(rows, list) else flat_columns(self, rows, numbers)
        if columns is None:
            columns = self._of_rows(numbers, rows if isinstance(rows, list) else _row_list(self.source, rows, numbers))
        columns = in_one_unit(columns)
        self.lists.watch({} if self.structured else columns)
        if self.source.untyped:
            self.numbers.watch(columns)
        self.figures.watch(columns)
        if self.layout.reasoning is None and not self.looked:
            self.looked = True  # at the first rows, which tell it of the rest
            self.notes += [said] if (said := thinking.note(self.source.path, columns)) is not None else []
        return columns

    def _of_rows(self, numbers: Sequence[int], rows: list[Row]) -> dict[str, pa.Array]:
        layout, checked, target, prediction = self.layout, self.checked, self.target, self.prediction
        keys = set().union(*rows)
        columns: dict[str, pa.Array] = {"doc_id": self._ids(numbers, rows)}
        failed = self._errors(columns, rows) if "error" in keys else [False] * len(rows)
        for name in PLAIN:
            if name in keys and name not in (self.id_field, target.name, prediction.name):
                columns[name] = checked.texts(_column(rows, name), numbers, name, name in NESTED)
        if self.input_field != "input":
            asked = picker(self.input_field)(rows)
            if layout.input_field is not None and MISSING in asked:
                gap = asked.index(MISSING)
                raise missing_field(self.source, numbers[gap], rows[gap], self.input_field, "--input-field")
            columns["input"] = checked.texts(asked, numbers, self.input_field, nested=True)
        predictions, rows = self._predictions(rows)
        prediction.note(predictions, numbers, rows, failed)
        if self.targets is None:
            values = picker(target.name)(rows)
            target.note(values, numbers, rows, [False] * len(rows))
        else:
            values = self._given_targets(columns["doc_id"].to_pylist(), numbers, failed)
        self._note_typed("target", values)
        if all(failed):  # none of these needs an answer, or a target
            prediction.seen = target.seen = True
        if self.nested:
            values = [plain_json(value) for value in values]
        if self.structured:
            values = list(map(in_one_layout, values))
        if target.seen:
            self._add_targets(columns, values, numbers)
        if prediction.seen:
            self._add_predictions(columns, predictions, values, numbers)
        for key in sorted(keys):
            if key == "score" or key.startswith("score:"):
                self._add_scores(columns, key, rows, numbers)
            elif key.startswith("prediction:"):
                columns[key] = checked.texts(_column(rows, key), numbers, key)
                self.used.add(key)
        if "loglikelihoods" in keys:
            columns["loglikelihoods"] = _number_lists(_column(rows, "loglikelihoods"), numbers, checked)
        if "input" in columns and "doc_hash" not in columns:
            columns["doc_hash"] = hashed(columns["input"], INPUT_HASH)
        for name, array in slice_columns(rows, self.used, self.unfit).items():
            columns[f"field:{name}" if name in ("doc_id", "id", "target", "prediction", "score") else name] = array
        columns[NUMBER] = pa.array(numbers, pa.int64())
        if prediction.seen and prediction.gap is not None:
            option = f"{self.option}, or write null where there is no answer"
            raise missing_field(self.source, *prediction.gap, prediction.name, option)
        return columns

    def _error(self, row: Row) -> Any:
        return failure(row.get("error"), self.source.untyped)

    def _errors(self, columns: dict[str, pa.Array], rows: Sequence[Row]) -> list[bool]:
        """Add the error column."""
        values = list(map(self._error, rows))
        columns["error"] = text_array(values)
        return [value is not None for value in values]

    def _predictions(self, rows: list[Row]) -> tuple[list[Any], list[Row]]:
        """The answers as they are scored, and the rows, with what was kept apart of them."""
        found = picker(self.prediction.name)(rows)
        self._note_typed("prediction", found)
        if self.nested:
            found = [plain_json(value) for value in found]
        return thinking.stripped(found, rows) if self.layout.reasoning == thinking.STRIP else (found, rows)

    def _note_typed(self, role: str, values: Sequence[Any]) -> None:
        if role not in self.typed and has_values(values):
            self.typed.add(role)

    def _start(self, numbers: Sequence[int], rows: Sequence[Row]) -> None:
        """Settle which field is what, by the first rows."""
        self.first = (numbers[0], rows[0])
        there = list(dict.fromkeys(name for row in rows for name in field_names(row)))
        plain = set(there) | {key for row in rows for key in row}
        layout = self.layout
        given = [layout.id_field, layout.target_field, layout.prediction_field, layout.input_field]
        taken = {name for name in given if name is not None}
        wanted = [
            role
            for role, name in zip(("id", "target", "prediction", "input"), given, strict=True)
            if name is None and role not in plain and not (role == "target" and self.targets is not None)
        ]
        scored = [key for key in plain if key == RECORDED or key.startswith("score:")]
        known = {key.removeprefix("score:") for key in scored}
        given_scores = scored and layout.reference is None and all(name in known for name in self.asked)
        if given_scores:  # the scores are there: nothing has to be computed
            wanted = [role for role in wanted if role in ("id", "input")]
        found = {} if self.source.plain_names else obvious(there, wanted, taken)
        self.id_field = found.get("id", self.id_field)
        self.target.name = found.get("target", self.target.name)
        self.prediction.name = found.get("prediction", self.prediction.name)
        self.input_field = found.get("input", self.input_field)
        asked = self.input_field in plain and not self.source.plain_names
        self.by_content = "id" in wanted and "id" not in found and asked
        self._say(found)
        missing = [
            role for role in wanted if role != "input" and role not in found and not (role == "id" and self.by_content)
        ]
        if all(self._error(row) for row in rows):  # what failed has no answer
            missing = [role for role in missing if role == "id"]
        # What is computed needs a target, unless a metric that was asked for is said to need none later on.
        if "prediction" in missing or "id" in missing:
            raise self._lacking(missing, there, taken | set(found.values()))
        self.used = {self.id_field, self.target.name, self.prediction.name, *(OWN_NAMES - {"doc_id"})}
        if self.id_field != "id":
            self.used -= {"id"}
        if self.layout.input_field is not None:
            self.used |= {self.input_field}

    def _say(self, found: Mapping[str, str]) -> None:
        shown = [f"`{name}` is taken as the {role}" for role, name in found.items() if role != "input"]
        if self.by_content:
            shown.append(f"rows have no id: they are known by `{self.input_field}`")
        if shown:
            self.notes.append(f"{self.source.path}: {'; '.join(shown)}")

    def _lacking(self, missing: Sequence[str], there: Sequence[str], taken: set[str]) -> InputError:
        """One message on all fields that are missing, with the options that would name them."""
        assert self.first is not None
        number, row = self.first
        guesses = proposed(there, missing, taken)
        names = " and ".join(f"no field `{role}`" for role in missing)
        if not guesses:
            options = " and ".join(self.option if role == "prediction" else _OPTIONS[role] for role in missing)
            return InputError(f"{self.source.at(number)}: {names} (fields: {listed(row)}); name it with {options}")
        said = []
        for role, fields in guesses.items():
            if role == "prediction" and len(fields) > 1 and self.side in ("old", "new"):
                said.append(f"--old-prediction-field {fields[0]} --new-prediction-field {fields[1]}")
            else:
                said.append(f"{_OPTIONS[role]} {fields[0]}")
        return InputError(f"{self.source.at(number)}: {names} (fields: {listed(row)}); did you mean {' '.join(said)}?")

    def _ids(self, numbers: Sequence[int], rows: list[Row]) -> pa.Array:
        if self.by_content:
            asked = self.checked.texts(picker(self.input_field)(rows), numbers, self.input_field, nested=True)
            gap = first_index(asked.to_pylist(), lambda text: text is None)
            if gap >= 0:
                raise missing_field(self.source, numbers[gap], rows[gap], "id", _OPTIONS["id"])
            return hashed(asked)
        ids = picker(self.id_field)(rows)
        if MISSING in ids:
            gap = ids.index(MISSING)
            raise missing_field(self.source, numbers[gap], rows[gap], self.id_field, _OPTIONS["id"])
        return self.checked.ids(ids, numbers, self.id_field)

    def _add_targets(self, columns: dict[str, pa.Array], values: list[Any], numbers: Sequence[int]) -> None:
        columns["target"], references = self.checked.targets(values, numbers, self.target.name)
        if references is not None:
            columns[REFERENCES] = references
        if self.layout.extract is not None and "target_hash" not in columns:
            # What is taken out of two different targets may be the same: only the whole tells them apart.
            whole = [None if text is None else value_text(text) for text in columns["target"].to_pylist()]
            columns["target_hash"] = hashed(pa.array(whole, TEXT))

    def _add_predictions(
        self, columns: dict[str, pa.Array], predictions: list[Any], targets: list[Any], numbers: Sequence[int]
    ) -> None:
        texts = self.checked.texts(predictions, numbers, self.prediction.name)
        if self.layout.extract is not None:
            columns["response"] = texts
            raw = texts.to_pylist()
            columns["prediction"] = pa.array([None if t is None else self.layout.extracted(t) for t in raw], TEXT)
            return
        spelled = aligned(predictions, targets)
        columns["prediction"] = texts if spelled is predictions else text_array(spelled)
        if spelled is not predictions and "response" not in columns:
            pairs = zip(predictions, spelled, strict=True)
            whole = [one if isinstance(one, str) and one != other else None for one, other in pairs]
            if any(one is not None for one in whole):
                columns["response"] = text_array(whole)

    def _add_scores(self, columns: dict[str, pa.Array], key: str, rows: list[Row], numbers: Sequence[int]) -> None:
        """A score as numbers; one that is an object, or a text, is no score but may be kept as a label."""
        name = key.removeprefix("score:")
        values = _column(rows, key)
        try:
            if name in self.faults:
                raise self.faults[name]
            columns[f"score:{name}"] = self.checked.scores(values, numbers, key)
        except InputError as fault:
            given = [value for value in values if not is_gap(value)]
            nested = bool(given) and all(isinstance(value, list | dict) for value in given)
            asked_else = bool(self.asked) and name not in self.asked
            if name in self.metrics or not (nested or asked_else):
                raise
            self.faults.setdefault(name, fault)
            columns[f"field:{key}"] = text_array([None if is_gap(value) else text_of(value) for value in values])
            self.used.add(key)
            return
        self.metrics[name] = None
        self.names_score = self.names_score or key == RECORDED
        self.used.add(key)

    def met(self, batch: pa.RecordBatch) -> None:
        """Take note of a table in which every row has all the fields."""
        names = batch.schema.names
        self.prediction.seen = self.prediction.seen or self.prediction.name in names
        self.target.seen = self.target.seen or self.target.name in names
        scores = [name for name in names if name == "score" or name.startswith("score:")]
        self.metrics |= {name.removeprefix("score:"): None for name in sorted(scores)}
        self.names_score = self.names_score or RECORDED in scores
        for role, name in (("target", self.target.name), ("prediction", self.prediction.name)):
            if name in names and is_typed(batch.column(name)):
                self.typed.add(role)
        self.used |= {*scores, *(name for name in names if name.startswith("prediction:"))}

    def _given_targets(self, names: list[str], numbers: Sequence[int], failed: Sequence[bool]) -> list[Any]:
        assert self.targets is not None
        self.target.seen = True
        values = self.targets.of(names)
        lacking = first_index(list(zip(values, failed, strict=True)), lambda pair: pair[0] is MISSING and not pair[1])
        if lacking >= 0:
            raise self.checked.fail(
                numbers[lacking], f"no target in {self.targets.path} for the id {names[lacking]!r:.80}"
            )
        return values

    def settled(self, table: pa.Table) -> pa.Table:
        """Rows of a file without types once all were seen; others as they are."""
        return self.numbers.settled(table, bool(self.metrics)) if self.source.untyped else table

    def finish(self, table: pa.Table) -> RowTable:
        """The table with what the reader found out on the way; checks what only the end can tell."""
        assert self.first is not None, "a source without rows raises"
        if not self.prediction.seen and (self.layout.prediction_field is not None or not self.metrics):
            raise missing_field(self.source, *self.first, self.prediction.name, self.option)
        faulty = [f"{self.source.path}: `{name}` is no number and is not compared" for name in self.faults]
        notes = [*self.source.notes, *self.notes, *faulty, *self.figures.notes()]
        typed = self.numbers.typed(bool(self.metrics)) if self.source.untyped else frozenset(self.typed)
        return RowTable(
            self.settled(table), self.source, tuple(self.metrics), self.prediction.seen, self.target.seen, self.first,
            self.target.name, self.names_score, self.faults, tuple(dict.fromkeys(notes)), typed | self.lists.typed(),
        )  # fmt: skip


def build_table(
    source: Source, layout: Layout, side: str, targets: Targets | None, metrics: Sequence[str] = ()
) -> RowTable:
    """Read all rows. Raises InputError for the first row that is not as it should be."""
    reader, table = Columns(source, layout, side, targets, metrics), Table()
    for columns in reader.tables():
        table.add(len(columns[NUMBER]), columns)
    return reader.finish(table.finish(reader.unfit))


def _row_list(source: Source, batch: pa.RecordBatch, numbers: Sequence[int]) -> list[Row]:
    try:
        rows: list[Row] = batch.to_pylist()
        return rows
    except UnicodeDecodeError:
        raise InputError(f"{source.path}: not UTF-8 in a row after row {numbers[0] - 1}; the file is damaged") from None


def _column(rows: Sequence[Row], name: str) -> list[Any]:
    return [row.get(name) for row in rows]


def _number_lists(values: list[Any], numbers: Sequence[int], checked: Checked) -> pa.Array:
    try:
        return pa.array(values, pa.list_(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        bad = first_index(values, lambda v: v is not None and not _are_numbers(v))
        raise checked.fail(numbers[max(bad, 0)], "`loglikelihoods` must be a list of numbers") from None


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
