"""A finished fix on the terminal: verdict first, then what it rests on; and the words that other forms share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compatcheck.report.text import safe_text

MARKS = {"better": "✓ PROVEN BETTER", "not better": "✗ NOT BETTER", "inconclusive": "? INCONCLUSIVE"}
_BESIDE_CONTROL = {
    "better": "than NEW and than plain further training",
    "fewer flips": "than NEW; beside plain further training fewer flips, but the score may be lower",
    "open": "than NEW; not shown to be better than plain further training",
    "worse": "than NEW; plain further training is at least as good",
    "": "than NEW; no control was trained to compare with",
}


def headline(report: Mapping[str, Any]) -> str:
    """What is delivered, and whether it is proven better than NEW and than plain further training."""
    verdict = MARKS[report["verdict"]]
    if report["delivered"] == "control":
        than = "" if report["verdict"] == "inconclusive" else " than NEW"
        return f"{verdict}{than}: PLAIN FURTHER TRAINING, at least as good; following OLD is not shown to add anything"
    beside = "than NEW at answering as OLD did" if report["reference"] else _BESIDE_CONTROL[report["against_control"]]
    return f"{verdict} {beside}" if report["verdict"] == "better" else verdict


_TRAINED = {"new": "with NEW", "compat": "after training that follows OLD", "control": "after plain further training"}


def sentence(report: Mapping[str, Any]) -> str:
    """What came of it in counts: how many documents got worse with NEW, with the adapter and with the control."""
    proof = report["proof"][0]
    found = {side: each["quadrants"]["negative_flip"] for side, each in proof["sides"].items()}
    parts = [f"{count:,} {_TRAINED.get(side, side)}" for side, count in found.items()]
    by_target = "Right with OLD and wrong now" if proof["kind"] == "discrete" else "With a lower score than OLD's"
    worse = "Answers that are no longer OLD's" if report["reference"] else by_target
    joined = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"{worse}, of {proof['n']:,} test documents: {joined}."


def method(report: Mapping[str, Any]) -> str:
    """What the delivered adapter was trained with."""
    if report["delivered"] == "control":
        return str(report["control"]["strategy"])
    share = report["averaged"]
    return report["strategy"] + (f", averaged with the control, weight {share:g}" if share else "")


def steps(report: Mapping[str, Any]) -> int:
    """The optimiser steps of what is delivered, those of the stage before it too, and where it is averaged with the
    control those that the control has by itself."""
    parts = ("control",) if report["delivered"] == "control" else ("training", "first_stage")
    found: int = sum(report[part]["steps"] for part in parts if report[part])
    return found + (report["control"]["history"][-1]["step"] if report["averaged"] and len(parts) > 1 else 0)


def explanation(report: Mapping[str, Any]) -> list[str]:
    """The reason in sentences, what is in the adapter's folder where it is the control's, and what one seed leaves."""
    said = [f"{report['reason'][:1].upper()}{report['reason'][1:]}."]
    seeds, control = report["seeds"], report["delivered"] == "control"
    if control:
        against = (seeds or {}).get("against_control") or report["proof"][0]["against_control"]
        said.append(
            f"The adapter is the control's: {report['control']['strategy']} for as many steps, without OLD. Following "
            f"OLD had NFR {points(against['nfr'])} and score {points(against['score'])} against it."
        )
    if seeds is None:
        said.append(
            "One training stands behind this: its interval is over documents, and says nothing of how far another seed "
            "would come out elsewhere (--seeds 3)."
        )
    else:
        said.append(
            f"Trained with {len(seeds['numbers'])} seeds: the intervals over seeds take documents and seeds as drawn; "
            f"seed {seeds['control_delivered' if control else 'delivered']} stood best on the documents to choose on "
            "and is delivered."
        )
    return said


def over_seeds(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What several trainings gave, as (label, text)."""
    seeds = report["seeds"]
    if seeds is None:
        return []
    lines = [
        ("NFR against NEW", f"{points(seeds['changes']['nfr'])}; relative {percent(seeds['changes']['nfr_relative'])}"),
        ("score against NEW", points(seeds["changes"]["score"])),
    ]
    if seeds["against_control"]:
        lines += [(f"{label} against control", points(seeds["against_control"][key])) for label, key in _NFR_AND_SCORE]
    for name, label in (("each", "compat"), ("each_control", "control")):
        each = ", ".join(f"{one['seed']}: {100 * one['nfr']:+.2f} / {100 * one['score']:+.2f}" for one in seeds[name])
        if each:
            lines.append((f"{label} by seed", f"{each} (points of NFR / score)"))
    return lines


_NFR_AND_SCORE = (("NFR", "nfr"), ("score", "score"))


def render_text(report: Mapping[str, Any]) -> str:
    """The report of :func:`fix_to_dict` for 80 columns."""
    control, frontier, bound = report["delivered"] == "control", report["frontier"], report["bound"]
    training = report["control" if control else "training"]
    lines = [headline(report), sentence(report), "", *(safe_text(each) for each in explanation(report)), ""]
    lines += [f"{name:<8} {safe_text(report[name])}" for name in ("old", "new", "adapter")]
    lines.append(
        f"method   {safe_text(method(report))}, {steps(report):,} steps, {training['parameters']:,} parameters, "
        f"{report['seconds']:,.0f} s in all"
    )
    if report["seeds"]:
        lines += ["", f"{len(report['seeds']['numbers'])} seeds, {safe_text(report['proof'][0]['name'])}"]
        lines += [f"  {label:<22} {text}" for label, text in over_seeds(report)]
    for proof in report["proof"]:
        lines += ["", f"{safe_text(proof['name'])}  ({proof['n']:,} test documents)", *_proof(proof)]
    if bound:
        fall, score = percent(bound["nfr_relative"]), points(bound["score"])
        lines += ["", f"bound    both models averaged at inference: NFR {fall}, score {score}"]
    for title, rows in (("trials", report["trials"]), ("trained in full", report["finals"])):
        if rows:
            new = {"nfr": rows[0]["nfr_of_new"], "fall": None, "score": rows[0]["score_of_new"]}
            named = [(row["name"] == report["strategy"], safe_text(row["name"]), row) for row in rows]
            lines += ["", f"{title}, on validation documents", *_table("", [*named, (False, "NEW", new)])]
    if frontier:
        taken = None if report["averaged"] else frontier["chosen"]
        blends = [(row["share"] == taken, f"{row['share']:g}", row) for row in frontier["points"]]
        lines += ["", f"blend with NEW ({frontier['method']}), on validation documents"]
        lines += _table("weight of compat", blends)
    if report["notes"]:
        lines += ["", *(f"note: {safe_text(note)}" for note in report["notes"])]
    return "\n".join(lines)


def _proof(proof: Mapping[str, Any]) -> list[str]:
    discrete, sides = proof["kind"] == "discrete", proof["sides"]
    name = "accuracy" if discrete else "score"

    def score(figure: Mapping[str, Any]) -> str:
        return share(figure["value"]) if discrete or figure["value"] is None else f"{figure['value']:.4f}"

    rows = [("", "score", "NFR", "PFR", "95 % interval of NFR")]
    rows.append(("old", score(sides["new"]["metrics"][f"{name}_old"]), "", "", ""))
    for side, found in sides.items():
        metrics, nfr = found["metrics"], found["metrics"]["nfr"]
        span = "" if nfr["low"] is None else f"{100 * nfr['low']:.2f} – {share(nfr['high'])}"
        rates = [share(nfr["value"]), share(metrics["pfr"]["value"])]
        rows.append((side, score(metrics[f"{name}_new"]), *rates, span))
    lines = [f"  {a:<8} {b:>8} {c:>8} {d:>8}   {e}".rstrip() for a, b, c, d, e in rows]
    return lines + [f"  {label:<22} {text}" for label, text in changes_of(proof)]


def changes_of(proof: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What changed against NEW and against the control, as (label, text)."""
    changes, against = proof["changes"], proof["against_control"]
    return [
        ("NFR against NEW", points(changes["nfr"])),
        ("relative to NEW's NFR", percent(changes["nfr_relative"])),
        ("score against NEW", points(changes["score"])),
        *([(f"{label} against control", points(against[key])) for label, key in _NFR_AND_SCORE] if against else []),
        ("negative flips", f"{proof['undone']['count']:,} undone, {proof['appeared']['count']:,} appeared"),
    ]


def _table(first: str, rows: Sequence[tuple[bool, str, Mapping[str, Any]]]) -> list[str]:
    """Trials, finalists or blends: whether it was taken, its name, its figures."""
    lines = [f"  {first:<26} {'NFR':>7} {'change':>8} {'score':>8}"]
    for taken, name, row in rows:
        figures = f"{share(row['nfr']):>7} {fall_of(row, ''):>8} {row['score']:>8.4f}"
        lines.append(f"{'*' if taken else ' '} {name:<26} {figures}")
    return lines


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def fall_of(row: Mapping[str, Any], undefined: str = "–") -> str:
    """The change of the negative flip rate of a trial or a blend against NEW, as a share of it."""
    return undefined if row["fall"] is None else f"{0 - 100 * row['fall']:+.0f} %"  # 0 − 0 has no sign


def points(figure: Mapping[str, Any]) -> str:
    """A change in percentage points with its interval."""
    if figure["value"] is None:
        return f"undefined: {figure.get('why', '')}"
    if figure["low"] is None:
        return f"{100 * figure['value']:+.2f} points (no interval)"
    return f"{100 * figure['value']:+.2f} points (95 %: {100 * figure['low']:+.2f} to {100 * figure['high']:+.2f})"


def percent(figure: Mapping[str, Any]) -> str:
    """A relative change with its interval."""
    if figure["value"] is None:
        return f"undefined: {figure.get('why', '')}"
    return f"{100 * figure['value']:+.1f} % (95 %: {100 * figure['low']:+.1f} to {100 * figure['high']:+.1f} %)"
