"""One budget on one comparison: its figure, the one-sided bounds that judge it, and the verdict.

A rule is judged on one-sided bounds. An upper budget fails when the lower bound is beyond it, passes when the upper
bound is within it, and is inconclusive in between; a lower budget the other way round. "Not significant" never passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from compatcheck.compare.clusters import LEAST
from compatcheck.compare.result import Comparison, Estimate, Gate
from compatcheck.compare.significance import p_beyond
from compatcheck.gate.counts import count_gate
from compatcheck.gate.needed import needed
from compatcheck.gate.rules import NAMES, Name, Rule, is_count
from compatcheck.gate.writing import writer

MIN_AVERAGED = 30
"""A mean of fewer values settles nothing: so small a sample may miss the rare case that moves the mean."""


@dataclass(frozen=True)
class Evidence:
    """What a rule is judged by. ``lower`` and ``upper`` are one-sided bounds of the figure, each at ``confidence``."""

    known: Name
    label: str
    figure: Estimate
    threshold: float
    value: float
    lower: float
    upper: float
    confidence: float

    @property
    def verdict(self) -> str:
        return settle(self.known.upper, self.threshold, self.lower, self.upper)

    @property
    def judging(self) -> float:
        """The bound that the verdict hangs on: for a failure the good end, else the bad one."""
        bad, good = (self.upper, self.lower) if self.known.upper else (self.lower, self.upper)
        return good if self.verdict == "fail" else bad


def settle(upper_budget: bool, threshold: float, lower: float, upper: float) -> str:
    """``pass``, ``fail`` or ``inconclusive`` of a figure between one-sided bounds ``lower`` and ``upper``."""
    if (lower > threshold) if upper_budget else (upper < threshold):
        return "fail"
    if (upper <= threshold) if upper_budget else (lower >= threshold):
        return "pass"
    return "inconclusive"


def judge_one(rule: Rule, comparison: Comparison) -> Gate:
    """Judge a rule that covers the comparison, by itself."""
    found = evidence(rule, comparison)
    return found if isinstance(found, Gate) else gate_of(rule, comparison, found)


def label_of(rule: Rule, key: str) -> str:
    """What the figure ``key`` is called where this rule speaks of it."""
    return NAMES[key].label if key != "net" or rule.name == "net" else "accuracy change"


def evidence(rule: Rule, comparison: Comparison) -> Evidence | Gate:
    """What the rule is judged by; or the judgement itself where there is nothing to judge by."""
    key, clusters = rule.key(comparison), comparison.clusters
    assert key is not None  # covers() said so
    if is_count(rule):
        return count_gate(rule, comparison)
    if clusters is not None and clusters.count < LEAST:
        why = f"{clusters.count} clusters by '{clusters.field}': fewer than {LEAST} settle no budget"
        return Gate(rule.text, "inconclusive", why, tier=rule.tier)
    known, figure, threshold = NAMES[key], comparison.metrics[key], rule.threshold
    label = label_of(rule, key)
    averaged = figure.count if key.startswith(("mean_", "score_")) else None
    if key == "mean_regression" and (averaged or 0) < MIN_AVERAGED:
        return _few_regressed(rule, comparison, figure)
    if figure.value is None:
        return Gate(rule.text, "inconclusive", f"{label} is undefined: {figure.why}", tier=rule.tier)
    if averaged is not None and averaged < MIN_AVERAGED:
        why = f"{label} is {figure.value:.3g}, a mean of {averaged}: fewer than {MIN_AVERAGED} values settle no budget"
        needed_n = math.ceil(comparison.n * MIN_AVERAGED / averaged)
        return Gate(rule.text, "inconclusive", why, needed_n, rule.tier)
    assert figure.lower is not None and figure.upper is not None  # only a mean of a single value has no bounds
    return Evidence(known, label, figure, threshold, figure.value, figure.lower, figure.upper, comparison.confidence)


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
    worst, budget = share * width, rule.threshold
    needed_n = math.ceil(comparison.n * MIN_AVERAGED / figure.count) if figure.count else None
    level = f"one-sided {100 * comparison.confidence:g} % bound"
    write = writer(False, budget, (worst,))
    bound = f"at most {100 * share:.3g} % regress ({level}), by {width:g} each at worst: {write(worst)} over all"
    verdict, word = ("pass", "but") if worst <= budget else ("inconclusive", "and")
    keeps = "keeps" if worst <= budget else "does not keep"
    reason = f"{few}, {word} {bound} {keeps} the budget of at most {write(budget)}"
    return Gate(rule.text, verdict, reason, None if verdict == "pass" else needed_n, rule.tier)


def gate_of(rule: Rule, comparison: Comparison, found: Evidence) -> Gate:
    """The judgement in words."""
    verdict, threshold = found.verdict, found.threshold
    write = writer(found.known.percent, threshold, (found.value, found.lower, found.upper))
    level = f"one-sided {100 * found.confidence:g} % bound"
    budget = f"the budget {'of at most' if found.known.upper else 'of at least'} {write(threshold)}"
    if verdict != "inconclusive":
        word = "breaks" if verdict == "fail" else "keeps"
        reason = f"{found.label} {write(found.value)} ({level} {write(found.judging)}) {word} {budget}"
        return Gate(rule.text, verdict, reason, tier=rule.tier)
    count, how = needed(found.known, rule.key(comparison) or "", found.figure, threshold, comparison)
    span = f"{write(found.lower)} to {write(found.upper)} by {level}s"
    reason = f"{found.label} {write(found.value)} ({span}) leaves {budget} open; {how}"
    return Gate(rule.text, verdict, reason, count, rule.tier)


def p_of_breaking(found: Evidence) -> float:
    """p-value of "the budget is kept"; 1 where the evidence does not break it."""
    if found.verdict != "fail":
        return 1.0
    return p_beyond(found.figure, found.threshold, 1 - found.confidence, above=found.known.upper)
