"""The first sentence of a report, and why its verdict is so, in words that need no glossary."""

from __future__ import annotations

import re

from compatcheck.compare.result import Comparison, Gate, Result
from compatcheck.report import figures
from compatcheck.report.instances import worst_flips
from compatcheck.report.sections import flip_name
from compatcheck.report.text import trim_middle
from compatcheck.text import estimated

_VERDICTS = ("fail", "inconclusive", "none", "pass")
"""What matters most comes first."""


def all_gates(result: Result) -> list[tuple[Comparison, Gate]]:
    """Every gate of a result that bears on its verdict, with its comparison."""
    return [(each, gate) for each in result.comparisons for gate in each.critical_gates]


def most_important(result: Result, count: int) -> tuple[Comparison, ...]:
    """All comparisons in their order, or where there are more than ``count`` the worst, worst first."""
    if len(result.comparisons) <= count:
        return result.comparisons
    return tuple(sorted(result.comparisons, key=_importance)[:count])


def worst_comparison(result: Result) -> int:
    """The place of the comparison that matters most: by verdict, then by negative flip rate; 0 where there is none."""
    places = range(len(result.comparisons))
    return min(places, key=lambda place: _importance(result.comparisons[place]), default=0)


def _importance(comparison: Comparison) -> tuple[int, float]:
    figure = comparison.metrics.get("nfr") or comparison.metrics.get("changed")
    nfr = figure.value if figure is not None and figure.value is not None else -1.0
    return _VERDICTS.index(comparison.verdict), -nfr


def plain_name(comparison: Comparison, result: Result) -> str:
    """The task, and in brackets what tells it apart from the others of that task: ``gsm8k (strict-match)``."""
    same = [each for each in result.comparisons if each.task == comparison.task]
    parts = []
    if len({each.filter for each in same}) > 1:
        parts.append(comparison.filter)
    if len({each.metric for each in same if each.filter == comparison.filter}) > 1:
        parts.append(comparison.metric)
    return f"{comparison.task} ({', '.join(parts)})" if parts else comparison.task


def verdict_line(result: Result) -> tuple[str, str]:
    """The verdict word and what happened, the one line that ``-q`` prints."""
    return figures.VERDICT_WORDS.get(result.verdict, result.verdict.upper()), sentence(result)


def sentence(result: Result) -> str:
    """What happened in plain words, of the comparison that matters most where there are several; what a verdict hangs
    on comes before it where it is not the flips."""
    if not result.comparisons:
        return "Nothing was compared."
    worst = result.comparisons[worst_comparison(result)]
    gates = [gate for gate in worst.critical_gates if gate.verdict == result.verdict]
    flips = _flips(worst, result)
    gate = next((each for each in gates if _allowed(each) is None), gates[0] if gates else None)
    said = [flips]
    if gate is not None and gate.doubt is not None:
        said = [f"Not decided: {gate.doubt}.", f"As scored, {flips[:1].lower()}{flips[1:]}"]
    elif gate is not None and result.verdict == "fail" and all(_allowed(each) is None for each in gates):
        said = [f"{_in(worst, result)}{gate.reason}."[:1].upper() + f"{_in(worst, result)}{gate.reason}."[1:], flips]
    elif gate is not None and result.verdict == "inconclusive":
        needed = max((each.needed_n for each in gates if each.needed_n), default=None)
        known = f"about {estimated(needed):,} instances would settle it" if needed else ""
        said.append(f"Not decided: {known or 'the evidence settles it neither way'}.")
    return " ".join([*said, *_of_several(result)])


def _in(comparison: Comparison, result: Result) -> str:
    return f"in {plain_name(comparison, result)}, " if len(result.comparisons) > 1 else ""


def _flips(comparison: Comparison, result: Result) -> str:
    if comparison.reference is not None:
        where = _in(comparison, result)
        return f"{where[:1].upper()}{where[1:]}{_changes(comparison)}."
    worse, better = (comparison.quadrants.get(name, 0) for name in ("negative_flip", "positive_flip"))
    one, many = ("was right and is now wrong", "were right and are now wrong")
    if comparison.kind == "smooth":
        one, many = (f"{word} {figures.ways(comparison)[0]}" for word in ("scores", "score"))
    allowed = next((f"; the budget allows {found} %" for found in map(_allowed, comparison.gates) if found), "")
    more = "scores" if better == 1 else "score"
    more = "got better" if comparison.kind == "discrete" else f"{more} {figures.ways(comparison)[1]}"
    share, where = figures.share(worse, comparison.n), _in(comparison, result)
    where = where[:1].upper() + where[1:]
    what = one if worse == 1 else many
    return f"{where}{worse:,} of {comparison.n:,} answers {what} ({share}){allowed}. {better:,} {more}."


def _changes(each: Comparison) -> str:
    """What happened where OLD's answers are the reference; nothing of it is worse or better, but by a judge."""
    count, rest = each.first_count, each.quadrants.get("unchanged", 0)
    allowed = next((found for found in map(_allowed, each.gates) if found), "")
    found = f"{count:,} of {each.n:,} answers changed ({figures.share(count, each.n)})"
    found += f"; the budget allows {allowed} %. {rest:,} are the same" if allowed else f"; {rest:,} are the same"
    if (similarity := each.metrics.get("similarity")) is not None and similarity.value is not None:
        found += f". Mean {each.metric} to old: {figures.estimate('similarity', similarity)}"
    if (noticed := each.metrics.get("noticed")) is not None:
        new, old, tied = (each.quadrants.get(name, 0) for name in ("new_preferred", "old_preferred", "tied"))
        found += (
            f". A reader would notice {noticed.count:,}: the judge prefers new in {new:,} and old in {old:,}, in both "
            f"orders; {tied:,} changed and are as good"
        )
    return found


def _allowed(gate: Gate) -> str | None:
    """What a budget on all flips, or on all changes, allows, in percent; None of another budget."""
    found = re.fullmatch(r"(?:[^=]*/)?(?:nfr|changed):([\d.]+) ?%", gate.rule)
    return found[1] if found else None


def _of_several(result: Result) -> list[str]:
    """How many comparisons have the verdict, where there are several."""
    total, having = len(result.comparisons), sum(c.verdict == result.verdict for c in result.comparisons)
    if total == 1 or result.verdict == "none":
        return []
    if result.verdict == "pass":
        return [f"{figures.plural(len(all_gates(result)), 'budget')} on {total:,} comparisons kept."]
    what = "break a budget" if result.verdict == "fail" else "are not decided"
    one = "breaks a budget" if result.verdict == "fail" else "is not decided"
    return [f"{having:,} of {total:,} comparisons {one if having == 1 else what}."]


def reason(result: Result) -> str:
    """Why the verdict is so; empty where there is none, or where the first sentence has said it."""
    gates = [(each, gate) for each, gate in all_gates(result) if gate.verdict == result.verdict]
    if not gates:
        return ""
    worst = result.comparisons[worst_comparison(result)]
    comparison, gate = next(((each, gate) for each, gate in gates if each is worst), gates[0])
    others = figures.plural(len(gates) - 1, "other budget") if len(gates) > 1 else ""
    if gate.doubt is not None or gate.reason in sentence(result).replace(_in(comparison, result), ""):
        return f"as said above; {others} too" if others else ""
    said = re.sub(r"; about [\d,]+ instances would settle it.*", "", gate.reason)  # as the first sentence says
    return f"{_in(comparison, result)}{said}{f' (and {others})' if others else ''}"


def in_one_line(result: Result) -> str:
    """The worst flips of the comparison that matters most: ``3 of 40 are negative flips in sums: q1: '8' → '9', …``."""
    if not result.comparisons:
        return "nothing was compared"
    worst = result.comparisons[worst_comparison(result)]
    texts = [f"{flip.doc_id}: {flip.pairs()[0][1]!r} → {flip.pairs()[0][2]!r}" for flip in worst_flips(worst, 3)]
    shown = [trim_middle(" ".join(text.split()), 48) for text in texts]
    more = ", …" if worst.first_count > len(shown) else ""
    what = f"{worst.first_count:,} of {worst.n:,} are {flip_name(worst)}s in {trim_middle(worst.name, 40)}"
    return f"{what}: {', '.join(shown)}{more}" if shown else what
