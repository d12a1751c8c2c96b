"""What a report says: verdict, facts, tables, remarks and next steps, once for all formats that draw them.

Texts may hold names of the user's: each renderer passes every one of them through its own escape.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from compatcheck.compare.result import Comparison, Gate, Pairing, Result
from compatcheck.report import figures
from compatcheck.report.sections import Table, headline_change, silent_rows

_SHOWN = 3
"""Tasks of which the coverage is told one by one."""
_RATES = {
    "nfr": ("NFR", "worse"), "pfr": ("PFR", "better"), "changed": ("changed", "number"),
    "similarity": ("similarity", "number"), "noticed": ("noticed", "number"),
}  # fmt: skip
"""Figures of the overview and their columns."""


class Fact(NamedTuple):
    """A line at the top of a report; ``strong`` stands before ``text`` and may be empty."""

    label: str
    strong: str
    text: str


class Step(NamedTuple):
    """What to do next. ``command`` is empty where there is only advice."""

    why: str
    command: str


def all_gates(result: Result) -> list[tuple[Comparison, Gate]]:
    """Every gate of a result that bears on its verdict, with its comparison."""
    return [(each, gate) for each in result.comparisons for gate in each.gates if gate.tier == "critical"]


def comparison_verdict(comparison: Comparison) -> str:
    """The worst verdict among a comparison's critical gates; ``none`` where it has none."""
    verdicts = {gate.verdict for gate in comparison.gates if gate.tier == "critical"}
    return next((word for word in ("fail", "inconclusive", "pass") if word in verdicts), "none")


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
    return ("fail", "inconclusive", "none", "pass").index(comparison_verdict(comparison)), -_nfr(comparison)


def _nfr(comparison: Comparison) -> float:
    figure = comparison.metrics.get("nfr") or comparison.metrics.get("changed")
    return figure.value if figure is not None and figure.value is not None else -1.0


def verdict_line(result: Result) -> tuple[str, str]:
    """The verdict word and why it is so, the one line that ``-q`` prints."""
    return figures.VERDICT_WORDS.get(result.verdict, result.verdict.upper()), _reason(result)


def _reason(result: Result) -> str:
    gates = all_gates(result)
    deciding = [(each, gate) for each, gate in gates if gate.verdict == result.verdict]
    if result.verdict in ("fail", "inconclusive") and deciding:
        comparison, gate = deciding[0]
        more = f" (and {len(deciding) - 1} more)" if len(deciding) > 1 else ""
        where = f"{comparison.name}: " if len(result.comparisons) > 1 else ""
        return f"{where}{gate.rule}: {gate.reason}{more}"
    if result.verdict == "pass":
        first = f": {gates[0][1].rule}: {gates[0][1].reason}" if len(gates) == 1 else ""
        return f"{figures.plural(len(gates), 'budget')} kept{first}"
    if not result.comparisons:
        return "nothing was compared"
    if len(result.comparisons) > 1:
        worst = max(result.comparisons, key=_nfr)
        figure = figures.number(_nfr(worst), "share") if _nfr(worst) >= 0 else "undefined"
        what = "negative flips" if worst.reference is None else "changed answers"
        return f"{len(result.comparisons)} comparisons; most {what} in {worst.name}: {figure}"
    (only,) = result.comparisons
    if only.reference is not None:
        return _changes(only)
    worse, better = (only.quadrants.get(name, 0) for name in ("negative_flip", "positive_flip"))
    return (
        f"{worse:,} of {only.n:,} got worse ({figures.share(worse, only.n)}), "
        f"{better:,} got better ({figures.share(better, only.n)})"
    )


def sentence(result: Result) -> str:
    """What happened, in one plain sentence, of the comparison that matters most where there are several."""
    if not result.comparisons:
        return "Nothing was compared."
    worst = result.comparisons[worst_comparison(result)]
    if worst.reference is not None:
        where = f"{worst.name}: " if len(result.comparisons) > 1 else ""
        budgets = (re.fullmatch(r"(?:[^=]*/)?changed:([\d.]+) ?%", gate.rule) for gate in worst.gates)
        return f"{where}{_changes(worst, next((budget[1] for budget in budgets if budget), ''))}."
    worse, better = (worst.quadrants.get(name, 0) for name in ("negative_flip", "positive_flip"))
    one, many = ("was right and is now wrong", "were right and are now wrong")
    if worst.kind == "smooth":
        one, many = "scores lower", "score lower"
    what = f"answers {one if worse == 1 else many}"
    budgets = (re.fullmatch(r"(?:[^=]*/)?nfr:([\d.]+) ?%", gate.rule) for gate in worst.gates)
    allowed = next((f"; the budget allows {budget[1]} %" for budget in budgets if budget), "")
    where = f"{worst.name}: " if len(result.comparisons) > 1 else ""
    more = "got better" if worst.kind == "discrete" else "scores higher" if better == 1 else "score higher"
    return f"{where}{worse:,} of {worst.n:,} {what} ({figures.share(worse, worst.n)}){allowed}. {better:,} {more}."


def _changes(each: Comparison, allowed: str = "") -> str:
    """What happened where OLD's answers are the reference; nothing of it is worse or better, but by a judge."""
    count, rest = each.first_count, each.quadrants.get("unchanged", 0)
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


def facts(result: Result) -> list[Fact]:
    """Why the verdict is so, release advice, how many rows were compared, what differs besides the model; as known."""
    found = [] if result.verdict == "none" else [Fact("Why", "", verdict_line(result)[1])]
    if result.advice is not None:
        bump = result.advice.bump
        bump = bump if bump == "undecided" else f"{bump} version bump"
        found.append(Fact("Release advice", bump, result.advice.reason))
    whole = [f"all {sum(each.larger for _, each in _pairings(result)):,} rows of both sides were compared"]
    lines = missing_rows(result) or (whole if result.comparisons else [])
    found += [Fact("Rows", "", line) for line in lines]
    if result.differences is not None:
        found.append(Fact("Settings", "", result.differences.sentence))
    return found


def missing_rows(result: Result) -> list[str]:
    """What is off with the rows, task by task; empty where nothing is."""
    parts = _pairings(result)
    found = [(name, _gaps(pairing)) for name, pairing in parts]
    off = [f"{name}: {said}" if len(parts) > 1 else said for name, said in found if said]
    more = [f"and {len(off) - _SHOWN} more tasks"] if len(off) > _SHOWN else []
    lacking = [f"{one.task} ({one.filter}) only in {one.side}: {one.rows:,} rows" for one in result.absent[:_SHOWN]]
    beyond = [f"and {len(result.absent) - _SHOWN} more of one side"] if len(result.absent) > _SHOWN else []
    return [*off[:_SHOWN], *more, *lacking, *beyond]


def _pairings(result: Result) -> list[tuple[str, Pairing]]:
    """The pairing of each task and filter, once for all of its metrics."""
    each: dict[tuple[str, str], Pairing] = {}
    for comparison in result.comparisons:
        each.setdefault((comparison.task, comparison.filter), comparison.pairing)
    return [(task if name in ("none", "") else f"{task}/{name}", pairing) for (task, name), pairing in each.items()]


def _gaps(p: Pairing) -> str:
    """Rows that were not compared, and of those that were the ones that show little; empty where there are none."""
    lost = (
        (p.only_old, "only in old"), (p.only_new, "only in new"), (p.target_changed, "with changed content"),
        (p.errors_old, "in error in old"), (p.errors_new, "in error in new"),
    )  # fmt: skip
    weak = silent_rows(p)
    parts = ", ".join(f"{count:,} {what}" for count, what in lost if count)
    if not (parts or weak):
        return ""
    whole = f"{p.paired:,} of {p.larger:,} rows compared ({figures.share(p.paired, p.larger)})"
    return "; ".join([f"{whole}: {parts}" if parts else f"{p.paired:,} rows compared", *weak])


def overview(comparisons: Sequence[Comparison], *, narrow: bool = False) -> Table:
    """A row a comparison; where it is ``narrow`` a long name goes without the metric that its task alone has."""
    tasks = Counter((each.task, each.filter) for each in comparisons)
    rows, columns = [], [name for name in _RATES if any(name in each.metrics for each in comparisons)]
    for each in comparisons:
        change, verdict = headline_change(each), comparison_verdict(each)
        rates = [figures.estimate(name, each.metrics.get(name)) for name in columns]
        verdict = "" if verdict == "none" else verdict
        alone = narrow and len(each.name) > 28 and tasks[each.task, each.filter] == 1
        name = each.name.removesuffix(f"/{each.metric}") if alone else each.name
        rows.append((name, f"{each.n:,}", change.short if change else "", *rates, verdict))
    return Table(
        (("comparison", "name"), ("n", "number"), ("old → new", "number"), *(_RATES[name] for name in columns),
         ("verdict", "verdict")),
        tuple(rows),
    )  # fmt: skip


def next_steps(result: Result, folder: Path | None = None, *, browsing: bool = False) -> list[Step]:
    """What to do next. ``folder`` is where the result is kept; None where it is not kept.

    ``browsing`` says that the reader has the instances before them.
    """
    steps = []
    needed = max((gate.needed_n for _, gate in all_gates(result) if gate.needed_n), default=None)
    if result.verdict == "inconclusive" and needed:
        steps.append(Step(f"about {needed:,} instances would settle the verdict: raise --limit or add data", ""))
    browse = "browse every instance side by side"
    if folder is not None:
        steps.append(Step(browse, f"compatcheck report {shlex.quote(str(folder))} --format html"))
    elif result.command and not browsing:
        steps.append(Step(browse, f"{result.command} --format html --out compat-report"))
    if result.verdict == "none":
        of_changes = bool(result.comparisons) and all(each.reference for each in result.comparisons)
        budget = "changed:5%" if of_changes else "nfr:2%"
        steps.append(Step("set a budget, for an exit code that CI can use: add", f"--fail-on {budget}"))
    return steps


def folded(command: str, width: int, indent: str = "  ") -> str:
    """The command in lines of at most ``width`` characters that a shell reads as one; a longer word stays whole.

    The first line is indented by ``indent`` and those below it twice. What is no command of a shell is left as it is.
    """
    words = re.findall(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""", command)
    if " ".join(words) != command:
        return indent + command
    lines = [indent]
    for word in words:
        if lines[-1].strip() and len(lines[-1]) + len(word) + len("  \\") > width:
            lines[-1] += " \\"
            lines.append(2 * indent)
        lines[-1] += f"{' ' if lines[-1].strip() else ''}{word}"
    return "\n".join(lines)
