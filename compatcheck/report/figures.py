"""How figures are worded: labels, percent, intervals, verdicts. Shared by all renderers, so that they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from compatcheck.compare.result import QUADRANTS, SMOOTH_GROUPS, Comparison, Estimate, Gate, Result

NO_ANSWER = "∅ no answer"
"""Shown for a null prediction."""

QUADRANT_LABELS: Mapping[str, str] = {
    "both_correct": "both correct",
    "positive_flip": "positive flips",
    "negative_flip": "negative flips",
    "both_wrong": "both wrong",
    "unchanged": "unchanged",
}
QUADRANT_SYMBOLS: Mapping[str, str] = {
    "both_correct": "=",
    "positive_flip": "+",
    "negative_flip": "-",
    "both_wrong": "×",
    "unchanged": "=",
}
QUADRANT_METRICS: Mapping[str, str] = {"positive_flip": "pfr", "negative_flip": "nfr"}
"""The metric that holds the share of a quadrant with its interval; other quadrants carry a metric of their own name."""


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is shown."""

    label: str
    unit: str
    """``share`` (percent), ``points`` (signed percentage points), ``score`` or ``ratio``."""
    help: str
    better: str = ""
    """``higher``, ``lower`` or empty where neither is better in itself."""


METRICS: Mapping[str, MetricInfo] = {
    "accuracy_old": MetricInfo("accuracy, old", "share", "share of instances the old model gets right", "higher"),
    "accuracy_new": MetricInfo("accuracy, new", "share", "share of instances the new model gets right", "higher"),
    "score_old": MetricInfo("score, old", "score", "mean score of the old model"),
    "score_new": MetricInfo("score, new", "score", "mean score of the new model"),
    "nfr": MetricInfo("negative flip rate", "share", "share that was right and is now wrong, or scores lower", "lower"),
    "pfr": MetricInfo(
        "positive flip rate", "share", "share that was wrong and is now right, or scores higher", "higher"
    ),
    "net": MetricInfo("net change", "points", "positive minus negative flip rate", "higher"),
    "nfr_mc": MetricInfo(
        "NFR incl. inconsistency", "share", "new model wrong with another answer than the old model", "lower"
    ),
    "inconsistency": MetricInfo("inconsistency", "share", "both wrong, with different answers", "lower"),
    "relative_nfr": MetricInfo(
        "relative NFR", "ratio", "NFR over what independent errors would give; 1 means errors are independent", "lower"
    ),
    "btc": MetricInfo(
        "backward trust compat. (BTC)", "share", "of what the old model got right, still right", "higher"
    ),
    "bec": MetricInfo("backward error compat. (BEC)", "share", "of what the old model got wrong, still wrong"),
    "nfi": MetricInfo("negative flip impact (NFI)", "share", "of the new model's errors, those that are new", "lower"),
    "pfi": MetricInfo("positive flip impact (PFI)", "share", "of the new model's hits, those that are new", "higher"),
    "agreement": MetricInfo("agreement", "share", "share of instances with the same answer"),
    "both_correct_changed": MetricInfo("both correct, reworded", "share", "both correct, with different texts"),
    "mean_gain": MetricInfo("mean gain", "score", "mean rise of the score where it rises", "higher"),
    "mean_regression": MetricInfo("mean regression", "score", "mean fall of the score where it falls", "lower"),
    "self_agreement_old": MetricInfo("judge's self-agreement, old", "share", "same verdict when the order is swapped"),
    "self_agreement_new": MetricInfo("judge's self-agreement, new", "share", "same verdict when the order is swapped"),
    "mean_difference": MetricInfo("mean difference", "score", "mean of new minus old score", "higher"),
}

_SIGNED = ("net", "mean_difference")


def metric_info(name: str) -> MetricInfo:
    """How the metric ``name`` is shown; one that is not known here is shown under its own name, as a score."""
    return METRICS.get(name) or MetricInfo(name.replace("_", " "), "score", "")


def groups(comparison: Comparison) -> tuple[str, ...]:
    """The quadrants (discrete) or groups (smooth) of a comparison, in the order they are shown."""
    return SMOOTH_GROUPS if comparison.kind == "smooth" else QUADRANTS


def quadrant_estimate(comparison: Comparison, quadrant: str) -> Estimate | None:
    """The share of a quadrant with its interval, where the comparison has one."""
    return comparison.metrics.get(QUADRANT_METRICS.get(quadrant, quadrant))


def share(count: int, of: int) -> str:
    """``count`` of ``of`` as percent; a dash where there is nothing to divide by."""
    return number(count / of, "share") if of else "–"


def number(value: float, unit: str, *, signed: bool = False) -> str:
    """One figure in its unit: ``6.7 %``, ``+1.2 pts``, ``0.4213``, ``0.87×``."""
    if unit == "share":
        return f"{_fixed(value * 100, 1, signed)} %"
    if unit == "points":
        return f"{_fixed(value * 100, 1, True)} pts"
    if unit == "ratio":
        return f"{_fixed(value, 2, signed)}×"
    return _fixed(value, 2 if abs(value) >= 10 else 4, signed)


def _fixed(value: float, digits: int, signed: bool) -> str:
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if value and float(text) == 0:  # a small figure is not none: show two digits that count
        text = f"{value:+.2g}" if signed else f"{value:.2g}"
    return text.replace("-", "−")


def estimate(name: str, figure: Estimate) -> str:
    """The value of a metric, or ``undefined``."""
    if figure.value is None:
        return "undefined"
    return number(figure.value, metric_info(name).unit, signed=name in _SIGNED)


def interval(name: str, figure: Estimate | None) -> str:
    """``5.4 – 8.1 %``; empty where there is no interval."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    unit = metric_info(name).unit
    signed = name in _SIGNED
    low, high = (number(bound, unit, signed=signed) for bound in (figure.low, figure.high))
    suffix = {"share": " %", "points": " pts", "ratio": "×"}.get(unit, "")
    return f"{low.removesuffix(suffix)} – {high}" if suffix else f"{low} – {high}"


def level(comparison: Comparison) -> str:
    """The level of the intervals, ``95 %``."""
    return f"{100 * comparison.confidence:.10g} %"


def denominator(figure: Estimate) -> str:
    """``88 of 1,319``, ``over 1,319`` or empty."""
    if figure.of is None:
        return ""
    return f"over {figure.of:,}" if figure.count is None else f"{figure.count:,} of {figure.of:,}"


def p_value(p: float | None) -> str:
    """``p = 0.012``, ``p < 0.0001`` or ``p undefined``."""
    if p is None or math.isnan(p):
        return "p undefined"
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


TEST_LABELS: Mapping[str, str] = {
    "mcnemar_p": "exact McNemar test",
    "permutation_p": "sign-flip permutation test",
    "noise_p": "NFR above the noise floor (Fisher)",
}

VERDICT_WORDS: Mapping[str, str] = {
    "pass": "PASS",
    "fail": "FAIL",
    "inconclusive": "INCONCLUSIVE",
    "none": "NO BUDGET",
}
VERDICT_SYMBOLS: Mapping[str, str] = {"pass": "✓", "fail": "✗", "inconclusive": "?", "none": "·"}


def all_gates(result: Result) -> tuple[tuple[Comparison, Gate], ...]:
    """Every gate of a result that bears on its verdict, with its comparison."""
    return tuple(
        (comparison, gate) for comparison in result.comparisons for gate in comparison.gates if gate.tier == "critical"
    )


def rule_text(gate: Gate) -> str:
    """The rule, and that it is advisory. Holds text of the user's."""
    return gate.rule if gate.tier == "critical" else f"{gate.rule} ({gate.tier})"


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
    rank = {"fail": 0, "inconclusive": 1, "none": 2, "pass": 3}
    return rank[comparison_verdict(comparison)], -_nfr(comparison)


def verdict_reason(result: Result) -> str:
    """Why the verdict is what it is, in one line. Holds text of the user's; pass it through ``safe_text``."""
    gates = all_gates(result)
    deciding = [(c, g) for c, g in gates if g.verdict == result.verdict]
    if result.verdict in ("fail", "inconclusive") and deciding:
        comparison, gate = deciding[0]
        more = f" (and {len(deciding) - 1} more)" if len(deciding) > 1 else ""
        where = f"{comparison.name}: " if len(result.comparisons) > 1 else ""
        return f"{where}{gate.rule}: {gate.reason}{more}"
    if result.verdict == "pass":
        first = f": {gates[0][1].rule}: {gates[0][1].reason}" if len(gates) == 1 else ""
        return f"{_count(len(gates), 'budget')} kept{first}"
    return _flips(result)


def _flips(result: Result) -> str:
    if not result.comparisons:
        return "nothing was compared"
    if len(result.comparisons) == 1:
        comparison = result.comparisons[0]
        negative = comparison.quadrants.get("negative_flip", 0)
        positive = comparison.quadrants.get("positive_flip", 0)
        return (
            f"{negative:,} of {comparison.n:,} got worse ({share(negative, comparison.n)}), "
            f"{positive:,} got better ({share(positive, comparison.n)})"
        )
    worst = max(result.comparisons, key=lambda c: _nfr(c))
    value = _nfr(worst)
    figure = number(value, "share") if value >= 0 else "undefined"
    return f"{len(result.comparisons)} comparisons; most negative flips in {worst.name}: {figure}"


def _nfr(comparison: Comparison) -> float:
    figure = comparison.metrics.get("nfr")
    return figure.value if figure is not None and figure.value is not None else -1.0


def verdict_line(result: Result) -> tuple[str, str]:
    """The verdict word and its reason, the one line that ``-q`` prints."""
    return VERDICT_WORDS.get(result.verdict, result.verdict.upper()), verdict_reason(result)


def advice_line(result: Result) -> tuple[str, str] | None:
    """Release advice as a heading and its reason; None where there is none. Pass the reason through ``safe_text``."""
    if result.advice is None:
        return None
    bump = result.advice.bump
    return (bump if bump == "undecided" else f"{bump} version bump"), result.advice.reason


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def pairing_remarks(comparison: Comparison) -> tuple[str, ...]:
    """What is off with the pairing, one short phrase each; empty where all rows found their partner and were scored.

    Holds ids of the user's; pass each through ``safe_text``.
    """
    p = comparison.pairing

    def such_as(kind: str) -> str:
        ids = p.examples.get(kind, ())
        return f" ({', '.join(ids[:3])}{' …' if getattr(p, kind) > 3 else ''})" if ids else ""

    remarks = []
    if p.only_old:
        remarks.append(f"{p.only_old:,} only in old{such_as('only_old')}")
    if p.only_new:
        remarks.append(f"{p.only_new:,} only in new{such_as('only_new')}")
    if p.duplicates:
        remarks.append(f"{_count(p.duplicates, 'repeated row')} dropped")
    if p.target_changed:
        remarks.append(f"{p.target_changed:,} with changed content, not scored{such_as('target_changed')}")
    if p.errors_old or p.errors_new:
        remarks.append(f"errors, not scored: {p.errors_old:,} old, {p.errors_new:,} new")
    if p.no_answer_old or p.no_answer_new:
        remarks.append(f"no answer: {p.no_answer_old:,} old, {p.no_answer_new:,} new")
    if p.cut_off_old or p.cut_off_new:
        remarks.append(f"cut off: {p.cut_off_old or 0:,} old, {p.cut_off_new or 0:,} new")
    if p.key != "id":
        remarks.append(f"paired by {p.key}")
    return tuple(remarks)


@dataclass(frozen=True)
class Change:
    """The headline score of a comparison, old to new. ``short`` is ``21.7 % → 34.7 %``, ``delta`` the difference."""

    label: str
    short: str
    delta: str
    difference: str
    """Name of the metric that holds the difference."""


def headline_change(comparison: Comparison) -> Change | None:
    """Accuracy or mean score, old to new, with the difference and its interval; None where it is not known."""
    pair, difference = ("accuracy", "net") if comparison.kind == "discrete" else ("score", "mean_difference")
    old, new = (comparison.metrics.get(f"{pair}_{side}") for side in ("old", "new"))
    if old is None or new is None:
        return None
    figure = comparison.metrics.get(difference)
    delta = ""
    if figure is not None and figure.value is not None:
        bounds = interval(difference, figure)
        delta = f"Δ {estimate(difference, figure)}{f'  ({level(comparison)}: {bounds})' if bounds else ''}"
    name = f"{pair}_old"
    label = "accuracy" if pair == "accuracy" else comparison.metric
    return Change(label, f"{estimate(name, old)} → {estimate(name, new)}", delta, difference)
