"""What can be trained: strategies with settings of their own, some with a stage before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compatcheck.errors import InputError
from compatcheck_train.examples import Examples
from compatcheck_train.settings import TRIAL_SHARES, TrainSettings
from compatcheck_train.training.processes import count


@dataclass(frozen=True)
class Candidate:
    """A strategy with settings of its own. ``name`` is what the table calls it.

    ``first`` is the strategy of a stage before it, on the labelled documents: the adapter that comes of it stands in
    for NEW's as start and as teacher, so that what labels give and what the old model gives do not pull at each other.
    """

    name: str
    strategy: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    first: str = ""
    short: bool = False
    """Tried only where trials are short: in full it costs more than it has been seen to give."""
    least_steps: int = 0
    """About so many on the labelled documents (of the stage before, where there is one), where they are few: they are
    gone through more often, up to :data:`MOST_TIMES`. The stage after that then goes over all inputs for as many steps
    as they took without that, or a third of these."""
    first_epochs: int | None = None
    """Of the stage before; None: the shared ones."""

    @classmethod
    def of(cls, text: str) -> Candidate:
        """What the user names: a strategy, or ``FIRST+STRATEGY``; InputError for more than two stages."""
        first, _, strategy = text.rpartition("+")
        if "+" in first:
            raise InputError(f"strategy {text}: has more than two stages; write FIRST+STRATEGY")
        return cls(text, strategy, first=first)

    def settings(self, shared: TrainSettings) -> TrainSettings:
        """The shared settings with the candidate's own laid over."""
        return shared.changed(strategy=self.strategy, **self.changes)

    def first_settings(self, shared: TrainSettings) -> TrainSettings:
        """Those of the stage before; options of the strategy itself are not its own."""
        own: dict[str, Any] = {
            "strategy_options": {}, "ce_weight": None, "epochs": self.first_epochs or shared.epochs,
        }  # fmt: skip
        return shared.changed(strategy=self.first, **{**self.changes, **own})

    def long_enough(self, every: Examples, shared: TrainSettings) -> Candidate:
        """With the epochs that its least number of steps takes."""
        if not self.least_steps:
            return self
        of_an_epoch = total_steps(labelled(every), shared.changed(epochs=1))
        epochs = min(max(shared.epochs, round(self.least_steps / of_an_epoch)), MOST_TIMES * shared.epochs)
        if not self.first:
            return replace(self, changes={**self.changes, "epochs": epochs})
        after = max(shared.epochs * of_an_epoch, self.least_steps / 3)
        after = round(after / total_steps(every, shared.changed(epochs=1)))
        return replace(self, first_epochs=epochs, changes={**self.changes, "epochs": min(max(1, after), shared.epochs)})

    def is_only(self, strategy: str) -> bool:
        return self.strategy == strategy and not self.first


MOST_TIMES = 4
"""As often as that, compared with the epochs of the preset."""
SHARES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Weights of compat in the blends with NEW that are tried."""
AVERAGES = (0.75, 0.5, 0.25)
"""Weights of compat in the averages with the control that are tried."""
CONTROLS = {"choice": "choice-ce", "text": "continue-ce"}
"""Training on labels alone, by the task's kind."""
LIKE_OLD = "like OLD"
"""In place of the task's kind, where OLD's answers are the labels."""
_ANSWER = {"tokens": "answer"}
_CANDIDATES = {
    "choice": (
        Candidate("choice-ensemble", "choice-ensemble", short=True),
        Candidate(
            "choice-ce+choice-ensemble, labels kept", "choice-ensemble",
            {"strategy_options": {"choice_ce": 1.0, "old_share": 0.65, "anchor": "ce"}}, "choice-ce",
            least_steps=1_000,
        ),
        Candidate("muscle, answer", "muscle", _ANSWER, short=True),
    ),
    "text": (
        Candidate("sequence-ensemble, answer", "sequence-ensemble", _ANSWER, short=True),
        Candidate(
            "continue-ce+sequence-ensemble, answer", "sequence-ensemble", _ANSWER, "continue-ce", least_steps=1_000,
        ),
        Candidate("muscle, answer", "muscle", _ANSWER, short=True),
        Candidate("muscle-ce, answer", "muscle-ce", _ANSWER, short=True),
        Candidate("ensemble, answer", "ensemble", _ANSWER, short=True),
    ),
    LIKE_OLD: (Candidate("continue-ce, answer", "continue-ce", _ANSWER, least_steps=1_000),),
}  # fmt: skip


def candidates_for(kind: str, names: Sequence[str] = (), share: float = TRIAL_SHARES["paper"]) -> tuple[Candidate, ...]:
    """What auto tries for ``choice`` or ``text`` tasks, or :data:`LIKE_OLD`, where ``share`` of its steps is what a
    trial gets: fewer where that is all of them. ``names`` are tried instead, with the settings as given."""
    if names:
        return tuple(map(Candidate.of, names))
    return tuple(candidate for candidate in _CANDIDATES[kind] if share < 1 or not candidate.short)


def labelled(every: Examples) -> Examples:
    return replace(every, unlabelled=())


def total_steps(examples: Examples, settings: TrainSettings) -> int:
    """Optimiser steps of a whole training, by all processes together."""
    batch = settings.batch_size * settings.gradient_accumulation * count()
    steps = settings.epochs * math.ceil((len(examples.train) + len(examples.unlabelled)) / batch)
    return min(steps, settings.max_steps) if settings.max_steps else steps
