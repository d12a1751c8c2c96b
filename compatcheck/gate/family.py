"""All budgets of a run together: which failures are shown although many are looked at, and the one verdict.

A pass needs every critical budget to pass, which keeps its error without more ado (intersection–union, Berger 1982). A
failure needs one to fail, so the more budgets the likelier by chance: failures are shown by Holm's step-down over all
critical budgets (Holm 1979, Scandinavian Journal of Statistics 6:65).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from compatcheck.compare.result import Absent, Comparison, Gate
from compatcheck.compare.significance import holm
from compatcheck.errors import ExitCode, InputError, did_you_mean
from compatcheck.gate.counts import with_absent
from compatcheck.gate.doubts import MAX_MISSING, doubted
from compatcheck.gate.rules import CRITICAL, Rule, is_count, nothing_covered
from compatcheck.gate.verdict import Evidence, evidence, gate_of, judge_one, p_of_breaking

_EXIT_CODES = {
    "pass": ExitCode.OK,
    "none": ExitCode.OK,
    "fail": ExitCode.REGRESSION,
    "inconclusive": ExitCode.INCONCLUSIVE,
}


def judge(
    comparisons: Sequence[Comparison],
    rules: Sequence[Rule],
    required: Sequence[str] = (),
    settled: Mapping[tuple[str, str], Gate] | None = None,
    max_missing: float = MAX_MISSING,
    absent: Sequence[Absent] = (),
) -> tuple[tuple[Comparison, ...], str]:
    """Judge every rule on every comparison it covers; return the comparisons with their gates, and the verdict.

    ``settled`` holds judgements that were made while instances came in, by the name of the comparison and the text of
    the rule; they hold together already. A pass is inconclusive where more than ``max_missing`` of the rows show
    nothing, tasks that are ``absent`` on one side among them (:mod:`compatcheck.gate.doubts`).

    The verdict is ``fail`` if any critical gate fails, else ``inconclusive`` if any is, else ``pass``; ``none`` without
    critical rules. Advisory gates are judged each by itself and do not bear on it.

    Raises:
        InputError: a rule that covers no comparison, or a task of ``required`` without a scored pair.
    """
    _check_required(comparisons, required)
    for rule in rules:
        if not any(rule.covers(each) for each in comparisons):
            raise InputError(nothing_covered(rule, comparisons))
    each_rule = [(place, rule) for place, each in enumerate(comparisons) for rule in rules if rule.covers(each)]
    known = settled or {}
    found = [
        known.get((comparisons[place].name, rule.text)) or evidence(rule, comparisons[place])
        for place, rule in each_rule
    ]
    gates = [
        one if isinstance(one, Gate) else gate_of(rule, comparisons[place], one)
        for (place, rule), one in zip(each_rule, found, strict=True)
    ]
    gates = _together(gates, found, [is_count(rule) for _, rule in each_rule])
    gates = [
        doubted(gate, rule, comparisons[place], _again, max_missing, absent)
        for (place, rule), gate in zip(each_rule, gates, strict=True)
    ]
    judged = tuple(
        each.with_gates(tuple(gate for (mine, _), gate in zip(each_rule, gates, strict=True) if mine == place))
        for place, each in enumerate(comparisons)
    )
    judged = with_absent(judged, rules, absent)
    return judged, _worst(gate.verdict for each in judged for gate in each.gates if gate.tier == CRITICAL)


def _again(rule: Rule, comparison: Comparison) -> str:
    return judge_one(rule, comparison).verdict


def exit_code(verdict: str) -> ExitCode:
    """The exit code that a verdict stands for."""
    return _EXIT_CODES[verdict]


def _together(gates: Sequence[Gate], found: Sequence[Evidence | Gate], counted: Sequence[bool]) -> list[Gate]:
    """The gates, where a failure that is not shown among all critical ones becomes inconclusive.

    ``counted`` says which are budgets on rows: they are no estimates that may fail by chance.
    """
    critical = [place for place, gate in enumerate(gates) if gate.tier == CRITICAL and not counted[place]]
    judged = list(gates)
    if len(critical) < 2 or all(gates[place].verdict != "fail" for place in critical):
        return judged
    p_values = []
    for place in critical:
        one = found[place]
        p_values.append(1.0 if isinstance(one, Gate) else p_of_breaking(one))
    adjusted = holm(p_values)
    for place, p in zip(critical, adjusted, strict=True):
        one, gate = found[place], gates[place]
        if isinstance(one, Gate) or gate.verdict != "fail":
            continue
        if p > (1 - one.confidence) * (1 + 1e-9):
            reason = (
                f"{gate.reason}, but only by itself: with {len(critical)} budgets judged together p is {p:.2g} (Holm), "
                f"above {1 - one.confidence:.2g}"
            )
            judged[place] = replace(gate, verdict="inconclusive", reason=reason)
    return judged


def _worst(verdicts: Iterable[str]) -> str:
    found = set(verdicts)
    return next((verdict for verdict in ("fail", "inconclusive", "pass") if verdict in found), "none")


def _check_required(comparisons: Sequence[Comparison], required: Sequence[str]) -> None:
    there = dict.fromkeys(each.task for each in comparisons if each.n > 0)
    for task in required:
        if task not in there:
            raise InputError(
                f"--required {task}: the task was not compared: no instance of it is scored on both sides"
                f"{did_you_mean(task, there)}; compared are {', '.join(there) or 'none'}"
            )
