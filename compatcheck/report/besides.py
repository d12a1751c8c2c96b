"""The figures beside quality as a table: what changed besides what is right."""

from __future__ import annotations

from compatcheck.compare.result import Beside, Comparison, Estimate
from compatcheck.report import figures
from compatcheck.report.tables import Section, Table
from compatcheck.text import significant

LABELS = {
    "length": "length", "output_tokens": "output tokens", "latency": "latency", "latency_first": "time to first token",
    "cost": "cost, $ per 1,000", "cut_off": "cut off", "refusal": "refusals",
}  # fmt: skip
_UNITS = {"characters": ", characters", "words": ", words", "seconds": ", s"}
_SCALES = {"dollars": 1000}


def section(comparison: Comparison) -> Section | None:
    """A row a figure: OLD's and NEW's mean or share, and the change: relative to OLD, of shares in points."""
    if not comparison.beside:
        return None
    rows = [_row(name, each) for name, each in comparison.beside.items()]
    columns = (
        ("mean of an answer", "text"), ("old → new", "value"), ("change", "number"),
        (f"{figures.level(comparison)} interval", "figures"), ("pairs", "number"),
    )  # fmt: skip
    return Section("Beside quality", Table(columns, tuple(rows)), folded=False)


def _row(name: str, each: Beside) -> tuple[str, ...]:
    label = LABELS.get(name, name.replace("_", " ")) + _UNITS.get(each.unit, "")
    if each.old.value is None or each.new.value is None:
        return label, f"not known: {each.new.why}"
    if each.ratio is None:
        old, new = (figures.number(value, "share") for value in (each.old.value, each.new.value))
        return label, f"{old} → {new}", *_change(each.change, "points"), f"{each.n:,}"
    old, new = (significant(value * _SCALES.get(each.unit, 1), 3) for value in (each.old.value, each.new.value))
    return label, f"{old} → {new}", *_change(each.ratio, "share"), f"{each.n:,}"


def _change(figure: Estimate, unit: str) -> tuple[str, str]:
    """Signed, with its interval."""
    if figure.value is None:
        return "undefined", figure.why or ""
    value = figures.number(figure.value, unit, signed=True)
    if figure.low is None or figure.high is None:
        return value, ""
    low, high = (figures.number(bound, unit, signed=True) for bound in (figure.low, figure.high))
    return value, f"{low.removesuffix(' %').removesuffix(' pts')} to {high}"
