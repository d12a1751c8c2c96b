"""The instances that a page's browser of instances lists, as one compressed block.

JSON ``{"strings": […], "comparisons": [{"id": […], …}]}``, gzip, base64; columns are lists, texts are indices into
``strings`` (-1 for null), so that inputs shared by filters, metrics and candidates are stored once.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from compatcheck.compare.candidates import Candidates, every_answer, names_of_comparisons
from compatcheck.compare.result import KIND_COLUMN, Comparison, Result
from compatcheck.compare.slices import text_of
from compatcheck.compare.themes import THEME_COLUMN
from compatcheck.report import figures
from compatcheck.report.instances import is_null, slice_fields
from compatcheck.report.text import safe_text, trim_middle

MAX_ROWS = 20_000
"""Instances of one comparison that are embedded; flips and errors come first."""
ROWS_IN_ALL = 100_000
"""Instances of all comparisons, shared evenly among them; :data:`LEAST_ROWS` each at least."""
LEAST_ROWS = 200
SMALL = 1_000
"""Up to this many instances the payload stays below :data:`SMALL_BUDGET`."""
SMALL_BUDGET = 5_000_000
LARGE_BUDGET = 16_000_000
"""Bytes of base64 text."""
CAPS = (20_000, 6_000, 2_000, 800, 300)
"""Characters of one text that are kept; the first that meets the budget is used."""
_TEXTS = {
    "input": "input", "target": "target", "old": "prediction_old", "new": "prediction_new",
    **{name: name for name in ("response_old", "response_new", "error_old", "error_new", "prompt_old", "prompt_new",
                              "reasoning_old", "reasoning_new")},
}  # fmt: skip


def payload(result: Result) -> tuple[str, list[str]]:
    """The instances of all comparisons as base64 text, and what was left out of it, in sentences for the reader.

    All text in it went through ``safe_text``.
    """
    remarks, frames = [], []
    for comparison in result.comparisons:
        frame, most = comparison.instances, _most(len(result.comparisons))
        if len(frame) > most:
            rank = frame["quadrant"].map({"negative_flip": 0, "positive_flip": 1}).fillna(3)
            rank = rank.mask(frame["quadrant"].isna(), 2)
            frame = frame.loc[sorted(rank.sort_values(kind="stable").index[:most])]
        if len(frame) < comparison.rows:
            remarks.append(_left_out(comparison.name, len(frame), comparison.rows, "flips and errors"))
        frames.append(frame)
    pairs = list(zip(result.comparisons, frames, strict=True))
    largest = max(map(len, frames), default=0)
    data, cut = _packed(lambda strings: [_columns(one, frame, strings) for one, frame in pairs], largest)
    return data, remarks + cut


def payload_of_several(several: Candidates) -> tuple[str, list[str]]:
    """The same of several candidates: of every instance all answers, those that most candidates break first."""
    names, remarks, tables = names_of_comparisons(several), [], []
    for name in names:
        shared, own = every_answer(several, name)
        most = _most(len(names) * len(own))
        if len(shared) > most:
            remarks.append(_left_out(name, most, len(shared), "those that most candidates break"))
        one = next(each for result in several.results for each in result.comparisons if each.name == name)
        tables.append((one, shared.head(most), [each.head(most) for each in own]))
    largest = max((len(shared) for _, shared, _ in tables), default=0)
    data, cut = _packed(lambda strings: [_every_column(*table, strings) for table in tables], largest)
    return data, remarks + cut


def _most(tables: int) -> int:
    return min(MAX_ROWS, max(ROWS_IN_ALL // max(tables, 1), LEAST_ROWS))


def _left_out(name: str, here: int, rows: int, first: str) -> str:
    return f"{name}: {here:,} of {rows:,} instances are embedded, {first} first; all are in instances.parquet."


class _Strings:
    """Every distinct text once, made safe and shortened to ``cap`` characters."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.index: dict[str, int] = {}
        self.texts: list[str] = []
        self.shortened = 0

    def add(self, value: Any) -> int:
        if is_null(value):
            return -1
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # whole numbers beside nulls come back from a table as 3.0
        raw = value if isinstance(value, str) else text_of(value)
        known = self.index.get(raw)
        if known is None:
            known = self.index[raw] = len(self.texts)
            text = trim_middle(safe_text(raw, multiline=True), self.cap)
            self.shortened += len(raw) > self.cap and text != raw
            self.texts.append(text)
        return known


def _packed(make: Callable[[_Strings], list[dict[str, Any]]], largest: int) -> tuple[str, list[str]]:
    """Comparisons as base64 text, with texts cut to what the size of a page allows, and what was cut."""
    budget = SMALL_BUDGET if largest <= SMALL else LARGE_BUDGET
    data, strings, cap = "", _Strings(0), 0
    for cap in CAPS:
        strings = _Strings(cap)
        document = {"comparisons": make(strings), "strings": strings.texts}
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        data = base64.b64encode(gzip.compress(text.encode("utf-8"), compresslevel=6, mtime=0)).decode("ascii")
        if len(data) <= budget:
            break
    if not strings.shortened:
        return data, []
    return data, [
        f"{strings.shortened:,} texts longer than {cap:,} characters are shortened in their middle; "
        "they are whole in instances.parquet."
    ]


def _columns(comparison: Comparison, frame: pd.DataFrame, strings: _Strings) -> dict[str, Any]:
    def column(name: str) -> list[Any]:
        return _cells(frame, name)

    columns: dict[str, Any] = {
        "kind": figures.kind(comparison),
        "id": [strings.add(value) for value in column("doc_id")],
        "quadrant": _quadrants(comparison, frame),
        "changed": [0 if is_null(value) else int(bool(value)) for value in column("changed")],
    }
    for name in ("gain", "score_old", "score_new"):
        columns[name] = _numbers(frame, name)
    for name, source in _TEXTS.items():
        columns[name] = [strings.add(value) for value in column(source)]
    for name, source in (("failure", KIND_COLUMN), ("theme", THEME_COLUMN)):
        columns[name] = [strings.add(value) for value in column(source)]
    return columns | _fields(frame, strings)


def _every_column(
    comparison: Comparison, shared: pd.DataFrame, own: Sequence[pd.DataFrame], strings: _Strings
) -> dict[str, Any]:
    def texts(frame: pd.DataFrame, name: str) -> list[int]:
        return [strings.add(value) for value in _cells(frame, name)]

    answers = [
        {
            "here": [int(not is_null(value)) for value in _cells(frame, "doc_id")],
            "quadrant": _quadrants(comparison, frame),
            "score": _numbers(frame, "score_new"),
            "new": texts(frame, "prediction_new"), "response": texts(frame, "response_new"),
            "error": texts(frame, "error_new"),
        }
        for frame in own
    ]  # fmt: skip
    changed = [[not is_null(value) and bool(value) for value in _cells(frame, "changed")] for frame in own]
    return {
        "kind": figures.kind(comparison), "id": texts(shared, "doc_id"), "input": texts(shared, "input"),
        "target": texts(shared, "target"), "old": texts(shared, "prediction_old"),
        "response_old": texts(shared, "response_old"), "error_old": texts(shared, "error_old"),
        "score_old": _numbers(shared, "score_old"), "changed": [int(any(row)) for row in zip(*changed, strict=True)],
        "answers": answers, **_fields(shared, strings),
    }  # fmt: skip


def _cells(frame: pd.DataFrame, name: str) -> list[Any]:
    return frame[name].tolist() if name in frame.columns else [None] * len(frame)


def _numbers(frame: pd.DataFrame, name: str) -> list[float | None]:
    return [None if is_null(value) else round(float(value), 6) for value in _cells(frame, name)]


def _quadrants(comparison: Comparison, frame: pd.DataFrame) -> list[int]:
    places = {name: place for place, name in enumerate(figures.groups(comparison))}
    return [-1 if is_null(value) else places[value] for value in _cells(frame, "quadrant")]


def _fields(frame: pd.DataFrame, strings: _Strings) -> dict[str, Any]:
    fields = slice_fields(frame)
    values = [[strings.add(value) for value in _cells(frame, field)] for field in fields]
    return {"fields": [safe_text(field) for field in fields], "values": values}
