"""Budgets and verdicts: does the evidence show that a metric keeps its budget, that it breaks it, or neither?

A rule is judged on one-sided bounds. An upper budget fails when the lower bound is beyond it, passes when the upper
bound is within it, and is inconclusive in between; a lower budget the other way round. "Not significant" never passes.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from compatcheck.compare.intervals import wilson, z_values
from compatcheck.compare.result import Comparison, Estimate, Gate
from compatcheck.errors import ExitCode, InputError, did_you_mean

GRAMMAR = "[task/][filter/][metric.]name:budget[%], for example nfr:2%, gsm8k/net:-1% or rouge1.regression:0.03"

_EXIT_CODES = {
    "pass": ExitCode.OK,
    "none": ExitCode.OK,
    "fail": ExitCode.REGRESSION,
    "inconclusive": ExitCode.INCONCLUSIVE,
}

MIN_AVERAGED = 30
"""A mean of fewer values settles nothing: so small a sample may miss the rare case that moves the mean."""

_MOST_INSTANCES = 1_000_000_000


@dataclass(frozen=True)
class _Name:
    """How a name is judged. ``upper``: the budget is a maximum; ``rate``: a proportion with a Wilson interval."""

    label: str
    upper: bool
    rate: bool = False
    percent: bool = True


_NAMES = {
    "nfr": _Name("NFR", upper=True, rate=True),
    "nfr_mc": _Name("NFR_mc", upper=True, rate=True),
    "inconsistency": _Name("inconsistency", upper=True, rate=True),
    "both_correct_changed": _Name("change of answer while both are correct", upper=True, rate=True),
    "nfi": _Name("NFI", upper=True, rate=True),
    "relative_nfr": _Name("relative NFR", upper=True),
    "mean_regression": _Name("mean regression", upper=True, percent=False),
    "pfr": _Name("PFR", upper=False, rate=True),
    "btc": _Name("BTC", upper=False, rate=True),
    "bec": _Name("BEC", upper=False, rate=True),
    "agreement": _Name("agreement", upper=False, rate=True),
    "accuracy_new": _Name("new accuracy", upper=False, rate=True),
    "net": _Name("net change (PFR − NFR)", upper=False),
    "score_new": _Name("new score", upper=False, percent=False),
    "mean_gain": _Name("mean gain", upper=False, percent=False),
    "mean_difference": _Name("mean difference", upper=False, percent=False),
}
_SAME = {
    "accuracy": ("net",),
    "regression": ("mean_difference", "net"),
    "m_g": ("mean_gain",),
    "m_r": ("mean_regression",),
}
"""Other names, and the figures they stand for: the first that a comparison has."""
_EXPRESSION = re.compile(
    r"\s*(?P<path>.*\S)\s*:\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<percent>%?)\s*"
)


@dataclass(frozen=True)
class Rule:
    """One budget, as the user wrote it (``text``) and as a number (proportion or the metric's own units)."""

    text: str
    scope: str
    """Task, filter or ``task/filter`` it is confined to; empty for all."""
    metric: str
    """Metric it is confined to; empty for all."""
    name: str
    budget: float

    def covers(self, comparison: Comparison) -> bool:
        """Whether the rule speaks of this comparison."""
        scopes = ("", comparison.task, comparison.filter, f"{comparison.task}/{comparison.filter}")
        return self.scope in scopes and self.metric in ("", comparison.metric) and self.key(comparison) is not None

    def key(self, comparison: Comparison) -> str | None:
        """The figure of this comparison that the rule bounds, or None."""
        return next((key for key in _SAME.get(self.name, (self.name,)) if key in comparison.metrics), None)

    @property
    def threshold(self) -> float:
        """The bound on the figure itself: a permitted regression of 0.03 is a mean difference of at least −0.03."""
        return 0.0 - self.budget if self.name == "regression" else self.budget


def parse_rules(expressions: Sequence[str]) -> list[Rule]:
    """Read ``--fail-on`` expressions.

    Raises:
        InputError: an expression that does not follow the grammar, an unknown name, or a budget that cannot be meant.
    """
    return [_parse(text) for text in expressions]


def judge(comparisons: Sequence[Comparison], rules: Sequence[Rule]) -> tuple[tuple[Comparison, ...], str]:
    """Judge every rule on every comparison it covers; return the comparisons with their gates, and the verdict.

    The verdict is ``fail`` if any gate fails, else ``inconclusive`` if any is, else ``pass``; ``none`` without rules.

    Raises:
        InputError: a rule that covers no comparison.
    """
    for rule in rules:
        if not any(rule.covers(each) for each in comparisons):
            raise InputError(_nothing_covered(rule, comparisons))
    judged = tuple(
        each.with_gates(tuple(_gate(rule, each) for rule in rules if rule.covers(each))) for each in comparisons
    )
    return judged, _worst(gate.verdict for each in judged for gate in each.gates)


def noise_remarks(comparisons: Sequence[Comparison], rules: Sequence[Rule]) -> tuple[str, ...]:
    """Hold every budget against the measured noise floor; a sentence for each that is within its interval.

    A budget that reruns of OLD against OLD use up by themselves says nothing of NEW, so it is no verdict but an error:
    at or below the measured rate for what may be at most so much, at or above it for what must be at least so much. A
    measured noise of none forbids no budget.

    Raises:
        InputError: a budget at or below the noise floor.
    """
    found = []
    for rule, each in itertools.product(rules, comparisons):
        key = rule.key(each) if rule.covers(each) else None
        noise = each.noise.metrics.get(key) if each.noise is not None and key is not None else None
        if noise is None or noise.value is None or not _NAMES[key or ""].rate:
            continue
        assert each.noise is not None and key is not None and noise.lower is not None and noise.upper is not None
        known, budget = _NAMES[key], rule.threshold
        edge = noise.upper if known.upper else noise.lower
        write = _writer(known.percent, budget, (noise.value, edge))
        sign, way = ("above", "up to") if known.upper else ("below", "down to")
        measured = f"{known.label} {write(noise.value)}, by its bound {way} {write(edge)}; {each.noise.source}"
        if noise.value != (0.0 if known.upper else 1.0) and (
            budget <= noise.value if known.upper else budget >= noise.value
        ):
            raise InputError(
                f"--fail-on {rule.text!r}: the budget is within the noise floor of {each.name} ({measured}): the old "
                f"model breaks it against itself, so it can tell nothing of the new one; set one {sign} {write(edge)}"
            )
        if noise.value != (0.0 if known.upper else 1.0) and (budget <= edge if known.upper else budget >= edge):
            found.append(
                f"{each.name}: the budget {rule.text} is hardly {sign} the noise floor ({measured}); its verdict may "
                "be noise"
            )
    return tuple(found)


def exit_code(verdict: str) -> ExitCode:
    """The exit code that a verdict stands for."""
    return _EXIT_CODES[verdict]


def _worst(verdicts: Iterable[str]) -> str:
    found = set(verdicts)
    return next((verdict for verdict in ("fail", "inconclusive", "pass") if verdict in found), "none")


def _parse(text: str) -> Rule:
    read = _EXPRESSION.fullmatch(text)
    if read is None:
        raise InputError(f"--fail-on {text!r}: a rule reads {GRAMMAR}")
    scope, _, rest = read["path"].rpartition("/")
    metric, _, name = rest.rpartition(".")
    name = name.strip().lower().replace("-", "_")
    if name not in _NAMES and name not in _SAME:
        known = [*_NAMES, *_SAME]
        hint = did_you_mean(name, known)
        raise InputError(f"--fail-on {text!r}: no budget can be set on '{name}'{hint}; known are {', '.join(known)}")
    budget = float(read["number"]) / (100 if read["percent"] else 1)
    rule = Rule(text.strip(), scope.strip(), metric.strip(), name, budget)
    _check_budget(rule, read["number"], bool(read["percent"]))
    return rule


def _check_budget(rule: Rule, number: str, percent: bool) -> None:
    """Refuse budgets that cannot be meant: 200 %, a negative rate."""

    def refuse(why: str) -> InputError:
        return InputError(f"--fail-on {rule.text!r}: {why}")

    stem = rule.text.rpartition(":")[0].strip()
    value = rule.budget
    if not math.isfinite(value):
        raise refuse("the budget is a finite number")
    if rule.name in ("net", "accuracy"):
        if not percent and abs(value) >= 1:
            raise refuse(f"{number} means {100 * value:g} %; write {stem}:{number}%")
        if abs(value) > 1:
            raise refuse("the budget is a difference of two proportions, from -100% to 100%")
        if rule.name == "accuracy" and value >= 0.5:
            raise refuse(
                f"this asks for an accuracy {100 * value:g} points above the old one; for a new accuracy of at least "
                f"that write {stem.removesuffix('accuracy')}accuracy_new:{100 * value:g}%"
            )
        return
    if rule.name == "regression":
        if value < 0:
            raise refuse(
                f"it says by how much the mean may fall, so it is not negative; write {stem}:{number.lstrip('-')}"
            )
        return
    known = _NAMES[_SAME.get(rule.name, (rule.name,))[0]]
    if known.rate or rule.name == "relative_nfr":
        if value < 0:
            raise refuse("the budget is a proportion, so it is not negative")
        if known.rate and not percent and value >= 1:
            raise refuse(f"{number} means {100 * value:g} %; write {stem}:{number}%")
        if known.rate and value > 1:
            raise refuse("the budget is a proportion of at most 100%")


def _nothing_covered(rule: Rule, comparisons: Sequence[Comparison]) -> str:
    scopes = dict.fromkeys(
        name for each in comparisons for name in (each.task, each.filter) if name not in ("", "none")
    )
    if rule.scope and not any(
        rule.scope in (each.task, each.filter, f"{each.task}/{each.filter}") for each in comparisons
    ):
        hint = did_you_mean(rule.scope, scopes)
        why = f"no task or filter is called '{rule.scope}'{hint}; there are {', '.join(scopes)}"
    elif rule.metric and rule.metric not in (metrics := list(dict.fromkeys(each.metric for each in comparisons))):
        why = f"no metric is called '{rule.metric}'{did_you_mean(rule.metric, metrics)}; there are {', '.join(metrics)}"
    else:
        names = dict.fromkeys(key for each in comparisons for key in each.metrics if key in _NAMES)
        kinds = " and ".join(dict.fromkeys(each.kind for each in comparisons))
        why = f"'{rule.name}' is not known of the {kinds} metrics compared here; known are {', '.join(names)}"
    return f"--fail-on {rule.text!r} covers no comparison: {why}"


def _gate(rule: Rule, comparison: Comparison) -> Gate:
    key = rule.key(comparison)
    assert key is not None  # covers() said so
    known, figure, threshold = _NAMES[key], comparison.metrics[key], rule.threshold
    label = known.label if key != "net" or rule.name == "net" else "accuracy change"
    if figure.value is None:
        if key == "mean_regression" and comparison.n >= MIN_AVERAGED:
            # Nothing regressed in a sample worth the name: no instance speaks against the budget.
            return Gate(rule.text, "pass", f"{label} is undefined, as {figure.why}: nothing goes against the budget")
        return Gate(rule.text, "inconclusive", f"{label} is undefined: {figure.why}")
    averaged = figure.count if key.startswith(("mean_", "score_")) else None
    if averaged is not None and averaged < MIN_AVERAGED:
        needed = math.ceil(comparison.n * MIN_AVERAGED / averaged)
        return Gate(
            rule.text,
            "inconclusive",
            f"{label} is {figure.value:.3g}, a mean of {averaged}: fewer than {MIN_AVERAGED} values settle no budget",
            needed,
        )
    lower, upper = figure.lower, figure.upper
    assert lower is not None and upper is not None  # only a mean of a single value has no bounds
    write = _writer(known.percent, threshold, (figure.value, lower, upper))
    level = f"one-sided {100 * comparison.confidence:g} % bound"
    value, budget = write(figure.value), write(threshold)
    worst, best = (upper, lower) if known.upper else (lower, upper)
    side = "of at most" if known.upper else "of at least"
    if (best > threshold) if known.upper else (best < threshold):
        return Gate(rule.text, "fail", f"{label} {value} ({level} {write(best)}) breaks the budget {side} {budget}")
    if (worst <= threshold) if known.upper else (worst >= threshold):
        return Gate(rule.text, "pass", f"{label} {value} ({level} {write(worst)}) keeps the budget {side} {budget}")
    needed_n, how = _needed(known, figure, threshold, comparison)
    span = f"{write(lower)} to {write(upper)} by {level}s"
    return Gate(
        rule.text, "inconclusive", f"{label} {value} ({span}) leaves the budget {side} {budget} open; {how}", needed_n
    )


def _writer(percent: bool, threshold: float, others: Iterable[float]) -> Callable[[float], str]:
    """A way to write figures: three digits, and more where a figure would read like the budget without being it."""
    scale, unit = (100, " %") if percent else (1, "")

    def at(digits: int) -> Callable[[float], str]:
        return lambda value: f"{'−' if value < 0 else ''}{scale * abs(value):.{digits}g}{unit}"

    for digits in range(3, 9):
        write = at(digits)
        if all(write(value) != write(threshold) for value in others if value != threshold):
            return write
    return at(9)


def _needed(known: _Name, figure: Estimate, threshold: float, comparison: Comparison) -> tuple[int | None, str]:
    """About how many instances settle the rule if the observed value holds, and that in words."""
    value, lower, upper = figure.value, figure.lower, figure.upper
    assert value is not None and lower is not None and upper is not None
    if known.rate and ((known.upper and threshold == 0) or (not known.upper and threshold == 1)) and value == threshold:
        return None, "no sample, however large, proves a budget that leaves no room"
    if value == threshold:
        return None, "the observed value is the budget itself, so it cannot be said how many instances would settle it"
    if known.rate:
        assert figure.count is not None and figure.of is not None
        worth = 1.0 if figure.effective is None else figure.effective / figure.of
        scale = _growth(figure.count * worth, figure.of * worth, threshold, z_values(comparison.confidence)[1])
    else:
        # The interval of a mean or a ratio narrows with the square root of the number of instances.
        reach = upper - value if value < threshold else value - lower
        scale = (reach / abs(threshold - value)) ** 2
    if scale is None or comparison.n * scale > _MOST_INSTANCES:
        return None, "the observed value is too close to the budget to say how many instances would settle it"
    needed = max(comparison.n + 1, math.ceil(comparison.n * scale))
    return needed, f"about {needed:,} instances would settle it if it stays so (there are {comparison.n:,})"


def _growth(count: float, of: float, threshold: float, z: float) -> float | None:
    """The least factor of the sample at which the Wilson bound on the budget's side clears it; None if none does."""

    def settled(scale: float) -> bool:
        low, high = wilson(count * scale, of * scale, z)
        return high <= threshold if count < threshold * of else low >= threshold

    most = _MOST_INSTANCES / of
    if not settled(most):
        return None
    least = 1.0
    while most - least > 1e-9 * most and (most - least) * of > 1e-3:
        middle = (least + most) / 2
        least, most = (least, middle) if settled(middle) else (middle, most)
    return most
