"""Does the evidence show that a figure keeps its budget, that it breaks it, or neither? One budget, and all together.

A rule is judged on one-sided bounds. An upper budget fails when the lower bound is beyond it, passes when the upper
bound is within it, and is inconclusive in between; a lower budget the other way round. "Not significant" never passes.
Budgets on rows that show nothing are counts: kept or broken, and open only where the count is not known.

A pass of a run needs every critical budget to pass, which keeps its error without more ado (intersection–union, Berger
1982). A failure needs one to fail, so the more budgets the likelier by chance: failures are shown by Holm's step-down
over all critical budgets (Holm 1979, Scandinavian Journal of Statistics 6:65).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from compatcheck.compare.clusters import LEAST
from compatcheck.compare.intervals import z_values
from compatcheck.compare.means import FEW
from compatcheck.compare.plan import needed_for_change, needed_to_settle
from compatcheck.compare.result import Absent, Comparison, Estimate, Gate, worst
from compatcheck.compare.significance import holm, p_beyond
from compatcheck.errors import ExitCode, InputError, did_you_mean
from compatcheck.gate.doubts import MAX_MISSING, doubt
from compatcheck.gate.rules import (
    BESIDE,
    CRITICAL,
    NAMES,
    OF_ROWS,
    Name,
    Rule,
    judged_as,
    nothing_covered,
    rows,
    writer,
)
from compatcheck.records import KL
from compatcheck.text import estimated

MIN_AVERAGED = 30
"""A mean of fewer values settles nothing: so small a sample may miss the rare case that moves the mean."""
POWER = 0.8
_MOST = 1_000_000_000


@dataclass(frozen=True)
class Evidence:
    """What a rule is judged by: a figure of ``n`` instances, and one-sided bounds, each at ``confidence``."""

    known: Name
    label: str
    figure: Estimate
    n: int
    threshold: float
    value: float
    lower: float
    upper: float
    confidence: float

    @property
    def verdict(self) -> str:
        return settle(self.known.upper, self.threshold, self.lower, self.upper)


def settle(upper_budget: bool, threshold: float, lower: float, upper: float) -> str:
    """``pass``, ``fail`` or ``inconclusive`` of a figure between one-sided bounds ``lower`` and ``upper``."""
    if (lower > threshold) if upper_budget else (upper < threshold):
        return "fail"
    if (upper <= threshold) if upper_budget else (lower >= threshold):
        return "pass"
    return "inconclusive"


def against(verdict: str, upper_budget: bool, budget: str) -> str:
    """How a figure stands to its budget, in words."""
    if verdict == "inconclusive":
        return f"whether that keeps the budget of {'at most' if upper_budget else 'at least'} {budget} is open"
    if verdict == "pass":
        return f"{'within' if upper_budget else 'not below'} the {budget} allowed"
    return f"{'more than' if upper_budget else 'below'} the {budget} allowed"


def label_of(rule: Rule, key: str) -> str:
    """What the figure ``key`` is called where this rule speaks of it."""
    if rule.is_beside:
        return BESIDE[key].label
    name = NAMES[key].label if key != "net" or rule.name == "net" else "accuracy change"
    return name if rule.slice is None else f"{name} of {'='.join(rule.slice)}"


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
    Raises InputError: a rule that covers no comparison, or a task of ``required`` without a scored pair."""
    (judged,) = judge_all([(comparisons, absent)], rules, required, settled, max_missing)
    return judged, verdict_of(judged)


def judge_all(
    candidates: Sequence[tuple[Sequence[Comparison], Sequence[Absent]]],
    rules: Sequence[Rule],
    required: Sequence[str] = (),
    settled: Mapping[tuple[str, str], Gate] | None = None,
    max_missing: float = MAX_MISSING,
) -> list[tuple[Comparison, ...]]:
    """:func:`judge` for several candidates against one OLD: failures hold over all budgets of all of them together."""
    for comparisons, _ in candidates:
        _check_covered(comparisons, rules, required)
    each = [(one, absent) for comparisons, absent in candidates for one in comparisons]
    covered = [(place, rule) for place, (one, _) in enumerate(each) for rule in rules if rule.covers(one)]
    found = [(settled or {}).get((each[place][0].name, rule.text)) or _evidence(rule, each[place][0])
             for place, rule in covered]  # fmt: skip
    gates = [one if isinstance(one, Gate) else _gate(rule, each[place][0], one)
             for (place, rule), one in zip(covered, found, strict=True)]  # fmt: skip
    gates = _together(gates, found, [rule.is_count for _, rule in covered])
    of_each: list[list[Gate]] = [[] for _ in each]
    for (place, rule), gate in zip(covered, gates, strict=True):
        why = None
        if rule.name not in OF_ROWS:
            why = doubt(gate, rule, each[place][0], _again, max_missing, each[place][1])
        if why is not None:
            reason = f"{gate.reason}; but {why}"
            needed = gate.needed_n if gate.verdict == "inconclusive" else None
            gate = replace(gate, verdict="inconclusive", reason=reason, needed_n=needed, doubt=why)
        of_each[place].append(gate)
    judged, place = [], 0
    for comparisons, absent in candidates:
        own = of_each[place : place + len(comparisons)]
        place += len(comparisons)
        for first in own[:1]:
            first += _of_absent(rules, absent)
        judged.append(tuple(one.with_gates(tuple(gates)) for one, gates in zip(comparisons, own, strict=True)))
    return judged


def verdict_of(judged: Sequence[Comparison]) -> str:
    """The worst verdict of all critical gates; ``none`` without any."""
    return worst(each.verdict for each in judged)


def _check_covered(comparisons: Sequence[Comparison], rules: Sequence[Rule], required: Sequence[str]) -> None:
    there = dict.fromkeys(each.task for each in comparisons if each.n > 0)
    for task in required:
        if task not in there:
            raise InputError(
                f"--required {task}: the task was not compared: no instance of it is scored on both sides"
                f"{did_you_mean(task, there)}; compared are {', '.join(there) or 'none'}"
            )
    for rule in rules:
        if not any(rule.covers(each) for each in comparisons):
            raise InputError(nothing_covered(rule, comparisons))


def _again(rule: Rule, comparison: Comparison) -> str:
    return judge_one(rule, comparison).verdict


def exit_code(verdict: str) -> ExitCode:
    """The exit code that a verdict stands for."""
    codes = {"fail": ExitCode.REGRESSION, "inconclusive": ExitCode.INCONCLUSIVE}
    return codes.get(verdict, ExitCode.OK)


def judge_one(rule: Rule, comparison: Comparison) -> Gate:
    """Judge a rule that covers the comparison, by itself."""
    found = _evidence(rule, comparison)
    return found if isinstance(found, Gate) else _gate(rule, comparison, found)


def _together(gates: list[Gate], found: Sequence[Evidence | Gate], counted: Sequence[bool]) -> list[Gate]:
    """The gates, where a failure that is not shown among all critical ones becomes inconclusive.

    ``counted`` says which are budgets on rows: they are no estimates that may fail by chance.
    """
    critical = [place for place, gate in enumerate(gates) if gate.tier == CRITICAL and not counted[place]]
    if len(critical) < 2 or all(gates[place].verdict != "fail" for place in critical):
        return gates
    p_values = [1.0 if isinstance(one, Gate) or one.verdict != "fail"
                else p_beyond(one.figure, one.threshold, 1 - one.confidence, above=one.known.upper)
                for one in (found[place] for place in critical)]  # fmt: skip
    judged = list(gates)
    for place, p in zip(critical, holm(p_values), strict=True):
        one, gate = found[place], gates[place]
        if not isinstance(one, Gate) and gate.verdict == "fail" and p > (1 - one.confidence) * (1 + 1e-9):
            why = (
                f"only by itself: with {len(critical)} budgets judged together p is {p:.2g} (Holm), "
                f"above {1 - one.confidence:.2g}"
            )
            judged[place] = replace(gate, verdict="inconclusive", reason=f"{gate.reason}, but {why}", doubt=why)
    return judged


def _of_absent(rules: Sequence[Rule], absent: Sequence[Absent]) -> list[Gate]:
    """The budgets on missing rows that the tasks of one side alone break."""
    return [
        Gate(
            rule.text,
            "fail",
            f"{one.task} ({one.filter}) is in {one.side.upper()} alone: all of its {one.rows:,} rows are missing",
            tier=rule.tier,
        )
        for rule in rules
        if rule.name == "missing" and rule.budget < 1
        for one in absent
        if one.metric is None and rule.scope in ("", one.task, one.filter, f"{one.task}/{one.filter}")
    ]


def _count_gate(rule: Rule, comparison: Comparison) -> Gate:
    """Judge a budget on rows that show nothing: missing, in error, without an answer, cut off."""
    p = comparison.pairing
    count, of, what = {
        "missing": (max(p.only_old, p.only_new) + p.target_changed, p.larger, "have no partner of the same content"),
        "errors": (max(p.errors_old, p.errors_new), p.larger, "failed on one side"),
        "no_answer": (p.no_answer_new, p.paired, "have no answer of NEW"),
        "cut_off": (p.cut_off_new, p.paired, "have an answer of NEW that was cut off"),
    }[rule.name]
    if count is None or not of:
        why = "nothing says whether NEW's answers were cut off (rows say it in `finish_reason`)"
        return Gate(rule.text, "inconclusive", why if of else "there is no row to count", tier=rule.tier)
    share = count / of
    write = writer(True, rule.budget, [share])
    verdict = "pass" if share <= rule.budget else "fail"
    reason = f"{rows(count, of)} {what} ({write(share)}): {against(verdict, True, write(rule.budget))}"
    return Gate(rule.text, verdict, reason, tier=rule.tier)


def _evidence(rule: Rule, comparison: Comparison) -> Evidence | Gate:
    """What the rule is judged by; or the judgement itself where there is nothing to judge by."""
    if rule.is_count:
        return _count_gate(rule, comparison)

    def open_(why: str, needed_n: int | None = None) -> Gate:
        return Gate(rule.text, "inconclusive", why, needed_n, rule.tier)

    key, clusters = rule.key(comparison), comparison.clusters
    assert key is not None  # covers() said so
    if key == KL:
        return _divergence(rule, comparison)
    if clusters is not None and clusters.count < LEAST:
        return open_(f"{clusters.count} clusters by '{clusters.field}': fewer than {LEAST} settle no budget")
    known = BESIDE[key] if rule.is_beside else judged_as(key, comparison)
    (figure, n), label = rule.figure(comparison), label_of(rule, key)
    is_mean = key.startswith(("mean_", "score_", "similarity")) or (rule.is_beside and not known.rate)
    averaged = figure.count if is_mean else None
    if key == "mean_regression" and (averaged or 0) < MIN_AVERAGED:
        return _few_regressed(rule, comparison, figure)
    if figure.value is None:
        return open_(f"{label} is undefined: {figure.why}")
    if averaged is not None and averaged < MIN_AVERAGED:
        write = writer(known.percent, rule.threshold, [figure.value])
        mean = f"{label} is {write(figure.value)}, a mean of {averaged}"
        why = f"{mean}: fewer than {MIN_AVERAGED} values settle no budget"
        return open_(why, math.ceil(n * MIN_AVERAGED / averaged))
    assert figure.lower is not None and figure.upper is not None  # only a mean of a single value has no bounds
    bounds = figure.value, figure.lower, figure.upper
    return Evidence(known, label, figure, n, rule.threshold, *bounds, comparison.confidence)


def _divergence(rule: Rule, comparison: Comparison) -> Evidence | Gate:
    """A mean over tokens, whose bounds count by documents or groups of them."""
    figure, known = comparison.metrics[KL], NAMES[KL]
    groups = int(figure.effective or 0)
    if groups < MIN_AVERAGED or figure.value is None or figure.lower is None or figure.upper is None:
        why = f"{known.label} is of {groups:,} documents: fewer than {MIN_AVERAGED} settle no budget"
        return Gate(rule.text, "inconclusive", why, MIN_AVERAGED, rule.tier)
    bounds = figure.value, figure.lower, figure.upper
    return Evidence(known, known.label, figure, groups, rule.threshold, *bounds, comparison.confidence)


def _few_regressed(rule: Rule, comparison: Comparison, figure: Estimate) -> Gate:
    """A mean of few regressions, or of none: kept only where the loss over all instances is shown to be so small.

    At worst as many regress as the bound of NFR says, each by the whole range of the score.
    """
    share, ends = comparison.metrics["nfr"].upper, comparison.score_range
    seen = (
        f"{figure.count:,} of {comparison.n:,} regressed" if figure.count else f"{figure.why or 'nothing was scored'}"
    )
    few = f"mean regression: {seen}, fewer than {MIN_AVERAGED}, so how large a regression is cannot be known"
    if share is None or ends is None:
        return Gate(rule.text, "inconclusive", few, tier=rule.tier)
    width = ends[1] - ends[0]
    loss, budget = share * width, rule.threshold
    needed_n = math.ceil(comparison.n * MIN_AVERAGED / figure.count) if figure.count else None
    level = f"with {100 * comparison.confidence:g} % confidence"
    write = writer(False, budget, (loss,))
    bound = f"{level} at most {100 * share:.3g} % regress, by {width:g} each at worst: {write(loss)} over all"
    verdict, word, against = "pass", "but", f"within the {write(budget)} allowed"
    if loss > budget:
        verdict, word, against = "inconclusive", "and", f"more than the {write(budget)} allowed"
    reason = f"{few}, {word} {bound} is {against}"
    return Gate(rule.text, verdict, reason, None if verdict == "pass" else needed_n, rule.tier)


def _gate(rule: Rule, comparison: Comparison, found: Evidence) -> Gate:
    """The judgement in words."""
    verdict, threshold = found.verdict, found.threshold
    write = writer(found.known.percent, threshold, (found.value, found.lower, found.upper))
    level, upper = f"{100 * found.confidence:g} %", found.known.upper
    if verdict == "inconclusive":
        count, how = _needed(found, rule.key(comparison) or "", comparison)
        span = f"{write(found.lower)} to {write(found.upper)} by one-sided {level} bounds"
        reason = f"{found.label} {write(found.value)} ({span}): {against(verdict, upper, write(threshold))}; {how}"
        return Gate(rule.text, verdict, reason, count, rule.tier)
    # The bound that the verdict depends on: for a failure the good end, else the bad one.
    least = (verdict == "fail") == upper
    bound = f"{'at least' if least else 'at most'} {write(found.lower if least else found.upper)}"
    judged = against(verdict, upper, write(threshold))
    reason = f"{found.label} {write(found.value)}, with {level} confidence {bound}: {judged}"
    return Gate(rule.text, verdict, reason, tier=rule.tier)


def _needed(found: Evidence, key: str, comparison: Comparison) -> tuple[int | None, str]:
    """How many instances settle the rule four times in five if the observed value holds, and that in words."""
    known, threshold, n = found.known, found.threshold, found.n
    if found.value == threshold:
        if known.rate and threshold == (0 if known.upper else 1):
            return None, "no sample, however large, proves a budget that leaves no room"
        return None, "the observed value is the budget itself, so it cannot be said how many instances would settle it"
    flips = sum(comparison.quadrants.get(name, 0) for name in ("positive_flip", "negative_flip"))
    scale: float | None
    if known.rate:
        scale = _for_rate(found.figure, threshold, known.upper, found.confidence)
    elif key == "mean_difference" and flips < FEW and found.value > threshold:
        least, most = comparison.score_range or (0.0, 1.0)
        scale = _for_rate(comparison.metrics["nfr"], -threshold / (most - least), True, found.confidence)
    else:
        scale = _for_mean(key, found.figure, found.value, threshold, comparison)
    if scale is None or n * scale > _MOST:
        return None, "the observed value is too close to the budget to say how many instances would settle it"
    count = max(n + 1, math.ceil(n * scale))
    said = f"about {estimated(count):,} instances would settle it {100 * POWER:g} % of the time if it stays so"
    return count, f"{said} (there are {n:,})"


def _for_mean(key: str, figure: Estimate, value: float, threshold: float, comparison: Comparison) -> float:
    """By what factor the sample must grow for a mean or a difference; a bound that allows for what was not seen takes
    some more to clear."""
    assert figure.low is not None and figure.high is not None
    averaged = figure.count if key.startswith("mean_") and figure.count else comparison.n
    gap, unseen = abs(threshold - value), 0.0
    if key == "net":
        flips = comparison.metrics["nfr"].value, comparison.metrics["pfr"].value
        error = math.sqrt(max(0.0, sum(each or 0.0 for each in flips) - value**2) / comparison.n)
        error *= math.sqrt(comparison.n / figure.effective) if figure.effective else 1.0
    else:
        error = (figure.high - figure.low) / 2 / z_values(comparison.confidence)[0]
    if key not in BESIDE and key not in ("relative_nfr", KL) and (key != "net" or value > threshold):
        least, most = comparison.score_range or (0.0, 1.0)
        unseen = -math.log(1 - comparison.confidence) * (most - least) / gap / averaged
    return needed_for_change(error / gap, POWER, comparison.confidence) + unseen


def _for_rate(figure: Estimate, threshold: float, upper: bool, confidence: float) -> float | None:
    """The same for a rate; of clustered instances so many effective ones are wanted."""
    assert figure.value is not None and figure.of is not None
    budget, rate = (threshold, figure.value) if upper else (1 - threshold, 1 - figure.value)
    if not 0 < budget < 1:
        return None
    found = needed_to_settle(budget, rate, POWER, confidence)
    return None if found is None else found / (figure.of if figure.effective is None else figure.effective)
