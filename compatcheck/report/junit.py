"""JUnit XML: a test suite per comparison, a test case per budget.

A budget that fails is a ``failure``. One that is inconclusive is an ``error``, not ``skipped``: the exit code is not
zero, and CI systems count skipped cases as harmless. The worst negative flips stand in the text of such a case, else in
what the suite printed. With ``--junit-flips`` each listed flip is a case as well: a failure where its comparison fails
its budget, else skipped, so that the file is red exactly where the verdict is.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as xml

from compatcheck.compare.result import Comparison, Gate, Result
from compatcheck.report import content, sections
from compatcheck.report.instances import Instance, describe, listed_flips
from compatcheck.report.text import safe_text, trim_middle
from compatcheck.text import estimated

SHOWN = 10
"""Flips that the case of a budget shows, the worst."""


def render(result: Result, *, folder: Path | None = None, each: bool = False) -> str:
    """Return the XML document, with a test case for ``each`` listed flip or for budgets alone; ``folder`` is not used.

    No time was measured per test case, so all times are 0.
    """
    del folder
    root = xml.Element("testsuites", {"name": "compatcheck"})
    for place, (comparison, flips) in enumerate(listed_flips(result)):
        root.append(_suite(comparison, flips, result, str(place), each))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", "0")
    xml.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml.tostring(root, encoding="unicode")}\n'


with_flips = partial(render, each=True)


def _legal(text: object, *, multiline: bool = False) -> str:
    """Safe text without the two characters that XML 1.0 lacks and ``safe_text`` keeps."""
    shown = safe_text(text, multiline=multiline)
    return re.sub("[\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", shown)


def _name(text: object) -> str:
    """A name as XML tokens are: no spaces at the ends or twice in a row."""
    return " ".join(trim_middle(_legal(text), 120).split()) or "-"


def _suite(comparison: Comparison, flips: list[Instance], result: Result, place: str, each: bool) -> xml.Element:
    failed = comparison.verdict == "fail"
    word = sections.flip_name(comparison)
    shown = "" if each else "".join(f"\n\n{word} {f.doc_id}\n{describe(f, comparison)}" for f in flips[:SHOWN])
    cases = [_gate(gate, comparison, shown) for gate in comparison.gates]
    cases += [_flip(flip, comparison, failed) for flip in flips] if each else []
    if not cases:
        cases = [_case("no budget", comparison, "budgets")]
        about_it = {"type": "no budget", "message": "nothing is judged without a budget: --fail-on nfr:2%"}
        xml.SubElement(cases[0], "skipped", about_it)
    about = {"name": _name(comparison.name), "package": "compatcheck", "id": place, "hostname": "localhost"}
    tags = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counts = {name: str(sum(case.find(tag) is not None for case in cases)) for name, tag in tags.items()}
    suite = xml.Element("testsuite", {**about, "tests": str(len(cases)), **counts, "time": "0"})
    properties = xml.SubElement(suite, "properties")
    for name, value in _properties(comparison, result):
        xml.SubElement(properties, "property", {"name": _name(name), "value": _legal(value)})
    suite.extend(cases)
    out = [fact.text for fact in content.facts(result) if not fact.strong] + [comparison.signature]
    if (rest := comparison.first_count - (len(flips) if each else min(len(flips), SHOWN))) > 0:
        out.append(f"{rest:,} more {sections.flip_name(comparison)}s are not listed here; all are in instances.parquet")
    if shown and not any(case.find(tag) is not None for case in cases for tag in ("failure", "error")):
        out.append(shown.lstrip("\n"))
    err = [*sections.pairing_remarks(comparison), *result.notes]
    for tag, lines in (("system-out", out), ("system-err", err)):
        xml.SubElement(suite, tag).text = "\n".join(_legal(line, multiline=True) for line in lines)
    return suite


def _properties(comparison: Comparison, result: Result) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = [
        ("verdict", result.verdict),
        ("comparison.verdict", comparison.verdict),
        ("old", f"{result.old.reference} {result.old.fingerprint}"),
        ("new", f"{result.new.reference} {result.new.fingerprint}"),
        ("signature", comparison.signature),
        ("n", comparison.n),
    ]
    if result.advice is not None:
        found.append(("advice", f"{result.advice.bump}: {result.advice.reason}"))
    found += comparison.quadrants.items()
    for name, figure in comparison.metrics.items():
        bounds = "" if figure.low is None or figure.high is None else f" [{figure.low:.6g}, {figure.high:.6g}]"
        undefined = f"undefined: {figure.why or ''}"
        found.append((name, undefined if figure.value is None else f"{figure.value:.6g}{bounds}"))
    return found


def _case(name: object, comparison: Comparison, group: str) -> xml.Element:
    classname = f"compatcheck.{_name(comparison.name)}.{group}"
    return xml.Element("testcase", {"name": _name(name), "classname": classname, "time": "0"})


def _gate(gate: Gate, comparison: Comparison, shown: str) -> xml.Element:
    case = _case(sections.rule_text(gate), comparison, "budgets")
    tag = {"fail": "failure", "inconclusive": "error"}.get(gate.verdict)
    if gate.tier != "critical":
        xml.SubElement(case, "system-out").text = _legal(f"{gate.verdict}: {gate.reason}")
    elif tag is not None:
        more = f"\nabout {estimated(gate.needed_n):,} instances would settle it" if gate.needed_n else ""
        outcome = xml.SubElement(case, tag, {"type": gate.verdict, "message": _legal(gate.reason)})
        flips = _legal(shown, multiline=True)
        outcome.text = f"{_legal(gate.reason)}{more}\n{_legal(comparison.signature)}{flips}"
    return case


def _flip(flip: Instance, comparison: Comparison, failed: bool) -> xml.Element:
    name = sections.flip_name(comparison)
    case = _case(flip.doc_id, comparison, f"{name.replace(' ', '_')}s")
    _, old, new = flip.pairs()[0]
    change = _legal(trim_middle(f"{name}: {old} → {new}", 300))
    message = change if failed else f"{name}; the budgets judge how many there may be"
    tag = "failure" if failed else "skipped"
    outcome = xml.SubElement(case, tag, {"type": name, "message": message})
    outcome.text = _legal(describe(flip, comparison), multiline=True)
    return case
