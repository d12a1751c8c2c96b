"""One run by itself: its scores on a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compatcheck.report.text import safe_text, trim_middle

if TYPE_CHECKING:
    from compatcheck.compare.scores import Score
    from compatcheck.records import Run

RUN_FORMATS = ("terminal", "json")
_HEAD = ("task", "filter", "metric", "score", "95 % interval", "n", "errors", "no answer")
_TEXT_COLUMNS = 3


def render_run(run: Run, scores: Sequence[Score]) -> str:
    """A line on the reference, a table of every metric's mean, and the notes; plain text."""
    about = run.manifest
    engine = str(about.engine.get("engine", ""))
    facts = ", ".join(safe_text(fact) for fact in (about.kind, about.fingerprint, engine) if fact)
    rows = [_HEAD, *(_row(score) for score in scores)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    lines = [f"{safe_text(about.reference)}  ({facts})", ""]
    for row in rows:
        cells = [
            cell.ljust(width) if place < _TEXT_COLUMNS else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines += [f"! {safe_text(note)}" for note in run.notes]
    return "\n".join(lines)


def _row(score: Score) -> tuple[str, ...]:
    mean = score.mean
    discrete = score.metric.kind == "discrete"

    def shown(value: float) -> str:
        return f"{100 * value:.1f} %" if discrete else f"{value:.4f}"

    interval = ""
    if mean.low is not None and mean.high is not None:
        low = shown(mean.low).removesuffix(" %")
        interval = f"{low} – {shown(mean.high)}"
    names = (score.task, score.filter, score.metric.name)
    return (
        *(trim_middle(safe_text(name), 40) for name in names),
        "undefined" if mean.value is None else shown(mean.value),
        interval,
        f"{score.n:,}",
        f"{score.errors:,}",
        f"{score.no_answer:,}",
    )


def run_to_json(manifest: Mapping[str, Any], scores: Sequence[Score]) -> str:
    """The manifest of the kept run and, under ``scores``, the mean of every metric; undefined is null with its why."""
    rows = [
        {
            "task": score.task, "filter": score.filter, "metric": score.metric.name, "kind": score.metric.kind,
            "value": score.mean.value, "low": score.mean.low, "high": score.mean.high, "of": score.mean.of,
            "n": score.n, "errors": score.errors, "no_answer": score.no_answer,
            **({"why": score.mean.why} if score.mean.value is None else {}),
        }
        for score in scores
    ]  # fmt: skip
    return json.dumps({**manifest, "scores": rows}, indent=2, ensure_ascii=True)
