"""Seconds, tokens and costs in recorded rows: values that are no such numbers are told, not passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa

from compatcheck.records import FIGURES, GREATEST, StoredRun, TaskRun, figure_column
from compatcheck.table.reading import Source
from compatcheck.table.values import NUMBER, TEXT

_SECONDS = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(s|secs?|seconds?|ms|msecs?|milliseconds?)\s*")


def in_one_unit(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """The columns, with seconds and milliseconds that say their unit as numbers in that of their column."""
    for name in filter(None, (figure_column(each, columns) for each in ("latency", "latency_first"))):
        if columns[name].type == TEXT:
            texts = [text if text is None else _seconds(name, text) for text in columns[name].to_pylist()]
            columns[name] = pa.array(texts, TEXT)
    return columns


def _seconds(name: str, text: str) -> str:
    found = _SECONDS.fullmatch(text)
    if found is None:
        return text
    milli, own = found[2].startswith("m"), name.lower().endswith("ms")
    return f"{Decimal(found[1]) * (1 if milli == own else 1000 if own else Decimal('0.001')):f}"


def unread(run: TaskRun | StoredRun, figure: str) -> str | None:
    """Why a run whose rows have a figure says it of no answer: what a row has in its place; None where it does."""
    column, first = figure_column(figure, run.names), None
    if column is None:
        return None
    for part in [run.records] if isinstance(run, TaskRun) else run.table.read([column]):
        values = part[column].dropna()
        if pd.to_numeric(values, errors="coerce").notna().any():
            return None
        first = str(values.iloc[0]) if first is None and len(values) else first
    if first is None:
        return None
    how = "write seconds as 0.9, 0.9s or 900ms" if figure.startswith("latency") else "write it as a number alone"
    return f"no `{column}` that is a number: {first!r:.40}; {how}"


class Figures:
    """Counts, chunk after chunk, the values that count as not measured though they say something."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[str, tuple[str, int]] = {}
        """By column the first of them with its place, and how many there are."""

    def watch(self, columns: Mapping[str, pa.Array]) -> None:
        for name in filter(None, (figure_column(each, columns) for each in FIGURES)):
            values = columns[name].to_pandas()
            numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
            odd = np.flatnonzero(values.notna().to_numpy() & ~((numbers >= 0) & (numbers <= GREATEST)))
            if len(odd):
                place = self._source.at(columns[NUMBER][int(odd[0])].as_py())
                first, count = self._found.get(name, (f"{place}: `{name}` is {values.iloc[odd[0]]!s:.40}", 0))
                self._found[name] = (first, count + len(odd))

    def notes(self) -> Iterator[str]:
        for first, count in self._found.values():
            more = f", as {count - 1:,} more {'does' if count == 2 else 'do'}" if count > 1 else ""
            yield f"{first}, which is no number from 0 to {GREATEST:g}: it counts as not measured{more}"
