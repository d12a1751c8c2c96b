"""``compatcheck fix``: train a compatibility adapter and prove that it helped."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from compatcheck.references import Reference, resolve
from compatcheck.tasks import LoadedTask
from compatcheck_train.examples import Examples, Wanted, load_examples
from compatcheck_train.fix import estimate, phases
from compatcheck_train.fix.change import Changes
from compatcheck_train.fix.estimate import Costs
from compatcheck_train.fix.judging import Scores
from compatcheck_train.fix.phases import Phases
from compatcheck_train.fix.prompts import Reader, answers_of, prompt_examples
from compatcheck_train.fix.proof import Proof, bound_of, prove
from compatcheck_train.fix.request import (
    AUTO,
    FixRequest,
    check,
    check_disk,
    check_old_is_worth_keeping,
    check_strategies,
    claim_of,
)
from compatcheck_train.fix.room import check_memory
from compatcheck_train.fix.search import (
    Frontier,
    Picked,
    Repeat,
    Trial,
    Work,
    pick,
    repeats_of,
    search,
    settle,
)
from compatcheck_train.fix.verdict import CONTROL
from compatcheck_train.folders import partial_of, put
from compatcheck_train.training.processes import first, open_accelerator
from compatcheck_train.training.run import Trained, train_task_adapter
from compatcheck_train.weights import transfer, why_not_blended

Say = Callable[[str], None]
ESTIMATE = Path("work", "estimate.json")
CLEARLY = 3.0
"""Standard errors by which NEW's score on the validation documents must be above that of the proof to be said."""
WITHOUT_FURTHER = (
    "No further inputs were given. Real inputs of the task, without answers (--unlabelled FILE), are what has helped "
    "most where training rows are few."
)


@dataclass(frozen=True)
class Fixed:
    """A finished fix: everything that the report shows. ``adapter`` is the folder to serve: the compatibility adapter,
    or the control's where the proof says so (``proof.judgement.delivered``)."""

    request: FixRequest
    adapter: Path
    final: Trial
    """What was chosen, before the blend."""
    proof: Proof
    scores: dict[str, Scores]
    """OLD, NEW and what is delivered of compat, on the documents to choose on."""
    trials: list[Trial]
    finals: list[Trial]
    """What was trained in full; empty where it was one."""
    frontier: Frontier | None
    control: Trained | None
    bound: Changes | None
    notes: tuple[str, ...]
    seconds: float
    estimated_seconds: float
    """Of the whole, told before it started."""
    documents: dict[str, int]
    """Numbers of training, validation, unlabelled and test documents."""
    picked: Picked | None
    """Where there were several trainings: which of them is delivered."""
    averaged: float
    """The compatibility adapter's weight where it is averaged with the control's, else 0."""


def fix(request: FixRequest, out: str | Path, say: Say = lambda _: None, progress: Any = None) -> Fixed:
    """Train, choose, blend, prove; ``out`` gets ``adapter/`` (a PEFT folder) and ``work/`` (trainings, trials, blends).
    A killed fix is resumed when it is called again with the same request.

    Of several processes (``accelerate launch``, torchrun) all train; the first one evaluates and writes, and all of
    them return the same. InputError where something given cannot be used, or the old model is no teacher."""
    out, started, notes = Path(out), time.perf_counter(), list[str]()

    def note(text: str) -> None:
        notes.append(text)
        say(text)

    work, tested, scores, estimated = _prepared(request, out, say, note, Phases(progress), started)
    request, documents = work.request, work.documents
    trials, finals = search(work)
    final, frontier = settle(work, finals)
    if request.is_control(final.candidate, work.examples):
        how = final.candidate.strategy
        note(f"The adapter was trained as the control was, with {how}: they differ by the blend alone.")
    repeats = repeats_of(work, final, frontier)
    picked = pick(work, repeats)
    scores["compat"] = picked.scores[repeats.index(picked.compat)]
    proof, bound = _prove(work, tested, picked, repeats)
    delivered = picked.compat.folder
    if proof.judgement.delivered == CONTROL and picked.control is not None and picked.control.control is not None:
        delivered = picked.control.control.folder
    first(lambda: _publish(delivered, out / "adapter"))
    if work.request.chooses and (text := _known_better(scores["new"], proof)):
        note(text)
    examples = work.examples
    numbers = (len(examples.train), documents.size, len(examples.unlabelled), tested.size)
    return Fixed(
        request, out / "adapter", final, proof, scores, trials, finals if len(finals) > 1 else [], frontier,
        repeats[0].control, bound, tuple(dict.fromkeys((*notes, *final.trained.trained.notes, *proof.notes))),
        round(time.perf_counter() - started, 1), estimated,
        dict(zip(("train", "validation", "unlabelled", "test"), numbers, strict=True)),
        picked if len(repeats) > 1 else None, repeats[0].averaged,
    )  # fmt: skip


def _prepared(
    request: FixRequest, out: Path, say: Say, note: Say, progress: Phases, started: float
) -> tuple[Work, LoadedTask, dict[str, Scores], float]:
    """Everything is checked, the documents are there, the time is estimated, OLD and NEW are judged, and the folder is
    taken: what all stages work with, the task of the proof, both models' scores, and the seconds of the whole."""
    old, new = check(request)
    if request.blend == AUTO and new.adapter is not None and (why := why_not_blended(new.adapter)):
        note(f"No blends with NEW are tried: {why}.")
        request = request.with_(blend="none")
    open_accelerator(request.settings, out)
    claim = claim_of(out)
    request = request.within(claim)
    identity = request.identity(old, new)
    first(lambda: claim.check(identity))
    check_disk(out, (old, new))
    if request.chosen.reference is not None:
        request = _with_answers(request, old, say, note, progress)
    chosen, judge = request.chosen, request.judge
    if request.began_with is not None:
        note(
            f"The folder began with --limit {request.began_with}: the adapter is the one that was trained and chosen "
            "then. The intervals of a second proof on more documents are those of a first one."
        )
    examples = _examples(request, old, new)
    check_strategies(request, examples)
    if idle := request.idle(new):
        note(idle)
    documents, tested = judge.validation(examples, request.most), judge.test(request.most, request.chooses)
    for text in dict.fromkeys(examples.notes):
        note(text)
    if warning := judge.known_to_new(documents, examples):
        note(f"Warning: {warning}")
    models, parts = {"old": old, "new": new}, {phases.START: documents, phases.PROOF: tested}
    if chosen.strategy == AUTO and chosen.unlabelled is None:
        note(WITHOUT_FURTHER)
    costs = _foreseen(request, out, models, examples, parts, say, progress, started)
    if chosen.train_task:
        first(lambda: claim.take(identity))
        say(f"training a task adapter for {request.new}")
        progress.begin(phases.TASK)
        made = train_task_adapter(new, examples, request.settings, out / "work" / "task", say=say, progress=progress)
        new = resolve(str(made.folder))
    progress.begin(phases.START)
    known = judge.run(documents, {"old": old, "new": new}, say, progress)
    scores = judge.scores(known["old"], known["new"], known)
    if warning := check_old_is_worth_keeping(scores["old"], chosen.force):
        note(f"Warning: {warning}.")
    first(lambda: claim.take(identity))
    first(lambda: costs.write(out / ESTIMATE))
    work = Work(request, old, new, new, examples, documents, known, out / "work", say, note, progress)
    return _with_start(work), tested, scores, costs.whole


def _with_answers(request: FixRequest, old: Reference, say: Say, note: Say, progress: Phases) -> FixRequest:
    """With OLD's answers in place of targets; a note tells of prompts that have none."""
    judge = request.judge
    assert judge.prompts is not None
    asked = judge.prompts.asked(request.files)
    say(f"OLD answers {asked.size:,} prompts, which gives their targets")
    run = replace(judge, prompts=None).run(asked, {"old": old}, say, progress)["old"]
    answers = answers_of(run.tasks[0])
    if lost := asked.size - sum(each.scored is not None for each in answers.values()):
        note(f"OLD gave no answer that counts to {lost:,} of {asked.size:,} prompts: they are inputs alone.")
    return replace(request, answers=answers)


def _examples(request: FixRequest, old: Reference, new: Reference) -> Examples:
    chosen, judge, settings = request.chosen, request.judge, request.settings
    given: dict[str, Any] = {
        "limit": chosen.train_limit, "unlabelled": chosen.unlabelled, "seed": settings.seed,
        "overlap": "drop" if chosen.drop_overlap else "error",
    }  # fmt: skip
    if judge.prompts is not None:
        from compatcheck_train.training.models import load_tokenizer

        readers = (Reader(old, load_tokenizer(old, settings)), Reader(new, load_tokenizer(new, settings)))
        return prompt_examples(judge.prompts, readers, Wanted(**given), chosen.extract)
    return load_examples(
        judge.task, data=judge.data, split=chosen.train_split, num_fewshot=judge.num_fewshot or 0, tested=judge.split,
        trust_task=judge.trust_task, **given,
    )  # fmt: skip


def _foreseen(
    request: FixRequest, out: Path, models: dict[str, Reference], examples: Examples, parts: dict[str, LoadedTask],
    say: Say, progress: Phases, started: float,
) -> Costs:  # fmt: skip
    """What lies ahead is planned, and its memory and time are said before it is paid for; what it costs is measured, or
    what it was when the work that is resumed began. ``parts`` are the documents to choose on and those of the proof."""
    choosing, tested = (loaded.size for loaded in parts.values())
    ahead = phases.whole(request, examples, choosing, tested)
    check_memory(models["old"], models["new"], examples, ahead, say)
    if (out / ESTIMATE).is_file():
        costs = Costs.read(out / ESTIMATE)
    else:
        costs = estimate.measure(request.judge, models, examples, ahead, parts)
    progress.timed = partial(costs.timed, examples)
    progress.plan(ahead)
    if not costs.whole:
        whole = time.perf_counter() - started + (progress.left or 0.0)
        costs = replace(costs, whole=first(lambda: round(whole, 1)))
        say(estimate.said(progress.ahead, costs.whole))
    return costs


def _with_start(work: Work) -> Work:
    """What the adapter starts as: NEW, or NEW with the old adapter's update on top."""
    if work.request.chosen.init == "new":
        return work
    source, base = work.old.adapter, work.new.base
    assert source is not None and base is not None
    to = work.folder / "transfer"
    moved, left = first(lambda: transfer(source, base, to, work.new.adapter))
    work.note(f"--init transfer: {len(moved)} modules moved, {len(left)} left as they are in NEW.")
    return replace(work, start=replace(work.new, text=str(to), kind="adapter", adapter=to))


def _prove(work: Work, tested: LoadedTask, picked: Picked, repeats: list[Repeat]) -> tuple[Proof, Changes | None]:
    judge, several = work.request.judge, len(repeats) > 1
    models: dict[Any, Reference] = {"old": work.old, "new": work.new}
    for each in repeats if several else [picked.compat]:
        models["compat", each.seed] = resolve(str(each.folder))
        if each.control is not None:
            models["control", each.seed] = resolve(str(each.control.folder))
    work.progress.begin(phases.PROOF)
    found = judge.run(tested, {_name(key): model for key, model in models.items()}, work.say, work.progress)
    runs = {key: found[_name(key)] for key in models}
    sides = {"new": runs["new"], "compat": runs["compat", picked.compat.seed]}
    if picked.control is not None:
        sides["control"] = runs["control", picked.control.seed]
    trained = {key: run for key, run in runs.items() if isinstance(key, tuple) and several}
    proof = prove(runs["old"], {**sides, **trained}, judge.seed, work.request.margin, judge.correct_at)
    if judge.metric:
        proof = replace(proof, metrics=tuple(sorted(proof.metrics, key=lambda m: m.metric != judge.metric)))
    return proof, bound_of(runs["old"], runs["new"], tested, proof.metrics[0].metric)


def _name(key: str | tuple[str, int]) -> str:
    return key if isinstance(key, str) else f"{key[0]} {key[1]}"


def _publish(source: Path, target: Path) -> None:
    """Copy the adapter to its place, whole or not at all; a report on the one before is removed."""
    shutil.rmtree(partial_of(target), ignore_errors=True)
    shutil.copytree(source, partial_of(target))
    for report in target.parent.glob("fix_report.*"):
        report.unlink()
    put(partial_of(target), target)


def _known_better(new: Scores, proof: Proof) -> str | None:
    """A note where NEW scores clearly better on the documents that were chosen on than on those of the proof."""
    metric = proof.metrics[0]
    score = metric.comparisons["new"].metrics["accuracy_new" if metric.kind == "discrete" else "score_new"]
    if score.value is None or score.low is None or score.high is None or metric.n == 0:
        return None
    error = (score.high - score.low) / (2 * 1.96)
    error *= math.sqrt(1 + metric.n / new.n)  # of the difference, both as noisy as their numbers say
    sign = -1 if new.score < 0 else 1  # turned where less is better
    if new.score - sign * score.value <= CLEARLY * error:
        return None
    return (
        f"NEW scores {abs(new.score):.4g} on the documents that were chosen on and {score.value:.4g} on those of the "
        "proof: it may have been trained on the former."
    )
