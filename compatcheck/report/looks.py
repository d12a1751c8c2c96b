"""How the bounds of a sequential evaluation went, look by look, once for all formats that draw it."""

from __future__ import annotations

from compatcheck.compare.looks import BoundPath, Look
from compatcheck.compare.result import Comparison
from compatcheck.report import figures
from compatcheck.report.sections import Table

LOOKS = 8
"""Looks that a table shows; report.json has more."""
TRACK = 28
"""Characters of the bar that draws bounds in text."""


def drawn(comparison: Comparison) -> str:
    """How many documents a sequential evaluation took, of how many."""
    how = comparison.sequential
    assert how is not None
    less = f", {1 - how.used / how.available:.1%} less" if how.used < how.available else ", all there are"
    return f"{how.used:,} of {how.available:,} documents drawn, a look every {how.step:,}{less}"


def path_title(path: BoundPath) -> str:
    """What a budget came to that was judged at every look."""
    if path.decided_at is None:
        return f"{path.rule}: open after {path.looks[-1].n:,} instances" if path.looks else f"{path.rule}: open"
    return f"{path.rule}: {path.verdict} after {path.decided_at:,} instances"


def look_number(path: BoundPath, value: float | None) -> str:
    """A figure of a path in its unit."""
    return "–" if value is None else figures.number(value, path.unit, signed=path.unit == "points")


def looks(comparison: Comparison, path: BoundPath) -> Table:
    """At most :data:`LOOKS` looks, evenly chosen, the last one among them."""
    last = len(path.looks) - 1
    places = sorted({round(last * part / (LOOKS - 1)) for part in range(LOOKS)}) if last >= LOOKS else range(last + 1)
    chosen = [path.looks[place] for place in places]
    values = [path.threshold, *(bound for look in chosen for bound in (look.lower, look.upper))]
    rows = []
    for look in chosen:
        bounds = f"{look_number(path, look.lower)} – {look_number(path, look.upper)}"
        track = _track(look, path.threshold, min(values), max(values))
        rows.append((f"{look.n:,}", look_number(path, look.value), bounds, track))
    title = f"{figures.level(comparison)} bounds at every look"
    columns = (("n", "number"), ("value", "number"), (title, "figures"), ("• value  | budget", "track"))
    return Table(columns, tuple(rows))


def _track(look: Look, threshold: float, low: float, high: float) -> str:
    def place(value: float) -> int:
        return round((TRACK - 1) * (value - low) / (high - low)) if high > low else 0

    cells = [" "] * TRACK
    for at in range(place(look.lower), place(look.upper) + 1):
        cells[at] = "─"
    if look.value is not None:
        cells[place(look.value)] = "•"
    cells[place(threshold)] = "|"
    return "".join(cells).rstrip()
