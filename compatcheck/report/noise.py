"""The noise floor of a model as text and as JSON."""

from __future__ import annotations

import json
from typing import Any

from compatcheck.compare.noise import Measured, Measurements
from compatcheck.compare.result import Estimate
from compatcheck.report import figures
from compatcheck.report.text import safe_text, trim_middle

NOISE_FORMATS = ("terminal", "json")
_SHOWN = ("nfr", "pfr", "nfr_mc", "agreement")


def noise_text(report: Measurements) -> str:
    """For a terminal of 80 columns: each rate with its interval and denominator, and what a budget must be above."""
    lines = ["Flips without any change", *(f"  {safe_text(name)}" for name in report.references)]
    lines += [f"! {safe_text(note)}" for note in report.notes]
    for each in report.measured:
        floor = each.floor
        lines += ["", f"{trim_middle(safe_text(each.name), 60)}  ({floor.n:,} instances; {safe_text(floor.source)})"]
        for name in _SHOWN:
            figure = floor.metrics.get(name)
            if figure is not None:
                lines.append(_line(name, figure))
        bound = floor.metrics["nfr"]
        if bound.value is not None and bound.upper is not None:
            lines.append(f"  a budget of NFR means something above {figures.number(bound.upper, 'share')}")
    return "\n".join(lines)


def _line(name: str, figure: Estimate) -> str:
    label = figures.metric_info(name).label
    if figure.value is None:
        return f"  {label:<24}undefined: {safe_text(figure.why or '')}"
    return (
        f"  {label:<24}{figures.estimate(name, figure):>7}   95 %: {figures.interval(name, figure):<16}"
        f"{figures.denominator(figure)}"
    )


def noise_json(report: Measurements) -> str:
    """An object of ``schema: "compatcheck.noise/1"``; rates are proportions, undefined is null with its why."""
    return json.dumps(
        {
            "schema": "compatcheck.noise/1",
            "references": list(report.references),
            "notes": list(report.notes),
            "measured": [_plain(each) for each in report.measured],
        },
        indent=2,
    )


def _plain(each: Measured) -> dict[str, Any]:
    rates = {
        name: {key: value for key, value in vars(figure).items() if key != "one_sided"}
        for name, figure in each.floor.metrics.items()
    }
    return vars(each) | {"floor": vars(each.floor) | {"metrics": rates}}
