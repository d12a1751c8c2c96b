"""A comparison that draws documents in a random order until every critical budget is decided.

The number of documents is not fixed beforehand, so the budgets are judged by evidence that holds at every look
(:mod:`compatcheck.gate.sequential`). What was drawn is the same for the same seed, step and documents, and models'
answers are kept as they come: a run that was killed goes the same way again and ends with the same verdict.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compatcheck.compare.comparison import compare
from compatcheck.compare.counterparts import counterparts
from compatcheck.compare.pairing import pair
from compatcheck.compare.quadrants import Sorted, sort_pairs
from compatcheck.compare.result import Comparison, Gate, Sequential
from compatcheck.errors import InputError
from compatcheck.evaluation.collect import Request
from compatcheck.evaluation.drawing import Drawing, drawing
from compatcheck.gate.rules import CRITICAL, Rule
from compatcheck.gate.sequential import Budgets, Watched
from compatcheck.options import Diff
from compatcheck.records import Metric, Run, TaskRun

STEP = 25
SETTING = "sequential"
"""Name under which the signature says that the number of instances was not fixed."""
_UNPAIRED = 100
"""Where so many documents were drawn and none found its partner, the sides do not belong together."""


@dataclass(frozen=True)
class Plan:
    """How documents are drawn: so many at a time, at most so many of a task (None: all), in the order of a seed."""

    step: int = STEP
    most: int | None = None
    seed: int = 0
    epsilon: float = 0.0
    correct_at: float | None = None


_EXCLUDED = {
    "cluster_by": "bounds that hold at every look count instances one by one",
    "noise_floor": "measure it apart, with compatcheck noise, and name its runs with --noise-run",
    "stream": "rows are drawn in a random order",
}


def plan(chosen: Diff, rules: Sequence[Rule]) -> Plan | None:
    """The plan that the options ask for; None without ``until_decided``.

    Raises:
        InputError: options of such a run where it is not asked for, or others that it cannot have.
    """
    if not chosen.until_decided:
        for name in ("step", "max"):
            if getattr(chosen, name) is not None:
                raise InputError(f"--{name} goes with --until-decided; --limit takes the first N")
        return None
    if not any(rule.tier == CRITICAL for rule in rules):
        raise InputError("--until-decided: there is nothing to decide; set a budget with --fail-on")
    for name, why in _EXCLUDED.items():
        if getattr(chosen, name):
            raise InputError(f"--until-decided and --{name.replace('_', '-')} exclude each other: {why}")
    return Plan(chosen.step or STEP, chosen.max, chosen.seed, chosen.epsilon or 0.0, chosen.correct_at)


@dataclass(frozen=True)
class Decided:
    """Both sides on the documents that were drawn, and how the budgets were judged on the way."""

    old: Run
    new: Run
    budgets: Budgets
    how: Plan
    used: Mapping[str, int]
    available: Mapping[str, int]

    @property
    def gates(self) -> Mapping[tuple[str, str], Gate]:
        """Judgements by the name of the comparison and the text of the rule."""
        return self.budgets.gates()

    def with_paths(self, comparison: Comparison) -> Comparison:
        """The comparison with how its budgets were judged."""
        task = comparison.task
        paths = self.budgets.paths(comparison.name)
        how = Sequential(self.how.step, self.used[task], self.available[task], self.how.seed, paths)
        return replace(comparison, sequential=how)

    @property
    def notes(self) -> tuple[str, ...]:
        """How far it went, and what the figures beside the verdict are."""
        drawn = []
        for task, there in self.available.items():
            used, recorded = self.used[task], "recorded" in (self.old.manifest.kind, self.new.manifest.kind)
            what = "rows were drawn" if recorded else "documents were evaluated"
            rest = f", {1 - used / there:.1%} less" if used < there else ", all there are"
            drawn.append(f"{task}: {used:,} of {there:,} {what}{rest}; the figures are of these")
        return (
            *drawn,
            *dict.fromkeys(one.evidence.assumed for one in self.budgets.watched if one.evidence.assumed),
            "the verdict holds although it was looked for after every step; the intervals and p-values of the other "
            "figures are those of a number of instances that was fixed beforehand",
        )


def decide(
    request: Request,
    rules: Sequence[Rule],
    how: Plan,
    say: Callable[[str], None] = lambda _: None,
    progress: Any = None,
) -> Decided:
    """Draw documents of every task until its critical budgets are decided, or there are no more.

    Raises:
        InputError: as :func:`compatcheck.diff`; a budget that cannot be judged at every look.
    """
    with drawing(request, pair, say, progress) as drawn:
        return _Loop(drawn, rules, how, say).run()


class _Loop:
    def __init__(self, drawn: Drawing, rules: Sequence[Rule], how: Plan, say: Callable[[str], None]) -> None:
        self._drawn, self._how, self._say = drawn, how, say
        self._budgets = Budgets(rules)
        self._orders = {task: _order(len(there), how.seed, task)[: how.most] for task, there in drawn.documents.items()}
        self._used = dict.fromkeys(self._orders, 0)
        self._kinds: dict[str, str] = {}
        self._names: dict[str, dict[str, None]] = {task: {} for task in self._orders}
        self._paired = dict.fromkeys(self._orders, 0)
        self._comparisons: dict[str, Comparison] = {}

    def run(self) -> Decided:
        looks, next_said = 0, 1
        while chosen := {task: self._next(task) for task in self._orders if self._wanted(task)}:
            old, new = self._drawn.step(chosen)
            for task, numbers in chosen.items():
                self._used[task] += len(numbers)
            self._take(old, new)
            looks += 1
            if not all(self._names.values()):
                continue  # not all budgets are known yet, and they hold together
            if looks == 1:
                self._budgets.check_covered(list(self._comparisons.values()))
            decided = self._budgets.look()
            for one in decided:
                self._say(self._line(one))
            if looks >= next_said and not decided:
                next_said *= 2
                self._say(self._progress())
        self._budgets.check_covered(list(self._comparisons.values()))
        self._budgets.finish()
        old, new = self._drawn.finish()
        available = {task: len(there) for task, there in self._drawn.documents.items()}
        return Decided(self._marked(old), self._marked(new), self._budgets, self._how, self._used, available)

    def _next(self, task: str) -> Sequence[int]:
        used = self._used[task]
        return self._orders[task][used : used + self._how.step]

    def _wanted(self, task: str) -> bool:
        """Whether there are documents left, and something about the task is open."""
        known = self._names[task]
        return self._used[task] < len(self._orders[task]) and (not known or self._budgets.open(list(known)))

    def _take(self, old: Run, new: Run) -> None:
        if not (old.tasks and new.tasks):
            return
        pairs, _ = counterparts(old, new)
        for run, other, metrics in pairs:
            for metric in metrics:
                self._compare(run, other, metric)

    def _compare(self, run: TaskRun, other: TaskRun, metric: Metric) -> None:
        """Add the pairs of one step; at first see which budgets speak of the comparison."""
        if not (len(run.records) and len(other.records)):
            return
        options: dict[str, Any] = {"epsilon": self._how.epsilon, "correct_at": self._how.correct_at}
        try:
            found = sort_pairs(run, other, pair(run, other), metric, **options)
        except InputError:
            if self._paired[run.task] or self._used[run.task] < _UNPAIRED:
                return  # of these few documents none has a partner of the same content
            raise
        self._paired[run.task] += len(found.scored)
        if not found.scored.any():
            return
        name, kind = self._watch(run, other, metric, found, options)
        self._names[run.task][name] = None
        self._budgets.take(name, found)
        self._kinds[name] = kind

    def _watch(
        self, run: TaskRun, other: TaskRun, metric: Metric, found: Sorted, options: Mapping[str, Any]
    ) -> tuple[str, str]:
        middle = "" if run.filter in ("none", "") else f"{run.filter}/"
        name = f"{run.task}/{middle}{metric.name}"
        known = self._kinds.get(name)
        # A metric whose scores were all 0 or 1 so far may turn out to be smooth; its flips stay what they were.
        if known is None or (known == "discrete" and found.metric.kind != known):
            self._comparisons[name] = compare(run, other, metric=metric, seed=self._how.seed, **options)
            self._budgets.watch(self._comparisons[name])
            return name, found.metric.kind
        return name, known

    def _marked(self, run: Run) -> Run:
        """The run with what the signature says of how its documents were chosen."""

        def marked(one: TaskRun) -> TaskRun:
            if one.task not in self._used:
                return one
            of = len(self._drawn.documents[one.task])
            how = f"every {self._how.step} of {of}, stopped when decided"
            return replace(one, settings={**one.settings, SETTING: how})

        return replace(run, tasks=tuple(map(marked, run.tasks)))

    def _line(self, one: Watched) -> str:
        return f"{one.comparison}: {one.rule.text} {one.verdict} after {one.n:,} instances"

    def _progress(self) -> str:
        drawn = ", ".join(f"{used:,} of {len(self._orders[task]):,} {task}" for task, used in self._used.items())
        still = sum(one.open for one in self._budgets.watched)
        return f"{drawn}: {still} of {len(self._budgets.watched)} budgets open"


def _order(size: int, seed: int, task: str) -> list[int]:
    """All numbers below ``size`` in the random order of this seed."""
    order = list(range(size))
    random.Random(f"compatcheck sequential {seed} {task}").shuffle(order)
    return order
