"""The scores of the runs that were blessed before, in words and as a picture: where OLD is a baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compatcheck.compare.result import Comparison, Estimate, Result
from compatcheck.report import figures
from compatcheck.report.html_charts import Tick

LISTED = 6
"""Blessed runs named in a line of text, the newest."""
DRAWN = 30
"""Blessed runs in the picture, the newest; the table under it has them all."""


@dataclass(frozen=True)
class Point:
    """The score of one blessed run. ``shown``, ``interval`` and ``of`` are its figures as text."""

    name: str
    time: str
    reference: str
    verdict: str
    forced: bool
    value: float
    low: float | None
    high: float | None
    shown: str
    interval: str
    of: str


def points(result: Result, comparison: Comparison) -> tuple[Point, ...]:
    """The blessed runs that have this score, oldest first; empty where there are fewer than two, which is no trend."""
    found = []
    for run in result.history:
        for score in run.scores:
            if (score.task, score.filter, score.metric) != (comparison.task, comparison.filter, comparison.metric):
                continue
            if score.value is None or not math.isfinite(score.value):
                continue
            name = _named(score.kind or comparison.kind)
            bounds = [b if b is not None and math.isfinite(b) else None for b in (score.low, score.high)]
            low, high = bounds if None not in bounds else (None, None)
            found.append(
                Point(
                    run.name,
                    run.time[:16].replace("T", " "),
                    run.reference,
                    run.verdict,
                    run.forced,
                    score.value,
                    low,
                    high,
                    figures.number(score.value, figures.metric_info(name).unit),
                    figures.interval(name, Estimate(score.value, low, high)),
                    f"{score.n:,}",
                )
            )
    return tuple(found) if len(found) > 1 else ()


def new_point(comparison: Comparison, trail: tuple[Point, ...]) -> Point | None:
    """NEW at the end of the line; None where OLD's score here is not that of its blessing.

    Then the comparison was made on other documents, or reads the score in another way (``--limit``, ``--correct-at``),
    and NEW's score does not belong beside them.
    """
    name = _named(comparison.kind)
    old, new = (comparison.metrics.get(name.replace("old", side)) for side in ("old", "new"))
    if not trail or old is None or new is None or old.value is None or new.value is None:
        return None
    if abs(old.value - trail[-1].value) > 1e-9:
        return None
    return Point(
        "new", "", "", "", False, new.value, new.low, new.high, figures.estimate(name, new),
        figures.interval(name, new), f"{comparison.n:,}",
    )  # fmt: skip


def line(result: Result, comparison: Comparison) -> str:
    """``@main~1 40.0 % → @main 53.0 %; new 54.0 %``; empty where there is no trend. Holds no text of the user's but
    names of baselines, which are plain."""
    trail = points(result, comparison)
    if not trail:
        return ""
    listed = trail[-LISTED:]
    earlier = f"… {len(trail) - len(listed):,} earlier → " if len(trail) > len(listed) else ""
    steps = " → ".join(f"{each.name} {each.shown}{' (forced)' if each.forced else ''}" for each in listed)
    new = new_point(comparison, trail)
    return f"{earlier}{steps}{f'; new {new.shown}' if new is not None else ''}"


def lines(result: Result, comparisons: tuple[Comparison, ...]) -> list[tuple[str, str]]:
    """Name and line of every comparison that has a trend."""
    found = [(comparison.name, line(result, comparison)) for comparison in comparisons]
    return [(name, text) for name, text in found if text]


@dataclass(frozen=True)
class Mark:
    """A point in the units of the view box; ``top`` and ``bottom`` bound its interval where it has one."""

    x: float
    y: float
    top: float | None
    bottom: float | None
    kind: str
    """``blessed``, ``forced`` or ``new``."""
    label: str


@dataclass(frozen=True)
class Trend:
    """The picture: marks from left to right, a line through the blessed ones, and the table under it."""

    marks: tuple[Mark, ...]
    path: str
    dashes: str
    """From OLD to NEW; empty where NEW is not drawn."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int
    height: int
    left: int
    summary: str
    rows: tuple[Point, ...]


def trend(result: Result, comparison: Comparison, width: int = 560, height: int = 210) -> Trend | None:
    """Scores of the blessed runs in their order, equally spaced; None where there are fewer than two."""
    trail = points(result, comparison)
    if not trail:
        return None
    new = new_point(comparison, trail)
    drawn = trail[-DRAWN:]
    every = (*drawn, new) if new is not None else drawn
    left, right, top, bottom = 108, 32, 14, 30
    base = height - bottom
    bounds = [b for each in every for b in (each.value, each.low, each.high) if b is not None]
    floor, peak = min(bounds), max(bounds)
    room = (peak - floor) * 0.08 or max(abs(peak) * 0.1, 1e-3)
    floor, peak = floor - room, peak + room
    step = (width - left - right) / (len(every) - 1)

    def height_of(value: float) -> float:
        return base - (base - top) * (value - floor) / (peak - floor)

    marks = tuple(
        Mark(
            left + place * step,
            height_of(each.value),
            None if each.high is None else height_of(each.high),
            None if each.low is None else height_of(each.low),
            "new" if each is new else "forced" if each.forced else "blessed",
            f"{each.name}: {each.shown}{f' ({each.interval})' if each.interval else ''}{', forced' * each.forced}",
        )
        for place, each in enumerate(every)
    )
    blessed = marks[: len(drawn)]
    unit = figures.metric_info(_named(comparison.kind)).unit
    ticks = (floor + room, (floor + peak) / 2, peak - room)
    shown = {0, len(drawn) - 1, len(every) - 1} if len(every) > 6 else set(range(len(every)))
    return Trend(
        marks,
        "M" + " L".join(f"{mark.x:.1f} {mark.y:.1f}" for mark in blessed),
        "" if new is None else f"M{blessed[-1].x:.1f} {blessed[-1].y:.1f} L{marks[-1].x:.1f} {marks[-1].y:.1f}",
        tuple(Tick(marks[place].x, every[place].name) for place in sorted(shown)),
        tuple(Tick(height_of(value), figures.number(value, unit)) for value in ticks),
        width,
        height,
        left,
        f"Scores of {len(drawn):,} blessed runs, oldest first: {line(result, comparison)}.",
        tuple(reversed(trail)),
    )


def _named(kind: str) -> str:
    """The metric whose unit the scores of a kind have."""
    return "accuracy_old" if kind == "discrete" else "score_old"
