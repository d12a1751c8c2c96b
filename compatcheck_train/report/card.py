"""The model card of a compatibility adapter: method, data, figures, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from compatcheck.report.markdown import escape
from compatcheck_train.report.markdown import _changes, _sides
from compatcheck_train.report.text import MARKS


def render_card(report: Mapping[str, Any], base: str) -> str:
    """README.md of the adapter's folder, with the front matter that model hubs read."""
    front = {"base_model": base, "library_name": "peft", "tags": ["lora", "compatibility", "muscle", "compatcheck"]}
    lines = ["---", yaml.safe_dump(front, sort_keys=True).strip(), "---", "", "# Compatibility adapter", ""]
    lines += [
        f"An adapter for {escape(base)} on the task {escape(report['task'])}. It starts as {escape(report['new'])} "
        f"and was trained to keep its gains over {escape(report['old'])} while giving back answers that were "
        "right before the update (negative flips).",
        "",
        f"Verdict: **{MARKS[report['verdict']]}**. {escape(report['reason'])}.",
        "",
        "## Method",
        "",
        f"Strategy `{escape(report['strategy'])}`, {report['training']['steps']:,} optimiser steps on "
        f"{report['documents']['train']:,} documents of the task's training split"
        + (
            f" and {report['documents']['unlabelled']:,} inputs without labels"
            if report["documents"]["unlabelled"]
            else ""
        )
        + f"; chosen and blended on {report['documents']['validation']:,} held-out ones. The test split was not "
        "trained on (checked by content). The method family is MUSCLE (Echterhoff et al., EMNLP Findings 2024).",
    ]
    for proof in report["proof"]:
        lines += ["", f"## Figures: {escape(proof['name'])}, {proof['n']:,} test documents", "", *_sides(proof), ""]
        lines += [*_changes(proof), "", f"Signature: `{escape(proof['sides']['compat']['signature'])}`"]
    lines += [
        "",
        "## Limits",
        "",
        "- The figures hold for this task and these documents; on others the adapter was not measured.",
        "- The old model was a teacher: its biases and mistakes may carry over.",
        "- A change smaller than the intervals cannot be told from none.",
    ]
    return "\n".join(lines) + "\n"
