"""A finished fix as one HTML file, without anything from elsewhere, with three pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from compatcheck.report import charts
from compatcheck_train.report import text

_TEMPLATE = Path(__file__).with_name("fix.html.j2")
GROUPS = {
    "both_correct": "both right", "positive_flip": "got better", "negative_flip": "got worse",
    "both_wrong": "both wrong", "unchanged": "unchanged",
}  # fmt: skip
"""What a group is called."""
LIKE_OLD = {**GROUPS, "both_correct": "like OLD's", "negative_flip": "changed"}
"""The same where OLD's answers are the targets."""


def render_html(report: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    trainings = [("compat", report["training"])] + ([("control", report["control"])] if report["control"] else [])
    names = LIKE_OLD if report["reference"] else GROUPS
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    # the style sheet of the report on a comparison: both are one design
    css = resources.files("compatcheck.report").joinpath("assets", "report.css").read_text(encoding="utf-8")
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        r=report, mark=text.headline(report), sentence=text.sentence(report), css=Markup(css),
        explanation=" ".join(text.explanation(report)), method=text.method(report), steps=text.steps(report),
        over_seeds=text.over_seeds(report),
        share=text.share, fall=text.fall_of, points=text.points, percent=text.percent, changes_of=text.changes_of,
        flow=lambda proof: Markup(flow_svg(proof, names)), frontier=Markup(frontier_svg(report)),
        curves=Markup(curves_svg(trainings)),
    )  # fmt: skip


def flow_svg(proof: Mapping[str, Any], names: Mapping[str, str] = GROUPS) -> str:
    """Bands from the groups of old → new (left) to those of old → compat (right), as wide as they are frequent."""
    counts = {(each["new"], each["compat"]): each["count"] for each in proof["flow"]}
    order = list(proof["sides"]["new"]["quadrants"])
    return charts.flow(order, counts, names, "Flow of the documents from old → new to old → compat")


def curves_svg(trainings: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Validation loss by step, one line a training, each scaled to its own first value: losses are not comparable."""
    series = []
    for name, training in trainings:
        found = [(h["step"], h["validation_loss"]) for h in training["history"] if h["validation_loss"] is not None]
        if len(found) > 1 and found[0][1]:
            series.append((name, [(step, value / found[0][1]) for step, value in found]))
    if not series:
        return ""
    return charts.lines(series, "step", "validation loss, of its first", "Validation loss while training")


def frontier_svg(report: Mapping[str, Any]) -> str:
    """Negative flip rate against score of every blend, in the order of the weight of compat."""
    frontier = report["frontier"]
    if not frontier or len(frontier["points"]) < 2:
        return ""
    first = frontier["points"][0]
    found = [(first["score_of_new"], 100 * first["nfr_of_new"])]
    found += [(each["score"], 100 * each["nfr"]) for each in frontier["points"]]
    labels = ["NEW", *(f"{each['share']:g}" for each in frontier["points"])]
    return charts.lines([("blend", found)], "score", "NFR, %", "Flips against score of the blends", labels)
