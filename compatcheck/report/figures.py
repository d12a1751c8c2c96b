"""How figures are worded: labels, percent, intervals. Shared by all renderers, so that they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from compatcheck.compare.result import QUADRANTS, SMOOTH_GROUPS, Comparison, Estimate

QUADRANT_LABELS: Mapping[str, str] = {
    "both_correct": "both correct", "positive_flip": "positive flips", "negative_flip": "negative flips",
    "both_wrong": "both wrong", "unchanged": "unchanged", "changed": "changed", "new_preferred": "new preferred",
    "old_preferred": "old preferred", "tied": "changed, as good",
}  # fmt: skip
QUADRANT_SYMBOLS: Mapping[str, str] = {
    "both_correct": "=", "positive_flip": "+", "negative_flip": "-", "both_wrong": "×", "unchanged": "=",
    "changed": "~", "new_preferred": "+", "old_preferred": "-", "tied": "~",
}  # fmt: skip
QUADRANT_METRICS: Mapping[str, str] = {
    "positive_flip": "pfr", "negative_flip": "nfr", "new_preferred": "preferred_new", "old_preferred": "preferred_old",
}  # fmt: skip
"""The metric that holds the share of a quadrant with its interval; other quadrants carry a metric of their own name."""
TEST_LABELS: Mapping[str, str] = {
    "mcnemar_p": "exact McNemar test",
    "permutation_p": "sign-flip permutation test",
    "noise_p": "NFR above the noise floor (Fisher)",
    "sign_p": "sign test, old against new preferred",
}
VERDICT_WORDS: Mapping[str, str] = {
    "pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE", "none": "NO BUDGET"
}  # fmt: skip
VERDICT_SYMBOLS: Mapping[str, str] = {"pass": "✓", "fail": "✗", "inconclusive": "?", "none": "·"}
_SIGNED = ("net", "mean_difference")


class MetricInfo(NamedTuple):
    """How a metric is shown."""

    label: str
    unit: str
    """``share`` (percent), ``points`` (signed percentage points), ``score`` or ``ratio``."""
    help: str


METRICS: Mapping[str, MetricInfo] = {
    name: MetricInfo(*words)
    for name, *words in (
        ("accuracy_old", "accuracy, old", "share", "share of instances the old model gets right"),
        ("accuracy_new", "accuracy, new", "share", "share of instances the new model gets right"),
        ("score_old", "score, old", "score", "mean score of the old model"),
        ("score_new", "score, new", "score", "mean score of the new model"),
        ("nfr", "negative flip rate", "share", "share that was right and is now wrong, or scores lower"),
        ("pfr", "positive flip rate", "share", "share that was wrong and is now right, or scores higher"),
        ("net", "net change", "points", "new minus old accuracy: positive minus negative flips"),
        ("nfr_mc", "NFR incl. inconsistency (NFR_mc)", "share", "new model wrong, with another answer than the old"),
        ("inconsistency", "inconsistency", "share", "both wrong, with different answers"),
        ("relative_nfr", "relative NFR", "ratio",
         "NFR over what independent errors would give; 1 means errors are independent"),
        ("btc", "backward trust compat. (BTC)", "share", "of what the old model got right, still right"),
        ("bec", "backward error compat. (BEC)", "share", "of what the old model got wrong, still wrong"),
        ("nfi", "negative flip impact (NFI)", "share", "of the new model's errors, those that are new"),
        ("pfi", "positive flip impact (PFI)", "share", "of the new model's hits, those that are new"),
        ("agreement", "agreement", "share", "share of instances with the same answer"),
        ("both_correct_changed", "both correct, reworded", "share", "both correct, with different texts"),
        ("mean_gain", "mean gain", "score", "mean rise of the score where it rises"),
        ("mean_regression", "mean regression", "score", "mean fall of the score where it falls"),
        ("self_agreement_old", "judge's self-agreement, old", "share", "same verdict when the order is swapped"),
        ("self_agreement_new", "judge's self-agreement, new", "share", "same verdict when the order is swapped"),
        ("mean_difference", "mean difference", "score", "mean of new minus old score"),
        ("kl", "KL(old ‖ new), nats a token", "score",
         "mean divergence of next-token distributions on the task's own texts"),
        ("changed", "answers changed", "share", "share of instances whose answer is another one"),
        ("similarity", "similarity to old", "score", "mean score of the new answer with the old one as its target"),
        ("noticed", "a reader would notice", "share", "changed, and the judge prefers the same one in both orders"),
        ("preferred_new", "new preferred", "share", "the judge prefers the new answer in both orders"),
        ("preferred_old", "old preferred", "share", "the judge prefers the old answer in both orders"),
        ("tied", "changed, as good", "share", "changed, and the judge prefers none, or what stands first or last"),
        ("self_agreement", "judge's self-agreement", "share", "same verdict when the order is swapped"),
    )
}  # fmt: skip


GROUPS: Mapping[str, tuple[str, ...]] = {
    "Accuracy": ("accuracy_old", "accuracy_new", "net"),
    "Score": ("score_old", "score_new", "mean_difference", "mean_gain", "mean_regression"),
    "Change": ("changed", "similarity", "noticed", "tied"),
    "Compatibility": ("btc", "bec", "relative_nfr", "nfi", "pfi"),
    "Agreement": ("agreement", "both_correct_changed", "inconsistency", "nfr_mc", "self_agreement_old",
                  "self_agreement_new", "self_agreement"),
}  # fmt: skip
"""The metrics of a comparison in groups. Flips are in the picture of quadrants; a metric of no group is Further."""


def metric_info(name: str) -> MetricInfo:
    """How the metric ``name`` is shown; one that is not known here is shown under its own name, as a score."""
    return METRICS.get(name) or MetricInfo(name.replace("_", " "), "score", "")


def score_name(kind: str, side: str) -> str:
    """The metric that holds the mean score of a side, by the kind of the score."""
    return f"{'accuracy' if kind == 'discrete' else 'score'}_{side}"


def groups(comparison: Comparison) -> tuple[str, ...]:
    """The quadrants (discrete) or groups (smooth) of a comparison, in the order they are shown."""
    if comparison.reference is not None:
        return tuple(comparison.quadrants)
    return SMOOTH_GROUPS if comparison.kind == "smooth" else QUADRANTS


def ways(comparison: Comparison) -> tuple[str, str]:
    """What an answer scores that is worse, and one that is better; of a loss the worse one is higher."""
    return ("worse", "better") if comparison.lower_is_better else ("lower", "higher")


def kind(comparison: Comparison) -> str:
    """Which groups it has: ``discrete``, ``smooth``, ``changes`` or ``preferences``."""
    if comparison.reference is None:
        return comparison.kind
    return "preferences" if "tied" in comparison.quadrants else "changes"


def tiles(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """The figures that stand above all others, each as something that is worse, better or neither."""
    if comparison.reference is None:
        return ("nfr", "worse"), ("pfr", "better")
    names = ("changed", "similarity", "noticed", "agreement")
    return tuple((name, "") for name in names if name in comparison.metrics)[:3]


def share(count: int, of: int) -> str:
    """``count`` of ``of`` as percent; a dash where there is nothing to divide by."""
    return number(count / of, "share") if of else "–"


def plural(count: int, word: str) -> str:
    """``1 budget``, ``1,200 budgets``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


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


def tick(value: float) -> str:
    """A signed figure on an axis: ``−0.4``, ``0``."""
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def estimate(name: str, figure: Estimate | None) -> str:
    """The value of a metric, or ``undefined``; empty where there is no such metric."""
    if figure is None:
        return ""
    if figure.value is None:
        return "undefined"
    return number(figure.value, metric_info(name).unit, signed=name in _SIGNED)


def interval(name: str, figure: Estimate | None) -> str:
    """``5.4 – 8.1 %``; empty where there is no interval."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    unit = metric_info(name).unit
    low, high = (number(bound, unit, signed=name in _SIGNED) for bound in (figure.low, figure.high))
    suffix = {"share": " %", "points": " pts", "ratio": "×"}.get(unit, "")
    return f"{low.removesuffix(suffix)} – {high}"


def level(comparison: Comparison) -> str:
    """The level of the intervals, ``95 %``."""
    return f"{100 * comparison.confidence:.10g} %"


def denominator(figure: Estimate) -> str:
    """``88 of 1,319``, ``over 1,319`` or empty."""
    if figure.of is None:
        return ""
    return f"over {figure.of:,}" if figure.count is None else f"{figure.count:,} of {figure.of:,}"


def p_value(p: float | None, *, bare: bool = False) -> str:
    """``p = 0.012``, ``p < 0.0001`` or ``p undefined``; ``bare`` leaves ``p =`` away, for the column of a table."""
    if p is None or math.isnan(p):
        return "p undefined"
    text = "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"
    return text.removeprefix("p ").removeprefix("= ") if bare else text
