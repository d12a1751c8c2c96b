"""Budgets as the user writes them: the grammar, the names that can be judged, and what cannot be meant."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from compatcheck.compare.beside import NO_PAIR
from compatcheck.compare.result import Absent, Comparison, Estimate, Slice
from compatcheck.errors import InputError, did_you_mean
from compatcheck.records import KL
from compatcheck.text import significant

GRAMMAR = (
    "[task/][filter/][field=value/][metric.]name:budget[%], for example nfr:2%, gsm8k/net:-1%, category=billing/nfr:5% "
    "or rouge1.regression:0.03"
)
CRITICAL, ADVISORY = "critical", "advisory"  # tiers: a critical budget gates, an advisory one is shown


class Name(NamedTuple):
    """How a name is judged. ``upper``: the budget is a maximum; ``rate``: a proportion of counted instances."""

    label: str
    upper: bool
    rate: bool = False
    percent: bool = True


NAMES = {
    "nfr": Name("negative flips", upper=True, rate=True),
    "nfr_mc": Name("answers changed to a wrong one (NFR_mc)", upper=True, rate=True),
    "inconsistency": Name("both wrong, with different answers", upper=True, rate=True),
    "both_correct_changed": Name("change of answer while both are correct", upper=True, rate=True),
    "nfi": Name("new errors among all errors (NFI)", upper=True, rate=True),
    "relative_nfr": Name("relative NFR", upper=True),
    "mean_regression": Name("mean regression", upper=True, percent=False),
    KL: Name("mean KL(old ‖ new)", upper=True, percent=False),
    "pfr": Name("positive flips", upper=False, rate=True),
    "btc": Name("right answers kept (BTC)", upper=False, rate=True),
    "agreement": Name("same answers", upper=False, rate=True),
    "accuracy_new": Name("new accuracy", upper=False, rate=True),
    "net": Name("net change", upper=False),
    "changed": Name("answers changed", upper=True, rate=True),
    "noticed": Name("changes that a reader would notice", upper=True, rate=True),
    "preferred_old": Name("OLD's answer preferred", upper=True, rate=True),
    "preferred_new": Name("NEW's answer preferred", upper=False, rate=True),
    "similarity": Name("similarity to OLD's answers", upper=False, percent=False),
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
OF_ROWS = ("missing", "errors")
"""Those of them that are of all rows; the others are of the rows that were scored."""
BESIDE = {
    "latency": Name("change of latency", upper=True),
    "latency_first": Name("change of the time to the first token", upper=True),
    "cost": Name("change of cost", upper=True),
    "output_tokens": Name("change of output tokens", upper=True),
    "length": Name("change of length", upper=True),
    "refusal": Name("answers that refuse", upper=True, rate=True),
}
"""Budgets beside quality: on how much NEW's mean is above OLD's, relative to it, or on a share of NEW's answers."""
SAME = {
    "accuracy": ("net",),
    "regression": ("mean_difference", "net"),
    "m_g": ("mean_gain",),
    "m_r": ("mean_regression",),
}
"""Other names, and the figures they stand for: the first that a comparison has."""
_SMOOTH = {"mean_regression", "mean_gain", "mean_difference", "score_new"}
_EITHER = {"nfr", "pfr", "agreement"}
"""Figures of smooth metrics alone, and of both kinds; all others are of discrete ones."""
OF_CHANGES = ("changed", "agreement", "similarity", "noticed", "preferred_old", "preferred_new")
"""What can be judged where OLD's answers are the reference, besides counts of rows."""
_OPTIONS = {CRITICAL: "--fail-on", ADVISORY: "--advisory"}
_EXPRESSION = re.compile(
    r"\s*(?P<path>.*\S)\s*:\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<percent>%?)\s*"
)


def judged_as(key: str, comparison: Comparison) -> Name:
    """How a figure of this comparison is judged: a new score is at most the budget where less is better."""
    known = NAMES[key]
    return known._replace(upper=True) if key == "score_new" and comparison.lower_is_better else known


@dataclass(frozen=True)
class Rule:
    """One budget, as the user wrote it (``text``) and as a number (proportion or the metric's own units)."""

    text: str
    scope: str  # task, filter or ``task/filter`` it is confined to; empty for all
    metric: str  # metric it is confined to; empty for all
    name: str
    budget: float
    tier: str = CRITICAL
    slice: tuple[str, str] | None = None  # field and value of the slice it is about; None for all instances

    def covers(self, comparison: Comparison) -> bool:
        """Whether the rule speaks of this comparison."""
        scopes = ("", comparison.task, comparison.filter, f"{comparison.task}/{comparison.filter}")
        return self.scope in scopes and self.metric in ("", comparison.metric) and self.key(comparison) is not None

    def would_cover(self, absent: Absent) -> bool:
        """Whether the rule would speak of a metric of OLD that NEW lacks."""
        if absent.metric is None or absent.side != "old" or self.is_count or self.is_beside or self.name == KL:
            return False
        names = set(SAME.get(self.name, (self.name,)))
        known = names & (_SMOOTH | _EITHER) if absent.kind == "smooth" else names - _SMOOTH
        scopes = ("", absent.task, absent.filter, f"{absent.task}/{absent.filter}")
        return self.scope in scopes and self.metric in ("", absent.metric) and bool(known)

    def key(self, comparison: Comparison) -> str | None:
        """The name of the figure of this comparison that the rule bounds, or None."""
        if self.is_count:
            return self.name
        if self.is_beside:
            one = (comparison.beside or {}).get(self.name)
            known = one is not None and (one.n or one.new.why == NO_PAIR or not comparison.n)
            return self.name if known else None
        if self.slice is not None:
            part = self.part(comparison)
            if part is None or (self.name == "agreement" and part.changed is None):
                return None
        return next((key for key in SAME.get(self.name, (self.name,)) if key in comparison.metrics), None)

    def part(self, comparison: Comparison) -> Slice | None:
        """The slice of this comparison that the rule is about."""
        return next((one for one in comparison.slices if (one.field, one.value) == self.slice), None)

    def figure(self, comparison: Comparison) -> tuple[Estimate, int]:
        """The figure that the rule bounds, and of how many instances it is."""
        if self.is_beside:
            beside = (comparison.beside or {})[self.name]
            return beside.ratio or beside.new, beside.n
        part = self.part(comparison)
        if part is None:
            return comparison.metrics[self.key(comparison) or ""], comparison.n
        if part.changed is not None:
            return part.changed if self.name == "changed" else _complement(part.changed), part.n
        return part.nfr if self.name == "nfr" or part.lost is None else _complement(part.lost), part.n

    @property
    def as_option(self) -> str:
        """As it stands on the command line: ``--fail-on 'nfr:2%'``."""
        return f"{_OPTIONS[self.tier]} {self.text!r}"

    @property
    def threshold(self) -> float:
        """The bound on the figure itself: a permitted regression of 0.03 is a mean difference of at least −0.03."""
        return 0.0 - self.budget if self.name == "regression" else self.budget

    @property
    def is_count(self) -> bool:
        """Whether it is about rows that show nothing."""
        return self.name in COUNTS

    @property
    def is_beside(self) -> bool:
        """Whether it is about a figure beside quality."""
        return self.name in BESIDE


def _complement(share: Estimate) -> Estimate:
    """1 − share with its bounds."""

    def rest(value: float | None) -> float | None:
        return None if value is None else 1 - value

    at = share.one_sided
    return replace(
        share, value=rest(share.value), low=rest(share.high), high=rest(share.low), lower=rest(share.upper),
        upper=rest(share.lower), count=None if share.count is None or share.of is None else share.of - share.count,
        one_sided=None if at is None else lambda confidence: (1 - at(confidence)[1], 1 - at(confidence)[0]),
    )  # fmt: skip


def parse_share(option: str, value: float | str) -> float:
    """A share of at most 1: a number, or a text such as ``2%`` or ``0.02``. Raises InputError: it is none."""
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1 or isinstance(value, bool):
        hint = f"; write {text}%" if share > 1 else ""
        raise InputError(f"{option} {text}: must be a share such as 2% or 0.02{hint}")
    return share


def slice_fields(rules: Iterable[Rule]) -> list[str]:
    """The fields whose values budgets are set on: what has to be sliced by."""
    return list(dict.fromkeys(rule.slice[0] for rule in rules if rule.slice is not None))


def parse_rules(expressions: Sequence[str], tier: str = CRITICAL) -> list[Rule]:
    """Read ``--fail-on`` expressions, or those of ``--advisory``.
    Raises InputError: an expression that does not follow the grammar, an unknown name, or a budget that cannot be
    meant."""
    return [_parse(text, tier) for text in expressions]


def _parse(text: str, tier: str) -> Rule:
    read, said = _EXPRESSION.fullmatch(text), f"{_OPTIONS[tier]} {text!r}"
    if read is None:
        raise InputError(f"{said}: a rule reads {GRAMMAR}")
    path, _, rest = read["path"].rpartition("/")
    metric, _, name = rest.rpartition(".")
    name = name.strip().lower().replace("-", "_")
    part = None
    if "=" in path:  # the value may hold anything, a slash too
        before, _, value = path.partition("=")
        path, _, field = before.rpartition("/")
        part = field.strip(), value.strip()
    if name == "bec":
        raise InputError(
            f"{said}: bec is shown and not judged, as it falls with every mistake of OLD that NEW puts "
            "right; set nfr or btc"
        )
    known = [*NAMES, *SAME, *COUNTS, *BESIDE]
    if name not in known:
        hint = did_you_mean(name, known)
        raise InputError(f"{said}: no budget can be set on '{name}'{hint}; known are {', '.join(known)}")
    if part is not None and name not in ("nfr", "btc", "changed", "agreement"):
        raise InputError(f"{said}: on a slice a budget is set on nfr or btc; {name} is judged of all instances alone")
    budget = float(read["number"]) / (100 if read["percent"] else 1)
    rule = Rule(text.strip(), path.strip(), metric.strip(), name, budget, tier, part)
    if why := _cannot_be_meant(rule, read["number"], bool(read["percent"])):
        raise InputError(f"{rule.as_option}: {why}")
    return rule


def check_reference(rules: Iterable[Rule]) -> None:
    """Raise InputError for a budget on right and wrong answers where OLD's answers are the reference."""
    for rule in rules:
        if rule.name not in OF_CHANGES and not rule.is_count and not rule.is_beside:
            raise InputError(
                f"{rule.as_option}: '{rule.name}' needs targets, and OLD's answers are the "
                "reference: an answer is changed, not wrong; set changed:5%, agreement:95%, a similarity such as "
                "rouge1.similarity:0.9 or, with a judge, noticed:5%"
            )


def _cannot_be_meant(rule: Rule, number: str, percent: bool) -> str | None:
    """Why a budget cannot be meant: 200 %, a negative rate."""
    stem, value = rule.text.rpartition(":")[0].strip(), rule.budget
    if rule.is_beside and rule.metric:
        return f"{rule.name} is of the answers, whatever they are scored by; write {rule.name}:…"
    if not math.isfinite(value):
        return "the budget is a finite number"
    if rule.name in ("net", "accuracy"):
        if not percent and abs(value) >= 1:
            return f"{number} means {100 * value:g} %; write {stem}:{number}%"
        if abs(value) > 1:
            return "the budget is a difference of two proportions, from -100% to 100%"
        if rule.name == "accuracy" and value >= 0.5:
            return (
                f"this asks for an accuracy {100 * value:g} points above the old one; for a new accuracy of at least "
                f"that write {stem.removesuffix('accuracy')}accuracy_new:{100 * value:g}%"
            )
        return None
    if rule.is_beside and not BESIDE[rule.name].rate:
        if not percent:
            return f"it says by how much NEW may be above OLD; write {stem}:+10%"
        return "a mean cannot fall by more than all of it" if value <= -1 else None
    if rule.name == "refusal" and number.startswith("+"):
        return f"it is a share of NEW's answers, not a change; write {stem}:{number.lstrip('+')}%"
    if rule.name == "regression":
        why = "it says by how much the mean may fall, so it is not negative"
        return f"{why}; write {stem}:{number.lstrip('-')}" if value < 0 else None
    known = COUNTS.get(rule.name) or BESIDE.get(rule.name) or NAMES[SAME.get(rule.name, (rule.name,))[0]]
    if rule.name == KL and (percent or value < 0):
        return "the budget is a mean divergence in nats, such as kl:0.01"
    if value < 0 and (known.rate or rule.name == "relative_nfr"):
        return "the budget is a proportion, so it is not negative"
    if known.rate and not percent and value >= 1:
        return f"{number} means {100 * value:g} %; write {stem}:{number}%"
    return "the budget is a proportion of at most 100%" if known.rate and value > 1 else None


def nothing_covered(rule: Rule, comparisons: Sequence[Comparison]) -> str:
    """What to say of a rule that covers no comparison."""

    def unknown(word: str, known: Iterable[str]) -> str:
        names = [name for name in dict.fromkeys(known) if name not in ("", "none")]
        return f"is called '{word}'{did_you_mean(word, names)}; there are {', '.join(names[:50])}"

    metrics = [each.metric for each in comparisons]
    scopes = {name for each in comparisons for name in (each.task, each.filter, f"{each.task}/{each.filter}")}
    if rule.scope and rule.scope not in scopes:
        names = (name for each in comparisons for name in (each.task, each.filter))
        why = f"no task or filter {unknown(rule.scope, names)}"
    elif rule.metric and rule.metric not in metrics:
        why = f"no metric {unknown(rule.metric, metrics)}"
    elif rule.slice is not None and all(rule.part(each) is None for each in comparisons):
        field, value = rule.slice
        values = [one.value for each in comparisons for one in each.slices if one.field == field]
        why = f"no slice by '{field}' {unknown(value, values)}" if values else f"there is no --slice-by {field}"
    elif rule.slice is not None and rule.name in ("changed", "agreement"):
        why = f"{rule.name} of a slice is known where OLD's answers are the reference (--reference old)"
    elif rule.is_beside:
        found = [(each.beside or {})[rule.name] for each in comparisons if rule.name in (each.beside or {})]
        why = next((one.new.why for one in found if one.new.why), None) or f"{rule.name} was not measured"
    elif rule.name == KL:
        why = "the divergence was not measured; add --metric kl"
    else:
        known = dict.fromkeys(key for each in comparisons for key in each.metrics if key in NAMES)
        kinds = " and ".join(dict.fromkeys(each.kind for each in comparisons))
        why = f"'{rule.name}' is not known of the {kinds} metrics compared here; known are {', '.join(known)}"
    return f"{rule.as_option} covers no comparison: {why}"


def writer(percent: bool, threshold: float, others: Iterable[float]) -> Callable[[float], str]:
    """A way to write figures: three digits, and more where a figure would read like the budget without being it."""
    scale, unit = (100, " %") if percent else (1, "")

    def at(digits: int) -> Callable[[float], str]:
        return lambda value: f"{'−' if value < 0 else ''}{significant(scale * abs(value), digits)}{unit}"

    ways = (at(digits) for digits in range(3, 9))
    unequal = [value for value in others if value != threshold]
    return next((way for way in ways if all(way(value) != way(threshold) for value in unequal)), at(9))


def rows(count: int, of: int) -> str:
    """``3 of 400 rows``."""
    return f"{count:,} of {of:,} rows"


def share_of(share: float) -> str:
    """``35 %``, two digits that count."""
    return f"{100 * share:.3g} %"
