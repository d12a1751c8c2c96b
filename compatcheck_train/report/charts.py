"""Three small SVG pictures: the flow old → new → compat, training curves, the frontier of the blends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

GROUPS = {
    "both_correct": ("both right", "#8a8f98"),
    "positive_flip": ("got better", "#1a8f5a"),
    "negative_flip": ("got worse", "#c8362b"),
    "both_wrong": ("both wrong", "#b9bdc4"),
    "unchanged": ("unchanged", "#8a8f98"),
}
"""What a group is called and its colour; red and green differ in lightness too."""
WIDTH, HEIGHT, GAP = 640, 260, 10


def flow_svg(proof: Mapping[str, Any]) -> str:
    """Bands from the groups of old → new (left) to those of old → compat (right), as wide as they are frequent."""
    order = list(proof["sides"]["new"]["quadrants"])
    total = sum(each["count"] for each in proof["flow"]) or 1
    usable = HEIGHT - GAP * (len(order) - 1)

    def tops(side: str) -> tuple[dict[str, float], dict[str, int]]:
        sizes = {g: sum(f["count"] for f in proof["flow"] if f[side] == g) for g in order}
        place, top = {}, 0.0
        for group in order:
            place[group] = top
            top += usable * sizes[group] / total + GAP
        return place, sizes

    left, left_sizes = tops("new")
    right, right_sizes = tops("compat")
    start, end = dict(left), dict(right)
    parts = []
    for flow in sorted(proof["flow"], key=lambda f: (order.index(f["new"]), order.index(f["compat"]))):
        high = usable * flow["count"] / total
        y0, y1 = start[flow["new"]], end[flow["compat"]]
        start[flow["new"]] += high
        end[flow["compat"]] += high
        colour = GROUPS[flow["compat"]][1] if flow["new"] != flow["compat"] else "#8a8f98"
        strong = 0.75 if flow["new"] != flow["compat"] else 0.22
        middle = WIDTH / 2
        path = (
            f"M150,{y0:.1f} C{middle},{y0:.1f} {middle},{y1:.1f} {WIDTH - 150},{y1:.1f} L{WIDTH - 150},{y1 + high:.1f} "
            f"C{middle},{y1 + high:.1f} {middle},{y0 + high:.1f} 150,{y0 + high:.1f} Z"
        )
        words = f"{GROUPS[flow['new']][0]} → {GROUPS[flow['compat']][0]}: {flow['count']:,}"
        parts.append(f'<path d="{path}" fill="{colour}" fill-opacity="{strong}"><title>{escape(words)}</title></path>')
    for place, sizes, x, anchor in ((left, left_sizes, 140, "end"), (right, right_sizes, WIDTH - 140, "start")):
        for group in order:
            if not sizes[group]:
                continue
            high = usable * sizes[group] / total
            name, colour = GROUPS[group]
            bar = 142 if anchor == "end" else WIDTH - 150
            parts.append(
                f'<rect x="{bar}" y="{place[group]:.1f}" width="8" height="{max(high, 1):.1f}" fill="{colour}"/>'
            )
            parts.append(
                f'<text x="{x}" y="{place[group] + high / 2 + 4:.1f}" text-anchor="{anchor}">'
                f"{escape(name)} {sizes[group]:,}</text>"
            )
    return _svg(WIDTH, HEIGHT + 4, "Flow of the documents from old → new to old → compat", parts)


def curves_svg(trainings: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Validation loss by step, one line a training, each scaled to its own first value: losses are not comparable."""
    lines = []
    for name, training in trainings:
        points = [
            (h["step"], h["validation_loss"]) for h in training["history"] if h.get("validation_loss") is not None
        ]
        if len(points) > 1 and points[0][1]:
            lines.append((name, [(step, value / points[0][1]) for step, value in points]))
    if not lines:
        return ""
    return _plot(lines, "step", "validation loss, of its first", "Validation loss while training")


def frontier_svg(report: Mapping[str, Any]) -> str:
    """Negative flip rate against score of every blend, in the order of the weight of compat."""
    frontier = report["frontier"]
    if not frontier or len(frontier["points"]) < 2:
        return ""
    points = [(p["score"], 100 * p["nfr"], f"{p['share']:g}") for p in frontier["points"]]
    first = frontier["points"][0]
    points.insert(0, (first["score_of_new"], 100 * first["nfr_of_new"], "NEW"))
    return _plot(
        [("blend", [(x, y) for x, y, _ in points])], "score", "NFR, %", "Flips against score of the blends",
        labels=[label for _, _, label in points],
    )  # fmt: skip


def _plot(
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], x_name: str, y_name: str, title: str,
    labels: Sequence[str] = (),
) -> str:  # fmt: skip
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    (x0, x1), (y0, y1) = ((min(v), max(v) if max(v) > min(v) else min(v) + 1) for v in (xs, ys))

    def at(x: float, y: float) -> tuple[float, float]:
        return 60 + 540 * (x - x0) / (x1 - x0), 200 - 170 * (y - y0) / (y1 - y0)

    parts = ['<path d="M60,20 V200 H610" fill="none" stroke="currentColor" stroke-opacity=".4"/>']
    for value, left in ((x0, 60), (x1, 600)):
        parts.append(f'<text x="{left}" y="218" text-anchor="middle">{value:.4g}</text>')
    for value, top in ((y0, 204), (y1, 34)):
        parts.append(f'<text x="54" y="{top}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="330" y="236" text-anchor="middle">{escape(x_name)}</text>')
    parts.append(f'<text x="60" y="14">{escape(y_name)}</text>')
    for number, (name, points) in enumerate(lines):
        colour = ("#2f6fd0", "#d08a2f", "#7a4fb5")[number % 3]
        places = [at(*point) for point in points]
        path = " ".join(f"{'L' if k else 'M'}{x:.1f},{y:.1f}" for k, (x, y) in enumerate(places))
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for k, (x, y) in enumerate(places):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            if labels:
                parts.append(f'<text x="{x + 6:.1f}" y="{y - 6:.1f}">{escape(labels[k])}</text>')
        if len(lines) > 1:
            parts.append(
                f'<text x="600" y="{24 + 16 * number}" text-anchor="end" fill="{colour}">{escape(name)}</text>'
            )
    return _svg(640, 240, title, parts)


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
