"""Pictures drawn by matplotlib: SVG for the pages of a report and of ``fix``, and the shapes that pictures share.

A canvas has the units of its view box, x from the left and y from the top. On a page colours are CSS variables, so that
they follow its theme, with the light colour (of text the text's own) where the page has no such variable; text takes
the page's font.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from compatcheck.compare.overview import Gains, gains_of, round_up
from compatcheck.compare.result import BoundPath, Comparison, Result
from compatcheck.report import figures, sections, trend
from compatcheck.report.text import safe_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THEME: Mapping[str, str] = {
    "negative_flip": "#d9573f", "positive_flip": "#1f9d82", "unchanged": "#aab3bf", "both_correct": "#7f95c4",
    "both_wrong": "#aab3bf", "accent": "#2450b8", "wash": "#e9effc", "budget": "#b3331d", "soft": "#57606e",
    "line": "#e1e5ea", "axis": "#8a94a3", "ink": "#161a20",
}  # fmt: skip
"""Colours of a page; the variables that stand for them are in :data:`_VARIABLES`."""
_VARIABLES = {
    "#d9573f": "neg-fill", "#1f9d82": "pos-fill", "#aab3bf": "wrong-fill", "#7f95c4": "same-fill", "#2450b8": "accent",
    "#e9effc": "accent-wash", "#b3331d": "neg", "#57606e": "soft", "#e1e5ea": "line", "#8a94a3": "strong-line",
    "#161a20": "ink",
}  # fmt: skip
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
    fallback = "currentColor" if value in (THEME["ink"], THEME["soft"], THEME["axis"]) else value
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


def histogram(comparison: Comparison) -> str:
    """Gains of all scored instances, new minus old, as SVG; empty where nothing was scored."""
    found = gains(comparison)
    if found is None:
        return ""
    (figure, axes), left, right, top, bottom = canvas(560, 240), 64, 552, 14, 190
    peak = round_up(max(found.counts))
    draw_bars(axes, found, (left, right, bottom - (bottom - top) * max(found.counts) / peak, bottom), THEME)
    for part in (0, 0.5, 1):
        y = bottom - (bottom - top) * part
        line(axes, ((left, y), (right, y)), THEME["line" if part else "axis"], zorder=0 if part else 3)
        if peak * part % 1 == 0:
            write(axes, left - 8, y, f"{round(peak * part):,}", color=THEME["soft"], ha="right", va="center")
    three = ((1 / 6, "−1 worse"), (1 / 2, "0 same"), (5 / 6, "+1 better"))
    five = [(part, figures.tick(found.limit * (2 * part - 1))) for part in (0, 0.25, 0.5, 0.75, 1)]
    for part, label in three if len(found.counts) == 3 else five:
        ha = "right" if part == 1 else "center"
        write(axes, left + (right - left) * part, bottom + 8, label, color=THEME["soft"], ha=ha)
    write(
        axes, (left + right) / 2, 236, "gain: how much better new scored", color=THEME["soft"], ha="center", va="bottom"
    )
    total = sum(found.counts)
    said = f"{found.worse:,} instances below zero, {found.better:,} above, {total:,} in all"
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

    def x(n: int) -> float:
        return left + (right - left) * (n - first.n) / max(1, last.n - first.n)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (min(max(value, low), high) - low) / (high - low)

    xs = [x(look.n) for look in found]
    band = [y(look.upper) for look in found] + [y(look.lower) for look in reversed(found)]
    axes.fill([*xs, *reversed(xs)], band, color=THEME["wash"], lw=0, clip_on=False)
    known = [(x(look.n), y(look.value)) for look in found if look.value is not None]
    if known:
        line(axes, known, THEME["accent"], 2)
    budget = y(path.threshold)
    line(axes, ((left, budget), (right, budget)), THEME["budget"], 1.5, ls=(0, (3, 2.5)))
    line(axes, ((left, bottom), (right, bottom)), THEME["axis"])
    shown = {budget: path.threshold}
    shown |= {y(value): value for value in (last.upper, last.lower) if abs(y(value) - budget) >= 14}
    for at, value in shown.items():
        write(axes, left - 8, at, sections.look_number(path, value), color=THEME["soft"], ha="right", va="center")
    for n in dict.fromkeys((first.n, found[len(found) // 2].n, last.n)):
        ha = "right" if n == last.n else "center"
        write(axes, x(n), bottom + 8, f"{n:,}", color=THEME["soft"], ha=ha)
    spans = [
        f"{sections.look_number(path, look.lower)} to {sections.look_number(path, look.upper)} after {look.n:,}"
        for look in (first, last)
    ]
    said = f"from {', '.join(spans)}; the budget is {sections.look_number(path, path.threshold)}"
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

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    for value in (low + room, (low + high) / 2, high - room):
        line(axes, ((left - 16, y(value)), (552, y(value))), THEME["line"], zorder=0)
        label = figures.number(value, figures.metric_info(trail[0].metric).unit)
        write(axes, left - 24, y(value), label, color=THEME["soft"], ha="right", va="center")
    step = (right - left) / (len(every) - 1)
    places = [(left + place * step, y(each.score.value or 0.0)) for place, each in enumerate(every)]
    line(axes, places[: len(trail)], THEME["axis"], 2)
    line(axes, places[len(trail) - 1 :], THEME["axis"], 2, ls=(0, (2, 2)))
    named = {0, len(trail) - 1, len(every) - 1} if len(every) > 6 else set(range(len(every)))
    for place, (each, (x, at)) in enumerate(zip(every, places, strict=True)):
        color = THEME[{"blessed": "accent", "forced": "negative_flip", "new": "ink"}[each.kind]]
        if each.score.low is not None and each.score.high is not None:
            line(axes, ((x, y(each.score.low)), (x, y(each.score.high))), color, 3, alpha=0.6)
        _mark(axes, x, at, color, each)
        if place in named:
            write(axes, x, 202, each.name, color=THEME["soft"], ha="center", va="bottom")
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


def lines(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]], x_name: str, y_name: str, summary: str,
    labels: Sequence[str] = (),
) -> str:  # fmt: skip
    """Named lines through points as SVG; ``labels`` stand at the points of the first one, where they do not overlap."""
    figure, axes = canvas(640, 240)
    spans = []
    for axis in (0, 1):
        values = [point[axis] for _, points in series for point in points]
        spans.append((min(values), max(values) if max(values) > min(values) else min(values) + 1))
    (x0, x1), (y0, y1) = spans
    line(axes, ((60, 20), (60, 200), (610, 200)), THEME["axis"])
    for value, at in ((x0, 60), (x1, 600)):
        write(axes, at, 206, f"{value:.4g}", 13, ha="center")
    for value, at in ((y0, 200), (y1, 30)):
        write(axes, 54, at, f"{value:.3g}", 13, ha="right", va="center")
    write(axes, 330, 238, x_name, 13, ha="center", va="bottom")
    write(axes, 60, 0, y_name, 13)
    taken: list[tuple[float, float]] = []
    from matplotlib.patches import Circle

    for number, (name, points) in enumerate(series):
        color = ("#2f6fd0", "#d08a2f", "#7a4fb5")[number % 3]
        places = [(60 + 540 * (x - x0) / (x1 - x0), 200 - 170 * (y - y0) / (y1 - y0)) for x, y in points]
        line(axes, places, color, 2)
        for place, (left, top) in enumerate(places):
            x, y = points[place]
            tip = f"{_TIP}{labels[place] if labels else name}: {x:.4g}, {y:.3g}"
            axes.add_patch(Circle((left, top), 3, color=color, lw=0, zorder=3, gid=tip, clip_on=False))
            if place < len(labels) and all(abs(left - a) > 34 or abs(top - b) > 14 for a, b in taken):
                x, ha = (left - 6, "right") if left > 580 else (left + 6, "left")
                write(axes, x, top - 6, labels[place], 13, va="bottom", ha=ha)
                taken.append((left, top))
        if len(series) > 1:
            write(axes, 600, 12 + 16 * number, name, 13, color=color, ha="right")
    return page_svg(figure, summary)
