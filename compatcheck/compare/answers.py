"""What is known of every answer besides whether it is right: length, tokens, seconds, dollars, cut off, refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.compare.coverage import cut_off, ends, ends_unknown
from compatcheck.compare.pairing import Rows, take
from compatcheck.compare.refusals import HEAD, REFUSALS, WITHHELD
from compatcheck.records import FIGURES, GREATEST, TaskRun, figure_column

Values = NDArray[np.float64]
"""One number an answer, NaN where it is not known; of shares 1 and 0."""
UNITS = {
    "length": "characters", "output_tokens": "tokens", "latency": "seconds", "latency_first": "seconds",
    "cost": "dollars", "cut_off": "share", "refusal": "share",
}  # fmt: skip
"""Every figure by its name, in the order in which they are shown."""
OF_SIDES = tuple(f"{side}:{name}" for side in ("old", "new") for name in UNITS)
"""The figures as fields to slice by: ``new:refusal``."""
WHY = {
    "length": "no texts were recorded",
    "output_tokens": "nobody counted them: engines do, servers that say `usage`, and rows with `output_tokens`",
    "latency": "not measured: it is known of answers of servers, and of rows with a `latency`",
    "latency_first": "not measured: servers tell it where they stream (--engine-arg stream=true)",
    "cost": "it takes --price and counted tokens, or rows with a `cost`",
    "cut_off": "nothing says why the answers ended (rows say it in `finish_reason`)",
    "refusal": "no texts were recorded",
}
"""Why a figure is not known of a side."""


_OF_TEXTS = ("length", "refusal")


@dataclass(frozen=True)
class How:
    """How the figures are made."""

    asked: tuple[str, ...] = ()
    """Shown whatever else is known: named with --metric or in a budget."""
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By side the dollars of a million tokens of prompts, and of answers."""
    words: bool = False
    """Lengths are words, not characters."""
    patterns: tuple[str, ...] = REFUSALS

    @property
    def units(self) -> dict[str, str]:
        return UNITS | ({"length": "words"} if self.words else {})

    def wanted(self, names: Collection[str], texts: bool) -> tuple[str, ...]:
        """What is to be found out of records with these columns: all that can be where something was measured; what
        takes reading all texts only where ``texts``, or where it was asked for."""
        if all(figure_column(each, names) is None for each in FIGURES):
            return self.asked
        return tuple(name for name in UNITS if texts or name in self.asked or name not in _OF_TEXTS)


def values(name: str, run: TaskRun, rows: Rows, side: str, how: How) -> Values | None:
    """The figure of the answers at these rows; None where it is not known of any."""
    if name in _OF_TEXTS:
        texts = _texts(run.records, rows)
        if texts is None:
            return None
        if name == "length":
            return _lengths(texts, how.words)
        withheld, refused = cut_off(run.records, rows, WITHHELD), _refusals(texts, how.patterns)
        return refused if withheld is None else np.where(withheld, 1.0, refused)
    if name == "cut_off":
        cut = cut_off(run.records, rows)
        return None if cut is None else np.where(ends_unknown(run.records, rows), np.nan, cut)
    found = _costs(run.records, rows, how.prices[side]) if name == "cost" and side in how.prices else None
    if found is None:
        found = _numbers(name, run.records, rows)
    return None if found is None or not np.isfinite(found).any() else found


def knows(name: str, names: Collection[str]) -> bool:
    """Whether records with these columns say the figure of their answers; of a cost without --price."""
    if name in _OF_TEXTS:
        return "prediction" in names and "loglikelihoods" not in names
    return any(map(ends, names)) if name == "cut_off" else figure_column(name, names) is not None


def of_sides(names: Collection[str]) -> frozenset[str]:
    """The columns that each side has its own of, as they are of its answers."""
    found = {figure_column(each, names) for each in FIGURES}
    return frozenset({name for name in found if name is not None} | {name for name in names if ends(name)})


def _numbers(name: str, records: pd.DataFrame, rows: Rows) -> Values | None:
    column = figure_column(name, records.columns)
    if column is None:
        return None
    numbers = pd.to_numeric(take(records[column], rows), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    numbers = np.where((numbers >= 0) & (numbers <= GREATEST), numbers, np.nan)
    return numbers / 1000 if column.lower().endswith("ms") else numbers


def _costs(records: pd.DataFrame, rows: Rows, price: tuple[float, float]) -> Values | None:
    read, written = (_numbers(name, records, rows) for name in ("prompt_tokens", "output_tokens"))
    return None if read is None or written is None else (read * price[0] + written * price[1]) / 1e6


def _texts(records: pd.DataFrame, rows: Rows) -> pd.Series | None:
    """The whole answers, without reasoning that is kept apart; null is none. None where they are choices."""
    if "prediction" not in records or "loglikelihoods" in records:
        return None
    texts = take(records["prediction"], rows)
    if "response" in records:
        whole = take(records["response"], rows)
        texts = whole.where(whole.notna(), texts)
    return texts.astype(object)


def _lengths(texts: pd.Series, words: bool) -> Values:
    counted = (len(text.split() if words else text) if isinstance(text, str) else np.nan for text in texts)
    return np.fromiter(counted, np.float64, len(texts))


def _refusals(texts: pd.Series, patterns: Collection[str]) -> Values:
    import pyarrow as pa
    import pyarrow.compute as pc

    heads = [text[:HEAD].replace("’", "'") if isinstance(text, str) else "" for text in texts]
    array = pa.array([head.encode("utf-8", "replace").decode() for head in heads], pa.string())
    found = np.zeros(len(texts), dtype=bool)
    for pattern in patterns:
        found |= pc.match_substring_regex(array, pattern, ignore_case=True).to_numpy(zero_copy_only=False)
    return np.where(texts.isna(), np.nan, found)  # no answer neither declines nor complies
