"""Pictures drawn by matplotlib: SVG for the pages of a report and of ``fix``, and the shapes that pictures share.

A canvas has the units of its view box, x from the left and y from the top. On a page colours are CSS variables, so that
they follow its theme, with the light colour (of text the text's own) where the page has no such variable; text takes
the page's font.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from compatcheck.compare.looks import BoundPath
from compatcheck.compare.overview import Gains, gains_of, round_up
from compatcheck.compare.result import Comparison, Result
from compatcheck.report import figures, trend
from compatcheck.report.looks import look_number
from compatcheck.report.text import safe_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PALETTE = (
    ("negative_flip", "neg-fill", "#d9573f"), ("positive_flip", "pos-fill", "#1f9d82"),
    ("unchanged", "wrong-fill", "#aab3bf"), ("both_wrong", "wrong-fill", "#aab3bf"),
    ("both_correct", "same-fill", "#7f95c4"), ("accent", "accent", "#2450b8"), ("wash", "accent-wash", "#e9effc"),
    ("budget", "neg", "#b3331d"), ("line", "line", "#e1e5ea"), ("axis", "strong-line", "#8a94a3"),
    ("soft", "soft", "#57606e"), ("ink", "ink", "#161a20"),
)  # fmt: skip
THEME: Mapping[str, str] = {name: color for name, _, color in _PALETTE}
"""Colours of a page by what they are for, in its light theme."""
_VARIABLES = {color: variable for _, variable, color in _PALETTE}
_TEXT = (THEME["ink"], THEME["soft"], THEME["axis"])
_TIP = "tip:"
"""Begins the id of a shape whose rest is what a pointer over it is told."""
DRAWN = 30
"""Blessed runs in a picture, the newest; the table under it has them all."""


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one axis system over the whole of it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, frameon=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def write(axes: Axes, x: float, y: float, text: str, size: float = 12, **style: Any) -> None:
    """Text at a place, which is its top left corner where nothing else is said; never read as mathematics."""
    axes.text(x, y, safe_text(text), fontsize=size, parse_math=False, **{"color": THEME["ink"], "va": "top", **style})


def line(axes: Axes, points: Sequence[tuple[float, float]], color: str, width: float = 1, **style: Any) -> None:
    """A line through points."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, color=color, lw=width, **{"solid_capstyle": "butt", "clip_on": False, **style})


def page_svg(figure: Figure, summary: str, kind: str = "") -> str:
    """The figure as an SVG element for a page: no id, no style sheet and no reference, so that nothing in it can clash
    with another one. ``summary`` is what a screen reader says of it."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "path.simplify": False}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    size = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib |= {"class": f"chart {kind}".strip(), "viewBox": size, "role": "img", "aria-label": safe_text(summary)}
    for child in [each for each in root if not each.tag.endswith("}g")]:
        root.remove(child)  # metadata, a style sheet
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        name = element.attrib.pop("id", "")
        element.attrib.pop("clip-path", None)
        rules = [rule.strip().partition(": ") for rule in element.get("style", "").split(";") if rule.strip()]
        rules = [rule for rule in rules if not rule[0].startswith("font")]
        if rules:
            element.set("style", "; ".join(f"{key}: {_variable(value)}" for key, _, value in rules))
        if element.tag == "text":
            element.set("class", "tick")
        if name.startswith(_TIP):
            title = ElementTree.Element("title")
            title.text = name.removeprefix(_TIP)
            element.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode")


def _variable(value: str) -> str:
    fallback = "currentColor" if value in _TEXT else value
    return f"var(--{_VARIABLES[value]}, {fallback})" if value in _VARIABLES else value


def gains(comparison: Comparison) -> Gains | None:
    """Gains of all scored instances in bins; None where nothing was scored."""
    if comparison.overview is not None:
        return comparison.overview.gains
    values = comparison.instances["gain"].to_numpy(dtype=float, na_value=np.nan)
    return gains_of(values[np.isfinite(values)], comparison.kind)


def draw_bars(axes: Axes, found: Gains, box: tuple[float, float, float, float], colors: Mapping[str, str]) -> None:
    """A histogram of gains, each bar in the colour of its sign, in a box of left, right, top and bottom."""
    left, right, top, bottom = box
    bins = len(found.counts)
    step = (right - left) / bins
    for place, count in enumerate(found.counts):
        centre = place - bins // 2
        group = "negative_flip" if centre < 0 else "positive_flip" if centre > 0 else "unchanged"
        span = f"gain {figures.tick(centre)}"
        if bins != 3:
            low, high = (figures.number(float(edge), "score", signed=True) for edge in found.edges[place : place + 2])
            span = f"gain {low} to {high}"
        tall = max((bottom - top) * count / max(found.counts), (bottom - top) / 120) if count else 0
        width = step * (0.65 if bins == 3 else 0.85)
        tip = f"{_TIP}{span}: {figures.plural(count, 'instance')}"
        x = left + (place + 0.5) * step
        axes.bar(x, -tall, width, bottom=bottom, color=colors[group], gid=tip, clip_on=False)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Where a value between ``low`` and ``high`` lies between ``start`` and ``end``."""
    return lambda value: start + (end - start) * (value - low) / ((high - low) or 1)


def _beside(axes: Axes, x: float, ticks: Mapping[float, str]) -> None:
    """Labels of an upright axis by their height."""
    for y, label in ticks.items():
        write(axes, x, y, label, color=THEME["soft"], ha="right", va="center")


def _below(axes: Axes, y: float, ticks: Mapping[float, str]) -> None:
    """Labels of a flat axis by their place; one at the right edge stays within the picture."""
    for x, label in ticks.items():
        write(axes, x, y, label, color=THEME["soft"], ha="right" if x > 540 else "center")


def _across(axes: Axes, left: float, right: float, y: float, color: str, width: float = 1, **style: Any) -> None:
    line(axes, ((left, y), (right, y)), THEME[color], width, **style)


def histogram(comparison: Comparison) -> str:
    """Gains of all scored instances, new minus old, as SVG; empty where nothing was scored."""
    found = gains(comparison)
    if found is None:
        return ""
    (figure, axes), left, right, top, bottom = canvas(560, 240), 64, 552, 14, 190
    peak = round_up(max(found.counts))
    y, x = _scale(0, peak, bottom, top), _scale(-1, 1, left, right)
    for part in (0, 0.5, 1):
        _across(axes, left, right, y(peak * part), "line" if part else "axis", zorder=0 if part else 3)
    draw_bars(axes, found, (left, right, y(max(found.counts)), bottom), THEME)
    _beside(axes, left - 8, {y(peak * p): f"{round(peak * p):,}" for p in (0, 0.5, 1) if peak * p % 1 == 0})
    three = {x(-2 / 3): "−1 worse", x(0): "0 same", x(2 / 3): "+1 better"}
    five = {x(part): figures.tick(found.limit * part) for part in (-1, -0.5, 0, 0.5, 1)}
    _below(axes, bottom + 8, three if len(found.counts) == 3 else five)
    _below(axes, 222, {(left + right) / 2: "gain: how much better new scored"})
    said = f"{found.worse:,} instances below zero, {found.better:,} above, {sum(found.counts):,} in all"
    return page_svg(figure, f"Histogram of the gain: {said}.")


def looks(path: BoundPath) -> str:
    """Bounds and figure of a budget over instances as SVG; empty where there are fewer than two looks."""
    found = path.looks
    if len(found) < 2:
        return ""
    (figure, axes), left, right, top, bottom = canvas(560, 220), 72, 548, 12, 180
    # What matters is what happens about the budget: the bounds of the first few instances reach far beyond.
    first, middle, last = found[0], found[len(found) // 4], found[-1]
    inside = [path.threshold, last.lower, last.upper, middle.lower, middle.upper]
    room = (max(inside) - min(inside)) * 0.08 or 1.0
    low, high = min(inside) - room, max(inside) + room
    x, scaled = _scale(first.n, last.n, left, right), _scale(low, high, bottom, top)

    def y(value: float) -> float:
        return scaled(min(max(value, low), high))

    xs = [x(look.n) for look in found]
    band = [y(look.upper) for look in found] + [y(look.lower) for look in reversed(found)]
    axes.fill([*xs, *reversed(xs)], band, color=THEME["wash"], lw=0, clip_on=False)
    known = [(x(look.n), y(look.value)) for look in found if look.value is not None]
    if known:
        line(axes, known, THEME["accent"], 2)
    budget = y(path.threshold)
    _across(axes, left, right, budget, "budget", 1.5, ls=(0, (3, 2.5)))
    _across(axes, left, right, bottom, "axis")
    shown = [path.threshold, *(b for b in (last.upper, last.lower) if abs(y(b) - budget) >= 14)]
    _beside(axes, left - 8, {y(value): look_number(path, value) for value in shown})
    _below(axes, bottom + 8, {x(n): f"{n:,}" for n in (first.n, found[len(found) // 2].n, last.n)})
    spans = [
        f"{look_number(path, look.lower)} to {look_number(path, look.upper)} after {look.n:,}" for look in (first, last)
    ]
    said = f"from {', '.join(spans)}; the budget is {look_number(path, path.threshold)}"
    return page_svg(figure, f"Bounds of {path.rule} over instances: {said}.", "narrow")


def blessed(result: Result, comparison: Comparison) -> str:
    """Scores of the blessed runs in their order, equally spaced, as SVG; empty where there are fewer than two."""
    trail = trend.points(result, comparison)[-DRAWN:]
    if not trail:
        return ""
    new = trend.new_point(comparison, trail)
    every = [*trail, *([] if new is None else [new])]
    (figure, axes), left, right, top, bottom = canvas(560, 210), 108, 528, 14, 180
    bounds = [b for each in every for b in (each.score.value, each.score.low, each.score.high) if b is not None]
    room = (max(bounds) - min(bounds)) * 0.08 or max(abs(max(bounds)) * 0.1, 1e-3)
    low, high = min(bounds) - room, max(bounds) + room
    y, x = _scale(low, high, bottom, top), _scale(0, len(every) - 1, left, right)
    ticks = (low + room, (low + high) / 2, high - room)
    for value in ticks:
        _across(axes, left - 16, 552, y(value), "line", zorder=0)
    unit = figures.metric_info(figures.score_name(comparison.kind, "old")).unit
    _beside(axes, left - 24, {y(value): figures.number(value, unit) for value in ticks})
    places = [(x(place), y(each.score.value or 0.0)) for place, each in enumerate(every)]
    line(axes, places[: len(trail)], THEME["axis"], 2)
    line(axes, places[len(trail) - 1 :], THEME["axis"], 2, ls=(0, (2, 2)))
    for each, (at, height) in zip(every, places, strict=True):
        color = THEME[{"blessed": "accent", "forced": "negative_flip", "new": "ink"}[each.kind]]
        if each.score.low is not None and each.score.high is not None:
            line(axes, ((at, y(each.score.low)), (at, y(each.score.high))), color, 3, alpha=0.6)
        _mark(axes, at, height, color, each)
    named = {0, len(trail) - 1, len(every) - 1} if len(every) > 6 else range(len(every))
    _below(axes, 188, {x(place): every[place].name for place in named})
    said = f"Scores of {len(trail):,} blessed runs, oldest first: {trend.line(result, comparison)}."
    return page_svg(figure, said, "narrow")


def _mark(axes: Axes, x: float, y: float, color: str, point: trend.Point) -> None:
    """A disc for a blessed run, a rhomb for a forced one, a square for NEW."""
    from matplotlib.patches import Circle, RegularPolygon

    bounds = f" ({point.interval})" if point.interval else ""
    tip = safe_text(f"{point.name}: {point.shown}{bounds}{', forced' * (point.kind == 'forced')}")
    style: dict[str, Any] = {"color": color, "lw": 0, "zorder": 3, "gid": _TIP + tip, "clip_on": False}
    turn = 0 if point.kind == "forced" else np.pi / 4
    shape = (
        Circle((x, y), 5, **style)
        if point.kind == "blessed"
        else RegularPolygon((x, y), 4, radius=7, orientation=turn, **style)
    )
    axes.add_patch(shape)


class Flow(NamedTuple):
    """So many instances that are in one group on the left and in one on the right."""

    left: str
    right: str
    n: int
    color: str
    alpha: float = 0.82
    tip: str = ""


def draw_flows(
    axes: Axes, flows: Sequence[Flow], blocks: tuple[Sequence[str], Sequence[str]],
    box: tuple[float, float, float, float], gap: float,
) -> dict[tuple[int, str], tuple[float, float]]:  # fmt: skip
    """Bands between the blocks of two sides, each as thick as its share, in a box of left, right, top and bottom.

    Returns top and height of every block by its side (0, 1) and name. ``gap`` lies between two blocks.
    """
    left, right, top, bottom = box
    total = sum(flow.n for flow in flows) or 1
    scale = (bottom - top - gap * (max(map(len, blocks)) - 1)) / total
    places: dict[tuple[int, str], tuple[float, float]] = {}
    for side, names in enumerate(blocks):
        y = top
        for name in names:
            size = scale * sum(flow.n for flow in flows if flow[side] == name)
            places[side, name] = (y, size)
            y += size + gap
    starts = {key: y for key, (y, _) in places.items()}
    t = np.linspace(0, 1, 40)
    bend = t * t * (3 - 2 * t)
    for flow in sorted(flows, key=lambda each: (blocks[0].index(each.left), blocks[1].index(each.right))):
        tall = scale * flow.n
        begin, end = starts[0, flow.left], starts[1, flow.right]
        starts[0, flow.left] += tall
        starts[1, flow.right] += tall
        tops = begin + (end - begin) * bend
        if flow.n:
            xs, ys = left + (right - left) * t, np.concatenate([tops, tops[::-1] + tall])
            above = 2 + flow.tip.startswith("negative")  # what got worse lies on top
            style: dict[str, Any] = {"color": flow.color, "alpha": flow.alpha, "lw": 0.4, "zorder": above}
            axes.fill(np.concatenate([xs, xs[::-1]]), ys, gid=_TIP + flow.tip, clip_on=False, **style)
    return places


def flow(order: Sequence[str], counts: Mapping[tuple[str, str], int], names: Mapping[str, str], summary: str) -> str:
    """Bands from groups on the left to the same groups on the right, by what they are called, as SVG.

    ``order`` are the groups from top to bottom, ``counts`` the instances by their groups left and right.
    """
    figure, axes = canvas(640, 264)
    flows = [
        Flow(a, b, count, THEME[b if a != b else "both_correct"], 0.75 if a != b else 0.3,
             f"{names[a]} → {names[b]}: {count:,}")
        for (a, b), count in counts.items()
    ]  # fmt: skip
    places = draw_flows(axes, flows, (order, order), (150, 490, 2, 262), 10)
    for (side, name), (top, size) in places.items():
        if size:
            count = sum(each.n for each in flows if each[side] == name)
            axes.bar((146, 494)[side], size, 8, bottom=top, color=THEME[name], clip_on=False)
            x, ha = ((140, "right"), (500, "left"))[side]
            write(axes, x, top + size / 2, f"{names[name]} {count:,}", 13, ha=ha, va="center")
    return page_svg(figure, summary)


def _labelled(places: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[tuple[tuple[float, float], str]]:
    """Where labels stand: those of points that lie too near each other are written as one."""
    found: list[tuple[tuple[float, float], list[str]]] = []
    for (left, top), label in zip(places, labels, strict=False):
        near = next((each for (a, b), each in found if abs(left - a) < 60 and abs(top - b) < 16), None)
        if near is None:
            found.append(((left, top), [label]))
        else:
            near.append(label)
    return [(place, ", ".join(words)) for place, words in found]


def lines(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]], x_name: str, y_name: str, summary: str,
    labels: Sequence[str] = (),
) -> str:  # fmt: skip
    """Named lines through points as SVG; ``labels`` stand at the points of the first one, where they do not overlap."""
    figure, axes = canvas(640, 240)
    (x0, x1), (y0, y1) = (
        (min(values), max(values)) for values in ([p[axis] for _, points in series for p in points] for axis in (0, 1))
    )
    x_at, y_at = _scale(x0, x1, 60, 600), _scale(y0, y1, 200, 44 if labels else 30)
    line(axes, ((60, 20), (60, 200), (610, 200)), THEME["axis"])
    for value in (x0, x1):
        write(axes, x_at(value), 206, f"{value:.4g}", 13, ha="center")
    for value in (y0, y1):
        write(axes, 54, y_at(value), f"{value:.3g}", 13, ha="right", va="center")
    write(axes, 330, 238, x_name, 13, ha="center", va="bottom")
    write(axes, 60, 0, y_name, 13)
    from matplotlib.patches import Circle

    for number, (name, points) in enumerate(series):
        color = ("#2f6fd0", "#d08a2f", "#7a4fb5")[number % 3]
        places = [(x_at(x), y_at(y)) for x, y in points]
        line(axes, places, color, 2)
        for place, (left, top) in enumerate(places):
            x, y = points[place]
            tip = f"{_TIP}{labels[place] if labels else name}: {x:.4g}, {y:.3g}"
            axes.add_patch(Circle((left, top), 3, color=color, lw=0, zorder=3, gid=tip, clip_on=False))
        for (left, top), words in _labelled(places, labels if not number else ()):
            x, ha = (left - 6, "right") if left > 420 else (left + 6, "left")
            write(axes, x, top - 6, words, 13, va="bottom", ha=ha)
        if len(series) > 1:
            write(axes, 600, 12 + 16 * number, name, 13, color=color, ha="right")
    return page_svg(figure, summary)
