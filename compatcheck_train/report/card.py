"""The model card of a compatibility adapter: method, data, figures, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from compatcheck.report.markdown import escape
from compatcheck_train.report.markdown import _changes, _sides, seed_lines
from compatcheck_train.report.text import explanation, headline


def render_card(report: Mapping[str, Any], base: str) -> str:
    """README.md of the adapter's folder, with the front matter that model hubs read."""
    front: dict[str, Any] = {
        "base_model": base,
        "library_name": "peft",
        "tags": ["lora", "compatibility", "compatcheck"],
    }
    if report["delivered"] == "compat":
        front["tags"].insert(2, "muscle")
    lines = ["---", yaml.safe_dump(front, sort_keys=True).strip(), "---", "", "# Compatibility adapter", ""]
    control = report["delivered"] == "control"
    trained = report["control"] if control else report["training"]
    what = (
        "was trained on without any old model, which proved at least as good as following one."
        if control
        else f"was trained to keep its gains over {escape(report['old'])} while giving back answers that were right "
        "before the update (negative flips)."
    )
    unlabelled = report["documents"]["unlabelled"]
    lines += [
        f"An adapter for {escape(base)} on the task {escape(report['task'])}. It starts as {escape(report['new'])} and "
        f"{what}",
        "",
        f"Verdict: **{headline(report)}**. {escape(' '.join(explanation(report)))}",
        "",
        "## Method",
        "",
        f"Strategy `{escape(trained['strategy'] if control else report['strategy'])}`, {trained['steps']:,} optimiser "
        f"steps on {report['documents']['train']:,} documents of the task's training split"
        + (f" and {unlabelled:,} inputs without labels" if unlabelled and not control else "")
        + f"; chosen on {report['documents']['validation']:,} documents that are not those of the proof. The test "
        "split was not trained on (checked by content)."
        + ("" if control else " The method family is MUSCLE (Echterhoff et al., EMNLP Findings 2024)."),
    ]
    if report["seeds"]:
        lines += ["", f"## {len(report['seeds']['numbers'])} seeds", "", *seed_lines(report)]
    for proof in report["proof"]:
        lines += ["", f"## Figures: {escape(proof['name'])}, {proof['n']:,} test documents", "", *_sides(proof), ""]
        lines += [*_changes(proof), "", f"Signature: `{escape(proof['sides']['compat']['signature'])}`"]
    lines += [
        "",
        "## Limits",
        "",
        "- The figures hold for this task and these documents; on others the adapter was not measured.",
        *([] if control else ["- The old model was a teacher: its biases and mistakes may carry over."]),
        "- A change smaller than the intervals cannot be told from none.",
    ]
    return "\n".join(lines) + "\n"
