"""How the bounds of a budget went while instances came in: as rows that all renderers share, and as a picture."""

from __future__ import annotations

from dataclasses import dataclass

from compatcheck.compare.result import BoundPath, Comparison, Look
from compatcheck.report import figures

ROWS = 8
"""Looks that a table shows; report.json has more."""
TRACK = 28
"""Characters of the bar that draws the bounds on a terminal."""


@dataclass(frozen=True)
class Row:
    """One look in words. ``track`` draws the bounds, the figure ``•`` and the budget ``|`` on one line."""

    n: str
    value: str
    bounds: str
    track: str


def title(path: BoundPath) -> str:
    """What the budget came to. Holds text of the user's."""
    if path.decided_at is None:
        return f"{path.rule}: open after {path.looks[-1].n:,} instances" if path.looks else f"{path.rule}: open"
    return f"{path.rule}: {path.verdict} after {path.decided_at:,} instances"


def drawn(comparison: Comparison) -> str:
    """How many documents it took, of how many."""
    how = comparison.sequential
    assert how is not None
    less = f", {1 - how.used / how.available:.1%} less" if how.used < how.available else ", all there are"
    return f"{how.used:,} of {how.available:,} documents drawn, a look every {how.step:,}{less}"


def rows(path: BoundPath) -> tuple[Row, ...]:
    """At most :data:`ROWS` looks, evenly chosen, the last one among them."""
    chosen = shown(path)
    if not chosen:
        return ()
    values = [path.threshold, *(each for look in chosen for each in (look.lower, look.upper))]
    low, high = min(values), max(values)
    return tuple(
        Row(
            f"{look.n:,}",
            "–" if look.value is None else _number(look.value, path.unit),
            f"{_number(look.lower, path.unit)} – {_number(look.upper, path.unit)}",
            _track(look, path.threshold, low, high),
        )
        for look in chosen
    )


def shown(path: BoundPath) -> tuple[Look, ...]:
    """The looks that :func:`rows` shows."""
    last = len(path.looks) - 1
    places = sorted({round(last * part / (ROWS - 1)) for part in range(ROWS)}) if last >= ROWS else range(last + 1)
    return tuple(path.looks[place] for place in places)


def _number(value: float, unit: str) -> str:
    return figures.number(value, unit, signed=unit == "points")


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


@dataclass(frozen=True)
class Picture:
    """Bounds and figure over instances, in the units of a view box; the paths are SVG's."""

    band: str
    line: str
    budget: float
    ticks_x: tuple[tuple[float, str], ...]
    ticks_y: tuple[tuple[float, str], ...]
    summary: str
    width: int = 560
    height: int = 220
    left: int = 72
    baseline: int = 180


def picture(path: BoundPath) -> Picture | None:
    """The picture of a budget; None where there are fewer than two looks. The first, widest bounds may leave it."""
    looks = path.looks
    if len(looks) < 2:
        return None
    width, left, top, baseline = Picture.width, Picture.left, 12, Picture.baseline
    # What matters is what happens about the budget: the bounds of the first few instances reach far beyond.
    middle = looks[len(looks) // 4]
    inside = [path.threshold, looks[-1].lower, looks[-1].upper, middle.lower, middle.upper]
    low, high = min(inside), max(inside)
    room = (high - low) * 0.08 or 1.0
    low, high = low - room, high + room
    first, last = looks[0].n, looks[-1].n

    def x(n: int) -> float:
        return left + (width - left - 12) * (n - first) / max(1, last - first)

    def y(value: float) -> float:
        return baseline - (baseline - top) * (min(max(value, low), high) - low) / (high - low)

    def points(values: list[tuple[int, float]]) -> str:
        return " L".join(f"{x(n):.1f} {y(value):.1f}" for n, value in values)

    upper = [(look.n, look.upper) for look in looks]
    lower = [(look.n, look.lower) for look in reversed(looks)]
    line = [(look.n, look.value) for look in looks if look.value is not None]
    marks = [path.threshold, looks[-1].lower, looks[-1].upper]
    ticks = {round(y(mark)): _number(mark, path.unit) for mark in reversed(marks)}
    near = [at for at in ticks if at != round(y(path.threshold)) and abs(at - y(path.threshold)) < 14]
    for at in near:
        del ticks[at]
    return Picture(
        band=f"M{points(upper)} L{points(lower)} Z",
        line=f"M{points(line)}" if line else "",
        budget=y(path.threshold),
        ticks_x=tuple((x(n), f"{n:,}") for n in dict.fromkeys((first, looks[len(looks) // 2].n, last))),
        ticks_y=tuple((float(at), text) for at, text in ticks.items()),
        summary=(
            f"Bounds of {path.rule} over instances: from {_number(looks[0].lower, path.unit)} to "
            f"{_number(looks[0].upper, path.unit)} after {first:,}, {_number(looks[-1].lower, path.unit)} to "
            f"{_number(looks[-1].upper, path.unit)} after {last:,}; the budget is {_number(path.threshold, path.unit)}."
        ),
    )
