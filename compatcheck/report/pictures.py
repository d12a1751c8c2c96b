"""One picture for slides and pull requests: where the answers went, the gains, and the slices, drawn by matplotlib.

Drawn so that it is read at 390 pixels: one column, few words, every part labelled as well as coloured (the colours are
those of Okabe and Ito, told apart by colour-blind readers). Of several comparisons the one that matters most is drawn,
below the negative flip rates of all.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compatcheck.compare.overview import gains_of
from compatcheck.compare.result import Comparison, Estimate, Result
from compatcheck.report import figures
from compatcheck.report.rows import worst_slices
from compatcheck.report.text import safe_text, trim_middle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.5
"""Inches; 1,170 pixels."""
DPI = 180
MARGIN = 0.3
MAX_ROWS = 10
"""Comparisons or slices in one panel."""
COLORS = {
    "negative_flip": "#d55e00", "positive_flip": "#0072b2", "both_correct": "#a9c6e3", "both_wrong": "#8d949e",
    "unchanged": "#c3c9d1",
}  # fmt: skip
_VERDICTS = {"fail": "#b34700", "pass": "#00694f", "inconclusive": "#7a5c00", "none": "#3c4654"}
_INK, _SOFT, _LINE = "#161a20", "#4d5663", "#d5dae0"
_RIGHT, _WRONG = "#3c6ea5", "#6b7280"

Groups = Sequence[tuple[str, tuple[str, ...]]]
"""The blocks of one side of the flow, each with the quadrants that lie in it."""
Panel = tuple[float, Callable[["Axes"], None]]
"""Height in inches, and what draws it in coordinates of inches: x from 0 to the width, y from 0 at the bottom."""


def png(result: Result, *, folder: Path | None = None) -> bytes:
    """The picture as PNG, 1,170 pixels wide; ``folder`` is not used.

    Raises:
        InputError: matplotlib is not installed.
    """
    del folder
    return _saved(draw(result), "png")


def render(result: Result, *, folder: Path | None = None) -> str:
    """The picture as SVG, its text as outlines, so that it looks the same everywhere; ``folder`` is not used.

    Raises:
        InputError: matplotlib is not installed.
    """
    del folder
    return _saved(draw(result), "svg").decode("utf-8")


def draw(result: Result) -> Figure:
    """The picture as a matplotlib figure.

    Raises:
        InputError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    panels = _panels(result)
    height = sum(panel[0] for panel in panels) + 2 * MARGIN
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    top = height - MARGIN
    for tall, paint in panels:
        inner = WIDTH - 2 * MARGIN
        axes = figure.add_axes((MARGIN / WIDTH, (top - tall) / height, inner / WIDTH, tall / height))
        axes.set_xlim(0, inner)
        axes.set_ylim(0, tall)
        axes.axis("off")
        paint(axes)
        top -= tall
    return figure


def _saved(figure: Figure, kind: str) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    metadata = {"Software": "compatcheck"} if kind == "png" else {"Creator": "compatcheck", "Date": None}
    settings = {"svg.hashsalt": "compatcheck", "svg.fonttype": "path", "font.family": ["DejaVu Sans"]}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph .* missing")  # a box stands for what the font lacks
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _panels(result: Result) -> list[Panel]:
    panels = [_header(result)]
    if len(result.comparisons) > 1:
        panels.append(_all_rates(result))
    if result.comparisons:
        comparison = result.comparisons[figures.worst_comparison(result)]
        panels.append(_flow(comparison, named=len(result.comparisons) > 1))
        if comparison.kind == "smooth" and (gains := _gains(comparison)) is not None:
            panels.append(gains)
        if comparison.slices:
            panels.append(_slices(comparison))
        panels.append(_footer(comparison, result))
    return panels


def _write(axes: Axes, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Text at a place; never read as mathematics, whatever it holds."""
    axes.text(x, y, text, fontsize=size, parse_math=False, **{"color": _INK, "va": "top", **style})


def _wrapped(text: str, size: float, width: float, lines: int) -> list[str]:
    """Text in so many lines at most, by the mean width of a letter."""
    letters = max(int(width / (size / 72 * 0.58)), 8)
    text = trim_middle(safe_text(text), letters * lines).replace(" %", "\u00a0%")
    return textwrap.wrap(text, letters, max_lines=lines, placeholder=" …", break_on_hyphens=False) or [""]


def _short(text: str, letters: int) -> str:
    """A name on one line: its beginning and its end."""
    text = safe_text(text)
    return text if len(text) <= letters else f"{text[: letters // 2 - 1]} … {text[-(letters // 2 - 2) :]}"


def _header(result: Result) -> Panel:
    word, reason = figures.verdict_line(result)
    inner = WIDTH - 2 * MARGIN
    lines = _wrapped(reason, 12, inner, 4)
    sides = [
        _wrapped(f"{name}  {side.reference}", 11, inner, 2) for name, side in (("old", result.old), ("new", result.new))
    ]
    advice = figures.advice_line(result)
    rows = [line for side in sides for line in side]
    tall = 0.5 + 0.24 * len(lines) + (0.3 if advice else 0.08) + 0.22 * len(rows) + 0.2

    def paint(axes: Axes) -> None:
        y = tall
        symbol = figures.VERDICT_SYMBOLS.get(result.verdict, "·")
        _write(axes, 0, y, f"{symbol} {word}", 22, weight="bold", color=_VERDICTS.get(result.verdict, _INK))
        y -= 0.5
        for line in lines:
            _write(axes, 0, y, line, 12)
            y -= 0.24
        if advice:
            _write(axes, 0, y - 0.02, f"Release advice: {safe_text(advice[0])}", 12, weight="bold")
            y -= 0.3
        else:
            y -= 0.08
        for line in rows:
            _write(axes, 0, y, line, 11, color=_SOFT)
            y -= 0.22

    return tall, paint


def _footer(comparison: Comparison, result: Result) -> Panel:
    lines = _wrapped(comparison.signature, 7.5, WIDTH - 2 * MARGIN, 4)
    tall = 0.2 + 0.15 * len(lines)

    def paint(axes: Axes) -> None:
        for place, line in enumerate(lines):
            _write(axes, 0, tall - 0.18 - 0.15 * place, line, 7.5, color=_SOFT)

    return tall, paint


def _title(axes: Axes, tall: float, text: str, note: str = "") -> None:
    _write(axes, 0, tall - 0.08, _short(text, 46), 14, weight="bold")
    if note:
        _write(axes, 0, tall - 0.36, note, 10.5, color=_SOFT)


def _all_rates(result: Result) -> Panel:
    shown = figures.most_important(result, MAX_ROWS)
    rows = [(each.name, each.metrics.get("nfr"), f"{each.n:,}") for each in shown]
    left = len(result.comparisons) - len(shown)
    return _rates("Negative flips", rows, None, f"{left:,} more comparisons are in report.json" if left else "")


def _slices(comparison: Comparison) -> Panel:
    worst = worst_slices(comparison, MAX_ROWS)
    rows = [(f"{part.field}={part.value}", part.nfr, f"{part.n:,}") for part in worst]
    left = len(comparison.slices) - len(worst)
    note = f"{left:,} more slices are in report.json" if left else ""
    return _rates("Negative flips by slice", rows, comparison.metrics.get("nfr"), note)


def _rates(title: str, rows: Sequence[tuple[str, Estimate | None, str]], whole: Estimate | None, note: str) -> Panel:
    """Bars of a rate with their intervals; a dashed line where the whole lies."""
    step = 0.46
    head = 0.66
    tall = head + step * len(rows) + 0.3 + (0.26 if note else 0)
    inner = WIDTH - 2 * MARGIN
    right = 1.05
    highs = [
        figure.high if figure.high is not None else figure.value or 0.0 for _, figure, _ in rows if figure is not None
    ]
    most = max([*highs, (whole.value or 0.0) if whole else 0.0, 0.005]) * 1.04

    def at(value: float) -> float:
        return (inner - right) * value / most

    def paint(axes: Axes) -> None:
        explained = (
            "95 % interval; n at the right" if whole is None else "95 % interval; dashed: all instances; n at the right"
        )
        _title(axes, tall, title, explained)
        y = tall - head
        if whole is not None and whole.value is not None:
            axes.plot(
                [at(whole.value)] * 2, [y - 0.02, y - step * len(rows) + 0.04], color=_SOFT, lw=1.2, ls=(0, (3, 3))
            )
        for name, figure, count in rows:
            _write(axes, 0, y, _short(name, 46), 11)
            _write(axes, inner, y - 0.18, f"n {count}", 9.5, color=_SOFT, ha="right")
            if figure is None or figure.value is None:
                _write(axes, 0, y - 0.19, "undefined", 10, color=_SOFT)
            else:
                axes.barh(y - 0.28, max(at(figure.value), 0.02), 0.13, color=COLORS["negative_flip"])
                if figure.low is not None and figure.high is not None:
                    axes.plot(
                        [at(figure.low), at(figure.high)], [y - 0.28] * 2, color=_INK, lw=1.4, solid_capstyle="butt"
                    )
                _write(axes, inner, y, figures.estimate("nfr", figure), 12, weight="bold", ha="right")
            y -= step
        if note:
            _write(axes, 0, y, note, 10, color=_SOFT)

    return tall, paint


def _flow(comparison: Comparison, named: bool) -> Panel:
    """OLD's answers on the left, NEW's on the right, and a band for every quadrant as thick as its share."""
    tall, bars = 4.25, 2.6
    title = comparison.name if named else "Where the answers went"
    count = comparison.quadrants
    left: Groups
    right: Groups
    if comparison.kind == "discrete":
        left = [("right", ("both_correct", "negative_flip")), ("wrong", ("positive_flip", "both_wrong"))]
        right = [("right", ("both_correct", "positive_flip")), ("wrong", ("negative_flip", "both_wrong"))]
    else:
        left = [("all", ("positive_flip", "unchanged", "negative_flip"))]
        right = [("better", ("positive_flip",)), ("same", ("unchanged",)), ("worse", ("negative_flip",))]
    inner, block, gap = WIDTH - 2 * MARGIN, 0.16, 0.14
    change = figures.headline_change(comparison)
    scale = (bars - gap * 2) / max(comparison.n, 1)

    def column(axes: Axes, x: float, groups: Groups, side: str) -> dict[str, tuple[float, float]]:
        """Draw the blocks of one side; return where each quadrant leaves it, top and bottom."""
        y = tall - 0.95
        ends: dict[str, tuple[float, float]] = {}
        for name, quadrants in groups:
            size = scale * sum(count.get(each, 0) for each in quadrants)
            color = {"right": _RIGHT, "wrong": _WRONG}.get(name, _RIGHT if name == "all" else COLORS[quadrants[0]])
            axes.barh(y - size / 2, block, size, left=x, color=color)
            within = y
            for each in quadrants:
                part = scale * count.get(each, 0)
                ends[each] = (within, within - part)
                within -= part
            if size > 0.16:
                style = {"rotation": 90, "ha": "center", "va": "center", "color": "white", "weight": "bold"}
                if size > 0.5:
                    _write(axes, x + block / 2, y - size / 2, name, 9.5, **style)
            y -= size + gap
        _write(
            axes,
            x if side == "old" else x + block,
            tall - 0.62,
            side,
            12,
            weight="bold",
            ha="left" if side == "old" else "right",
        )
        return ends

    def paint(axes: Axes) -> None:
        note = f"{comparison.n:,} instances" + (f";  {safe_text(change.label)} {change.short}" if change else "")
        _title(axes, tall, title, note)
        starts = column(axes, 0, left, "old")
        ends = column(axes, inner - block, right, "new")
        for quadrant in sorted(starts, key=lambda each: each == "negative_flip"):  # what matters lies on top
            _band(axes, block, inner - block, starts[quadrant], ends[quadrant], COLORS[quadrant])
        _legend(axes, comparison, inner)

    return tall, paint


def _band(axes: Axes, x0: float, x1: float, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    t = np.linspace(0, 1, 60)
    smooth = t * t * (3 - 2 * t)
    tops, bottoms = (start[i] + (end[i] - start[i]) * smooth for i in (0, 1))
    if start[0] - start[1] > 0:
        axes.fill_between(x0 + (x1 - x0) * t, tops, bottoms, color=color, alpha=0.82, lw=0.4)


def _legend(axes: Axes, comparison: Comparison, inner: float) -> None:
    """Every quadrant with its colour, sign, count and share, two in a row."""
    for place, quadrant in enumerate(figures.groups(comparison)):
        x, y = inner / 2 * (place % 2), 0.67 - 0.28 * (place // 2)
        count = comparison.quadrants.get(quadrant, 0)
        sign = figures.QUADRANT_SYMBOLS[quadrant].replace("-", "−")
        axes.barh(y - 0.08, 0.13, 0.13, left=x, color=COLORS[quadrant])
        label = f"{sign} {figures.QUADRANT_LABELS[quadrant]} {count:,} · {figures.share(count, comparison.n)}"
        _write(axes, x + 0.2, y, label, 10.5, weight="bold" if quadrant == "negative_flip" else "normal")


def _gains(comparison: Comparison) -> Panel | None:
    if comparison.overview is not None:
        found = comparison.overview.gains
    else:
        values = comparison.instances["gain"].to_numpy(dtype=float, na_value=np.nan)
        found = gains_of(values[np.isfinite(values)], comparison.kind)
    if found is None:
        return None
    tall, floor, room = 2.75, 0.48, 1.5
    inner = WIDTH - 2 * MARGIN
    peak = max(found.counts)
    step = inner / len(found.counts)

    def paint(axes: Axes) -> None:
        _title(axes, tall, "Gain per instance", f"{found.worse:,} score lower, {found.better:,} score higher")
        for place, count in enumerate(found.counts):
            centre = place - len(found.counts) // 2
            group = "negative_flip" if centre < 0 else "positive_flip" if centre > 0 else "unchanged"
            axes.bar((place + 0.5) * step, room * count / peak, step * 0.88, bottom=floor, color=COLORS[group])
        axes.plot([0, inner], [floor, floor], color=_SOFT, lw=0.8)
        for part, ha in ((-1.0, "left"), (-0.5, "center"), (0.0, "center"), (0.5, "center"), (1.0, "right")):
            value = f"{found.limit * part:+.3g}".replace("-", "−") if part else "0"
            _write(axes, inner * (part + 1) / 2, floor - 0.06, value, 10, color=_SOFT, ha=ha)

    return tall, paint
