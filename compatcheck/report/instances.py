"""Instances as the renderers show them: texts made safe, nulls told apart from text, the worst flips first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from compatcheck.compare.result import FURTHER_COLUMNS, INSTANCE_COLUMNS, KIND_COLUMN, Comparison, Result
from compatcheck.report.figures import number
from compatcheck.report.text import NO_ANSWER, safe_text, trim_middle

PER_COMPARISON = 100
IN_ALL = 1_000
TEXT_LIMIT = 1_500
"""Characters of one text of a flip that formats for machines keep; what is cut is counted in its place."""


def slice_fields(instances: pd.DataFrame) -> list[str]:
    """Columns the user's data brought along."""
    return [column for column in instances.columns if column not in (*INSTANCE_COLUMNS, *FURTHER_COLUMNS)]


def is_null(value: Any) -> bool:
    """Whether a cell holds nothing (None, NaN, NA)."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


@dataclass(frozen=True)
class Instance:
    """One pair, ready to be shown: all texts went through ``safe_text`` and keep their line feeds."""

    doc_id: str = ""
    input: str | None = None
    target: str | None = None
    prediction_old: str | None = None
    prediction_new: str | None = None
    response_old: str | None = None
    response_new: str | None = None
    score_old: float | None = None
    score_new: float | None = None
    gain: float | None = None
    quadrant: str | None = None
    doc_hash: str | None = None
    error_old: str | None = None
    error_new: str | None = None
    prompt_old: str | None = None
    prompt_new: str | None = None
    failure_kind: str | None = None
    failure_theme: str | None = None

    def pairs(self, *, prompts: bool = False) -> list[tuple[str, str | None, str | None]]:
        """What OLD and NEW wrote: a suffix for the names of both sides, and their texts, None where there is none."""
        old, new = self.prediction_old, self.prediction_new
        found = [("", old, new)]
        if self.response_old is not None or self.response_new is not None:  # a side without one wrote its answer alone
            before = old if self.response_old is None else self.response_old
            found.append((" text", before, new if self.response_new is None else self.response_new))
        if prompts and None not in (self.prompt_old, self.prompt_new) and self.prompt_old != self.prompt_new:
            found.append((" prompt", self.prompt_old, self.prompt_new))
        return found

    def score_change(self, comparison: Comparison) -> str:
        """``0.4213 → 0.3800`` where scores are smooth and known, or how alike both answers are; else empty."""
        if comparison.reference is not None and comparison.kind == "smooth" and self.score_new is not None:
            return number(self.score_new, "score")
        if comparison.kind != "smooth" or self.score_old is None or self.score_new is None:
            return ""
        return f"{number(self.score_old, 'score')} → {number(self.score_new, 'score')}"


def instance(row: Mapping[str, Any]) -> Instance:
    """Read one row of ``Comparison.instances``; columns that are absent count as null."""
    known: dict[str, Any] = {}
    for name in (each.name for each in fields(Instance)):
        value: Any = row.get(name)
        if not is_null(value):
            is_figure = name in ("score_old", "score_new", "gain")
            known[name] = float(value) if is_figure else safe_text(value, multiline=name != "doc_id")
    return Instance(**known)


def worst_flips(comparison: Comparison, count: int) -> list[Instance]:
    """The ``count`` instances that a report shows first, in the order of ``Comparison.first_shown``."""
    rows = comparison.first_shown.head(count).to_dict("records")
    return [instance({str(key): value for key, value in row.items()}) for row in rows]


def telling_flips(comparison: Comparison, count: int) -> list[Instance]:
    """The ``count`` instances to look at first: where scores have an order the worst, else one of each kind of failure
    after the other, the most frequent kind first."""
    kinds = [each.kind for each in comparison.kinds or ()]
    if comparison.kind == "smooth" or KIND_COLUMN not in comparison.instances or len(kinds) < 2:
        return worst_flips(comparison, count)
    rows = comparison.negative_flips
    turn = rows.groupby(KIND_COLUMN, sort=False).cumcount()
    order = rows[KIND_COLUMN].map({kind: place for place, kind in enumerate(kinds)})
    chosen = rows.assign(__turn=turn, __order=order).sort_values(["__turn", "__order"], kind="stable").head(count)
    return [instance({str(key): value for key, value in row.items()}) for row in chosen.to_dict("records")]


def which_flips(comparison: Comparison, shown: int) -> str:
    """What is shown of the negative flips, or of the changes: ``the worst 3 of 41``, ``3 of 41, each of another kind``,
    ``3 of 41``."""
    of = comparison.first_count
    kinds = len(comparison.kinds or ())
    if comparison.kind == "smooth" and shown < of:
        return f"the {'worst' if comparison.reference is None else 'most different'} {shown:,} of {of:,}"
    if shown == of:
        return f"all {of:,}" if of > 1 else "the only one"
    return f"{shown:,} of {of:,}{', each of another kind' if 1 < shown <= kinds else ''}"


def listed_flips(
    result: Result, per_comparison: int = PER_COMPARISON, in_all: int = IN_ALL
) -> Iterator[tuple[Comparison, list[Instance]]]:
    """The worst negative flips of every comparison, at most ``in_all`` shared evenly among them."""
    most = min(per_comparison, max(in_all // max(len(result.comparisons), 1), 1))
    for comparison in result.comparisons:
        yield comparison, worst_flips(comparison, most)


def describe(flip: Instance, comparison: Comparison, limit: int = TEXT_LIMIT) -> str:
    """What was asked, the target and both answers, one paragraph each. Text is safe; line feeds are kept."""
    parts = [("input", flip.input), ("target", flip.target)]
    for suffix, old, new in flip.pairs():
        parts += [
            (f"old{suffix}", NO_ANSWER if old is None else old),
            (f"new{suffix}", NO_ANSWER if new is None else new),
        ]
    lines = [f"{name}: {trim_middle(text, limit)}" for name, text in parts if text is not None]
    if change := flip.score_change(comparison):
        lines.append(f"score: {change}")
    return "\n".join(lines)


def fingerprint(*parts: str) -> str:
    """A stable name for a finding, from what it is about and not from what the figures are."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def report_key(result: Result, folder: Path | None = None) -> str:
    """The same for two runs of one check.

    Made of the comparisons, OLD's name (not NEW's, which may hold a commit) and the name of the folder the report is
    kept in, by which checks are told apart that compare the same tasks with the same OLD.
    """
    where = "" if folder is None else Path(folder).name
    return fingerprint(where, result.old.reference, *(each.name for each in result.comparisons))[:12]
