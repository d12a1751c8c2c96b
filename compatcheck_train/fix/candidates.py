"""What can be trained: strategies with settings of their own, some with a stage before; and the training of one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.references import Reference, resolve
from compatcheck_train.examples import Examples
from compatcheck_train.settings import TRIAL_SHARES, TrainSettings
from compatcheck_train.training.processes import count
from compatcheck_train.training.run import Trained, train

Say = Callable[[str], None]


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
    lifted: bool | None = None
    """True: tried only where labels alone lift the score clearly, so that labels are what NEW lacks; False: only where
    they do not."""
    labelled: bool = False
    """Trained on the labelled documents alone: the stage before others, as a candidate of its own."""

    @classmethod
    def of(cls, text: str) -> Candidate:
        """What the user names: a strategy, or ``FIRST+STRATEGY``.

        Raises:
            InputError: more than two stages.
        """
        first, _, strategy = text.rpartition("+")
        if "+" in first:
            raise InputError(f"strategy {text}: has more than two stages; write FIRST+STRATEGY")
        return cls(text, strategy, first=first)

    def settings(self, shared: TrainSettings) -> TrainSettings:
        """The shared settings with the candidate's own laid over."""
        return shared.changed(strategy=self.strategy, **self.changes)

    def examples(self, every: Examples) -> Examples:
        """What it is trained on."""
        return replace(every, unlabelled=()) if self.labelled else every

    def is_only(self, strategy: str) -> bool:
        """Whether it is trained with that strategy and nothing else."""
        return self.strategy == strategy and not self.first

    def first_settings(self, shared: TrainSettings) -> TrainSettings:
        """Those of the stage before; options of the strategy itself are not its own."""
        own = {name: value for name, value in self.changes.items() if name not in ("strategy_options", "ce_weight")}
        return shared.changed(strategy=self.first, **{**own, "strategy_options": {}, "ce_weight": None})


_CHOICE = (
    Candidate("choice-ensemble", "choice-ensemble", short=True),
    Candidate("choice-ce+choice-ensemble", "choice-ensemble", first="choice-ce"),
    Candidate(
        "choice-ce+choice-ensemble-ce",
        "choice-ensemble-ce",
        {"strategy_options": {"choice_ce": 1.0, "old_share": 0.65}},
        first="choice-ce",
    ),
    Candidate("muscle, answer", "muscle", {"tokens": "answer"}, short=True),
)
_TEXT = (
    Candidate("continue-ce, answer", "continue-ce", {"tokens": "answer"}, lifted=True, labelled=True),
    Candidate("sequence-ensemble, answer", "sequence-ensemble", {"tokens": "answer"}, lifted=False),
    Candidate(
        "continue-ce+sequence-ensemble, answer", "sequence-ensemble", {"tokens": "answer"}, "continue-ce", lifted=False
    ),
    Candidate(
        "continue-ce+sequence-ensemble, answer, labels kept",
        "sequence-ensemble",
        {"tokens": "answer", "strategy_options": {"keep_labels": 1}},
        "continue-ce",
        lifted=True,
    ),
    Candidate("muscle, answer", "muscle", {"tokens": "answer"}, short=True),
    Candidate("muscle-ce, answer", "muscle-ce", {"tokens": "answer"}, lifted=False),
    Candidate("ensemble, answer", "ensemble", {"tokens": "answer"}, short=True),
)


def candidates_for(kind: str, names: Sequence[str] = (), share: float = TRIAL_SHARES["paper"]) -> tuple[Candidate, ...]:
    """What auto tries for ``choice`` or ``text`` tasks; ``names`` are tried instead, with the settings as given.

    Args:
        share: of its steps that a trial gets. Fewer are tried where that is all of them.
    """
    if names:
        return tuple(map(Candidate.of, names))
    every = _CHOICE if kind == "choice" else _TEXT
    return tuple(candidate for candidate in every if share < 1 or not candidate.short)


def total_steps(examples: Examples, settings: TrainSettings) -> int:
    """Optimiser steps of a whole training, by all processes together."""
    batch = settings.batch_size * settings.gradient_accumulation * count()
    steps = settings.epochs * math.ceil((len(examples.train) + len(examples.unlabelled)) / batch)
    return min(steps, settings.max_steps) if settings.max_steps else steps


Prepare = Callable[[Candidate, Reference], Examples]
"""(candidate, what it starts as) -> the examples with what its strategy needs of them."""


@dataclass(frozen=True)
class Staged:
    """A candidate's training, and the stage before it where it has one."""

    trained: Trained
    first: Trained | None = None

    @property
    def steps(self) -> int:
        """Optimiser steps of both."""
        return self.trained.steps + (self.first.steps if self.first is not None else 0)

    @property
    def seconds(self) -> float:
        return self.trained.seconds + (self.first.seconds if self.first is not None else 0.0)

    @property
    def folder(self) -> Path:
        """The adapter."""
        return self.trained.folder


def train_candidate(
    candidate: Candidate, old: Reference, start: Reference, examples: Examples, settings: TrainSettings, folder: Path,
    share: float = 1.0, *, prepare: Prepare | None = None, say: Say = lambda _: None, progress: Any = None,
) -> Staged:  # fmt: skip
    """Train a candidate for a share of its steps.

    Args:
        start: the adapter that it starts as and takes for the new teacher, unless a stage before it makes one.
        settings: what candidates share; see :meth:`Candidate.settings`.
        prepare: what else the examples of a strategy need, once it is known what it starts as.
        folder: gets the training; beside it lies the stage before it, which candidates share where its settings are the
            same; what was killed goes on where it was.
    """
    first = None
    if candidate.first:
        labelled = replace(examples, unlabelled=())
        before = candidate.first_settings(settings)
        steps = _share_of(total_steps(labelled, before), share)
        say(f"a stage before it with {candidate.first}, {steps} steps")
        before = before.changed(max_steps=steps)
        first = train(old, start, labelled, before, _place_of_stage(before, folder), say=say, progress=progress)
        start = resolve(str(first.folder))
    if prepare is not None:
        examples = prepare(candidate, start)
    examples, own = candidate.examples(examples), candidate.settings(settings)
    own = own.changed(max_steps=_share_of(total_steps(examples, own), share))
    if candidate.labelled:
        folder = _place_of_stage(own, folder)
    return Staged(train(old, start, examples, own, folder, say=say, progress=progress), first)


def _place_of_stage(settings: TrainSettings, beside: Path) -> Path:
    digest = hashlib.sha256(json.dumps(settings.deciding(), sort_keys=True).encode()).hexdigest()[:8]
    return beside.with_name(f"first-{settings.strategy}-{digest}")


def _share_of(steps: int, share: float) -> int:
    return max(1, round(share * steps))
