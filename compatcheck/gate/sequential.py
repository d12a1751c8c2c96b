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

from compatcheck.compare.looks import FigureEvidence
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import BoundPath, Comparison, Gate, Look
from compatcheck.compare.significance import holm
from compatcheck.errors import InputError
from compatcheck.gate.rules import CRITICAL, NAMES, Name, Rule, is_count, nothing_covered
from compatcheck.gate.verdict import label_of
from compatcheck.gate.writing import writer

GROWTH = 1.1
"""A look is kept for the report when there are so many times the instances of the one kept before it."""


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
    keeps: float = 0.0
    """Logarithm of the greatest evidence so far that the budget is kept."""
    breaks: float = 0.0
    looks: list[Look] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.decided_at is None

    @property
    def unit(self) -> str:
        return "score" if not self.known.percent else "points" if self.evidence.key == "net" else "share"

    @property
    def p_of_breaking(self) -> float:
        return math.exp(-self.breaks)

    def take(self, found: Sorted) -> None:
        """Add the pairs of a step."""
        self.evidence.add(found)
        self.n += int(found.scored.sum())
        above, below = self.evidence.evidence()
        keeps, breaks = (below, above) if self.known.upper else (above, below)
        self.keeps, self.breaks = max(self.keeps, keeps), max(self.breaks, breaks)

    def decide(self, verdict: str) -> None:
        self.verdict, self.decided_at = verdict, self.n

    def keep_look(self, alpha: float) -> None:
        """Note where the bounds are; with what earlier looks showed, which still holds."""
        threshold = self.evidence.threshold
        lower, upper = self.evidence.bounds(alpha)
        if self.verdict != "inconclusive":  # the bounds are found by bisection, the verdict is exact
            within = (self.verdict == "pass") == self.known.upper
            lower, upper = (lower, min(upper, threshold)) if within else (max(lower, threshold), upper)
        if self.looks:
            lower, upper = max(lower, self.looks[-1].lower), min(upper, self.looks[-1].upper)
        look = Look(self.n, self.evidence.value(), lower, upper)
        if self.looks and self.looks[-1].n == self.n:
            self.looks.pop()
        self.looks.append(look)


class Budgets:
    """All budgets of a run, judged after every step."""

    def __init__(self, rules: Sequence[Rule], confidence: float = 0.95) -> None:
        self._rules = list(rules)
        self.confidence = confidence
        self._alpha = 1 - confidence
        self.watched: list[Watched] = []
        self._seen: dict[str, list[Sorted]] = {}

    def watch(self, comparison: Comparison) -> None:
        """Set the budgets that cover a comparison; one that was known as another kind is judged anew.

        Raises:
            InputError: a figure that no bound at every look is known of.
        """
        self.watched = [one for one in self.watched if one.comparison != comparison.name]
        for rule in self._rules:
            key = rule.key(comparison) if rule.covers(comparison) else None
            if key is None or is_count(rule):
                continue  # rows that show nothing are counted at the end
            evidence = FigureEvidence(key, rule.threshold, comparison.metric)
            watched = Watched(rule, comparison.name, NAMES[key], label_of(rule, key), evidence)
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
        need = -math.log(self._alpha)
        decided: list[Watched] = []
        for one in self.watched:
            if one.open:
                if p_values.get(id(one), one.p_of_breaking) <= self._alpha:
                    one.decide("fail")
                elif one.keeps >= need:
                    one.decide("pass")
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
        return tuple(
            BoundPath(one.rule.text, one.evidence.threshold, one.verdict, one.decided_at, tuple(one.looks), one.unit)
            for one in self.watched
            if one.comparison == name
        )

    def gates(self) -> Mapping[tuple[str, str], Gate]:
        """The judgements in words, by the name of the comparison and the text of the rule."""
        return {(one.comparison, one.rule.text): self._gate(one) for one in self.watched}

    def _gate(self, one: Watched) -> Gate:
        look = next((each for each in one.looks if each.n == one.decided_at), one.looks[-1])

        def gate(reason: str) -> Gate:
            return Gate(one.rule.text, one.verdict, f"{one.label} {reason}", tier=one.rule.tier)

        if look.value is None:
            return gate("is undefined: none of the instances that were drawn counts for it")
        write = writer(one.known.percent, one.evidence.threshold, (look.value, look.lower, look.upper))
        level, value = f"{100 * self.confidence:g} % bound", write(look.value)
        budget = f"the budget {'of at most' if one.known.upper else 'of at least'} {write(one.evidence.threshold)}"
        if one.open:
            span = f"{write(look.lower)} to {write(look.upper)} by {level}s that hold at every look"
            return gate(f"{value} ({span}) leaves {budget} open after {one.n:,} instances")
        bad, good = (look.upper, look.lower) if one.known.upper else (look.lower, look.upper)
        word, bound = ("breaks", good) if one.verdict == "fail" else ("keeps", bad)
        return gate(
            f"{value} ({level} {write(bound)}, which holds at every look) {word} {budget}; decided after "
            f"{one.decided_at:,} instances"
        )
