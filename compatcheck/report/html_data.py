"""The instances inside the HTML report: one compressed block that the browser unpacks.

Form: JSON ``{"strings": […], "comparisons": [{"id": […], "quadrant": […], …}]}``, gzip, base64.
Columns are lists; texts are indices into ``strings`` (-1 for null), so that inputs shared by filters and metrics are
stored once.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from compatcheck.compare.result import Comparison, Result
from compatcheck.compare.slices import text_of
from compatcheck.report.figures import groups
from compatcheck.report.rows import is_null, slice_fields
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
    "response_old": "response_old", "response_new": "response_new", "error_old": "error_old", "error_new": "error_new",
    "prompt_old": "prompt_old", "prompt_new": "prompt_new",
}  # fmt: skip
_NUMBERS = {"gain": "gain", "score_old": "score_old", "score_new": "score_new"}


@dataclass(frozen=True)
class Payload:
    """The base64 text and what was left out of it, in sentences for the reader."""

    data: str
    remarks: tuple[str, ...]


def payload(result: Result) -> Payload:
    """Pack the instances of all comparisons. All text in it went through ``safe_text``."""
    remarks = []
    frames = []
    most = min(MAX_ROWS, max(ROWS_IN_ALL // max(len(result.comparisons), 1), LEAST_ROWS))
    for comparison in result.comparisons:
        frame = _rows(comparison, most)
        if len(frame) < comparison.rows:
            remarks.append(
                f"{comparison.name}: {len(frame):,} of {comparison.rows:,} instances are embedded, "
                "flips and errors first; all are in instances.parquet."
            )
        frames.append(frame)
    total = max((len(frame) for frame in frames), default=0)
    budget = SMALL_BUDGET if total <= SMALL else LARGE_BUDGET
    data = ""
    for cap in CAPS:
        data, shortened = _pack(result.comparisons, frames, cap)
        if len(data) <= budget:
            break
    if shortened:
        remarks.append(
            f"{shortened:,} texts longer than {cap:,} characters are shortened in their middle; "
            "they are whole in instances.parquet."
        )
    return Payload(data, tuple(remarks))


def _rows(comparison: Comparison, most: int) -> pd.DataFrame:
    frame = comparison.instances
    if len(frame) <= most:
        return frame
    rank = frame["quadrant"].map({"negative_flip": 0, "positive_flip": 1}).fillna(3)
    rank = rank.mask(frame["quadrant"].isna(), 2)
    keep = rank.sort_values(kind="stable").index[:most]
    return frame.loc[sorted(keep)]


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


def _pack(comparisons: Iterable[Comparison], frames: list[pd.DataFrame], cap: int) -> tuple[str, int]:
    strings = _Strings(cap)
    packed = [_columns(c, frame, strings) for c, frame in zip(comparisons, frames, strict=True)]
    document = json.dumps(
        {"strings": strings.texts, "comparisons": packed}, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    compressed = gzip.compress(document.encode("utf-8"), compresslevel=6, mtime=0)
    return base64.b64encode(compressed).decode("ascii"), strings.shortened


def _columns(comparison: Comparison, frame: pd.DataFrame, strings: _Strings) -> dict[str, Any]:
    order = groups(comparison)
    numbers = {name: position for position, name in enumerate(order)}
    columns: dict[str, Any] = {
        "kind": comparison.kind,
        "id": [strings.add(value) for value in frame["doc_id"]],
        "quadrant": [-1 if is_null(value) else numbers[value] for value in frame["quadrant"]],
        "changed": [0 if is_null(value) else int(bool(value)) for value in _column(frame, "changed")],
    }
    for name, column in _NUMBERS.items():
        columns[name] = [None if is_null(value) else round(float(value), 6) for value in _column(frame, column)]
    for name, column in _TEXTS.items():
        columns[name] = [strings.add(value) for value in _column(frame, column)]
    fields = slice_fields(frame)
    columns["fields"] = [safe_text(field) for field in fields]
    columns["values"] = [[strings.add(value) for value in frame[field]] for field in fields]
    return columns


def _column(frame: pd.DataFrame, name: str) -> Iterable[Any]:
    return frame[name].tolist() if name in frame.columns else [None] * len(frame)
