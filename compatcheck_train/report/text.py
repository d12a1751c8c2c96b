"""A finished fix on the terminal: verdict first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
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
        return f"{verdict} than NEW: PLAIN FURTHER TRAINING, at least as good; following OLD added nothing"
    if report["verdict"] == "better":
        return f"{verdict} {_BESIDE_CONTROL[report['against_control']]}"
    return verdict


def explanation(report: Mapping[str, Any]) -> list[str]:
    """The reason in sentences, what is in the adapter's folder where it is the control's, and what one seed leaves."""
    said = [f"{report['reason'][:1].upper()}{report['reason'][1:]}."]
    if report["delivered"] == "control":
        against = ((report["seeds"] or {}).get("against_control")) or report["proof"][0]["against_control"]
        said.append(
            f"The adapter is the control's: {report['control']['strategy']} for as many steps, without OLD. Following "
            f"OLD had NFR {points(against['nfr'])} and score {points(against['score'])} against it."
        )
    seeds = report["seeds"]
    if seeds is None:
        said.append(
            "One training stands behind this: its interval is over documents, and says nothing of how far another seed "
            "would come out elsewhere (--seeds 3)."
        )
    else:
        which = seeds["control_delivered"] if report["delivered"] == "control" else seeds["delivered"]
        said.append(
            f"Trained with {len(seeds['numbers'])} seeds: the intervals over seeds take documents and seeds as drawn; "
            f"seed {which} stood best on the documents to choose on and is delivered."
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
        lines.append(("NFR against control", points(seeds["against_control"]["nfr"])))
        lines.append(("score against control", points(seeds["against_control"]["score"])))
    for name, label in (("each", "compat"), ("each_control", "control")):
        each = ", ".join(f"{one['seed']}: {100 * one['nfr']:+.2f} / {100 * one['score']:+.2f}" for one in seeds[name])
        if each:
            lines.append((f"{label} by seed", f"{each} (points of NFR / score)"))
    return lines


def render_text(report: Mapping[str, Any]) -> str:
    """The report of :func:`fix_to_dict` for 80 columns."""
    lines = [headline(report), *(safe_text(each) for each in explanation(report)), ""]
    lines += [f"old      {safe_text(report['old'])}", f"new      {safe_text(report['new'])}"]
    method = report["strategy"] if report["delivered"] == "compat" else report["control"]["strategy"]
    lines += [f"adapter  {safe_text(report['adapter'])}", f"method   {safe_text(method)}, {_steps(report)}"]
    if report["seeds"]:
        lines += ["", f"{len(report['seeds']['numbers'])} seeds, {safe_text(report['proof'][0]['name'])}"]
        lines += [f"  {label:<22} {text}" for label, text in over_seeds(report)]
    for proof in report["proof"]:
        lines += ["", f"{safe_text(proof['name'])}  ({proof['n']:,} test documents)", *_table(proof)]
        lines += _changes(proof)
    if report["bound"]:
        fall, score = report["bound"]["nfr_relative"], report["bound"]["score"]
        lines += ["", f"bound    both models averaged at inference: NFR {percent(fall)}, score {points(score)}"]
    if report["trials"]:
        lines += ["", "trials, on validation documents", *_standings(report["trials"], report["strategy"])]
    if report["finals"]:
        lines += ["", "trained in full, on validation documents", *_standings(report["finals"], report["strategy"])]
    if report["frontier"]:
        lines += ["", f"blend with NEW ({report['frontier']['method']}), on validation documents", *_frontier(report)]
    if report["notes"]:
        lines += ["", *(f"note: {safe_text(note)}" for note in report["notes"])]
    return "\n".join(lines)


def _steps(report: Mapping[str, Any]) -> str:
    training = report["training" if report["delivered"] == "compat" else "control"]
    return f"{training['steps']:,} steps, {training['parameters']:,} parameters, {report['seconds']:,.0f} s in all"


def _table(proof: Mapping[str, Any]) -> list[str]:
    score = "accuracy_new" if proof["kind"] == "discrete" else "score_new"
    rows = [("", "score", "NFR", "PFR", "95 % interval of NFR")]
    sides = proof["sides"]
    old = sides["new"]["metrics"]["accuracy_old" if proof["kind"] == "discrete" else "score_old"]
    rows.append(("old", _score(old, proof), "", "", ""))
    for side, found in sides.items():
        metrics = found["metrics"]
        nfr = metrics["nfr"]
        rows.append(
            (side, _score(metrics[score], proof), _share(nfr["value"]), _share(metrics["pfr"]["value"]), _span(nfr))
        )
    return [f"  {a:<8} {b:>8} {c:>8} {d:>8}   {e}".rstrip() for a, b, c, d, e in rows]


def _changes(proof: Mapping[str, Any]) -> list[str]:
    changes, against = proof["changes"], proof["against_control"]
    lines = [
        f"  NFR against NEW        {points(changes['nfr'])}",
        f"    relative             {percent(changes['nfr_relative'])}",
    ]
    lines.append(f"  score against NEW      {points(changes['score'])}")
    if against:
        lines.append(f"  NFR against control    {points(against['nfr'])}")
        lines.append(f"  score against control  {points(against['score'])}")
    lines.append(f"  flips undone {proof['undone']['count']:,}, appeared {proof['appeared']['count']:,}")
    return lines


def _standings(trials: list[Mapping[str, Any]], chosen: str) -> list[str]:
    lines = [f"  {'':<26} {'NFR':>7} {'change':>8} {'score':>8}"]
    for trial in trials:
        mark = "*" if trial["name"] == chosen else " "
        lines.append(f"{mark} {safe_text(trial['name']):<26} {_of(trial)}")
    first = trials[0]
    lines.append(f"  {'NEW':<26} {_share(first['nfr_of_new']):>7} {'':>8} {first['score_of_new']:>8.4f}")
    return lines


def _frontier(report: Mapping[str, Any]) -> list[str]:
    lines = [f"  {'weight of compat':<26} {'NFR':>7} {'change':>8} {'score':>8}"]
    for point in report["frontier"]["points"]:
        mark = "*" if point["share"] == report["frontier"]["chosen"] else " "
        lines.append(f"{mark} {point['share']:<26g} {_of(point)}")
    return lines


def _of(row: Mapping[str, Any]) -> str:
    return f"{_share(row['nfr']):>7} {fall_of(row, ''):>8} {row['score']:>8.4f}"


def _score(figure: Mapping[str, Any], proof: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "–"
    return _share(figure["value"]) if proof["kind"] == "discrete" else f"{figure['value']:.4f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _span(figure: Mapping[str, Any]) -> str:
    return "" if figure["low"] is None else f"{100 * figure['low']:.2f} – {100 * figure['high']:.2f} %"


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
