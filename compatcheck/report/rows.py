"""Instances as the renderers show them: texts made safe, nulls told apart from text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from compatcheck.compare.result import INSTANCE_COLUMNS, PROMPT_COLUMNS, Comparison, Slice
from compatcheck.report.figures import NO_ANSWER
from compatcheck.report.text import safe_text

LEAST = 20
"""Smaller slices are kept in report.json and not shown."""


def slice_fields(instances: pd.DataFrame) -> list[str]:
    """Columns the user's data brought along."""
    return [column for column in instances.columns if column not in (*INSTANCE_COLUMNS, *PROMPT_COLUMNS)]


def is_null(value: Any) -> bool:
    """Whether a cell holds nothing (None, NaN, NA)."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def text_or_none(value: Any, *, multiline: bool = True) -> str | None:
    """A cell as safe text; None for a null."""
    return None if is_null(value) else safe_text(value, multiline=multiline)


@dataclass(frozen=True)
class Instance:
    """One pair, ready to be shown: all texts went through ``safe_text`` and keep their line feeds."""

    doc_id: str
    input: str | None
    target: str | None
    old: str | None
    new: str | None
    response_old: str | None
    response_new: str | None
    score_old: float | None
    score_new: float | None
    gain: float | None
    quadrant: str | None = None
    doc_hash: str | None = None
    error_old: str | None = None
    error_new: str | None = None
    prompt_old: str | None = None
    prompt_new: str | None = None
    """The whole texts that the models were given, where they differ."""

    @property
    def shown_old(self) -> str:
        return NO_ANSWER if self.old is None else self.old

    @property
    def shown_new(self) -> str:
        return NO_ANSWER if self.new is None else self.new


def _number(value: Any) -> float | None:
    return None if is_null(value) else float(value)


def instance(row: dict[str, Any]) -> Instance:
    """Read one row of ``Comparison.instances``; columns that are absent count as null."""
    return Instance(
        doc_id=safe_text(row.get("doc_id", "")),
        input=text_or_none(row.get("input")),
        target=text_or_none(row.get("target")),
        old=text_or_none(row.get("prediction_old")),
        new=text_or_none(row.get("prediction_new")),
        response_old=text_or_none(row.get("response_old")),
        response_new=text_or_none(row.get("response_new")),
        score_old=_number(row.get("score_old")),
        score_new=_number(row.get("score_new")),
        gain=_number(row.get("gain")),
        quadrant=text_or_none(row.get("quadrant")),
        doc_hash=text_or_none(row.get("doc_hash")),
        error_old=text_or_none(row.get("error_old")),
        error_new=text_or_none(row.get("error_new")),
        prompt_old=text_or_none(row.get("prompt_old")),
        prompt_new=text_or_none(row.get("prompt_new")),
    )


def top_flips(comparison: Comparison, count: int) -> list[Instance]:
    """The ``count`` instances that got worse the most, in the order of ``Comparison.negative_flips``."""
    rows = comparison.negative_flips.head(count).to_dict("records")
    return [instance({str(key): value for key, value in row.items()}) for row in rows]


def worst_slices(comparison: Comparison, count: int = 6) -> list[Slice]:
    """The slices with the highest negative flip rates, those that stand out from the rest first.

    Those of fewer than :data:`LEAST` instances are left out: the worst of many small ones is worst by chance.
    """

    def key(part: Slice) -> tuple[bool, float, int]:
        stands_out = part.p_adjusted is not None and part.p_adjusted < 0.05
        return not stands_out, -(part.nfr.value or 0.0), -part.n

    return [part for part in sorted(comparison.slices, key=key) if part.n >= LEAST][:count]


def small_slices(comparison: Comparison) -> int:
    """How many slices are too small to be shown."""
    return sum(part.n < LEAST for part in comparison.slices)
