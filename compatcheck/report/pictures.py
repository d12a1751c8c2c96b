"""One picture for slides and pull requests: where the answers went, the gains, and the slices.

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
from typing import TYPE_CHECKING

from compatcheck.compare.result import Comparison, Estimate, Result
from compatcheck.report import content, figures, sections
from compatcheck.report.charts import Flow, draw_bars, draw_flows, gains, line, write
from compatcheck.report.text import safe_text, trim_middle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.5
"""Inches; 1,170 pixels."""
DPI = 180
MARGIN = 0.3
INNER = WIDTH - 2 * MARGIN
MAX_ROWS = 10
"""Comparisons or slices in one panel."""
COLORS = {
    "negative_flip": "#d55e00", "positive_flip": "#0072b2", "both_correct": "#a9c6e3", "both_wrong": "#8d949e",
    "unchanged": "#c3c9d1", "changed": "#c79a2b", "tied": "#c79a2b", "new_preferred": "#0072b2",
    "old_preferred": "#d55e00",
}  # fmt: skip
_VERDICTS = {"fail": "#b34700", "pass": "#00694f", "inconclusive": "#7a5c00", "none": "#3c4654"}
_INK, _SOFT = "#161a20", "#4d5663"
_BLOCKS = {"right": "#3c6ea5", "wrong": "#6b7280", "all": "#3c6ea5", "better": "#0072b2", "same": "#c3c9d1",
           "worse": "#d55e00", "changed": "#c79a2b"}  # fmt: skip

Panel = tuple[float, Callable[["Axes"], None]]
"""Height in inches, and what draws it in coordinates of inches, x from the left and y from the top."""


def png(result: Result, *, folder: Path | None = None) -> bytes:
    """The picture as PNG, 1,170 pixels wide; ``folder`` is not used."""
    del folder
    return _saved(draw(result), "png")


def render(result: Result, *, folder: Path | None = None) -> str:
    """The picture as SVG, its text as outlines, so that it looks the same everywhere; ``folder`` is not used."""
    del folder
    return _saved(draw(result), "svg").decode("utf-8")


def draw(result: Result) -> Figure:
    """The picture as a matplotlib figure."""
    from matplotlib.figure import Figure

    panels = _panels(result)
    height = sum(tall for tall, _ in panels) + 2 * MARGIN
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    top = height - MARGIN
    for tall, paint in panels:
        axes = figure.add_axes((MARGIN / WIDTH, (top - tall) / height, INNER / WIDTH, tall / height))
        axes.set(xlim=(0, INNER), ylim=(tall, 0))
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
        for shape in figure.findobj(lambda each: each.get_gid() is not None):
            shape.set_gid(None)  # what a pointer is told on a page
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _panels(result: Result) -> list[Panel]:
    panels = [_header(result)]
    several = len(result.comparisons) > 1
    if several:
        shown = content.most_important(result, MAX_ROWS)
        rows = [(each.name, each.metrics.get(figures.tiles(each)[0][0]), each.n) for each in shown]
        title = "Changed answers" if all(each.reference for each in shown) else "Negative flips"
        panels.append(_rates(title, rows, None, len(result.comparisons) - len(shown), "comparisons"))
    if result.comparisons:
        comparison = result.comparisons[content.worst_comparison(result)]
        panels.append(_flow(comparison, comparison.name if several else "Where the answers went"))
        if comparison.kind == "smooth" and comparison.reference is None and gains(comparison) is not None:
            panels.append(_gains(comparison))
        if comparison.slices:
            worst = sections.worst_slices(comparison, MAX_ROWS)
            rows = [(f"{part.field}={part.value}", part.changed or part.nfr, part.n) for part in worst]
            whole = comparison.metrics.get(figures.tiles(comparison)[0][0])
            what = f"{sections.flip_name(comparison).capitalize()}s"
            panels.append(_rates(f"{what} by slice", rows, whole, len(comparison.slices) - len(worst), "slices"))
        panels.append(_footer(comparison))
    return panels


def _wrapped(text: str, size: float, lines: int) -> list[str]:
    """Text in so many lines at most, by the mean width of a letter."""
    letters = max(int(INNER / (size / 72 * 0.58)), 8)
    text = trim_middle(safe_text(text), letters * lines).replace(" %", "\u00a0%")
    return textwrap.wrap(text, letters, max_lines=lines, placeholder=" …", break_on_hyphens=False) or [""]


def _short(text: str) -> str:
    """A name on one line: its beginning and its end."""
    text = safe_text(text)
    return text if len(text) <= 46 else f"{text[:22]} … {text[-21:]}"


def _header(result: Result) -> Panel:
    word = content.verdict_line(result)[0]
    color = _VERDICTS.get(result.verdict, _INK)
    rows = [(f"{figures.VERDICT_SYMBOLS.get(result.verdict, '·')} {word}", 22, color, 0.5, "bold")]
    rows += [(text, 12, _INK, 0.24, "normal") for text in _wrapped(content.sentence(result), 12, 4)]
    why = " ".join(fact.text for fact in content.facts(result) if fact.label == "Why")
    rows += [(text, 11, _SOFT, 0.22, "normal") for text in _wrapped(why, 11, 3) if text]
    advice = [f"{fact.label}: {fact.strong}" for fact in content.facts(result) if fact.strong]
    rows += [(text, 12, _INK, 0.3, "bold") for text in advice] or [("", 12, _INK, 0.08, "normal")]
    for name, side in (("old", result.old), ("new", result.new)):
        rows += [(text, 11, _SOFT, 0.22, "normal") for text in _wrapped(f"{name}  {side.shown}", 11, 2)]

    def paint(axes: Axes) -> None:
        y = 0.0
        for text, size, shade, step, weight in rows:
            write(axes, 0, y, text, size, color=shade, weight=weight)
            y += step

    return sum(row[3] for row in rows) + 0.2, paint


def _footer(comparison: Comparison) -> Panel:
    lines = _wrapped(comparison.signature, 7.5, 4)

    def paint(axes: Axes) -> None:
        for place, text in enumerate(lines):
            write(axes, 0, 0.18 + 0.15 * place, text, 7.5, color=_SOFT)

    return 0.2 + 0.15 * len(lines), paint


def _title(axes: Axes, text: str, note: str) -> None:
    write(axes, 0, 0.08, _short(text), 14, weight="bold")
    write(axes, 0, 0.36, note, 10.5, color=_SOFT)


def _rates(
    title: str, rows: Sequence[tuple[str, Estimate | None, int]], whole: Estimate | None, left: int, kind: str
) -> Panel:
    """Bars of a rate with their intervals; a dashed line where the whole lies. ``left`` more are not shown."""
    step, head = 0.46, 0.66
    tall = head + step * len(rows) + 0.3 + (0.26 if left else 0)
    highs = [each.high if each.high is not None else each.value or 0.0 for _, each, _ in rows if each is not None]
    most = max([*highs, (whole.value or 0.0) if whole else 0.0, 0.005]) * 1.04

    def at(value: float) -> float:
        return (INNER - 1.05) * value / most

    def paint(axes: Axes) -> None:
        _title(axes, title, f"95 % interval;{'' if whole is None else ' dashed: all instances;'} n at the right")
        if whole is not None and whole.value is not None:
            ends = (head + 0.02, head + step * len(rows) - 0.04)
            line(axes, [(at(whole.value), end) for end in ends], _SOFT, 1.2, ls=(0, (3, 3)))
        y = head
        for name, figure, n in rows:
            write(axes, 0, y, _short(name), 11)
            write(axes, INNER, y + 0.18, f"n {n:,}", 9.5, color=_SOFT, ha="right")
            if figure is None or figure.value is None:
                write(axes, 0, y + 0.19, "undefined", 10, color=_SOFT)
            else:
                axes.barh(y + 0.28, max(at(figure.value), 0.02), 0.13, color=COLORS["negative_flip"])
                if figure.low is not None and figure.high is not None:
                    line(axes, [(at(end), y + 0.28) for end in (figure.low, figure.high)], _INK, 1.4)
                write(axes, INNER, y, figures.estimate("nfr", figure), 12, weight="bold", ha="right")
            y += step
        if left:
            write(axes, 0, y, f"{left:,} more {kind} are in report.json", 10, color=_SOFT)

    return tall, paint


def _flow(comparison: Comparison, title: str) -> Panel:
    """OLD's answers on the left, NEW's on the right, and a band for every quadrant as thick as its share."""
    blocks: tuple[tuple[str, ...], tuple[str, ...]]
    if sections.shape(comparison) == "square":
        blocks = ("right", "wrong"), ("right", "wrong")
        ends = {"both_correct": (0, 0), "negative_flip": (0, 1), "positive_flip": (1, 0), "both_wrong": (1, 1)}
    elif comparison.reference is not None:
        blocks = ("all",), ("same", "changed")
        ends = {name: (0, int(name != "unchanged")) for name in figures.groups(comparison)}
    else:
        blocks = ("all",), ("better", "same", "worse")
        ends = {"positive_flip": (0, 0), "unchanged": (0, 1), "negative_flip": (0, 2)}
    flows = [
        Flow(blocks[0][a], blocks[1][b], comparison.quadrants.get(name, 0), COLORS[name], tip=name)
        for name, (a, b) in ends.items()
    ]
    change = sections.headline_change(comparison)
    note = f"{comparison.n:,} instances" + (f";  {change.label} {change.short}" if change else "")

    def paint(axes: Axes) -> None:
        _title(axes, title, note)
        write(axes, 0, 0.62, "old", 12, weight="bold")
        write(axes, INNER, 0.62, "new", 12, weight="bold", ha="right")
        places = draw_flows(axes, flows, blocks, (0.16, INNER - 0.16, 0.95, 3.55), 0.14)
        for (side, name), (top, size) in places.items():
            axes.barh(top + size / 2, 0.16, size, left=(INNER - 0.16) * side, color=_BLOCKS[name])
            if size > 0.5:
                style = {"rotation": 90, "ha": "center", "va": "center", "color": "white", "weight": "bold"}
                write(axes, (INNER - 0.16) * side + 0.08, top + size / 2, name, 9.5, **style)
        for place, cell in enumerate(sections.quadrants(comparison)):
            x, y = INNER / 2 * (place % 2), 3.58 + 0.28 * (place // 2)
            axes.barh(y + 0.08, 0.13, 0.13, left=x, color=COLORS[cell.name])
            label = f"{cell.symbol.replace('-', '−')} {cell.label} {cell.n:,} · {cell.share}"
            write(axes, x + 0.2, y, label, 10.5, weight="bold" if cell.name == "negative_flip" else "normal")

    return 4.25, paint


def _gains(comparison: Comparison) -> Panel:
    found = gains(comparison)
    assert found is not None
    ways = figures.ways(comparison)
    said = f"{found.worse:,} score {ways[0]}, {found.better:,} score {ways[1]}"

    def paint(axes: Axes) -> None:
        _title(axes, "Gain per instance", said)
        draw_bars(axes, found, (0, INNER, 0.77, 2.27), COLORS)
        line(axes, ((0, 2.27), (INNER, 2.27)), _SOFT, 0.8)
        for part, ha in ((0.0, "left"), (0.25, "center"), (0.5, "center"), (0.75, "center"), (1.0, "right")):
            write(axes, INNER * part, 2.33, figures.tick(found.limit * (2 * part - 1)), 10, color=_SOFT, ha=ha)

    return 2.75, paint
