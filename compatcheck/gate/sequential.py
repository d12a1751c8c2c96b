"""Budgets judged after every step of an evaluation, at a level that holds over all looks and all budgets together.

A budget passes once the evidence against "it is broken" reaches 1/α. It fails once Holm's step-down over all critical
budgets shows it broken; its p-value is the inverse of the greatest evidence seen so far, which is valid whenever one
looks (Ville 1939), so that the failures of a run hold together as they do where the number of instances is fixed. What
is decided stays decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compatcheck.compare.looks import BoundPath, Look
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import Comparison, Gate
from compatcheck.compare.sequential import FigureEvidence
from compatcheck.compare.significance import holm
from compatcheck.errors import InputError
from compatcheck.gate.rules import CRITICAL, Name, Rule, judged_as, nothing_covered, writer
from compatcheck.gate.verdict import against, label_of
from compatcheck.records import CONFIDENCE

GROWTH = 1.1  # a look is kept for the report when there are so many times the instances of the one kept before it


@dataclass
class Watched:
    """One budget on one comparison, and what was seen of it so far."""

    rule: Rule
    comparison: str
    known: Name
    label: str
    evidence: FigureEvidence
    n: int = 0
    verdict: str = "inconclusive"
    decided_at: int | None = None
    keeps: float = 0.0  # logarithms of the greatest evidence so far that the budget is kept, and that it is broken
    breaks: float = 0.0
    looks: list[Look] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.decided_at is None

    @property
    def p_of_breaking(self) -> float:
        return math.exp(-self.breaks)

    def take(self, found: Sorted) -> None:
        """Add the pairs of a step."""
        self.evidence.add(found)
        self.n += int(found.scored.sum())
        above, below = self.evidence.gathered.evidence()
        keeps, breaks = (below, above) if self.known.upper else (above, below)
        self.keeps, self.breaks = max(self.keeps, keeps), max(self.breaks, breaks)

    def keep_look(self, alpha: float) -> None:
        """Note where the bounds are; with what earlier looks showed, which still holds."""
        threshold = self.evidence.threshold
        lower, upper = self.evidence.gathered.bounds(alpha)
        if self.verdict != "inconclusive":  # the bounds are found by bisection, the verdict is exact
            within = (self.verdict == "pass") == self.known.upper
            lower, upper = (lower, min(upper, threshold)) if within else (max(lower, threshold), upper)
        if self.looks:
            lower, upper = max(lower, self.looks[-1].lower), min(upper, self.looks[-1].upper)
        if self.looks and self.looks[-1].n == self.n:
            self.looks.pop()
        self.looks.append(Look(self.n, self.evidence.gathered.value(), lower, upper))

    @property
    def path(self) -> BoundPath:
        """How the budget was judged."""
        unit = "score" if not self.known.percent else "points" if self.evidence.key == "net" else "share"
        threshold = self.evidence.threshold
        return BoundPath(self.rule.text, threshold, self.verdict, self.decided_at, tuple(self.looks), unit)

    def gate(self, confidence: float) -> Gate:
        """The judgement in words."""
        look = next((each for each in self.looks if each.n == self.decided_at), self.looks[-1])
        threshold, upper = self.evidence.threshold, self.known.upper
        if look.value is None:
            reason = "is undefined: none of the instances that were drawn counts for it"
            return Gate(self.rule.text, self.verdict, f"{self.label} {reason}", tier=self.rule.tier)
        write = writer(self.known.percent, threshold, (look.value, look.lower, look.upper))
        level, value = f"{100 * confidence:g} %", write(look.value)
        judged = against(self.verdict, upper, write(threshold))
        if self.open:
            span = f"{write(look.lower)} to {write(look.upper)} by {level} bounds that hold at every look"
            reason = f"{value} ({span}): {judged} after {self.n:,} instances"
        else:
            least = (self.verdict == "fail") == upper
            bound = f"{'at least' if least else 'at most'} {write(look.lower if least else look.upper)}"
            reason = (
                f"{value}, with {level} confidence at every look {bound}: {judged}; decided after "
                f"{self.decided_at:,} instances"
            )
        return Gate(self.rule.text, self.verdict, f"{self.label} {reason}", tier=self.rule.tier)


class Budgets:
    """All budgets of a run, judged after every step."""

    def __init__(self, rules: Sequence[Rule], confidence: float = CONFIDENCE) -> None:
        self._rules, self.confidence, self._alpha = list(rules), confidence, 1 - confidence
        self.watched: list[Watched] = []
        self._seen: dict[str, list[Sorted]] = {}
        sliced = next((rule for rule in self._rules if rule.slice is not None), None)
        if sliced is not None:
            raise InputError(
                f"--until-decided: the budget {sliced.text!r} is on a slice, and no bound of it holds at every look; "
                "evaluate a fixed number of instances"
            )

    def watch(self, comparison: Comparison) -> None:
        """Set the budgets that cover a comparison; one that was known as another kind is judged anew.
        Raises InputError: a figure that no bound at every look is known of."""
        self.watched = [one for one in self.watched if one.comparison != comparison.name]
        for rule in self._rules:
            key = rule.key(comparison) if rule.covers(comparison) else None
            if key is None or rule.is_count:
                continue  # rows that show nothing are counted at the end
            evidence = FigureEvidence(key, rule.threshold, comparison.metric)
            watched = Watched(rule, comparison.name, judged_as(key, comparison), label_of(rule, key), evidence)
            for found in self._seen.get(comparison.name, []):
                watched.take(found)
            self.watched.append(watched)

    def check_covered(self, comparisons: Sequence[Comparison]) -> None:
        """Raise InputError for a rule that covers none of the comparisons."""
        for rule in self._rules:
            if not any(rule.covers(each) for each in comparisons):
                raise InputError(nothing_covered(rule, comparisons))

    def take(self, name: str, found: Sorted) -> None:
        """Add the pairs of a further step of a comparison."""
        self._seen.setdefault(name, []).append(found)
        for watched in self.watched:
            if watched.comparison == name:
                watched.take(found)

    def look(self) -> list[Watched]:
        """Judge what is still open; the budgets that are decided now."""
        critical = [one for one in self.watched if one.rule.tier == CRITICAL]
        p_values = dict(zip(map(id, critical), holm([one.p_of_breaking for one in critical]), strict=True))
        decided: list[Watched] = []
        for one in self.watched:
            if one.open:
                if p_values.get(id(one), one.p_of_breaking) <= self._alpha:
                    one.verdict, one.decided_at = "fail", one.n
                elif one.keeps >= -math.log(self._alpha):
                    one.verdict, one.decided_at = "pass", one.n
                if not one.open:
                    decided.append(one)
            last = one.looks[-1].n if one.looks else 0
            if one in decided or one.n >= max(GROWTH * last, last + 1):
                one.keep_look(self._alpha)
        return decided

    def open(self, names: Sequence[str]) -> bool:
        """Whether a critical budget on one of these comparisons is not decided yet."""
        return any(one.open for one in self.watched if one.comparison in names and one.rule.tier == CRITICAL)

    def finish(self) -> None:
        """Note the last look of every budget."""
        for one in self.watched:
            if not one.looks or one.looks[-1].n < one.n:
                one.keep_look(self._alpha)

    def paths(self, name: str) -> tuple[BoundPath, ...]:
        """How the budgets of a comparison were judged."""
        return tuple(one.path for one in self.watched if one.comparison == name)

    def gates(self) -> Mapping[tuple[str, str], Gate]:
        """The judgements in words, by the name of the comparison and the text of the rule."""
        return {(one.comparison, one.rule.text): one.gate(self.confidence) for one in self.watched}
