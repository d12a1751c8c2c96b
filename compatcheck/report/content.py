"""What a report says around its comparisons: facts, overview and next steps, once for all formats that draw them.

The first screen is the same everywhere: the sentence (:mod:`compatcheck.report.headline`), :func:`facts`,
:func:`next_steps`, then what broke (:mod:`compatcheck.report.instances`). What is said of one comparison is in
:mod:`compatcheck.report.sections`: a further part is one function there, and every format draws it.

Texts may hold names of the user's: each renderer passes every one of them through its own escape.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from compatcheck.compare.result import Comparison, Pairing, Result
from compatcheck.report import figures, headline, sections
from compatcheck.report.headline import all_gates, most_important, sentence, verdict_line, worst_comparison
from compatcheck.report.sections import Table, headline_change, silent_rows
from compatcheck.text import estimated

__all__ = [
    "Fact", "Step", "all_gates", "facts", "folded", "missing_rows", "most_important",
    "next_steps", "notes", "overview", "sentence", "verdict_line", "worst_comparison",
]  # fmt: skip

_SHOWN = 3
"""Tasks of which the coverage is told one by one."""
_RATES = {
    "nfr": ("worse", "worse"), "pfr": ("better", "better"), "changed": ("changed", "number"),
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


def facts(result: Result) -> list[Fact]:
    """What differs besides the model, how many rows were compared, why the verdict is so, where it broke, and release
    advice; as known."""
    found = [] if result.differences is None else [Fact("Differ", "", result.differences.sentence)]
    whole = [f"all {sum(each.larger for _, each in _pairings(result)):,} rows of both sides were compared"]
    lines = missing_rows(result) or (whole if result.comparisons else [])
    found += [Fact("Rows", "", line) for line in lines]
    if why := headline.reason(result):
        found.append(Fact("Why", "", why))
    if result.comparisons:
        worst = result.comparisons[headline.worst_comparison(result)]
        found += [Fact("Where", "", said) for said in (sections.stands_out(worst),) if said]
    if result.advice is not None:
        bump = result.advice.bump
        bump = bump if bump == "undecided" else f"{bump} version bump"
        reason = "as said above" if result.advice.reason in sentence(result) else result.advice.reason
        found.append(Fact("Release advice", bump, reason))
    return found


def notes(result: Result) -> list[str]:
    """The notes, those that say the same of several sides or tasks as one: ``A; B: the weights behind …``."""
    about: dict[str, list[str]] = {}
    for note in result.notes:
        subject, colon, said = note.partition(": ")
        about.setdefault(said if colon else note, []).append(subject if colon else "")
    return [f"{'; '.join(dict.fromkeys(who))}: {said}" if any(who) else said for said, who in about.items()]


def missing_rows(result: Result) -> list[str]:
    """What is off with the rows, task by task; empty where nothing is."""
    parts = _pairings(result)
    found = [(name, _gaps(pairing)) for name, pairing in parts]
    off = [f"{name}: {said}" if len(parts) > 1 else said for name, said in found if said]
    more = [f"and {len(off) - _SHOWN} more tasks"] if len(off) > _SHOWN else []
    absent = [one for one in result.absent if one.metric is None]
    lacking = [f"{one.task} ({one.filter}) only in {one.side}: {one.rows:,} rows" for one in absent[:_SHOWN]]
    beyond = [f"and {len(absent) - _SHOWN} more of one side"] if len(absent) > _SHOWN else []
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


def _rate(comparison: Comparison, name: str) -> str:
    """A figure of the overview; flips by their count first."""
    figure = comparison.metrics.get(name)
    if name in ("nfr", "pfr") and figure is not None and figure.value is not None:
        count = comparison.quadrants.get({"nfr": "negative_flip", "pfr": "positive_flip"}[name], 0)
        return f"{count:,} ({figures.share(count, comparison.n)})"
    return figures.estimate(name, figure)


def overview(comparisons: Sequence[Comparison], *, narrow: bool = False) -> Table:
    """A row a comparison; where it is ``narrow`` a long name goes without the metric that its task alone has."""
    tasks = Counter((each.task, each.filter) for each in comparisons)
    rows, columns = [], [name for name in _RATES if any(name in each.metrics for each in comparisons)]
    for each in comparisons:
        change, verdict = headline_change(each), each.verdict
        rates = [_rate(each, name) for name in columns]
        verdict = "" if verdict == "none" else verdict
        alone = narrow and len(each.name) > 28 and tasks[each.task, each.filter] == 1
        name = each.name.removesuffix(f"/{each.metric}") if alone else each.name
        rows.append((name, f"{each.n:,}", *rates, change.short if change else "", verdict))
    return Table(
        (("comparison", "name"), ("n", "number"), *(_RATES[name] for name in columns), ("old → new", "number"),
         ("verdict", "verdict")),
        tuple(rows),
    )  # fmt: skip


def next_steps(result: Result, folder: Path | None = None, *, browsing: bool = False) -> list[Step]:
    """What to do next. ``folder`` is where the result is kept; None where it is not kept.

    ``browsing`` says that the reader has the instances before them.
    """
    steps = [*_to_decide(result)]
    of_changes = bool(result.comparisons) and all(each.reference for each in result.comparisons)
    flips = sum(each.first_count for each in result.comparisons)
    what = "changed" if any(each.reference for each in result.comparisons) else "got worse"
    look = f"look at all {flips:,} that {what}" if flips > 1 else "look at every instance"
    if folder is not None and not browsing:
        steps.append(Step(look, f"compatcheck show {shlex.quote(str(folder))}"))
    elif result.command and not browsing:
        steps.append(Step(look, f"{result.command} --format html --out compat-report"))
    if result.verdict == "none":
        budget = "changed:5%" if of_changes else "nfr:2%"
        steps.append(Step("set a budget, for an exit code that CI can use: add", f"--fail-on {budget}"))
    return steps


def _to_decide(result: Result) -> list[Step]:
    """What would settle an open verdict."""
    if result.verdict != "inconclusive":
        return []
    gates = [gate for _, gate in all_gates(result) if gate.verdict == "inconclusive"]
    doubt = next((gate.doubt for gate in gates if gate.doubt), None)
    option = re.search(r"say (?:which is meant: )?((?: ?--metric(?:-arg)? [\w.=-]+)+)", doubt or "")
    if option is not None:
        return [Step("say how answers are read", f"{result.command or 'compatcheck diff OLD NEW'} {option[1]}")]
    if doubt is not None and "--max-missing" in doubt:
        if any(each.n and each.pairing.no_answer_both == each.n for each in result.comparisons):
            return [Step("no answer could be read: look at the answers, and read them with another --extract or "
                         "--metric; where they were cut off, let them be longer", "")]  # fmt: skip
        shares = re.findall(
            r"\(([\d.]+) %\)[^()]*, more than --max-missing", " ".join(gate.doubt or "" for gate in gates)
        )
        if not shares:
            return [Step("record what is missing and compare again", "")]
        return [Step("record what is missing and compare again; or say how many rows may be missing: add",
                     f"--max-missing {min(int(max(map(float, shares))) + 1, 100)}%")]  # fmt: skip
    needed = max((gate.needed_n for gate in gates if gate.needed_n), default=None)
    if not needed:
        return []
    about = estimated(needed)
    limit = re.compile(r"(?<=--limit[ =])\d+")
    if limit.search(result.command):
        return [Step(f"compare about {about:,} instances", limit.sub(str(about), result.command))]
    return [Step(f"compare about {about:,} instances: raise --limit, or record more", "")]


def folded(command: str, width: int) -> str:
    """The command in lines of at most ``width`` characters that a shell reads as one; a longer word stays whole.

    The first line is indented and those below it twice. What is no command of a shell is left as it is.
    """
    indent = "  "
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
