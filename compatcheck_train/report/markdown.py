"""A finished fix as Markdown, and the model card of its adapter: method, data, figures, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from compatcheck.report.markdown import escape
from compatcheck_train.report.text import (
    changes_of,
    explanation,
    fall_of,
    headline,
    method,
    over_seeds,
    percent,
    points,
    sentence,
    share,
    steps,
)

_NAMES = {
    "nfr": "NFR", "pfr": "PFR", "nfr_mc": "NFR_mc", "relative_nfr": "relative NFR", "mean_gain": "m_g",
    "mean_regression": "m_r",
}  # fmt: skip
_NO_SHARES = ("relative_nfr", "mean_gain", "mean_regression", "score_new")


def render_markdown(report: Mapping[str, Any]) -> str:
    bound = report["bound"]
    lines = [f"# {headline(report)}", "", f"**{sentence(report)}**", "", escape(" ".join(explanation(report))), ""]
    lines += [f"- {name}: {escape(report[name])}" for name in ("old", "new", "adapter")]
    lines.append(f"- method: {escape(method(report))}, {steps(report):,} steps")
    lines += _figures(report, "")
    if bound:
        lines += ["", f"Bound, both models averaged at inference: NFR {percent(bound['nfr_relative'])}, score "
                  f"{points(bound['score'])}."]  # fmt: skip
    for title, rows, key in (
        ("Trials on validation documents", report["trials"], "name"),
        ("Trained in full, on validation documents", report["finals"], "name"),
        ("Blend with NEW on validation documents", (report["frontier"] or {}).get("points", []), "share"),
    ):
        if rows:
            first = "strategy" if key == "name" else "weight of compat"
            lines += ["", f"## {title}", "", f"| {first} | NFR | change | score |", "|---|---|---|---|"]
            lines += [
                f"| {escape(str(row[key]))} | {share(row['nfr'])} | {fall_of(row)} | {row['score']:.4f} |"
                for row in rows
            ]
    if report["notes"]:
        lines += ["", "## Notes", "", *(f"- {escape(note)}" for note in report["notes"])]
    return "\n".join(lines) + "\n"


def _figures(report: Mapping[str, Any], before: str, signed: bool = False) -> list[str]:
    """What several trainings gave, and every metric's table and changes."""
    lines = []
    if report["seeds"]:
        lines += ["", f"## {len(report['seeds']['numbers'])} seeds", ""]
        lines += [f"- {label}: {text}" for label, text in over_seeds(report)]
    for proof in report["proof"]:
        lines += ["", f"## {before}{escape(proof['name'])}, {proof['n']:,} test documents", ""]
        shown = [name for name in _NAMES if name in proof["sides"]["new"]["metrics"]]
        lines += [f"| | score | {' | '.join(_NAMES[name] for name in shown)} |", "|---" * (len(shown) + 2) + "|"]
        columns = ["accuracy_new" if proof["kind"] == "discrete" else "score_new", *shown]
        for side, found in proof["sides"].items():
            cells = [_figure(found["metrics"][name], name not in _NO_SHARES) for name in columns]
            lines.append(f"| old → {side} | {' | '.join(cells)} |")
        lines += ["", *(f"- {label}: {text}" for label, text in changes_of(proof))]
        if signed:
            lines += ["", f"Signature: `{escape(proof['sides']['compat']['signature'])}`"]
    return lines


def _chosen_on(report: Mapping[str, Any]) -> str:
    """What the card says of documents that decided what is delivered."""
    blends = (report["frontier"] or {}).get("points", [])
    if report["chosen_by"] != "trials" and len(blends) < 2 and not report["seeds"]:
        return "; nothing was chosen by its results"
    return f"; chosen on {report['documents']['validation']:,} documents that are not those of the proof"


def _figure(figure: Mapping[str, Any], percents: bool) -> str:
    if figure["value"] is None:
        return f"undefined ({figure.get('why', '')})"
    scale, unit = (100, " %") if percents else (1, "")
    text = f"{scale * figure['value']:.4g}{unit}"
    if figure["low"] is not None:
        text += f" ({scale * figure['low']:.4g} – {scale * figure['high']:.4g})"
    return text


def render_card(report: Mapping[str, Any], base: str, repository: str | None = None) -> str:
    """README.md of the adapter's folder, with the front matter that model hubs read: they take a ``repository`` of
    theirs as the base and nothing else."""
    control, unlabelled = report["delivered"] == "control", report["documents"]["unlabelled"]
    own = control or report["reference"]
    tags = ["lora", "compatibility", *([] if own else ["muscle"]), "compatcheck"]
    known = {"base_model": repository} if repository else {}
    front = yaml.safe_dump({**known, "library_name": "peft", "tags": tags}, sort_keys=True)
    what = (
        "was trained on without any old model, which proved at least as good as following one."
        if control
        else f"was trained on answers of {escape(report['old'])}, to give back what the update changed."
        if report["reference"]
        else f"was trained to keep its gains over {escape(report['old'])} while giving back answers that were right "
        "before the update (negative flips)."
    )
    more = f" and {unlabelled:,} inputs without labels" if unlabelled and not control else ""
    family = "" if own else " The method family is MUSCLE (Echterhoff et al., EMNLP Findings 2024)."
    lines = [
        "---", front.strip(), "---", "", "# Compatibility adapter", "",
        f"An adapter for {escape(base)} on the task {escape(report['task'])}. It starts as {escape(report['new'])} and "
        f"{what}", "", f"Verdict: **{headline(report)}**. {escape(' '.join(explanation(report)))}", "", "## Method", "",
        f"Strategy {escape(method(report))}, {steps(report):,} optimiser steps on "
        f"{report['documents']['train']:,} training documents{more}"
        f"{_chosen_on(report)}. The test documents were not trained on (checked by content).{family}",
        *_figures(report, "Figures: ", signed=True), "", "## Limits", "",
        "- The figures hold for this task and these documents; on others the adapter was not measured.",
        *([] if control else ["- The old model was a teacher: its biases and mistakes may carry over."]),
        "- A change smaller than the intervals cannot be told from none.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
