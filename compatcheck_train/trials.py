"""``--strategy auto``: short candidates, judged by flips and score on the validation documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck.records import Run
from compatcheck.references import Reference, resolve
from compatcheck.tasks import LoadedTask
from compatcheck_train.examples import Examples
from compatcheck_train.judging import Judge, Standing, best, stand
from compatcheck_train.processes import count
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training import Trained, train

Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """A strategy with settings of its own. ``name`` is what the table calls it."""

    name: str
    strategy: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, shared: TrainSettings) -> TrainSettings:
        """The shared settings with the candidate's own laid over."""
        return shared.changed(strategy=self.strategy, **self.changes)


_CHOICE = (
    Candidate("choice-ensemble", "choice-ensemble"),
    Candidate("choice-ensemble-ce", "choice-ensemble-ce"),
    Candidate("choice-old-right", "choice-old-right", {"strategy_options": {"choice_ce": 0.3}}),
    Candidate("pct, answer", "pct", {"tokens": "answer"}),
    Candidate("muscle, answer", "muscle", {"tokens": "answer"}),
)
_TEXT = (
    Candidate("muscle", "muscle"),
    Candidate("muscle, answer", "muscle", {"tokens": "answer"}),
    Candidate("muscle-ce, answer", "muscle-ce", {"tokens": "answer"}),
    Candidate("ensemble, answer", "ensemble", {"tokens": "answer"}),
    Candidate("data-partition, answer", "data-partition", {"tokens": "answer"}),
    Candidate("pct, answer", "pct", {"tokens": "answer"}),
)


def candidates_for(kind: str, names: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """What auto tries for ``choice`` or ``text`` tasks; ``names`` are strategies tried instead, as they are."""
    if names:
        return tuple(Candidate(name, name) for name in names)
    return _CHOICE if kind == "choice" else _TEXT


@dataclass(frozen=True)
class Trial:
    """A candidate's short training and where it stood."""

    candidate: Candidate
    trained: Trained
    standing: Standing


def total_steps(examples: Examples, settings: TrainSettings) -> int:
    """Optimiser steps of a whole training, by all processes together."""
    batch = settings.batch_size * settings.gradient_accumulation * count()
    steps = settings.epochs * math.ceil((len(examples.train) + len(examples.unlabelled)) / batch)
    return min(steps, settings.max_steps) if settings.max_steps else steps


def run_trials(
    candidates: Sequence[Candidate], old: Reference, new: Reference, examples: Examples, settings: TrainSettings,
    judge: Judge, documents: LoadedTask, known: Mapping[str, Run], share: float, folder: Path, *,
    say: Say = lambda _: None, progress: Any = None,
) -> tuple[list[Trial], Trial]:  # fmt: skip
    """Train every candidate for a share of the steps and judge all of them at once; returns the table and the winner.

    Args:
        known: the runs of ``old`` and ``new`` on the validation documents.
        folder: gets one training per candidate; a killed search goes on where it was.
    """
    steps = max(1, round(share * total_steps(examples, settings)))
    trained: dict[str, tuple[Candidate, Trained]] = {}
    for number, candidate in enumerate(candidates, 1):
        say(f"trial {number} of {len(candidates)}: {candidate.name}, {steps} steps")
        own = candidate.settings(settings).changed(max_steps=steps)
        place = folder / f"{number}-{candidate.name.replace(', ', '-')}"
        trained[candidate.name] = (
            candidate,
            train(old, new, examples, own, place, say=lambda _: None, progress=progress),
        )
    models = {name: resolve(str(done.folder)) for name, (_, done) in trained.items()}
    runs = judge.run(documents, models, progress=progress)
    standings = {each.name: each for each in stand(judge, known["old"], known["new"], runs, judge.seed)}
    trials = [Trial(candidate, done, standings[name]) for name, (candidate, done) in trained.items()]
    winner = best([trial.standing for trial in trials])
    return trials, next(trial for trial in trials if trial.standing is winner)
