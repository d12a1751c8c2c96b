"""SARIF 2.1.0, for code scanning and viewers: a result per budget that does not pass and per listed negative flip.

Form: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html. Findings are told apart from run to run by
fingerprints of what they are about (task, filter, metric and the document's content), never by figures or file order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from compatcheck.compare.result import Comparison, Gate, Result
from compatcheck.report import sections
from compatcheck.report.instances import Instance, describe, fingerprint, listed_flips, report_key
from compatcheck.report.text import safe_text, trim_middle

SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
PROJECT_URI = "https://github.com/compatcheck/compatcheck"
PER_COMPARISON = 500
IN_ALL = 5_000
"""GitHub takes 25,000 results of a run and shows the first 5,000."""

_RULES: dict[str, tuple[str, str, str, str]] = {
    "negative-flip": (
        "NegativeFlip", "warning", "The new model got worse on this instance",
        "The old model was right, or scored higher, and the new model is wrong, or scores lower. Compare both answers "
        "with the target. Whether there are too many of them is for a budget to say: --fail-on nfr:2%.",
    ),
    "gate-failed": (
        "GateFailed", "error", "A budget is broken",
        "The one-sided confidence bound of the figure lies beyond its budget: the regression is shown, not suspected. "
        "Keep the old model, repair the new one, or change the budget knowingly.",
    ),
    "gate-inconclusive": (
        "GateInconclusive", "warning", "A budget is neither kept nor broken by the evidence",
        "The confidence interval of the figure straddles its budget. More instances settle it: the message says about "
        "how many. It is not a pass.",
    ),
    "error-rows": (
        "ErrorRows", "warning", "Some instances could not be scored",
        "A row with an error on either side is not scored and is no flip. See error_old and error_new in "
        "instances.parquet.",
    ),
    "unpaired-rows": (
        "UnpairedRows", "note", "Some rows have no partner on the other side",
        "Rows are paired by id and content. Those that only one side has, or whose content differs, are not compared. "
        "Record both sides on the same data.",
    ),
    "changed-answer": (
        "ChangedAnswer", "note", "The new model answers otherwise",
        "The old model's answers are the reference, so nothing says which of both is right. How many may change is for "
        "a budget to say: --fail-on changed:5%.",
    ),
}  # fmt: skip


def render(result: Result, *, folder: Path | None = None) -> str:
    """Return the SARIF log as ASCII JSON; ``folder`` is where the instances are kept, None where they are not."""
    rules = [
        {
            "id": name, "name": title, "shortDescription": {"text": short},
            "fullDescription": {"text": f"{short}. {full}"}, "help": {"text": full, "markdown": full},
            "defaultConfiguration": {"level": level}, "properties": {"tags": ["compatibility", "model-update"]},
        }
        for name, (title, level, short, full) in _RULES.items()
    ]  # fmt: skip
    version = {"version": safe_text(result.version)} if result.version else {}
    properties: dict[str, Any] = {
        "verdict": safe_text(result.verdict),
        "old": safe_text(f"{result.old.reference} {result.old.fingerprint}"),
        "new": safe_text(f"{result.new.reference} {result.new.fingerprint}"),
        "signatures": [safe_text(each.signature) for each in result.comparisons],
    }
    if result.advice is not None:
        properties["advice"] = {"bump": safe_text(result.advice.bump), "reason": safe_text(result.advice.reason)}
    command = {"commandLine": safe_text(result.command)} if result.command else {}
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "compatcheck", "informationUri": PROJECT_URI, **version, "rules": rules}},
        "automationDetails": {"id": f"compatcheck/{report_key(result, folder)}/"},
        "invocations": [{"executionSuccessful": True, **command}],
        "columnKind": "unicodeCodePoints",
        "results": list(_results(result, _artifact(result, folder))),
        "properties": properties,
    }
    log = {"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def message(text: str) -> str:
    """Text for a SARIF message, in which no brace is a placeholder and no bracket a link (§3.11.5, §3.11.6)."""
    shown = text.replace("{", "{{").replace("}", "}}")
    return shown.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")


def _artifact(result: Result, folder: Path | None) -> str:
    """The file that holds the instances: NEW's recorded outputs where they are one file, else the kept table."""
    reference = result.new.reference
    is_file = reference.lower().endswith((".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet"))
    path: PurePath = Path("instances.parquet") if folder is None else Path(folder) / "instances.parquet"
    if result.new.kind == "recorded" and is_file and "{" not in reference:
        path = Path(reference)
    shown = quote(safe_text(path.as_posix()))
    return f"file://{shown}" if path.is_absolute() else shown


def _results(result: Result, where: str) -> Iterator[dict[str, Any]]:
    for comparison, flips in listed_flips(result, PER_COMPARISON, IN_ALL):
        for gate in comparison.critical_gates:
            if gate.verdict in ("fail", "inconclusive"):
                yield _gate(gate, comparison, where)
        p, name = comparison.pairing, safe_text(comparison.name)
        if p.errors_old or p.errors_new:
            text = f"{name}: not scored because of an error: {p.errors_old:,} old, {p.errors_new:,} new"
            yield _finding("error-rows", text, comparison, where, ("errors", comparison.name))
        if p.only_old or p.only_new or p.target_changed:
            sides = f"only in old {p.only_old:,}, only in new {p.only_new:,}, changed content {p.target_changed:,}"
            yield _finding("unpaired-rows", f"{name}: {sides}", comparison, where, ("unpaired", comparison.name))
        for flip in flips:
            yield _flip(flip, comparison, where)


def _finding(
    rule: str, text: str, comparison: Comparison, where: str, about: tuple[str, ...], part: str = "", **properties: Any
) -> dict[str, Any]:
    """One result, told from others by what it is ``about``; ``part`` is the instance of the comparison it concerns."""
    names = [safe_text(name) for name in (comparison.name, part) if name]
    logical = {"name": names[-1], "fullyQualifiedName": "/".join(names), "kind": "object" if part else "module"}
    physical = {"artifactLocation": {"uri": where}, "region": {"startLine": 1}}
    return {
        "ruleId": rule,
        "ruleIndex": list(_RULES).index(rule),
        "kind": "fail",
        "level": _RULES[rule][1],
        "message": {"text": message(text)},
        "locations": [{"physicalLocation": physical, "logicalLocations": [logical]}],
        "partialFingerprints": {"compatcheckFinding/v1": fingerprint(*about)},
        "properties": properties,
    }


def _gate(gate: Gate, comparison: Comparison, where: str) -> dict[str, Any]:
    rule = "gate-failed" if gate.verdict == "fail" else "gate-inconclusive"
    extra: dict[str, Any] = {"signature": safe_text(comparison.signature)}
    extra |= {} if gate.needed_n is None else {"neededN": gate.needed_n}
    text = safe_text(f"{comparison.name}: {gate.rule}: {gate.reason}")
    return _finding(rule, text, comparison, where, ("gate", comparison.name, gate.rule), **extra)


def _flip(flip: Instance, comparison: Comparison, where: str) -> dict[str, Any]:
    of, name = comparison.first_count, trim_middle(flip.doc_id, 200)
    known = {"scoreOld": flip.score_old, "scoreNew": flip.score_new, "gain": flip.gain}
    extra: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
    if (verdict := comparison.verdict) != "none":
        extra["comparisonVerdict"] = verdict
    kind = sections.flip_name(comparison)
    head = safe_text(f"{kind.capitalize()}, one of {of:,} in {comparison.name}: {name}")
    about = ("flip", comparison.name, flip.doc_hash or flip.doc_id)
    return _finding(
        kind.replace(" ", "-"), f"{head}\n{describe(flip, comparison)}", comparison, where, about, name, **extra
    )
