"""A finished fix as one HTML file, without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck_train.report.charts import curves_svg, flow_svg, frontier_svg
from compatcheck_train.report.text import explanation, fall_of, headline, over_seeds, percent, points

_TEMPLATE = Path(__file__).with_name("fix.html.j2")


def render_html(report: Mapping[str, Any]) -> str:
    """The report of :func:`fix_to_dict`; every text is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    trainings = [("compat", report["training"])] + ([("control", report["control"])] if report["control"] else [])
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        _TEMPLATE.read_text(encoding="utf-8")
    )
    return template.render(
        r=report,
        mark=headline(report),
        explanation=" ".join(explanation(report)),
        over_seeds=over_seeds(report),
        share=lambda value: "–" if value is None else f"{100 * value:.2f} %",
        fall=fall_of,
        points=points,
        percent=percent,
        flow=lambda proof: Markup(flow_svg(proof)),
        frontier=Markup(frontier_svg(report)),
        curves=Markup(curves_svg(trainings)),
    )
