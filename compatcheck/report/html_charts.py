"""Geometry of the pictures in the HTML report; the template draws them as SVG that needs no script."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from compatcheck.compare.overview import Gains, gains_of, round_up
from compatcheck.compare.result import Comparison, Estimate
from compatcheck.report import figures


@dataclass(frozen=True)
class Bar:
    """One bar of the histogram, in the units of its view box; ``label`` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    group: str
    label: str


@dataclass(frozen=True)
class Tick:
    position: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """Gains of all scored instances, new minus old."""

    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int
    height: int
    left: int
    baseline: float
    summary: str


def histogram(comparison: Comparison, width: int = 560, height: int = 240) -> Histogram | None:
    """Bins of the gain, each drawn in the colour of its sign; None where nothing was scored."""
    found = _gains(comparison)
    if found is None:
        return None
    edges, counts, bins = found.edges, np.array(found.counts), len(found.counts)
    left, top, bottom = 64, 14, 50
    baseline, room = height - bottom, height - top - bottom
    peak = round_up(float(counts.max()))
    step = (width - left - 8) / bins
    gap = step * 0.35 if bins == 3 else min(2.0, step * 0.15)
    bars = []
    for i, count in enumerate(counts.tolist()):
        centre = i - bins // 2
        group = "negative_flip" if centre < 0 else "positive_flip" if centre > 0 else "unchanged"
        tall = max(room * count / peak, 1.5) if count else 0.0
        low, high = (figures.number(float(e), "score", signed=True) for e in edges[i : i + 2])
        span = f"gain {('−1', '0', '+1')[i]}" if bins == 3 else f"gain {low} to {high}"
        label = f"{span}: {count:,} instance{'' if count == 1 else 's'}"
        bars.append(Bar(left + i * step + gap / 2, baseline - tall, step - gap, tall, group, label))
    if bins == 3:
        x_ticks = tuple(Tick(left + (i + 0.5) * step, t) for i, t in enumerate(("−1 worse", "0 same", "+1 better")))
    else:
        x_ticks = tuple(Tick(left + (width - left - 8) * (i / 4), _short(found.limit * (i / 2 - 1))) for i in range(5))
    y_ticks = tuple(
        Tick(baseline - room * part, f"{round(peak * part):,}") for part in (0, 0.5, 1) if peak * part % 1 == 0
    )
    total = sum(found.counts)
    summary = f"Histogram of the gain: {found.worse:,} instances below zero, {found.better:,} above, {total:,} in all."
    return Histogram(tuple(bars), x_ticks, y_ticks, width, height, left, baseline, summary)


def _gains(comparison: Comparison) -> Gains | None:
    if comparison.overview is not None:
        return comparison.overview.gains
    gains = comparison.instances["gain"].to_numpy(dtype=float, na_value=np.nan)
    return gains_of(gains[np.isfinite(gains)], comparison.kind)


def _short(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−") if value else "0"


@dataclass(frozen=True)
class Whisker:
    """An interval on a line of 100 units; ``zero`` is where zero lies when that is not the left end."""

    low: float
    high: float
    value: float
    zero: float | None


def whisker(name: str, figure: Estimate) -> Whisker | None:
    """Where the value and its interval lie: shares between 0 and 100 %, signed figures around zero."""
    if figure.value is None or figure.low is None or figure.high is None:
        return None
    unit = figures.metric_info(name).unit
    if unit == "share":
        return Whisker(_clip(figure.low * 100), _clip(figure.high * 100), _clip(figure.value * 100), None)
    if unit == "points" or name == "mean_difference":
        span = round_up(max(abs(figure.low), abs(figure.high), 1e-9))
        low, high, value = (_clip(50 + 50 * bound / span) for bound in (figure.low, figure.high, figure.value))
        return Whisker(low, high, value, 50.0)
    return None


def _clip(value: float) -> float:
    return min(max(value, 0.0), 100.0)


@dataclass(frozen=True)
class Cell:
    """One quadrant: its figures as text, and the side of a square whose area is its share (whole cell = 100)."""

    quadrant: str
    label: str
    symbol: str
    count: str
    share: str
    interval: str
    side: float


def cells(comparison: Comparison) -> tuple[Cell, ...]:
    """The quadrants or groups in the order they are shown; a discrete picture goes by rows old right, old wrong."""
    order = figures.groups(comparison)
    if comparison.kind == "discrete":
        order = ("both_correct", "negative_flip", "positive_flip", "both_wrong")
    found = []
    for quadrant in order:
        count = comparison.quadrants.get(quadrant, 0)
        part = count / comparison.n if comparison.n else 0.0
        found.append(
            Cell(
                quadrant,
                figures.QUADRANT_LABELS[quadrant],
                figures.QUADRANT_SYMBOLS[quadrant].replace("-", "−"),
                f"{count:,}",
                figures.share(count, comparison.n),
                figures.interval("nfr", figures.quadrant_estimate(comparison, quadrant)),
                max(100 * math.sqrt(part), 2.0) if count else 0.0,
            )
        )
    return tuple(found)
