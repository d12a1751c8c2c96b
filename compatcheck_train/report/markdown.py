"""A finished fix as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compatcheck.report.markdown import escape
from compatcheck_train.report.text import explanation, fall_of, headline, over_seeds, percent, points


def render_markdown(report: Mapping[str, Any]) -> str:
    """The report of :func:`fix_to_dict`."""
    control = report["delivered"] == "control"
    strategy = report["control"]["strategy"] if control else report["strategy"]
    lines = [f"# {headline(report)}", "", escape(" ".join(explanation(report))), ""]
    lines += [
        f"- old: {escape(report['old'])}", f"- new: {escape(report['new'])}", f"- adapter: {escape(report['adapter'])}",
        f"- method: {escape(strategy)}, {report['control' if control else 'training']['steps']:,} steps",
    ]  # fmt: skip
    if report["seeds"]:
        lines += ["", f"## {len(report['seeds']['numbers'])} seeds", "", *seed_lines(report)]
    for proof in report["proof"]:
        lines += [
            "",
            f"## {escape(proof['name'])}, {proof['n']:,} test documents",
            "",
            *_sides(proof),
            "",
            *_changes(proof),
        ]
    if report["bound"]:
        bound = report["bound"]
        lines += ["", f"Bound, both models averaged at inference: NFR {percent(bound['nfr_relative'])}, score "
                  f"{points(bound['score'])}."]  # fmt: skip
    for title, rows, first in (
        ("Trials on validation documents", report["trials"], "strategy"),
        ("Trained in full, on validation documents", report["finals"], "strategy"),
        ("Blend with NEW on validation documents", (report["frontier"] or {}).get("points", []), "weight of compat"),
    ):
        if rows:
            lines += ["", f"## {title}", "", f"| {first} | NFR | change | score |", "|---|---|---|---|"]
            lines += [
                f"| {escape(str(row['name'] if first == 'strategy' else row['share']))} | {100 * row['nfr']:.2f} % | "
                f"{fall_of(row)} | {row['score']:.4f} |"
                for row in rows
            ]
    if report["notes"]:
        lines += ["", "## Notes", "", *(f"- {escape(note)}" for note in report["notes"])]
    return "\n".join(lines) + "\n"


def seed_lines(report: Mapping[str, Any]) -> list[str]:
    """What several trainings gave, as a list."""
    return [f"- {label}: {text}" for label, text in over_seeds(report)]


def _sides(proof: Mapping[str, Any]) -> list[str]:
    discrete = proof["kind"] == "discrete"
    score = "accuracy_new" if discrete else "score_new"
    names = {"nfr": "NFR", "pfr": "PFR", "nfr_mc": "NFR_mc", "relative_nfr": "relative NFR", "mean_gain": "m_g",
             "mean_regression": "m_r"}  # fmt: skip
    first = proof["sides"]["new"]["metrics"]
    shown = [name for name in names if name in first]
    lines = [f"| | score | {' | '.join(names[name] for name in shown)} |", "|---" * (len(shown) + 2) + "|"]
    for side, found in proof["sides"].items():
        metrics = found["metrics"]
        cells = [_figure(metrics[score], discrete)]
        cells += [
            _figure(metrics[name], name not in ("relative_nfr", "mean_gain", "mean_regression")) for name in shown
        ]
        lines.append(f"| old → {side} | {' | '.join(cells)} |")
    return lines


def _figure(figure: Mapping[str, Any], share: bool) -> str:
    if figure["value"] is None:
        return f"undefined ({figure.get('why', '')})"
    scale, unit = (100, " %") if share else (1, "")
    text = f"{scale * figure['value']:.4g}{unit}"
    if figure["low"] is not None:
        text += f" ({scale * figure['low']:.4g} – {scale * figure['high']:.4g})"
    return text


def _changes(proof: Mapping[str, Any]) -> list[str]:
    changes, against = proof["changes"], proof["against_control"]
    lines = [
        f"- NFR against NEW: {points(changes['nfr'])}; relative: {percent(changes['nfr_relative'])}",
        f"- score against NEW: {points(changes['score'])}",
    ]
    if against:
        lines.append(
            f"- against the control at equal steps: NFR {points(against['nfr'])}; score {points(against['score'])}"
        )
    undone, appeared = proof["undone"]["count"], proof["appeared"]["count"]
    return [*lines, f"- negative flips undone: {undone:,}; appeared: {appeared:,}"]
