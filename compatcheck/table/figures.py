"""Seconds, tokens and costs in recorded rows: values that are no such numbers are told, not passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from compatcheck.records import FIGURES, GREATEST, figure_column
from compatcheck.table.reading import Source
from compatcheck.table.values import NUMBER


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
