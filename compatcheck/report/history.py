"""Kept comparisons and runs side by side, in the order in which they are named: a history with bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compatcheck.compare.result import Estimate, Result
from compatcheck.compare.scores import Score
from compatcheck.records import NO_FILTER
from compatcheck.report import figures
from compatcheck.report.text import safe_text, trim_middle
from compatcheck.text import aligned


@dataclass(frozen=True)
class Entry:
    """What one folder says of one task, filter and metric: rates by name, each with its bounds."""

    folder: str
    name: str
    """``task/filter/metric``."""
    new: str
    """Which model, as the user named it."""
    verdict: str
    n: int
    metrics: Mapping[str, Estimate]
    signature: str = ""
    """Empty for a run, which was not compared."""


def of_result(folder: str, result: Result) -> list[Entry]:
    """The entries of a kept comparison: rate of negative flips and both scores."""
    names = ("nfr", "accuracy_old", "accuracy_new", "score_old", "score_new", "changed", "similarity")
    return [
        Entry(
            folder,
            each.name,
            result.new.reference,
            each.verdict,
            each.n,
            {name: each.metrics[name] for name in names if name in each.metrics},
            each.signature,
        )
        for each in result.comparisons
    ]


def of_run(folder: str, reference: str, scores: Sequence[Score]) -> list[Entry]:
    """The entries of a kept run: its scores."""
    found = []
    for score in scores:
        name = figures.score_name(score.metric.kind, "new")
        title = "/".join(part for part in (score.task, score.filter, score.metric.name) if part != NO_FILTER)
        found.append(Entry(folder, title, reference, "none", score.n, {name: score.mean}))
    return found


def to_text(entries: Sequence[Entry]) -> str:
    """A table per task, filter and metric; with what does not belong side by side said below it."""
    parts = []
    for title in dict.fromkeys(entry.name for entry in entries):
        mine = [entry for entry in entries if entry.name == title]
        names = list(dict.fromkeys(name for entry in mine for name in entry.metrics if not name.endswith("_old")))
        heads = [head for name in names for head in (figures.metric_info(name).label, "95 %")]
        rows = [("kept in", "new", "verdict", *heads, "n")]
        for entry in mine:
            cells = [trim_middle(safe_text(text), 40) for text in (entry.folder, entry.new, entry.verdict)]
            for name in names:
                figure = entry.metrics.get(name)
                cells += [figures.estimate(name, figure) if figure is not None else "–", figures.interval(name, figure)]
            rows.append((*cells, f"{entry.n:,}"))
        lines = [trim_middle(safe_text(title), 100), *aligned(rows)]
        if len({entry.signature for entry in mine if entry.signature}) > 1:
            lines.append("! not all were made with the same settings: their signatures differ")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def to_json(entries: Sequence[Entry]) -> str:
    """An object of ``schema: "compatcheck.history/1"``; rates are proportions, undefined is null with its why."""
    rows = [vars(entry) | {"metrics": {name: _figure(one) for name, one in entry.metrics.items()}} for entry in entries]
    return json.dumps({"schema": "compatcheck.history/1", "entries": rows}, indent=2, ensure_ascii=True)


def _figure(figure: Estimate) -> dict[str, Any]:
    found = {"value": figure.value, "low": figure.low, "high": figure.high, "count": figure.count, "of": figure.of}
    return found | ({"why": figure.why} if figure.value is None else {})
