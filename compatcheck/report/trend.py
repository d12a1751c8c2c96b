"""The scores of the runs that were blessed before, where OLD is a baseline: in words, and as a table."""

from __future__ import annotations

import math
from typing import NamedTuple

from compatcheck.compare.result import BlessedRun, Comparison, Estimate, Result
from compatcheck.report import figures
from compatcheck.report.sections import Table

LISTED = 6
"""Blessed runs named in a line of text, the newest."""


class Point(NamedTuple):
    """The score of one blessed run, or of NEW, which has no ``run``; ``kind`` is blessed, forced or new."""

    name: str
    kind: str
    score: Estimate
    shown: str
    interval: str
    n: int
    run: BlessedRun | None = None


def points(result: Result, comparison: Comparison) -> list[Point]:
    """The blessed runs that have this score, oldest first; empty where there are fewer than two, which is no trend."""
    found = []
    for run in result.history:
        for one in run.scores:
            same = (one.task, one.filter, one.metric) == (comparison.task, comparison.filter, comparison.metric)
            if same and one.value is not None and math.isfinite(one.value):
                known = all(bound is not None and math.isfinite(bound) for bound in (one.low, one.high))
                score = Estimate(one.value, one.low, one.high) if known else Estimate(one.value)
                name = figures.score_name(one.kind or comparison.kind, "old")
                shown, bounds = figures.estimate(name, score), figures.interval(name, score)
                found.append(Point(run.name, "forced" if run.forced else "blessed", score, shown, bounds, one.n, run))
    return found if len(found) > 1 else []


def new_point(comparison: Comparison, trail: list[Point]) -> Point | None:
    """NEW at the end of the line; None where OLD's score here is not that of its blessing.

    Then the comparison was made on other documents, or reads the score in another way (``--limit``, ``--correct-at``),
    and NEW's score does not belong beside them.
    """
    old, new = (comparison.metrics.get(figures.score_name(comparison.kind, side)) for side in ("old", "new"))
    last = trail[-1].score.value if trail else None
    if old is None or new is None or old.value is None or new.value is None or last is None:
        return None
    name = figures.score_name(comparison.kind, "new")
    shown = figures.estimate(name, new), figures.interval(name, new)
    return Point("new", "new", new, *shown, comparison.n) if abs(old.value - last) <= 1e-9 else None


def line(result: Result, comparison: Comparison) -> str:
    """``@main~1 40.0 % → @main 53.0 %; new 54.0 %``; empty where there is no trend."""
    trail = points(result, comparison)
    if not trail:
        return ""
    listed, new = trail[-LISTED:], new_point(comparison, trail)
    earlier = f"… {len(trail) - len(listed):,} earlier → " if len(trail) > len(listed) else ""
    steps = " → ".join(f"{each.name} {each.shown}{' (forced)' * (each.kind == 'forced')}" for each in listed)
    return f"{earlier}{steps}{f'; new {new.shown}' if new is not None else ''}"


def lines(result: Result, comparisons: tuple[Comparison, ...]) -> list[tuple[str, str]]:
    """Name and line of every comparison that has a trend."""
    return [(each.name, text) for each in comparisons if (text := line(result, each))]


def table(trail: list[Point]) -> Table:
    """All blessed runs, the newest first."""
    rows = []
    for each, run in ((each, each.run) for each in reversed(trail) if each.run is not None):
        verdict, time = f"{run.verdict}{', forced' * run.forced}", run.time[:16].replace("T", " ")
        rows.append((run.name, time, run.reference, each.shown, each.interval, f"{each.n:,}", verdict))
    columns = (
        ("Name", "name"), ("Blessed (UTC)", "text"), ("Run", "text"), ("Score", "value"), ("95 % interval", "figures"),
        ("n", "number"), ("Verdict", "text"),
    )  # fmt: skip
    return Table(columns, tuple(rows))
