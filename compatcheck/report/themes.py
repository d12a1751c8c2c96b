"""What a report says of themes: those that held-out flips bear out, and in a line what became of the rest."""

from __future__ import annotations

from typing import NamedTuple

from compatcheck.compare.result import Comparison
from compatcheck.compare.themes import Theme
from compatcheck.report import figures


class Finding(NamedTuple):
    """A theme that holds; ``answers`` are as many as the filter of its name lists."""

    name: str
    description: str
    evidence: str
    answers: int


def findings(comparison: Comparison) -> list[Finding]:
    """The themes that hold, those found in most answers first."""
    if comparison.themes is None:
        return []
    return [
        Finding(each.name, each.description, _evidence(each, comparison), each.held_out.new)
        for each in comparison.themes.found
        if each.holds
    ]


def _evidence(theme: Theme, comparison: Comparison) -> str:
    seen, beside = theme.held_out, theme.elsewhere
    what = "flips" if comparison.reference is None else "changes"
    said = f"New alone in {seen.new:,} of {seen.read:,} held-out {what}, old alone in {seen.old:,}; "
    said += f"{figures.p_value(theme.p_adjusted)} corrected"
    if beside is not None:
        said += f"; where nothing flipped in {beside.new:,} of {beside.read:,}"
    unreadable = seen.unreadable + (beside.unreadable if beside is not None else 0)
    return said + (f"; {figures.plural(unreadable, 'pair')} without a readable verdict" if unreadable else "") + "."


def rest(comparison: Comparison) -> str:
    """How many proposed themes did not hold, and which flips have none and why; empty where there is nothing to say."""
    if (themes := comparison.themes) is None:
        return ""
    tested = [each for each in themes.found if each.why is None]
    failed = sum(not each.holds for each in tested)
    said = [f"{figures.plural(failed, 'proposed theme')} did not hold"] if failed else []
    said += [f"1 proposed theme was not tested: {each.why}" for each in themes.found if each.why is not None]
    return "; ".join([*said, *themes.notes])


def lines(comparison: Comparison) -> list[tuple[str, str]]:
    """All of it as headings with a sentence each."""
    if comparison.themes is None:
        return []
    found = [("Theme", f"{each.name}. {each.description} {each.evidence}") for each in findings(comparison)]
    said = [("Themes", rest(comparison)), ("Judge", comparison.themes.judge)]
    return found + [(name, text) for name, text in said if text]
