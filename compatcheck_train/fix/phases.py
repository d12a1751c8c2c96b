"""The phases of a fix: which is under way, of how many, and how long the rest takes by what was measured so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from compatcheck.engines.progress import Progress, SilentProgress, span
from compatcheck_train.examples import Examples
from compatcheck_train.fix.candidates import SHARES, Candidate, candidates_for, total_steps
from compatcheck_train.fix.request import AUTO, FixRequest
from compatcheck_train.loss import strategies
from compatcheck_train.settings import TrainSettings

TRAIN, ANSWER = "train", "answer"
_ENOUGH = 0.2
"""Of the steps of the first training what must be done before its rate is used."""
_TRAINING = "training"
"""What the loop calls its stage; all else in a phase of training is what goes before."""
_READING = "scoring choices"
"""So is what one model makes of the other's answers: it takes much less than answering."""


@dataclass(frozen=True)
class Phase:
    """``units`` are optimiser steps of a training, or documents that models answer, each document once a model."""

    name: str
    kind: str
    units: float


@dataclass
class _Measured:
    """Of one kind of work: seconds of so many units, and what goes before (models loaded, teachers cached)."""

    seconds: float = 0.0
    units: float = 0.0
    before: float = 0.0
    phases: int = 0

    def expected(self, units: float) -> float:
        return self.before / max(1, self.phases) + units * self.seconds / self.units


class Phases:
    """The progress of a fix; a :class:`compatcheck.engines.progress.Progress` to everything in it."""

    def __init__(
        self, progress: Progress | None = None, say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._progress, self._say, self._clock = progress or SilentProgress(), say, clock
        self._ahead: list[Phase] = []
        self._phase, self._number = Phase("", ANSWER, 0), 0
        self._measured = {TRAIN: _Measured(), ANSWER: _Measured()}
        self._began = self._phase_began = clock()
        self._stage_began: float | None = None
        self._seconds = self._units = 0.0
        self._beside: str | Callable[[], str] = ""
        self._told = False

    def plan(self, phases: Sequence[Phase]) -> None:
        """What lies ahead, as far as it is known."""
        self._ahead = list(phases)

    def begin(self, name: str) -> None:
        """The next phase. One that was not foreseen (it is done before, or shared) has no number of its own."""
        self._close()
        place = next((place for place, each in enumerate(self._ahead) if each.name == name), None)
        self._phase = Phase(name, self._phase.kind, 0)
        if place is not None:
            self._phase, self._ahead, self._number = self._ahead[place], self._ahead[place + 1 :], self._number + 1

    def _close(self) -> None:
        """Add the phase to what was measured; one in which nothing was done (a resumed fix) says nothing."""
        now = self._clock()
        if self._units:
            mine = self._measured[self._phase.kind]
            mine.seconds, mine.units = mine.seconds + self._seconds, mine.units + self._units
            mine.before, mine.phases = mine.before + now - self._phase_began - self._seconds, mine.phases + 1
        self._phase_began, self._seconds, self._units = now, 0.0, 0.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes; None as long as a kind of work that lies ahead was not measured."""
        measured = {kind: _Measured(**vars(each)) for kind, each in self._measured.items()}
        own, now = measured[self._phase.kind], self._clock()
        running = 0.0 if self._stage_began is None else now - self._stage_began
        if self._units and (own.units or self._units >= _ENOUGH * self._phase.units):
            own.seconds, own.units = own.seconds + self._seconds + running, own.units + self._units
            own.before, own.phases = own.before + now - self._phase_began - self._seconds - running, own.phases + 1
        if not all(measured[each.kind].units for each in (self._phase, *self._ahead)):
            return None
        rest = own.seconds / own.units * max(0.0, self._phase.units - self._units)
        if not self._units:
            rest += max(0.0, own.before / max(1, own.phases) - (now - self._phase_began))
        return rest + sum(measured[each.kind].expected(each.units) for each in self._ahead)

    # As a Progress

    @property
    def share(self) -> Callable[[int, int], str] | None:
        return getattr(self._progress, "share", None)

    def start(self, label: str, total: float, done: float = 0) -> None:
        of = f"phase {self._number} of {self._number + len(self._ahead)}, " if self._number else ""
        name = f"{self._phase.name}: " if self._phase.name else ""
        self._beside = ""
        if label == _TRAINING or (self._phase.kind == ANSWER and label != _READING):
            self._stage_began = self._clock()
        if label == _TRAINING and done:  # resumed: what is left is less
            self._phase = Phase(self._phase.name, self._phase.kind, self._phase.units - done)
        self._progress.start(f"{of}{name}{label}", total, done)
        self._progress.beside(self._known)

    def advance(self, instances: float, tokens: int | None = None) -> None:
        self._progress.advance(instances, tokens)
        if self._stage_began is not None:
            self._units += instances
        if not self._told and self._number and (left := self.left) is not None:
            self._told = True
            whole = self._clock() - self._began + left
            self._say(f"about {span(whole)} in all, by what was measured so far ({span(left)} left)")

    def beside(self, text: str | Callable[[], str]) -> None:
        self._beside = text

    def _known(self) -> str:
        own = self._beside if isinstance(self._beside, str) else self._beside()
        left = self.left
        return " · ".join([own] * bool(own) + ([] if left is None else [f"about {span(left)} of the whole left"]))

    def finish(self) -> None:
        if self._stage_began is not None:
            self._seconds += self._clock() - self._stage_began
            self._stage_began = None
        self._progress.finish()


def whole(request: FixRequest, examples: Examples, choosing: int, tested: int) -> list[Phase]:
    """All phases, as :func:`to_come` has those from the first training on."""
    before = [Phase(START, ANSWER, 2 * choosing)]
    if request.chosen.train_task:
        before.insert(0, Phase(TASK, TRAIN, total_steps(examples, request.settings)))
    if "regression-preference" in request.named and examples.kind == "text":
        before.append(Phase(PREFERENCES, ANSWER, 2 * (len(examples.train) + len(examples.validation))))
    return before + to_come(request, examples, choosing, tested)


def to_come(
    request: FixRequest, examples: Examples, choosing: int, tested: int, lifted: bool | None = None
) -> list[Phase]:
    """The phases from the first training on, with ``choosing`` and ``tested`` documents to choose on and for the proof.
    ``lifted`` is whether labels alone lift the score; None: it is not known yet."""
    settings, seen, phases = request.settings, set[str](), list[Phase]()
    finalists, top = [Candidate.of(request.chosen.strategy)], 1
    if request.chosen.strategy == AUTO:
        share = request.trial_share
        every = candidates_for(examples.kind, request.chosen.candidate, share)
        for probe in (each for each in every if each.labelled):
            if lifted is None:
                phases += of_candidate(PROBE, probe, examples, settings, share, seen)
                phases.append(Phase(judged(PROBE), ANSWER, choosing))
            seen.add(repr(probe.settings(settings).deciding()))
        tried = [each for each in every if each.lifted in (None, bool(lifted))]
        for number, each in enumerate(tried, 1):
            phases += of_candidate(trial(number, tried, each), each, examples, settings, share, seen)
        phases.append(Phase(judged("trials"), ANSWER, len(tried) * choosing))
        top = min(request.chosen.finalists, len(tried))
        finalists = tried[:top]  # for the steps: which they are is not known yet
    trained, seen = [*finalists], seen & {_ANSWERS, _OF_NEW}
    if request.chosen.strategy != AUTO or request.trial_share < 1:
        for number, each in enumerate(trained, 1):
            phases += of_candidate(training(number), each, examples, settings, 1.0, seen)
        phases.append(Phase(judged("trainings"), ANSWER, top * choosing))
    tries = 0 if request.blend is None else len(SHARES) if request.blend == AUTO else 1
    if tries:
        phases += [Phase(blends(number), ANSWER, tries * choosing) for number in range(1, top + 1)]
    for seed in range(request.chosen.seeds):
        if seed:
            phases += of_candidate(again(seed), trained[0], examples, settings, 1.0, set())
            phases += [Phase(blends(1, seed), ANSWER, choosing)] * bool(tries)
        if request.control:
            one = of_candidate("", trained[0], examples, settings, 1.0, set())
            phases.append(Phase(control(seed), TRAIN, sum(each.units for each in one if each.kind == TRAIN)))
    models = request.chosen.seeds * (1 + bool(request.control))
    if request.chosen.seeds > 1:
        phases.append(Phase(PICK, ANSWER, models * choosing))
    return [*phases, Phase(PROOF, ANSWER, (2 + models) * tested)]


def of_candidate(
    name: str, candidate: Candidate, examples: Examples, settings: TrainSettings, share: float, seen: set[str]
) -> Iterator[Phase]:
    """The phases of one training; ``seen`` has the stages, and the answers of OLD, that others had before it."""
    labelled = replace(examples, unlabelled=())

    def steps(own: TrainSettings, every: Examples) -> float:
        return max(1, round(share * total_steps(every, own)))

    if candidate.first and (stage := repr(candidate.first_settings(settings).deciding())) not in seen:
        seen.add(stage)
        yield Phase(stage_before(name), TRAIN, steps(candidate.first_settings(settings), labelled))
    if _ANSWERS in strategies.get(candidate.strategy).needs and (candidate.first or _OF_NEW not in seen):
        documents = len(examples.train) + len(examples.validation) + len(examples.unlabelled)
        yield Phase(both_answer(name), ANSWER, documents * (1 if _ANSWERS in seen else 2))
        seen |= {_ANSWERS} if candidate.first else {_ANSWERS, _OF_NEW}
    own = candidate.settings(settings)
    if not (candidate.labelled and repr(own.deciding()) in seen):
        yield Phase(name, TRAIN, steps(own, candidate.examples(examples)))


TASK, START, PREFERENCES = "task adapter", "OLD and NEW", "answers for preferences"
PROBE, PICK, PROOF = "what labels alone give", "which training", "proof"
_ANSWERS, _OF_NEW = "answers", "answers of NEW"
"""A need of strategies, and what is kept: OLD's answers, and NEW's where no stage before makes another model of it."""


def trial(number: int, among: Sequence[Candidate], candidate: Candidate) -> str:
    return f"trial {number} of {len(among)}, {candidate.name}"


def training(number: int) -> str:
    return f"training {number}"


def again(seed: int) -> str:
    """``seed`` counts from the first one, which is 0."""
    return f"training with seed {seed + 1}"


def control(seed: int = 0) -> str:
    return "control" + f" with seed {seed + 1}" * bool(seed)


def blends(number: int, seed: int = 0) -> str:
    return f"blends {number}" + f" with seed {seed + 1}" * bool(seed)


def judged(what: str) -> str:
    return f"{what}, judged"


def stage_before(name: str) -> str:
    return f"{name}, the stage before"


def both_answer(name: str) -> str:
    return f"{name}, both models answer"
