"""Values of rows as Arrow columns: what a text is, which spelling counts, and the checks that need a value's place."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from compatcheck.errors import InputError
from compatcheck.records import GREATEST
from compatcheck.table.layout import MISSING, Missing
from compatcheck.table.reading import Row, Source, json_kind
from compatcheck.text import clean_surrogates, plain_number, text_hash

TEXT = pa.large_string()
TEXTS = pa.list_(pa.large_string())
LABEL_LENGTH = 80
"""Nested texts longer than this are texts, not labels, and do not become slice fields."""
NUMBER_PATTERN = r"^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$"
"""A number as a program writes it: no leading zeros, no separators."""

NUMBER, REFERENCES = "__number", "__references"
"""Columns of the table that do not become columns of the records: the row's place, and lists of references."""
INPUT_HASH = "input:"
"""How a ``doc_hash`` begins that was made of the input alone, for rows that carry none of their own."""
PLAIN = ("input", "response", "doc_hash", "target_hash", "full_prompt", "task", "filter")
OWN_NAMES = frozenset({"id", "target", "prediction", "score", "error", "loglikelihoods", "doc_id", *PLAIN})
"""Fields of a row that have a meaning of their own."""

_SPELLED_NOTHING = frozenset({"", "false", "0", "0.0", "none", "null", "nan"})
_NOTHING: frozenset[type] = frozenset({type(None), Missing})
_TEXTS: frozenset[type] = frozenset({str, *_NOTHING})
_SCALARS: frozenset[type] = frozenset(
    {str, int, float, bool, Decimal, datetime.date, datetime.datetime, datetime.time, datetime.timedelta}
)
_NUMBERS = (int, float, Decimal)


def text_of(value: Any) -> str:
    """A scalar as text: numbers without a needless ``.0``, booleans and objects as JSON writes them."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, Decimal) and value.is_finite():
        return str(int(value)) if value == value.to_integral_value() else f"{value.normalize():f}"
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def said(value: Any) -> Any:
    """An object or a list as text: turns of a chat one under the other, anything else as JSON; a scalar as it is."""
    turns = value.get("messages") if isinstance(value, dict) and set(value) == {"messages"} else value
    if (
        isinstance(turns, list)
        and turns
        and all(isinstance(one, dict) and {"role", "content"} <= set(one) for one in turns)
    ):
        return "\n".join(f"{one['role']}: {_content(one['content'])}" for one in turns)
    return text_of(value) if isinstance(value, list | dict) else value


def _content(content: Any) -> str:
    """The text of a message, which may be a list of parts."""
    if isinstance(content, list) and all(isinstance(one, dict) for one in content):
        return "".join(one["text"] if isinstance(one.get("text"), str) else text_of(one) for one in content)
    return "" if content is None else text_of(content)


def plain_json(value: Any) -> Any:
    """A value as JSON, the same whatever the order of keys; a text, or a list of JSON texts, as it is."""
    texts = isinstance(value, list) and value and all(isinstance(one, str) for one in value)
    if texts and all(one.strip()[:1] in ("{", "[") for one in value):
        return value  # several that are accepted
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=text_of)
    return text_of(value) if isinstance(value, bool | int | float) and value == value else value


def is_gap(value: Any) -> bool:
    """Whether a value says nothing: missing, null, or not a number."""
    return type(value) in _NOTHING or value != value


def failure(error: Any, untyped: bool) -> Any:
    """What failed; None where nothing did, as null, false and empty say, in a file without types their spellings."""
    if untyped and isinstance(error, str) and error.strip().lower() in _SPELLED_NOTHING:
        return None
    return None if is_gap(error) else error or None


def text_array(values: Sequence[Any]) -> pa.Array:
    """Arrow text column of scalars; null and missing values, and NaN, are null."""
    if not set(map(type, values)) <= {str, type(None)}:
        values = [None if is_gap(v) else text_of(v) for v in values]
    return _texts(values, TEXT)


def _texts(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:

        def clean(value: Any) -> Any:
            if isinstance(value, list):
                return [clean(item) for item in value]
            return clean_surrogates(value) if isinstance(value, str) else value

        return pa.array([clean(value) for value in values], kind)


def hashed(texts: pa.Array, prefix: str = "") -> pa.Array:
    """Fingerprints of texts; of a target the one that lm-eval writes, too."""
    return pa.array([None if text is None else prefix + text_hash(text) for text in texts.to_pylist()], TEXT)


def aligned(predictions: Sequence[Any], targets: Sequence[Any]) -> Sequence[Any]:
    """Predictions spelled as their targets are, where one of the two is a number or a boolean and not a text.

    ``5.0`` against the text ``"5.00"`` is that text, ``true`` against ``"True"``, too; a text against the number 5 that
    is the same number is ``5``. Where both are texts each stays as it was written.
    """
    kinds = {type(one) for target in targets for one in (target if isinstance(target, list) else [target])}
    if set(map(type, predictions)) <= _TEXTS and kinds <= _TEXTS:
        return predictions
    return [p if is_gap(p) or is_gap(t) else _spelled(p, t) for p, t in zip(predictions, targets, strict=True)]


def _spelled(value: Any, target: Any) -> Any:
    if isinstance(target, list):
        each = [(_spelled(value, one), one) for one in target if not isinstance(one, list | dict)]
        return next((text for text, one in each if text == text_of(one)), value)
    if isinstance(value, str):
        if isinstance(target, bool):
            word = value.strip().lower()
            return word if word in ("true", "false") else value
        if isinstance(target, _NUMBERS) and plain_number(value.strip()) != text_of(target):
            return text_of(target) if number_in(value) == number_in(target) is not None else value
        return value
    if isinstance(value, bool):
        if isinstance(target, str) and target.strip().lower() in ("true", "false"):
            word = text_of(value)
            return word.upper() if target.strip().isupper() else word.title() if target.strip().istitle() else word
        return text_of(int(value)) if isinstance(target, _NUMBERS) and not isinstance(target, bool) else value
    if not isinstance(value, _NUMBERS):
        return value
    if isinstance(target, bool):
        return text_of(bool(value)) if value in (0, 1) else value
    found = number_in(target) if isinstance(target, str) else None
    if found is None:
        return value
    if found == number_in(value):
        return target
    decimals = len(target.strip().partition(".")[2])
    text = f"{value:.{decimals}f}" if target.strip()[-decimals:].isdecimal() or not decimals else ""
    return text if decimals and number_in(text) == number_in(value) else value


def number_in(value: Any) -> Decimal | None:
    """The number that a value is, or that a text holds and nothing else."""
    if isinstance(value, str):
        text = value.strip()
        text = (plain_number(text) or "") if not re.fullmatch(NUMBER_PATTERN[1:-1], text) else text
        try:
            return Decimal(text) if text else None
        except ArithmeticError:  # an exponent beyond all bounds
            return None
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return number if number.is_finite() else None


def has_values(values: Sequence[Any]) -> bool:
    """Whether a number or a boolean is among the values; NaN is none."""
    kinds = set(map(type, values))
    return bool(kinds & {bool, int, Decimal}) or (float in kinds and any(type(v) is float and v == v for v in values))


def first_index(values: Sequence[Any], test: Callable[[Any], bool]) -> int:
    """Index of the first value that passes the test, -1 where none does."""
    return next((i for i, value in enumerate(values) if test(value)), -1)


class Checked:
    """Reads the known fields of one file chunk by chunk, remembering what must hold across chunks."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._target_kind: tuple[str, int] | None = None

    def fail(self, number: int, message: str) -> InputError:
        return InputError(f"{self.source.at(number)}: {message}")

    def ids(self, values: list[Any], numbers: Sequence[int], field: str) -> pa.Array:
        kinds = set(map(type, values))
        if not kinds <= _SCALARS or float in kinds:
            bad = first_index(values, lambda v: type(v) not in _SCALARS or v != v)
            if bad >= 0:
                raise self.fail(numbers[bad], f"`{field}` is {_kind(values[bad])}, but it must be a text or a number")
        return text_array(values)

    def texts(self, values: Sequence[Any], numbers: Sequence[int], field: str, nested: bool = False) -> pa.Array:
        """A text or null in each row: numbers and booleans become theirs, where ``nested`` by :func:`said`."""
        kinds = set(map(type, values))
        if nested and kinds & {list, dict}:
            values = [said(value) for value in values]
            kinds = set(map(type, values))
        if not kinds <= _SCALARS | _NOTHING:
            bad = first_index(values, lambda v: type(v) not in _SCALARS | _NOTHING)
            raise self.fail(numbers[bad], f"`{field}` is {_kind(values[bad])}, but it must be a text, a number or null")
        return text_array(values)

    def targets(self, values: list[Any], numbers: Sequence[int], field: str) -> tuple[pa.Array, pa.Array | None]:
        """Targets as text, and the lists of references where there are several.

        Raises InputError where one target is a text and another a number, a boolean or a list.
        """
        if float in set(map(type, values)):
            values = [None if is_gap(value) else value for value in values]
        kinds = set(map(type, values)) - _NOTHING
        if not kinds:
            return text_array(values), None
        first = first_index(values, lambda v: type(v) not in _NOTHING)
        if self._target_kind is None:
            self._target_kind = (_kind(values[first]), numbers[first])
        kind, since = self._target_kind
        if len(kinds) > 1 or _kind(values[first]) != kind:
            bad = first_index(values, lambda v: type(v) not in _NOTHING and _kind(v) != kind)
            if bad >= 0:
                raise self.fail(
                    numbers[bad],
                    f"`{field}` is {_kind(values[bad])}, but {kind} in {self.source.place(since)}; "
                    "write all targets the same way",
                )
        if kind == "an object":
            raise self.fail(
                numbers[first],
                f"`{field}` is an object; compare it as JSON with --metric json (or tool_call), or name a field in it, "
                f"e.g. --target-field {field}.text",
            )
        if kind != "a list":
            return text_array(values), None
        lists: list[list[str] | None] = []
        for number, value in zip(numbers, values, strict=True):
            if type(value) in _NOTHING:
                lists.append(None)
                continue
            inner = {_kind(item) for item in value}
            if not value or len(inner) > 1 or not inner <= {"a text", "a number"}:
                what = "an empty list" if not value else f"a list with {' and '.join(sorted(inner))} in it"
                raise self.fail(
                    number, f"`{field}` is {what}; it must be a text, or a list of texts (or say --metric json)"
                )
            lists.append([text_of(item) for item in value])
        shown = [None if one is None else one[0] if len(one) == 1 else text_of(one) for one in lists]
        return text_array(shown), _texts(lists, TEXTS)

    def scores(self, values: list[Any], numbers: Sequence[int], field: str) -> pa.Array:
        """Scores as float64, null where there is none. Booleans count as 0 and 1, numbers in a text as numbers."""
        if not set(map(type, values)) <= {int, float}:
            values = [self._score(v, n, field) for v, n in zip(values, numbers, strict=True)]
        try:
            result = pa.array([None if v is None else float(v) for v in values], pa.float64())
        except OverflowError:
            result = None
        if result is None or not all(v is None or abs(v) <= GREATEST for v in values):
            bad = first_index(values, lambda v: v is not None and not _finite(v))
            beyond = result is not None and math.isfinite(values[bad])
            what = f"within ±{GREATEST:g}, or their sums overflow" if beyond else "finite numbers"
            raise self.fail(numbers[bad], f"`{field}` is {_shown(values[bad])}; scores must be {what}")
        return result

    def _score(self, value: Any, number: int, field: str) -> float | None:
        if type(value) in _NOTHING:
            return None
        if isinstance(value, str):
            word = {"true": 1.0, "false": 0.0}.get(value.strip().lower())
            if self.source.untyped and re.fullmatch(r"-?\d+,\d+", value.strip()):
                if re.fullmatch(r"-?[1-9]\d{0,2},\d{3}", text := value.strip()):
                    both = f"{text.replace(',', '.')} or {text.replace(',', '')}"
                    raise self.fail(number, f"`{field}` is {text!r}, which may be {both}; write it so")
                value = value.replace(",", ".")
            try:
                return float(value) if word is None else word
            except ValueError:
                raise self.fail(number, f"`{field}` is the text {value[:40]!r}; scores must be numbers") from None
        if isinstance(value, _NUMBERS):
            return float(value) if isinstance(value, Decimal) else value
        raise self.fail(number, f"`{field}` is {_kind(value)}; scores must be numbers")


def _finite(value: Any) -> bool:
    try:
        return abs(float(value)) <= GREATEST
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else ("infinite" if math.isinf(value) else str(value))
    return "a number beyond all bounds"


def _kind(value: Any) -> str:
    return "missing" if value is MISSING else "NaN" if value != value else json_kind(value)


def slice_columns(rows: Sequence[Row], skip: set[str], unfit: set[str]) -> dict[str, pa.Array]:
    """Columns of all scalar fields that are not in ``skip``; nested labels get dotted names.

    Fields found to be lists, mixtures with them, or nested long texts are added to ``unfit``: what such a field gave
    in earlier chunks is to be dropped.
    """
    names = dict.fromkeys(key for row in _distinct_shapes(rows) for key in row)
    columns: dict[str, pa.Array] = {}
    for name in names:
        if name not in skip:
            _add_slices(columns, name, [row.get(name) for row in rows], skip, unfit, depth=1)
    return columns


def _distinct_shapes(rows: Sequence[Row]) -> list[Row]:
    """One row of every order of fields: nearly always just the first."""
    first = rows[0].keys()
    return [rows[0], *(row for row in rows if row.keys() != first)]


def _add_slices(
    columns: dict[str, pa.Array], name: str, values: list[Any], skip: set[str], unfit: set[str], depth: int
) -> None:
    kinds = set(map(type, values)) - _NOTHING
    if kinds == {dict}:
        inner = [value if isinstance(value, dict) else {} for value in values]
        for key in dict.fromkeys(key for row in _distinct_shapes(inner) for key in row):
            if depth < 4 and f"{name}.{key}" not in skip:
                _add_slices(columns, f"{name}.{key}", [row.get(key) for row in inner], skip, unfit, depth + 1)
    elif kinds & {list, dict, bytes} or (depth > 1 and str in kinds and _has_long_text(values)):
        unfit.add(name)
    elif kinds and name not in unfit:
        columns[name] = _scalars(values, kinds)


def _has_long_text(values: list[Any]) -> bool:
    return any(len(value) > LABEL_LENGTH for value in values if isinstance(value, str))


def _scalars(values: list[Any], kinds: set[type]) -> pa.Array:
    if Decimal in kinds:
        values = [float(value) if isinstance(value, Decimal) else value for value in values]
        kinds = (kinds - {Decimal}) | {float}
    if kinds <= {int, float} or kinds == {bool}:
        try:
            return pa.array(values, from_pandas=True)  # NaN becomes null
        except (pa.ArrowInvalid, OverflowError):
            pass  # an integer beyond 64 bits
    return text_array(values)


class Table:
    """Collects columns chunk by chunk; a column that a chunk lacks is null there."""

    def __init__(self) -> None:
        self._parts: dict[str, list[pa.Array]] = {}
        self._rows = 0

    def add(self, rows: int, columns: dict[str, pa.Array]) -> None:
        for name, array in columns.items():
            self._parts.setdefault(name, [pa.nulls(self._rows)] if self._rows else []).append(array)
        for name, parts in self._parts.items():
            if name not in columns:
                parts.append(pa.nulls(rows))
        self._rows += rows

    def finish(self, leave_out: set[str]) -> pa.Table:
        """All rows as one table; columns whose type differs between chunks become float64, or else text."""
        columns = {}
        for name in list(self._parts):
            parts = self._parts.pop(name)
            if name in leave_out:
                continue
            kinds = {part.type for part in parts} - {pa.null()}
            if not kinds:
                columns[name] = pa.chunked_array([part.cast(TEXT) for part in parts])
                continue
            kind = kinds.pop() if len(kinds) == 1 else pa.float64() if kinds == {pa.int64(), pa.float64()} else TEXT
            columns[name.encode("utf-8", "backslashreplace").decode()] = pa.chunked_array(
                [part if part.type == kind else part.cast(kind) for part in parts]
            )
        return pa.table(columns)
