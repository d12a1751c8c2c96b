"""The pictures of a finished fix: the flow old → new → compat, training curves, the frontier of the blends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compatcheck.report import charts

GROUPS = {
    "both_correct": "both right", "positive_flip": "got better", "negative_flip": "got worse",
    "both_wrong": "both wrong", "unchanged": "unchanged",
}  # fmt: skip
"""What a group is called."""


def flow_svg(proof: Mapping[str, Any]) -> str:
    """Bands from the groups of old → new (left) to those of old → compat (right), as wide as they are frequent."""
    counts = {(each["new"], each["compat"]): each["count"] for each in proof["flow"]}
    order = list(proof["sides"]["new"]["quadrants"])
    return charts.flow(order, counts, GROUPS, "Flow of the documents from old → new to old → compat")


def curves_svg(trainings: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Validation loss by step, one line a training, each scaled to its own first value: losses are not comparable."""
    series = []
    for name, training in trainings:
        points = [
            (h["step"], h["validation_loss"]) for h in training["history"] if h.get("validation_loss") is not None
        ]
        if len(points) > 1 and points[0][1]:
            series.append((name, [(step, value / points[0][1]) for step, value in points]))
    if not series:
        return ""
    return charts.lines(series, "step", "validation loss, of its first", "Validation loss while training")


def frontier_svg(report: Mapping[str, Any]) -> str:
    """Negative flip rate against score of every blend, in the order of the weight of compat."""
    frontier = report["frontier"]
    if not frontier or len(frontier["points"]) < 2:
        return ""
    first = frontier["points"][0]
    points = [(first["score_of_new"], 100 * first["nfr_of_new"])]
    points += [(each["score"], 100 * each["nfr"]) for each in frontier["points"]]
    labels = ["NEW", *(f"{each['share']:g}" for each in frontier["points"])]
    return charts.lines([("blend", points)], "score", "NFR, %", "Flips against score of the blends", labels)
