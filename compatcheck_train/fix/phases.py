"""The phases of a fix: which is under way, of how many, and how long the rest takes by what was measured so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from compatcheck.engines.progress import Progress, SilentProgress, span
from compatcheck_train.examples import Examples
from compatcheck_train.fix.candidates import AVERAGES, SHARES, Candidate, labelled, total_steps
from compatcheck_train.fix.request import AUTO, FixRequest
from compatcheck_train.loss import strategies
from compatcheck_train.settings import TrainSettings

ANSWER, READ, TRAIN, CONTROL = "answer", "read", "train", "control"
_ENOUGH = 0.2
"""Of a phase what must be done before its own pace is used."""
_TRAINING = "training"
"""What the loop calls its stage; all else in a phase of training is what goes before."""
_READING = "scoring choices"
"""So is what one model makes of the other's answers: it takes much less than answering."""


@dataclass(frozen=True)
class Phase:
    """``units`` are optimiser steps of a training, or documents that models answer, each document once a model;
    ``by_old`` are those that OLD answers. A training has its ``settings``, and whether it is on the ``labelled``
    documents alone. ``seconds``: what it is expected to take, None where that is not known."""

    name: str
    kind: str
    units: float
    by_old: float = 0
    settings: TrainSettings | None = None
    labelled: bool = False
    seconds: float | None = None

    def less(self, units: float) -> Phase:
        """The same without units that were done before."""
        share = 1 - units / self.units
        return replace(self, units=self.units - units, seconds=None if self.seconds is None else share * self.seconds)


Timed = Callable[[Sequence[Phase]], list[Phase]]


class Phases:
    """The progress of a fix; a :class:`compatcheck.engines.progress.Progress` to everything in it. ``timed`` gives
    phases the seconds that they are expected to take; what those before took, by their kind, corrects it."""

    def __init__(self, progress: Progress | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress, self._clock = progress or SilentProgress(), clock
        self.timed: Timed = list
        self.ahead: list[Phase] = []
        self._phase, self._number = Phase("", ANSWER, 0, seconds=0.0), 0
        self._took: dict[str, tuple[float, float]] = {}
        self._began = clock()
        self._counts = False
        self._units = 0.0
        self._beside: str | Callable[[], str] = ""

    def plan(self, phases: Sequence[Phase]) -> None:
        """What lies ahead, as far as it is known."""
        self.ahead = self.timed(phases)

    def begin(self, name: str) -> None:
        """The next phase. One that was not foreseen (it is done before, or shared) has no number of its own."""
        if self._units:  # one in which nothing was done (a resumed fix) says nothing
            self._took[self._phase.kind] = self._pace(1.0)
        self._began, self._units = self._clock(), 0.0
        place = next((place for place, each in enumerate(self.ahead) if each.name == name), None)
        self._phase = Phase(name, self._phase.kind, 0, seconds=0.0)
        if place is not None:
            self._phase, self.ahead, self._number = self.ahead[place], self.ahead[place + 1 :], self._number + 1

    def _pace(self, share: float) -> tuple[float, float]:
        """Seconds that work of this kind took and was expected to take, with so much of this phase."""
        took, expected = self._took.get(self._phase.kind, (0.0, 0.0))
        return took + self._clock() - self._began, expected + share * (self._phase.seconds or 0.0)

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes; None where they are not known."""
        if not self._number and not self.ahead:  # nothing is planned yet
            return None
        share = min(1.0, self._units / self._phase.units) if self._phase.units else 0.0
        known = self._took | ({self._phase.kind: self._pace(share)} if share >= _ENOUGH else {})
        rest = 0.0
        for phase, part in ((self._phase, 1 - share), *((each, 1.0) for each in self.ahead)):
            if phase.seconds is None:
                return None
            took, expected = known.get(phase.kind, (1.0, 1.0))
            rest += part * phase.seconds * (took / expected if expected else 1.0)
        return rest

    # As a Progress

    @property
    def share(self) -> Callable[[int, int], str] | None:
        return getattr(self._progress, "share", None)

    def start(self, label: str, total: float, done: float = 0) -> None:
        of = f"phase {self._number} of {self._number + len(self.ahead)}, " if self._number else ""
        name = f"{self._phase.name}: " if self._phase.name else ""
        self._beside = ""
        self._counts = label == _TRAINING or (self._phase.settings is None and label != _READING)
        if label == _TRAINING and done and self._phase.units:  # resumed: what is left is less
            self._phase = self._phase.less(done)
        self._progress.start(f"{of}{name}{label}", total, done)
        self._progress.beside(self._known)

    def advance(self, instances: float, tokens: int | None = None) -> None:
        self._progress.advance(instances, tokens)
        if self._counts:
            self._units += instances

    def beside(self, text: str | Callable[[], str]) -> None:
        self._beside = text

    def _known(self) -> str:
        own = self._beside if isinstance(self._beside, str) else self._beside()
        left = self.left
        return " · ".join([own] * bool(own) + ([] if left is None else [f"about {span(left)} of the whole left"]))

    def finish(self) -> None:
        self._counts = False
        self._progress.finish()


def whole(request: FixRequest, examples: Examples, choosing: int, tested: int) -> list[Phase]:
    """All phases, with ``choosing`` and ``tested`` documents to choose on and for the proof."""
    settings, seen, phases = request.settings, set[str](), [Phase(START, ANSWER, 2 * choosing, choosing)]
    if request.chosen.train_task:
        own = settings.changed(strategy="continue-ce", strategy_options={}, ce_weight=None)
        phases.insert(0, Phase(TASK, TRAIN, total_steps(examples, own), settings=own))
    tried, top = request.candidates(examples), 1
    if request.tries:
        for number, each in enumerate(tried, 1):
            phases += of_candidate(trial(number, tried, each), each, examples, settings, request.trial_share, seen)
        phases.append(Phase(judged("trials"), ANSWER, len(tried) * choosing))
        top = min(request.chosen.finalists, len(tried))
    trained, seen = tried[:top], seen & {_ANSWERS, _OF_NEW}  # for the steps: which they are is not known yet
    if not request.tries or request.trial_share < 1:
        for number, each in enumerate(trained, 1):
            phases += of_candidate(training(number), each, examples, settings, 1.0, seen)
        phases.append(Phase(judged("trainings"), ANSWER, top * choosing))
    tries = 0 if request.blend is None else len(SHARES) if request.blend == AUTO else 1
    if tries:
        phases += [Phase(blends(number), ANSWER, tries * choosing) for number in range(1, top + 1)]
    for seed in range(request.chosen.seeds):
        settings = request.settings.changed(seed=request.settings.seed + seed)
        if seed:
            phases += of_candidate(again(seed), trained[0], examples, settings, 1.0, set())
            phases += [Phase(blends(1, seed), ANSWER, choosing)] * bool(tries)
        if request.has_control:
            one = [each for each in of_candidate("", trained[0], examples, settings, 1.0, set()) if each.settings]
            own = trained[0].settings(settings)
            own = own.changed(strategy=request.control(examples.kind), strategy_options={}, ce_weight=None)
            steps = sum(each.units for each in one[-request.goes_on(trained[0], examples.kind) :])
            phases.append(Phase(control(seed), CONTROL, steps, settings=own, labelled=True))
            phases += [Phase(AVERAGE, ANSWER, len(AVERAGES) * choosing)] * (request.averages and not seed)
    models = request.chosen.seeds * (1 + request.has_control)
    if request.chosen.seeds > 1:
        phases.append(Phase(PICK, ANSWER, models * choosing))
    return [*phases, Phase(PROOF, ANSWER, (2 + models) * tested, tested)]


def of_candidate(
    name: str, candidate: Candidate, examples: Examples, settings: TrainSettings, share: float, seen: set[str]
) -> Iterator[Phase]:
    """The phases of one training; ``seen`` has the stages, and the answers of OLD, that others had before it."""

    def steps(own: TrainSettings, every: Examples) -> float:
        return max(1, round(share * total_steps(every, own)))

    if candidate.first and (stage := repr(candidate.first_settings(settings).deciding())) not in seen:
        seen.add(stage)
        own = candidate.first_settings(settings)
        yield Phase(stage_before(name), TRAIN, steps(own, labelled(examples)), settings=own, labelled=True)
    if _ANSWERS in strategies.get(candidate.strategy).needs and (candidate.first or _OF_NEW not in seen):
        documents = len(examples.train) + len(examples.validation) + len(examples.unlabelled)
        yield Phase(both_answer(name), READ, documents * (1 if _ANSWERS in seen else 2))
        seen |= {_ANSWERS} if candidate.first else {_ANSWERS, _OF_NEW}
    own = candidate.settings(settings)
    yield Phase(name, TRAIN, steps(own, examples), settings=own)


TASK, START = "task adapter", "OLD and NEW"
AVERAGE, PICK, PROOF = "average with the control", "which training", "proof"
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
