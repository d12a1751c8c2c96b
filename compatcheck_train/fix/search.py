"""Training of what may be delivered: candidates in stages, short trials of ``--strategy auto``, blends with NEW, the
control, and further seeds; all judged by flips and score on the documents to choose on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from compatcheck.records import Run
from compatcheck.references import Reference, resolve
from compatcheck.tasks import LoadedTask
from compatcheck_train.examples import Examples
from compatcheck_train.fix import phases
from compatcheck_train.fix.answers import JointAnswers
from compatcheck_train.fix.candidates import AVERAGES, SHARES, Candidate, labelled, total_steps
from compatcheck_train.fix.judging import Scores, best, ranked
from compatcheck_train.fix.request import AUTO, FixRequest
from compatcheck_train.fix.verdict import COMPAT, CONTROL
from compatcheck_train.loss import strategies
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training.loop import Diverged
from compatcheck_train.training.processes import first
from compatcheck_train.training.run import Trained, train
from compatcheck_train.weights import blend, merge

Say = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """What every stage of a fix works with: ``start`` is what the adapter starts as, ``documents`` are those to choose
    on and ``known`` OLD's and NEW's runs there; ``folder`` gets the trainings, ``note`` what the report shall say."""

    request: FixRequest
    old: Reference
    new: Reference
    start: Reference
    examples: Examples
    documents: LoadedTask
    known: Mapping[str, Run]
    folder: Path
    say: Say = lambda _: None
    note: Say = lambda _: None
    progress: phases.Phases = field(default_factory=phases.Phases)

    def scores(self, folders: Mapping[str, Path]) -> dict[str, Scores]:
        judge = self.request.judge
        models = {name: resolve(str(folder)) for name, folder in folders.items()}
        runs = judge.run(self.documents, models, progress=self.progress)
        return judge.scores(self.known["old"], self.known["new"], runs)

    def train(self, old: Reference, start: Reference, examples: Examples, own: TrainSettings, to: Path) -> Trained:
        return train(old, start, examples, own, to, say=self.say, progress=self.progress)


@dataclass(frozen=True)
class Staged:
    """A candidate's training, and the stage before it where it has one."""

    trained: Trained
    first: Trained | None = None

    @property
    def steps(self) -> int:
        return self.trained.steps + (self.first.steps if self.first is not None else 0)

    @property
    def seconds(self) -> float:
        return self.trained.seconds + (self.first.seconds if self.first is not None else 0.0)

    @property
    def folder(self) -> Path:
        return self.trained.folder


@dataclass(frozen=True)
class Trial:
    """A candidate's training, in part or in full, and its scores on the documents to choose on."""

    candidate: Candidate
    trained: Staged
    scores: Scores


def train_candidate(
    work: Work,
    candidate: Candidate,
    to: Path,
    share: float = 1.0,
    settings: TrainSettings | None = None,
    name: str = "",
) -> Staged:
    """Train a candidate for a share of its steps, with ``settings`` for the request's. ``to`` gets the training; the
    stage before it lies where candidates share it, if its settings are the same. ``name`` is that of the phase."""

    def place_of_stage(own: TrainSettings) -> Path:
        digest = hashlib.sha256(json.dumps(own.deciding(), sort_keys=True).encode()).hexdigest()[:8]
        return to.with_name(f"first-{own.strategy}-{digest}")

    def for_share(own: TrainSettings, examples: Examples) -> TrainSettings:
        return own.changed(max_steps=max(1, round(share * total_steps(examples, own))))

    settings = work.request.settings if settings is None else settings
    before, start, examples = None, work.start, work.examples
    if candidate.first:
        own = for_share(candidate.first_settings(settings), labelled(examples))
        work.say(f"a stage before it with {candidate.first}, {own.max_steps} steps")
        work.progress.begin(phases.stage_before(name))
        before = work.train(work.old, start, labelled(examples), own, place_of_stage(own))
        start = resolve(str(before.folder))
    strategy, own = strategies.get(candidate.strategy), candidate.settings(settings)
    if "answers" in strategy.needs:
        options = strategy.settled(own.strategy_options)
        work.progress.begin(phases.both_answer(name))
        answers = JointAnswers(
            work.documents, work.old, work.folder / "answers", work.request.judge.engine, work.say, work.progress
        )
        examples = answers.examples(examples, start, options["old_share"], bool(options["keep_labels"]))
    own = for_share(own, examples)
    work.progress.begin(name)
    return Staged(work.train(work.old, start, examples, own, to), before)


def run_trials(work: Work, candidates: Sequence[Candidate]) -> list[Trial]:
    """Train every candidate for a share of the steps and judge all of them at once; returns them from the best on.

    A note tells of a candidate that is left out because its loss became no number; Diverged where every candidate's
    did."""
    quiet = replace(work, say=lambda _: None)
    share, folder = work.request.trial_share, work.folder / "trials"

    def one(number: int, candidate: Candidate) -> Staged:
        work.say(f"trial {number} of {len(candidates)}: {candidate.name}")
        name = candidate.name.replace(", ", "-").replace(" ", "-")
        shown = phases.trial(number, candidates, candidate)
        return train_candidate(quiet, candidate, folder / f"{number}-{name}", share, name=shown)

    trials = _judged(work, candidates, one, "trials")
    order = ranked([trial.scores for trial in trials])
    return sorted(trials, key=lambda trial: order.index(trial.scores))


def _judged(
    work: Work, candidates: Sequence[Candidate], one: Callable[[int, Candidate], Staged], what: str
) -> list[Trial]:
    """All of them trained and judged, less those whose loss became no number, as long as any is left."""
    done: list[tuple[Candidate, Staged]] = []
    failed: list[Diverged] = []
    for number, candidate in enumerate(candidates, 1):
        try:
            done.append((candidate, one(number, candidate)))
        except Diverged as error:
            failed.append(error)
            work.note(f"{candidate.name} is left out: {error}.")
    if failed and not done:
        raise failed[0]
    work.progress.begin(phases.judged(what))
    scores = work.scores({candidate.name: staged.folder for candidate, staged in done})
    return [Trial(candidate, staged, scores[candidate.name]) for candidate, staged in done]


def search(work: Work) -> tuple[list[Trial], list[Trial]]:
    """The trials where there are any, from the best on, and what was trained in full."""
    request, trials, finalists = work.request, list[Trial](), list(work.request.candidates(work.examples))
    if request.tries:
        trials = run_trials(work, finalists)
        top = trials[: request.chosen.finalists]
        work.say(f"auto goes on with {' and '.join(trial.candidate.name for trial in top)}")
        if request.trial_share == 1:
            return trials, top
        finalists = [trial.candidate for trial in top]

    def one(number: int, candidate: Candidate) -> Staged:
        steps = total_steps(work.examples, candidate.settings(request.settings))
        work.say(f"training with {candidate.name}, {steps} steps")
        place = work.folder / ("compat" if number == 1 else f"compat-{number}")
        return train_candidate(work, candidate, place, name=phases.training(number))

    return trials, _judged(work, finalists, one, "trainings")


@dataclass(frozen=True)
class Blend:
    """One blend: the weight of compat, the adapter's folder, and its scores."""

    share: float
    folder: Path
    scores: Scores


@dataclass(frozen=True)
class Frontier:
    """Every blend that was tried, by weight, and the one that is taken."""

    chosen: Blend
    points: list[Blend]


def blends_of(work: Work, compat: Path, to: Path, share: float | None = None) -> Frontier:
    """Blends of compat and NEW, a dial between flips and score without training: those asked for, or that with
    ``share``; the one with the fewest flips that keeps NEW's score is taken."""
    asked = share if share is not None else work.request.blend
    shares = SHARES if asked == AUTO else (float(asked or 0),)
    work.say(f"blending with NEW, weights {', '.join(f'{share:g}' for share in shares)}")
    new, method = work.new, work.request.chosen.blend_method

    def blended(share: float) -> Path:
        if share == 1.0:
            return compat
        if method == "exact" or new.adapter is None:
            return blend(compat, new.adapter, share, to / f"{share:g}")
        assert new.base is not None
        return merge(new.base, compat, new.adapter, share, method, to / f"{share:g}")

    folders = first(lambda: {share: blended(share) for share in shares})
    scores = work.scores({f"{share:g}": folder for share, folder in folders.items()})
    tried = [Blend(share, folders[share], scores[f"{share:g}"]) for share in shares]
    nearest = sorted(tried, key=lambda each: abs(each.share - 1))  # of equals that which is most as it was trained
    winner = best([each.scores for each in nearest])
    return Frontier(next(each for each in tried if each.scores is winner), tried)


def settle(work: Work, finals: list[Trial]) -> tuple[Trial, Frontier | None]:
    """What is taken of what was trained in full: of all their blends with NEW, or of them as they are."""
    if work.request.blend is None:
        winner = best([final.scores for final in finals], errors=1.0)
        return next(final for final in finals if final.scores is winner), None
    frontiers = []
    for number, final in enumerate(finals, 1):
        place = work.folder / ("blend" if number == 1 else f"blend-{number}")
        work.progress.begin(phases.blends(number))
        frontiers.append(blends_of(work, final.trained.folder, place))
    winner = best([each.chosen.scores for each in frontiers])
    return next((a, b) for a, b in zip(finals, frontiers, strict=True) if b.chosen.scores is winner)


@dataclass(frozen=True)
class Repeat:
    """A training with a seed of its own: ``folder`` is its adapter, blended; ``control`` was trained on as long.
    ``averaged``: the adapter's weight where it is averaged with the control's, else 0."""

    seed: int
    folder: Path
    staged: Staged
    control: Trained | None
    averaged: float = 0.0


def with_control(work: Work, candidate: Candidate, repeat: Repeat, to: Path) -> Repeat:
    """Beside it NEW's adapter trained on with the control's strategy on the labelled documents alone, for the steps of
    all stages of the candidate; the stage before is shared where it is what the control does."""
    request, staged, examples = work.request, repeat.staged, labelled(work.examples)
    if not request.has_control:
        return repeat
    control, before, start = request.control(examples.kind), None, work.new
    if request.goes_on(candidate, examples.kind) and staged.first is not None:
        before, start = staged.first, resolve(str(staged.first.folder))
    work.say(f"training the control, {control}, at equal steps")
    work.progress.begin(phases.control(repeat.seed - request.settings.seed))
    own = candidate.settings(request.settings.changed(seed=repeat.seed))
    own = own.changed(strategy=control, strategy_options={}, ce_weight=None, max_steps=None, patience=None)
    steps = staged.trained.steps if before is not None else staged.steps
    epochs = math.ceil(steps / total_steps(examples, own.changed(epochs=1)))
    try:
        made = work.train(work.old, start, examples, own.changed(epochs=epochs, max_steps=steps), to)
    except Diverged as error:
        if request.chosen.seeds > 1:  # seeds are compared with their controls
            raise
        work.note(f"There is no control to compare with: {error}.")
        return repeat
    if before is not None:
        made = replace(made, steps=made.steps + before.steps, seconds=made.seconds + before.seconds)
    return replace(repeat, control=made)


def average(repeat: Repeat, share: float, to: Path) -> Repeat:
    """Its adapter as it was trained, with weight ``share``, averaged with its control's: both are on NEW's base."""
    assert repeat.control is not None
    trained, other = repeat.staged.folder, repeat.control.folder
    return replace(repeat, folder=first(lambda: blend(trained, other, share, to)), averaged=share)


def averaged_where_better(work: Work, repeat: Repeat, chosen: Scores) -> Repeat:
    """Averaged with its control, in place of the blend with NEW that scores as ``chosen``, where that scores better by
    a standard error and has no more flips but for one, on the documents to choose on; of several weights the one with
    the fewest flips, of equals that which scores better. A note says so."""
    others = {f"{share:g}": average(repeat, share, work.folder / "average" / f"{share:g}") for share in AVERAGES}
    work.progress.begin(phases.AVERAGE)
    scores = work.scores({name: other.folder for name, other in others.items()})

    def error(found: Scores) -> float:
        return math.sqrt(sum(each.nfr * (1 - each.nfr) / each.n for each in (found, chosen)))

    better = {name: found for name, found in scores.items() if found.score >= chosen.score + chosen.score_error}
    kept = [name for name, found in better.items() if found.nfr <= chosen.nfr + error(found)]
    if not kept:
        return repeat
    name = min(kept, key=lambda name: (scores[name].nfr, -scores[name].score))
    found = scores[name]
    work.note(
        "The adapter is averaged with the control's in place of a blend with NEW, so it has the steps of both; its "
        f"own weight is {name}. On {found.n:,} validation documents the average has NFR {found.nfr:.2%} and score "
        f"{abs(found.score):.4g}, the best blend with NEW {chosen.nfr:.2%} and {abs(chosen.score):.4g}."
    )
    return others[name]


def repeats_of(work: Work, final: Trial, frontier: Frontier | None) -> list[Repeat]:
    """What was chosen, and the same with further seeds and the same weight of the blend, each beside its control, with
    which it is averaged where that is better."""
    candidate, seed = final.candidate, work.request.settings.seed
    folder = final.trained.folder if frontier is None else frontier.chosen.folder
    made = [with_control(work, candidate, Repeat(seed, folder, final.trained, None), work.folder / "control")]
    if frontier is not None and work.request.averages and made[0].control is not None:
        made[0] = averaged_where_better(work, made[0], frontier.chosen.scores)
    for another in range(seed + 1, seed + work.request.chosen.seeds):
        place = work.folder / f"seed-{another}"
        work.say(f"training with {candidate.name} again, seed {another}")
        own = work.request.settings.changed(seed=another)
        number = another - seed
        staged = train_candidate(work, candidate, place / "compat", settings=own, name=phases.again(number))
        folder = staged.folder
        if frontier is not None and not made[0].averaged:  # an average stands in its place
            work.progress.begin(phases.blends(1, number))
            folder = blends_of(work, folder, place / "blend", frontier.chosen.share).chosen.folder
        again = with_control(work, candidate, Repeat(another, folder, staged, None), place / "control")
        made.append(average(again, made[0].averaged, place / "average") if made[0].averaged else again)
    return made


@dataclass(frozen=True)
class Picked:
    """Of several trainings the adapter, and the control, that score best on the documents to choose on; ``scores`` are
    those of every adapter, in the order of the trainings."""

    compat: Repeat
    control: Repeat | None
    scores: tuple[Scores, ...]


def pick(work: Work, repeats: Sequence[Repeat]) -> Picked:
    controls = [each for each in repeats if each.control is not None]
    folders = {f"{COMPAT} {each.seed}": each.folder for each in repeats}
    if len(repeats) > 1:  # one control needs no choice
        folders |= {f"{CONTROL} {each.seed}": each.control.folder for each in controls if each.control}
    work.progress.begin(phases.PICK)
    scores = work.scores(folders)

    def top(side: str, among: Sequence[Repeat]) -> Repeat:
        if len(among) == 1:
            return among[0]
        winner = best([scores[f"{side} {each.seed}"] for each in among])
        return next(each for each in among if scores[f"{side} {each.seed}"] is winner)

    return Picked(
        top(COMPAT, repeats),
        top(CONTROL, controls) if controls else None,
        tuple(replace(scores[f"{COMPAT} {each.seed}"], name=COMPAT) for each in repeats),
    )
