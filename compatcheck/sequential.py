"""A comparison that draws documents in a random order until every critical budget is decided.

The number of documents is not fixed beforehand, so the budgets are judged by evidence that holds at every look
(:mod:`compatcheck.gate.sequential`). What was drawn is the same for the same seed, step and documents, and models'
answers are kept as they come: a run that was killed goes the same way again and ends with the same verdict.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from compatcheck.compare.comparison import compare
from compatcheck.compare.counterparts import counterparts
from compatcheck.compare.pairing import pair
from compatcheck.compare.quadrants import Grade, sort_pairs
from compatcheck.compare.result import Comparison, Gate, Sequential
from compatcheck.errors import InputError
from compatcheck.evaluation.drawing import Drawing, drawing
from compatcheck.evaluation.request import Request
from compatcheck.gate.rules import CRITICAL, Rule
from compatcheck.gate.sequential import Budgets
from compatcheck.options import Diff
from compatcheck.records import KL, Metric, Run, TaskRun

Say = Callable[[str], None]
STEP = 25
SETTING = "sequential"
"""Name under which the signature says that the number of instances was not fixed."""
_UNPAIRED = 100
"""Where so many documents were drawn and none found its partner, the sides do not belong together."""


_EXCLUDED = {
    "cluster_by": "bounds that hold at every look count instances one by one",
    "noise_floor": "measure it apart, with compatcheck noise, and name its runs with --noise-run",
    "stream": "rows are drawn in a random order",
}


def check(chosen: Diff, rules: Sequence[Rule]) -> None:
    """Raise InputError for options of such a run where it is not asked for, and for others that it cannot have."""
    if not chosen.until_decided:
        for name in ("step", "max"):
            if getattr(chosen, name) is not None:
                raise InputError(f"--{name} goes with --until-decided; --limit takes the first N")
        return
    if not any(rule.tier == CRITICAL for rule in rules):
        raise InputError("--until-decided: there is nothing to decide; set a budget with --fail-on")
    if all(rule.is_count for rule in rules if rule.tier == CRITICAL):
        raise InputError(
            "--until-decided: there is nothing to decide: rows are counted, in all documents; leave it out, or set a "
            "budget on flips or scores too, such as --fail-on nfr:2%"
        )
    if KL in chosen.metric:
        raise InputError("--until-decided and --metric kl exclude each other: run kl on all documents, or on --limit N")
    for name, why in _EXCLUDED.items():
        if getattr(chosen, name):
            raise InputError(f"--until-decided and --{name.replace('_', '-')} exclude each other: {why}")


def decide(
    request: Request, rules: Sequence[Rule], chosen: Diff, say: Say, progress: Any = None, grade: Grade | None = None
) -> Decided:
    """Draw documents of every task until its critical budgets are decided, or there are no more.
    Raises InputError: as :func:`compatcheck.diff`; a budget that cannot be judged at every look.
    """
    with drawing(request, pair, say, progress) as drawn:
        decided = Decided(drawn, rules, chosen, say, grade)
        decided.run()
        return decided


class Decided:
    """Both sides on the documents that were drawn, and how the budgets were judged on the way."""

    old: Run
    new: Run

    def __init__(
        self, drawn: Drawing, rules: Sequence[Rule], chosen: Diff, say: Say, grade: Grade | None = None
    ) -> None:
        self._drawn, self._say, self._seed = drawn, say, chosen.seed
        self._step = STEP if chosen.step is None else chosen.step
        self._options: dict[str, Any] = {"epsilon": chosen.epsilon or 0.0, "correct_at": chosen.correct_at,
                                         "grade": grade}  # fmt: skip
        self.budgets = Budgets(rules)
        self._available = {task: len(there) for task, there in drawn.documents.items()}
        self._orders = {task: _order(size, self._seed, task)[: chosen.max] for task, size in self._available.items()}
        self.used = dict.fromkeys(self._orders, 0)
        self._kinds: dict[str, str] = {}
        self._names: dict[str, dict[str, None]] = {task: {} for task in self._orders}
        self._paired = dict.fromkeys(self._orders, 0)
        self._comparisons: dict[str, Comparison] = {}

    @property
    def gates(self) -> Mapping[tuple[str, str], Gate]:
        """Judgements by the name of the comparison and the text of the rule."""
        return self.budgets.gates()

    def with_paths(self, comparison: Comparison) -> Comparison:
        """The comparison with how its budgets were judged."""
        used, available = self.used[comparison.task], self._available[comparison.task]
        paths = self.budgets.paths(comparison.name)
        return replace(comparison, sequential=Sequential(self._step, used, available, self._seed, paths))

    @property
    def notes(self) -> tuple[str, ...]:
        """How far it went, and what the figures beside the verdict are."""
        recorded = "recorded" in (self.old.manifest.kind, self.new.manifest.kind)
        what = "rows were drawn" if recorded else "documents were evaluated"
        drawn = []
        for task, there in self._available.items():
            used = self.used[task]
            rest = f", {1 - used / there:.1%} less" if used < there else ", all there are"
            drawn.append(f"{task}: {used:,} of {there:,} {what}{rest}; the figures are of these")
        return (
            *drawn,
            *dict.fromkeys(one.evidence.assumed for one in self.budgets.watched if one.evidence.assumed),
            "the verdict holds although it was looked for after every step; the intervals and p-values of the other "
            "figures are those of a number of instances that was fixed beforehand",
        )

    def run(self) -> None:
        """Draw until everything is decided."""
        looks, next_said = 0, 1
        while chosen := {task: self._next(task) for task in self._orders if self._wanted(task)}:
            old, new = self._drawn.step(chosen)
            for task, numbers in chosen.items():
                self.used[task] += len(numbers)
            if old.tasks and new.tasks:
                for run, other, metrics in counterparts(old, new)[0]:
                    for metric in metrics:
                        self._compare(run, other, metric)
            looks += 1
            if not all(self._names.values()):
                continue  # not all budgets are known yet, and they hold together
            if looks == 1:
                self.budgets.check_covered(list(self._comparisons.values()))
            decided = self.budgets.look()
            for one in decided:
                self._say(f"{one.comparison}: {one.rule.text} {one.verdict} after {one.n:,} instances")
            if looks >= next_said and not decided:
                next_said *= 2
                drawn = ", ".join(f"{n:,} of {len(self._orders[task]):,} {task}" for task, n in self.used.items())
                still, of = sum(one.open for one in self.budgets.watched), len(self.budgets.watched)
                self._say(f"{drawn}: {still} of {of} budgets open")
        self.budgets.check_covered(list(self._comparisons.values()))
        self.budgets.finish()
        self.old, self.new = map(self._marked, self._drawn.finish())

    def _next(self, task: str) -> Sequence[int]:
        return self._orders[task][self.used[task] : self.used[task] + self._step]

    def _wanted(self, task: str) -> bool:
        """Whether there are documents left, and something about the task is open."""
        known = self._names[task]
        return self.used[task] < len(self._orders[task]) and (not known or self.budgets.open(list(known)))

    def _compare(self, run: TaskRun, other: TaskRun, metric: Metric) -> None:
        """Add the pairs of one step; at first see which budgets speak of the comparison."""
        if not (len(run.records) and len(other.records)):
            return
        try:
            found = sort_pairs(run, other, pair(run, other), metric, **self._options)
        except InputError:
            if self._paired[run.task] or self.used[run.task] < _UNPAIRED:
                return  # of these few documents none has a partner of the same content
            raise
        self._paired[run.task] += len(found.scored)
        if not found.scored.any():
            return
        name = f"{run.task}/{'' if run.filter in ('none', '') else f'{run.filter}/'}{metric.name}"
        known = self._kinds.get(name)
        # A metric whose scores were all 0 or 1 so far may turn out to be smooth; its flips stay what they were.
        if known is None or (known == "discrete" and found.metric.kind != known):
            self._comparisons[name] = compare(run, other, metric=metric, seed=self._seed, **self._options)
            self.budgets.watch(self._comparisons[name])
            self._kinds[name] = found.metric.kind
        self._names[run.task][name] = None
        self.budgets.take(name, found)

    def _marked(self, run: Run) -> Run:
        """The run with what the signature says of how its documents were chosen."""
        how = {task: f"every {self._step} of {of}, stopped when decided" for task, of in self._available.items()}
        tasks = [
            replace(one, settings={**one.settings, SETTING: how[one.task]}) if one.task in self.used else one
            for one in run.tasks
        ]
        return replace(run, tasks=tuple(tasks))


def _order(size: int, seed: int, task: str) -> list[int]:
    """All numbers below ``size`` in the random order of this seed."""
    order = list(range(size))
    random.Random(f"compatcheck sequential {seed} {task}").shuffle(order)
    return order
