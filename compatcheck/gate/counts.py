"""Budgets on rows that show nothing: missing, in error, without an answer, cut off. Counts of rows, not estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compatcheck.compare.result import Absent, Comparison, Gate
from compatcheck.gate.rules import Rule, is_count
from compatcheck.gate.writing import rows, writer


def count_gate(rule: Rule, comparison: Comparison) -> Gate:
    """Judge a budget on a count: it is kept or broken, and open only where the count is not known."""
    p = comparison.pairing
    sides = {
        "missing": (max(p.only_old, p.only_new) + p.target_changed, p.larger, "have no partner of the same content"),
        "errors": (max(p.errors_old, p.errors_new), p.larger, "failed on one side"),
        "no_answer": (p.no_answer_new, p.paired, "have no answer of NEW"),
        "cut_off": (p.cut_off_new, p.paired, "have an answer of NEW that was cut off"),
    }
    count, of, what = sides[rule.name]
    if count is None:
        why = "nothing says whether NEW's answers were cut off (rows say it in `finish_reason`)"
        return Gate(rule.text, "inconclusive", why, tier=rule.tier)
    share = count / of if of else 0.0
    write = writer(True, rule.budget, [share])
    verdict = "pass" if share <= rule.budget else "fail"
    word = "keeps" if verdict == "pass" else "breaks"
    reason = f"{rows(count, of)} {what}: {write(share)} {word} the budget of at most {write(rule.budget)}"
    return Gate(rule.text, verdict, reason, tier=rule.tier)


def with_absent(
    comparisons: Sequence[Comparison], rules: Sequence[Rule], absent: Sequence[Absent]
) -> tuple[Comparison, ...]:
    """The comparisons, where the first one says which budgets on missing rows the tasks of one side alone break."""
    further = [
        Gate(
            rule.text,
            "fail",
            f"{one.task} ({one.filter}) is in {one.side.upper()} alone: all of its {one.rows:,} rows are missing",
            tier=rule.tier,
        )
        for rule in rules
        if is_count(rule) and rule.name == "missing" and rule.budget < 1
        for one in absent
        if rule.scope in ("", one.task, one.filter, f"{one.task}/{one.filter}")
    ]
    if not further or not comparisons:
        return tuple(comparisons)
    first = replace(comparisons[0], gates=(*comparisons[0].gates, *further))
    return (first, *comparisons[1:])
