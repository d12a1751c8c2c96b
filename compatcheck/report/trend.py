"""The scores of the runs that were blessed before, where OLD is a baseline: in words, and as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compatcheck.compare.result import BlessedRun, Comparison, Estimate, Result
from compatcheck.report import figures
from compatcheck.report.sections import Table

LISTED = 6
"""Blessed runs named in a line of text, the newest."""


@dataclass(frozen=True)
class Point:
    """The score of one blessed run, or of NEW, which has no ``run``."""

    metric: str
    """The metric whose unit the score has."""
    score: Estimate
    n: int
    run: BlessedRun | None = None

    @property
    def name(self) -> str:
        return "new" if self.run is None else self.run.name

    @property
    def kind(self) -> str:
        """``blessed``, ``forced`` or ``new``."""
        return "new" if self.run is None else "forced" if self.run.forced else "blessed"

    @property
    def shown(self) -> str:
        return figures.estimate(self.metric, self.score)

    @property
    def interval(self) -> str:
        return figures.interval(self.metric, self.score)


def _metric(kind: str) -> str:
    return "accuracy_old" if kind == "discrete" else "score_old"


def points(result: Result, comparison: Comparison) -> list[Point]:
    """The blessed runs that have this score, oldest first; empty where there are fewer than two, which is no trend."""
    found = []
    for run in result.history:
        for one in run.scores:
            same = (one.task, one.filter, one.metric) == (comparison.task, comparison.filter, comparison.metric)
            if same and one.value is not None and math.isfinite(one.value):
                known = all(bound is not None and math.isfinite(bound) for bound in (one.low, one.high))
                score = Estimate(one.value, one.low, one.high) if known else Estimate(one.value)
                found.append(Point(_metric(one.kind or comparison.kind), score, one.n, run))
    return found if len(found) > 1 else []


def new_point(comparison: Comparison, trail: list[Point]) -> Point | None:
    """NEW at the end of the line; None where OLD's score here is not that of its blessing.

    Then the comparison was made on other documents, or reads the score in another way (``--limit``, ``--correct-at``),
    and NEW's score does not belong beside them.
    """
    name = _metric(comparison.kind)
    old, new = (comparison.metrics.get(name.replace("old", side)) for side in ("old", "new"))
    last = trail[-1].score.value if trail else None
    if old is None or new is None or old.value is None or new.value is None or last is None:
        return None
    return Point(name, new, comparison.n) if abs(old.value - last) <= 1e-9 else None


def line(result: Result, comparison: Comparison) -> str:
    """``@main~1 40.0 % → @main 53.0 %; new 54.0 %``; empty where there is no trend."""
    trail = points(result, comparison)
    if not trail:
        return ""
    listed = trail[-LISTED:]
    earlier = f"… {len(trail) - len(listed):,} earlier → " if len(trail) > len(listed) else ""
    steps = " → ".join(f"{each.name} {each.shown}{' (forced)' * (each.kind == 'forced')}" for each in listed)
    new = new_point(comparison, trail)
    return f"{earlier}{steps}{f'; new {new.shown}' if new is not None else ''}"


def lines(result: Result, comparisons: tuple[Comparison, ...]) -> list[tuple[str, str]]:
    """Name and line of every comparison that has a trend."""
    return [(each.name, text) for each in comparisons if (text := line(result, each))]


def table(trail: list[Point]) -> Table:
    """All blessed runs, the newest first."""
    rows = []
    for each in reversed(trail):
        run = each.run
        assert run is not None
        verdict, time = f"{run.verdict}{', forced' * run.forced}", run.time[:16].replace("T", " ")
        rows.append((run.name, time, run.reference, each.shown, each.interval, f"{each.n:,}", verdict))
    columns = (
        ("Name", "name"), ("Blessed (UTC)", "text"), ("Run", "text"), ("Score", "value"), ("95 % interval", "figures"),
        ("n", "number"), ("Verdict", "text"),
    )  # fmt: skip
    return Table(columns, tuple(rows))
