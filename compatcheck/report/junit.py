"""JUnit XML: a test suite per comparison, a test case per budget and per listed negative flip.

A budget that fails is a ``failure``. One that is inconclusive is an ``error``, not ``skipped``: the exit code is not
zero, and CI systems count skipped cases as harmless. Negative flips are failures where their comparison fails its
budget, else skipped cases, so that the file is red exactly where the verdict is.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as xml

from compatcheck.compare.result import Comparison, Gate, Result
from compatcheck.report import figures, head
from compatcheck.report.flips import Listed, describe, listed_flips
from compatcheck.report.rows import Instance
from compatcheck.report.text import safe_text, trim_middle

NAME_LIMIT = 120
_ILLEGAL = re.compile("[\ufffe\uffff]")
"""Not characters of XML 1.0, and not among those that ``safe_text`` escapes."""


def render(result: Result, *, folder: Path | None = None) -> str:
    """Return the XML document; ``folder`` is not used. No time was measured per test case, so all times are 0."""
    del folder
    root = xml.Element("testsuites", {"name": "compatcheck"})
    suites = [_suite(listed, result, place) for place, listed in enumerate(listed_flips(result))]
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    root.set("time", "0")
    root.extend(suites)
    xml.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml.tostring(root, encoding="unicode")}\n'


def _legal(text: object, *, multiline: bool = False) -> str:
    shown = safe_text(text, multiline=multiline)
    return _ILLEGAL.sub(lambda match: f"\\u{ord(match[0]):04x}", shown)


def _name(text: object) -> str:
    """A name as XML tokens are: no spaces at the ends or twice in a row."""
    return " ".join(trim_middle(_legal(text), NAME_LIMIT).split()) or "-"


def _suite(listed: Listed, result: Result, place: int) -> xml.Element:
    comparison = listed.comparison
    cases = [_gate(gate, comparison) for gate in comparison.gates]
    failed = figures.comparison_verdict(comparison) == "fail"
    cases += [_flip(flip, comparison, failed) for flip in listed.flips]

    def count(tag: str) -> str:
        return str(sum(case.find(tag) is not None for case in cases))

    suite = xml.Element(
        "testsuite",
        {
            "name": _name(comparison.name),
            "package": "compatcheck",
            "id": str(place),
            "hostname": "localhost",
            "tests": str(len(cases)),
            "failures": count("failure"),
            "errors": count("error"),
            "skipped": count("skipped"),
            "time": "0",
        },
    )
    properties = xml.SubElement(suite, "properties")
    for name, value in _properties(comparison, result):
        xml.SubElement(properties, "property", {"name": _name(name), "value": _legal(value)})
    suite.extend(cases)
    differ = head.differ(result)
    out = [
        _legal(each) for each in (*head.coverage(result), *([] if differ is None else [differ]), comparison.signature)
    ]
    if listed.rest:
        out.append(f"{listed.rest:,} more negative flips are not listed here; all are in instances.parquet")
    xml.SubElement(suite, "system-out").text = "\n".join(out)
    xml.SubElement(suite, "system-err").text = "\n".join(_legal(each) for each in _remarks(comparison, result))
    return suite


def _properties(comparison: Comparison, result: Result) -> list[tuple[str, str]]:
    found = [
        ("verdict", result.verdict),
        ("comparison.verdict", figures.comparison_verdict(comparison)),
        ("old", f"{result.old.reference} {result.old.fingerprint}"),
        ("new", f"{result.new.reference} {result.new.fingerprint}"),
        ("signature", comparison.signature),
        ("n", str(comparison.n)),
    ]
    if result.advice is not None:
        found.append(("advice", f"{result.advice.bump}: {result.advice.reason}"))
    found += [(name, str(count)) for name, count in comparison.quadrants.items()]
    for name, figure in comparison.metrics.items():
        if figure.value is None:
            found.append((name, f"undefined: {figure.why or ''}"))
            continue
        bounds = "" if figure.low is None or figure.high is None else f" [{figure.low:.6g}, {figure.high:.6g}]"
        found.append((name, f"{figure.value:.6g}{bounds}"))
    return found


def _remarks(comparison: Comparison, result: Result) -> list[str]:
    return [*figures.pairing_remarks(comparison), *result.notes]


def _case(name: object, comparison: Comparison, group: str) -> xml.Element:
    classname = f"compatcheck.{_name(comparison.name)}.{group}"
    return xml.Element("testcase", {"name": _name(name), "classname": classname, "time": "0"})


def _gate(gate: Gate, comparison: Comparison) -> xml.Element:
    case = _case(figures.rule_text(gate), comparison, "budgets")
    tag = {"fail": "failure", "inconclusive": "error"}.get(gate.verdict)
    if gate.tier != "critical":
        xml.SubElement(case, "system-out").text = f"{gate.verdict}: {_legal(gate.reason)}"
    elif tag is not None:
        outcome = xml.SubElement(case, tag, {"type": gate.verdict, "message": _legal(gate.reason)})
        more = f"\nabout {gate.needed_n:,} instances would settle it" if gate.needed_n else ""
        outcome.text = f"{_legal(gate.reason)}{more}\n{_legal(comparison.signature)}"
    return case


def _flip(flip: Instance, comparison: Comparison, failed: bool) -> xml.Element:
    case = _case(flip.doc_id, comparison, "negative_flips")
    text = _legal(describe(flip, comparison), multiline=True)
    if failed:
        message = _legal(trim_middle(f"negative flip: {flip.shown_old} → {flip.shown_new}", 300))
        xml.SubElement(case, "failure", {"type": "negative flip", "message": message}).text = text
    else:
        message = "negative flip; the budgets judge how many there may be"
        xml.SubElement(case, "skipped", {"type": "negative flip", "message": message}).text = text
    return case
