"""Budgets as the user writes them: the grammar, the names that can be judged, and what cannot be meant."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from compatcheck.compare.result import Comparison
from compatcheck.errors import InputError, did_you_mean

GRAMMAR = "[task/][filter/][metric.]name:budget[%], for example nfr:2%, gsm8k/net:-1% or rouge1.regression:0.03"
CRITICAL, ADVISORY = "critical", "advisory"
"""Tiers: a critical budget gates, an advisory one is shown."""


@dataclass(frozen=True)
class Name:
    """How a name is judged. ``upper``: the budget is a maximum; ``rate``: a proportion of counted instances."""

    label: str
    upper: bool
    rate: bool = False
    percent: bool = True


NAMES = {
    "nfr": Name("NFR", upper=True, rate=True),
    "nfr_mc": Name("NFR_mc", upper=True, rate=True),
    "inconsistency": Name("inconsistency", upper=True, rate=True),
    "both_correct_changed": Name("change of answer while both are correct", upper=True, rate=True),
    "nfi": Name("NFI", upper=True, rate=True),
    "relative_nfr": Name("relative NFR", upper=True),
    "mean_regression": Name("mean regression", upper=True, percent=False),
    "pfr": Name("PFR", upper=False, rate=True),
    "btc": Name("BTC", upper=False, rate=True),
    "agreement": Name("agreement", upper=False, rate=True),
    "accuracy_new": Name("new accuracy", upper=False, rate=True),
    "net": Name("net change (PFR − NFR)", upper=False),
    "score_new": Name("new score", upper=False, percent=False),
    "mean_gain": Name("mean gain", upper=False, percent=False),
    "mean_difference": Name("mean difference", upper=False, percent=False),
}
COUNTS = {
    "missing": Name("missing rows", upper=True, rate=True),
    "errors": Name("rows in error", upper=True, rate=True),
    "no_answer": Name("rows without an answer", upper=True, rate=True),
    "cut_off": Name("answers that were cut off", upper=True, rate=True),
}
"""Budgets on rows that show nothing; they are counted, not estimated."""
SAME = {
    "accuracy": ("net",),
    "regression": ("mean_difference", "net"),
    "m_g": ("mean_gain",),
    "m_r": ("mean_regression",),
}
"""Other names, and the figures they stand for: the first that a comparison has."""
_OPTIONS = {CRITICAL: "--fail-on", ADVISORY: "--advisory"}
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
    tier: str = CRITICAL
    """``critical``: it bears on the verdict; ``advisory``: it is shown."""

    def covers(self, comparison: Comparison) -> bool:
        """Whether the rule speaks of this comparison."""
        scopes = ("", comparison.task, comparison.filter, f"{comparison.task}/{comparison.filter}")
        return self.scope in scopes and self.metric in ("", comparison.metric) and self.key(comparison) is not None

    def key(self, comparison: Comparison) -> str | None:
        """The figure of this comparison that the rule bounds, or None."""
        if self.name in COUNTS:
            return self.name
        return next((key for key in SAME.get(self.name, (self.name,)) if key in comparison.metrics), None)

    @property
    def threshold(self) -> float:
        """The bound on the figure itself: a permitted regression of 0.03 is a mean difference of at least −0.03."""
        return 0.0 - self.budget if self.name == "regression" else self.budget


def parse_share(option: str, value: float | str) -> float:
    """A share of at most 1: a number, or a text such as ``2%`` or ``0.02``.

    Raises:
        InputError: it is none.
    """
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1 or isinstance(value, bool):
        hint = f"; write {text}%" if share > 1 else ""
        raise InputError(f"{option} {text}: must be a share such as 2% or 0.02{hint}")
    return share


def is_count(rule: Rule) -> bool:
    """Whether a rule is about rows that show nothing."""
    return rule.name in COUNTS


def parse_rules(expressions: Sequence[str], tier: str = CRITICAL) -> list[Rule]:
    """Read ``--fail-on`` expressions, or those of ``--advisory``.

    Raises:
        InputError: an expression that does not follow the grammar, an unknown name, or a budget that cannot be meant.
    """
    return [_parse(text, tier) for text in expressions]


def _parse(text: str, tier: str) -> Rule:
    option = _OPTIONS[tier]
    read = _EXPRESSION.fullmatch(text)
    if read is None:
        raise InputError(f"{option} {text!r}: a rule reads {GRAMMAR}")
    scope, _, rest = read["path"].rpartition("/")
    metric, _, name = rest.rpartition(".")
    name = name.strip().lower().replace("-", "_")
    if name == "bec":
        raise InputError(
            f"{option} {text!r}: bec is shown and not judged, as it falls with every mistake of OLD that NEW puts "
            "right; set nfr or btc"
        )
    if name not in NAMES and name not in SAME and name not in COUNTS:
        known = [*NAMES, *SAME, *COUNTS]
        hint = did_you_mean(name, known)
        raise InputError(f"{option} {text!r}: no budget can be set on '{name}'{hint}; known are {', '.join(known)}")
    budget = float(read["number"]) / (100 if read["percent"] else 1)
    rule = Rule(text.strip(), scope.strip(), metric.strip(), name, budget, tier)
    _check_budget(rule, read["number"], bool(read["percent"]))
    return rule


def _check_budget(rule: Rule, number: str, percent: bool) -> None:
    """Refuse budgets that cannot be meant: 200 %, a negative rate."""

    def refuse(why: str) -> InputError:
        return InputError(f"{_OPTIONS[rule.tier]} {rule.text!r}: {why}")

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
    known = COUNTS.get(rule.name) or NAMES[SAME.get(rule.name, (rule.name,))[0]]
    if known.rate or rule.name == "relative_nfr":
        if value < 0:
            raise refuse("the budget is a proportion, so it is not negative")
        if known.rate and not percent and value >= 1:
            raise refuse(f"{number} means {100 * value:g} %; write {stem}:{number}%")
        if known.rate and value > 1:
            raise refuse("the budget is a proportion of at most 100%")


def nothing_covered(rule: Rule, comparisons: Sequence[Comparison]) -> str:
    """What to say of a rule that covers no comparison."""
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
        names = dict.fromkeys(key for each in comparisons for key in each.metrics if key in NAMES)
        kinds = " and ".join(dict.fromkeys(each.kind for each in comparisons))
        why = f"'{rule.name}' is not known of the {kinds} metrics compared here; known are {', '.join(names)}"
    return f"{_OPTIONS[rule.tier]} {rule.text!r} covers no comparison: {why}"
