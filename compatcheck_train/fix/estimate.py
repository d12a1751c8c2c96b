"""How long a fix takes, told before it starts: every kind of its work is measured on a few of its own documents."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from compatcheck.engines.progress import span
from compatcheck.evaluation.evaluate import Stepwise
from compatcheck.evaluation.grouping import Job
from compatcheck.references import Reference
from compatcheck.scratch import Scratch
from compatcheck.tasks import LoadedTask
from compatcheck_train.examples import Examples
from compatcheck_train.fix.answers import JointAnswers
from compatcheck_train.fix.candidates import labelled
from compatcheck_train.fix.judging import Judge
from compatcheck_train.fix.phases import ANSWER, CONTROL, READ, TRAIN, Phase
from compatcheck_train.folders import object_in, write_json
from compatcheck_train.loss import strategies
from compatcheck_train.training.loop import Diverged
from compatcheck_train.training.processes import first
from compatcheck_train.training.speed import Speed, few, speed_of

_FIRST, _ENOUGH = 16, 2.0
"""Documents that a model answers first (or a fifth of all), and seconds that are enough to go by."""
_KINDS = {ANSWER: "evaluating", READ: "answers to learn from", TRAIN: "training", CONTROL: "the control"}


@dataclass(frozen=True)
class Answering:
    """Seconds until a model is loaded, and of a document that it answers."""

    loading: float
    each: float


@dataclass(frozen=True)
class Costs:
    """What was measured: OLD and NEW answering, seconds of a training document that both answer and read, trainings by
    their :func:`_key`; and by phase the sides whose answers are stored."""

    old: Answering
    new: Answering
    both: float
    speeds: Mapping[str, Speed]
    stored: Mapping[str, Sequence[str]]
    whole: float = 0.0

    @classmethod
    def read(cls, path: Path) -> Costs:
        kept = object_in(path)
        old, new = (Answering(**kept[side]) for side in ("old", "new"))
        speeds = {key: Speed(**each) for key, each in kept["speeds"].items()}
        return cls(old, new, kept["both"], speeds, kept["stored"], kept["whole"])

    def write(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        write_json(path, asdict(self))

    def timed(self, examples: Examples, phases: Sequence[Phase]) -> list[Phase]:
        """The phases with the seconds that they take."""
        kept = set[str]()
        return [replace(phase, seconds=self._seconds(phase, examples, kept)) for phase in phases]

    def _seconds(self, phase: Phase, examples: Examples, kept: set[str]) -> float:
        """``kept`` are the readings of OLD that phases before it left."""
        if phase.settings is not None:
            strategy = strategies.get(phase.settings.strategy)
            wanted = sorted(need for need in strategy.needs if need.startswith("old"))
            reading = f"{strategy.rows} {wanted} {phase.labelled} {phase.settings.seed}"
            speed, there = self.speeds.get(_key(phase)), reading in kept
            kept.add(reading)
            if speed is None:  # its loss is no number: it will not be trained
                return 0.0
            return speed.of(phase.settings, phase.units, _of_phase(examples, phase), there)
        if phase.kind == READ:
            return 2 * self.old.loading + self.new.loading + phase.units / 2 * self.both
        sides = (("old", self.old, phase.by_old), ("new", self.new, phase.units - phase.by_old))
        asked = [(side, units) for name, side, units in sides if units and name not in self.stored.get(phase.name, ())]
        return sum(side.loading + units * side.each for side, units in asked)


def said(phases: Sequence[Phase], whole: float) -> str:
    """What the whole takes, in one line."""
    parts = []
    for kind, name in _KINDS.items():
        mine = [phase for phase in phases if phase.kind == kind]
        steps = sum(phase.units for phase in mine if phase.settings is not None)
        seconds = span(sum(phase.seconds or 0.0 for phase in mine))
        parts += [f"{name} {seconds}" + f" ({steps:,.0f} steps)" * bool(steps)] * bool(mine)
    return f"about {span(whole)} in all: {', '.join(parts)}"


def measure(
    judge: Judge, models: Mapping[str, Reference], examples: Examples, ahead: Sequence[Phase],
    documents: Mapping[str, LoadedTask],
) -> Costs:  # fmt: skip
    """Measure what lies ahead with ``old`` and ``new``; ``documents`` are those of the phases in which both answer what
    may be stored. Of several processes all call it."""
    scratch = Scratch()
    folder = first(lambda: scratch.folder)
    try:
        tested = list(documents.values())[-1]
        old, new = (first(partial(_answering, judge, tested, models[side])) for side in ("old", "new"))
        stored = first(lambda: {name: judge.stored(loaded, models) for name, loaded in documents.items()})
        speeds: dict[str, Speed] = {}
        for phase in ahead:
            if phase.settings is not None and _key(phase) not in speeds:
                some, to = _of_phase(examples, phase), folder / str(len(speeds))
                with contextlib.suppress(Diverged):
                    speeds[_key(phase)] = speed_of(models["old"], models["new"], some, phase.settings, to)
        both = 0.0
        if any(phase.kind == READ for phase in ahead):
            both = first(partial(_both, judge, tested, models, examples, folder / "answers", old, new))
        mine = Costs(old, new, both, speeds, stored)
        return first(lambda: mine)
    finally:
        scratch.close()


def _answering(judge: Judge, loaded: LoadedTask, model: Reference) -> Answering:
    """Answer two documents, then more and more, until that takes long enough to go by."""
    steps = Stepwise([Job("run", model, loaded, judge.engine)])
    places = random.Random(0).sample(range(loaded.size), loaded.size)

    def answer(count: int) -> tuple[float, float]:
        chosen = places[:count]
        del places[:count]
        started = time.perf_counter()
        steps.evaluate("run", loaded.name, chosen)
        seconds = time.perf_counter() - started
        return seconds, seconds / len(chosen)

    try:
        begun, each = answer(2)
        size, spent = min(_FIRST, max(1, loaded.size // 5)), 0.0
        while len(places) >= size / 2 and spent < _ENOUGH:  # the longest answers of few take the longest
            spent, each = answer(size)
            size *= 4
        return Answering(max(0.0, begun - 2 * each), each)
    finally:
        steps.close()


def _both(
    judge: Judge, loaded: LoadedTask, models: Mapping[str, Reference], examples: Examples, folder: Path,
    old: Answering, new: Answering,
) -> float:  # fmt: skip
    """Seconds of a training document that both models answer and read, without those of loading."""
    some = few(examples, 4)
    count = len(some.train) + len(some.validation) + len(some.unlabelled)
    started = time.perf_counter()
    JointAnswers(loaded, models["old"], folder, judge.engine).examples(some, models["new"])
    spent = time.perf_counter() - started - 2 * old.loading - new.loading
    return max(0.0, spent) / count


def _key(phase: Phase) -> str:
    """What decides how long a step takes."""
    assert phase.settings is not None
    return f"{phase.settings.strategy} {phase.settings.weight_of_context:g}" + " labelled" * phase.labelled


def _of_phase(examples: Examples, phase: Phase) -> Examples:
    return labelled(examples) if phase.labelled else examples
