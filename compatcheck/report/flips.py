"""The negative flips that a report for machines lists: the worst of every comparison, bounded, the rest counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compatcheck.compare.result import Comparison, Result
from compatcheck.report.figures import number
from compatcheck.report.rows import Instance, top_flips
from compatcheck.report.text import trim_middle

PER_COMPARISON = 100
IN_ALL = 1_000
TEXT_LIMIT = 1_500
"""Characters of one text that are kept; what is cut is counted in its place."""


@dataclass(frozen=True)
class Listed:
    """The flips of one comparison that are listed; ``rest`` more are not."""

    comparison: Comparison
    flips: tuple[Instance, ...]
    rest: int


def listed_flips(result: Result, per_comparison: int = PER_COMPARISON, in_all: int = IN_ALL) -> Iterator[Listed]:
    """The worst negative flips of every comparison, at most ``in_all`` shared evenly among them."""
    share = min(per_comparison, max(in_all // max(len(result.comparisons), 1), 1))
    for comparison in result.comparisons:
        flips = tuple(top_flips(comparison, share))
        yield Listed(comparison, flips, max(comparison.quadrants.get("negative_flip", 0) - len(flips), 0))


def describe(flip: Instance, comparison: Comparison, limit: int = TEXT_LIMIT) -> str:
    """What was asked, the target and both answers, one paragraph each. Text is safe; line feeds are kept."""
    parts = [("input", flip.input), ("target", flip.target), ("old", flip.shown_old), ("new", flip.shown_new)]
    parts += [("old text", flip.response_old), ("new text", flip.response_new)]
    lines = [f"{name}: {trim_middle(text, limit)}" for name, text in parts if text is not None]
    if comparison.kind == "smooth" and flip.score_old is not None and flip.score_new is not None:
        lines.append(f"score: {number(flip.score_old, 'score')} → {number(flip.score_new, 'score')}")
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
