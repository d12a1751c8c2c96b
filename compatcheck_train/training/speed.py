"""How long a training takes, measured on a few of its micro-batches by the code that trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from compatcheck.engines.hf import memory
from compatcheck.engines.progress import SilentProgress
from compatcheck.references import Reference
from compatcheck_train.examples import Example, Examples
from compatcheck_train.loss import strategies
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training import processes
from compatcheck_train.training.checkpoint import Output
from compatcheck_train.training.loop import Loop
from compatcheck_train.training.models import load_tokenizer
from compatcheck_train.training.run import Setup, plan_of

MOST, FEW = 8, 3
"""Micro-batches that are trained on to measure: so many, or the few of them where one takes long."""
_LONG = 0.5
"""Seconds that a long one takes."""
_VALIDATED = 3


@dataclass(frozen=True)
class Speed:
    """Seconds of a training: until OLD's part (``old``) and NEW's (``new``) is loaded, of a micro-batch that OLD or NEW
    reads once (``read_old``, ``read_new``), that is trained on (``trained``), and that is validated (``validated``)."""

    old: float
    read_old: float
    new: float
    read_new: float
    trained: float
    validated: float

    def of(self, settings: TrainSettings, steps: float, examples: Examples, kept: bool) -> float:
        """Seconds of so many optimiser steps; ``kept``: what OLD gives is there from a training before."""
        micro, held = (math.ceil(count / settings.batch_size) for count in counts(examples))
        world = processes.count()
        of_a_step = settings.gradient_accumulation * self.trained
        epochs = steps / math.ceil(micro / (settings.gradient_accumulation * world))
        passes = (micro + held) / world
        return (
            (0.0 if kept else self.old + passes * self.read_old) + self.new + passes * self.read_new
            + steps * of_a_step + (1 + math.ceil(epochs)) * held / world * self.validated
        )  # fmt: skip


def counts(examples: Examples) -> tuple[int, int]:
    """Documents that are trained on, and those of the validation."""
    return len(examples.train) + len(examples.unlabelled), len(examples.validation)


def spaced(count: int, of: int) -> list[int]:
    """So many numbers below ``of``, evenly spaced; all of them where there are no more."""
    count = min(count, of)
    return [int((number + 0.5) * of / count) for number in range(count)]


def speed_of(old: Reference | None, new: Reference, examples: Examples, settings: TrainSettings, folder: Path) -> Speed:
    """Measure a training that hardly changes a weight. ``folder`` gets what teachers keep; of several processes all
    call it."""
    settings = settings.changed(
        cache_folder=folder / "teachers", report_to=(), max_steps=None, schedule="constant", learning_rate=1e-12
    )
    strategy, accelerator = strategies.get(settings.strategy), processes.open_accelerator(settings, folder)
    tokenizer, reads = load_tokenizer(new, settings), _Reads()
    plan = plan_of(tokenizer, few(examples, settings.batch_size), strategy, settings)
    setup = Setup(strategy, settings, accelerator, progress=reads)
    teacher, term = None, None

    def of_old() -> None:
        nonlocal teacher, term
        if strategy.needs_old and old is not None:
            teacher, term = setup.old(old, plan, tokenizer)

    old_seconds, (old_all, read_old) = timed(of_old), reads.taken()
    started = time.perf_counter()
    trainee = setup.trainee(new, plan, teacher, term)
    loop = Loop(trainee, accelerator, Output(folder, accelerator), SilentProgress(), lambda _: None)
    new_seconds, (new_all, read_new) = time.perf_counter() - started, reads.taken()
    try:
        paced = _paced(loop)
        accelerator.wait_for_everyone()  # some still read what another one removes
    finally:
        for each in (teacher, trainee.new, term):
            if each is not None:
                each.close()
        del loop, trainee
        memory.give_back()
    return Speed(old_seconds - old_all, read_old, new_seconds - new_all, read_new, *paced)


def few(examples: Examples, size: int) -> Examples:
    """Documents for micro-batches of all lengths, evenly spaced among those of all examples; answers to choose from
    are stood in for by those that documents have."""
    own = [each.pairs[each.gold][1] for each in examples.train if each.gold is not None]

    def some(part: tuple[Example, ...], most: int) -> tuple[Example, ...]:
        near = sorted(part, key=lambda each: sum(map(len, each.pairs[0])))
        blocks = [near[start : start + size] for start in range(0, len(near), size)]
        return tuple(each for number in spaced(most, len(blocks)) for each in blocks[number])

    fit, held = some((*examples.train, *examples.unlabelled), MOST), some(examples.validation, _VALIDATED)
    if examples.kind == "text":
        fit, held = (
            tuple(
                replace(each, chosen=own[n % len(own)] if each.gold is None else each.pairs[each.gold][1])
                for n, each in enumerate(part)
            )
            for part in (fit, held)
        )
    return replace(
        examples, train=tuple(each for each in fit if each.gold is not None), validation=held,
        unlabelled=tuple(each for each in fit if each.gold is None),
    )  # fmt: skip


class _Reads(SilentProgress):
    """When a teacher began to read, and when each micro-batch was read."""

    def __init__(self) -> None:
        self._at: list[float] = []

    def start(self, label: str, total: float, done: float = 0) -> None:
        self._at = [time.perf_counter()]

    def advance(self, instances: float, tokens: int | None = None) -> None:
        self._at.append(time.perf_counter())

    def taken(self) -> tuple[float, float]:
        """Seconds of all micro-batches, and of one after the first; none from here on."""
        at, self._at = self._at, []
        if len(at) < 2:
            return 0.0, 0.0
        return at[-1] - at[0], (at[-1] - at[1]) / (len(at) - 2) if len(at) > 2 else at[1] - at[0]


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _paced(loop: Loop) -> tuple[float, float]:
    """Seconds of a micro-batch that is trained on, and of one that is validated."""
    plan = loop.plan

    def step(number: int) -> float:
        return timed(lambda: loop._step([number] * loop.world))

    def validate(number: int) -> float:
        with torch.no_grad():
            return timed(lambda: loop.trainee(number))

    step(plan.training // 2)  # the first one takes longer
    once = step(plan.training // 2)
    count = processes.first(lambda: FEW if once > _LONG else MOST)
    trained = [step(number) for number in spaced(count, plan.training)]
    held = [validate(plan.training + number) for number in spaced(_VALIDATED, len(plan.items) - plan.training)]
    return sum(trained) / len(trained), sum(held) / len(held)
