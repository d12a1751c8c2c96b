"""``compatcheck fix``: train a compatibility adapter and prove that it helped."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck.records import Run
from compatcheck.references import Reference, resolve
from compatcheck.tasks import LoadedTask
from compatcheck_train.examples import Examples, load_examples, with_preferences
from compatcheck_train.fix.answers import with_joint_answers
from compatcheck_train.fix.bound import Bound, bound_of
from compatcheck_train.fix.candidates import Candidate, Prepare, candidates_for
from compatcheck_train.fix.frontier import Frontier, walk
from compatcheck_train.fix.judging import CHOOSING_SHARE, Judge, Standing, best, stand
from compatcheck_train.fix.proof import COMPAT, CONTROL, Proof, prove
from compatcheck_train.fix.repeats import Picked, Repeat, control_of, pick, repeat
from compatcheck_train.fix.request import (
    AUTO,
    FixRequest,
    check,
    check_old_is_worth_keeping,
    check_room,
    check_strategies,
    claim_of,
)
from compatcheck_train.fix.trials import CLEARLY, Trial, run_finals, run_trials
from compatcheck_train.folders import put
from compatcheck_train.loss import strategies
from compatcheck_train.training.processes import first, open_accelerator
from compatcheck_train.training.run import Trained, train_task_adapter
from compatcheck_train.weights import transfer, why_not_blended

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fixed:
    """A finished fix: everything that the report shows. ``adapter`` is the folder to serve: the compatibility adapter,
    or the control's where the proof says so (``proof.judgement.delivered``)."""

    request: FixRequest
    adapter: Path
    candidate: Candidate
    trained: Trained
    proof: Proof
    standings: dict[str, Standing]
    """OLD, NEW, compat (and the blend) on the validation documents."""
    trials: tuple[Trial, ...] = ()
    finals: tuple[Trial, ...] = ()
    """What was trained in full; empty where it was one."""
    frontier: Frontier | None = None
    control: Trained | None = None
    first: Trained | None = None
    """The stage before the training, where there was one."""
    bound: Bound | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    documents: dict[str, int] = field(default_factory=dict)
    """Numbers of training, validation, unlabelled and test documents."""
    picked: Picked | None = None
    """Where there were several trainings: which of them is delivered."""


def fix(request: FixRequest, out: str | Path, *, say: Say = lambda _: None, progress: Any = None) -> Fixed:
    """Train, choose, blend, prove. A killed fix goes on where it was when it is called again with the same request.

    Of several processes (``accelerate launch``, torchrun) all train; the first one evaluates and writes, and all of
    them return the same.

    Args:
        out: gets ``adapter/`` (a PEFT folder) and ``work/`` (trainings, trials, blends).

    Raises:
        InputError: something given cannot be used, or the old model is no teacher (see ``FixRequest.force``).
    """
    out = Path(out)
    started = time.perf_counter()
    notes: list[str] = list(request.notes)

    def note(text: str) -> None:
        notes.append(text)
        say(text)

    old, new = check(request)
    judge, work = request.judge, out / "work"
    identity = _identity(request, old, new)
    open_accelerator(request.settings, out)
    first(lambda: claim_of(out).check(identity))
    check_room(out, (old, new), say)
    examples = load_examples(
        judge.task, data=judge.data, split=request.train_split, limit=request.train_limit,
        unlabelled=request.unlabelled,
        num_fewshot=judge.num_fewshot or 0, seed=request.settings.seed, overlap=request.overlap,
        tested=judge.split,
    )  # fmt: skip
    check_strategies(request, examples)
    most = request.validation_most
    documents, tested = judge.validation(examples, most), judge.test(most)
    notes += examples.notes
    warning = judge.known_to_new(documents, examples)
    if warning:
        note(f"Warning: {warning}")
    if request.train_task:
        first(lambda: claim_of(out).take(identity))
        say(f"training a task adapter for {request.new}")
        new = resolve(
            str(train_task_adapter(new, examples, request.settings, work / "task", say=say, progress=progress).folder)
        )
    known = judge.run(documents, {"old": old, "new": new}, say, progress)
    standings = {each.name: each for each in stand(judge, known["old"], known["new"], known, judge.seed)}
    warning = check_old_is_worth_keeping(standings["old"], request.force)
    if warning:
        note(f"Warning: {warning}.")
    first(lambda: claim_of(out).take(identity))
    request = _without_blend(request, new, note)
    start = _start(request, old, new, work, note)
    examples = _preferred(request, examples, judge, old, new, say, progress)

    def prepare(candidate: Candidate, starts: Reference) -> Examples:
        strategy = strategies.get(candidate.strategy)
        if "answers" not in strategy.needs:
            return examples
        options = strategy.settled(candidate.settings(request.settings).strategy_options)
        return with_joint_answers(
            examples, tested, old, starts, work / "answers", engine=judge.engine,
            old_share=options["old_share"], keep_labels=bool(options["keep_labels"]), say=say, progress=progress,
        )  # fmt: skip

    trials, finals = _train(request, old, start, examples, documents, known, work, prepare, say, note, progress)
    final, frontier = _settle(request, finals, new, documents, known, work, say, progress)
    candidate, staged, trained = final.candidate, final.trained, final.trained.trained
    if candidate.is_only(request.control or ""):
        note(f"The adapter was trained as the control was, with {request.control}: they differ by the blend alone.")
    chosen = trained.folder if frontier is None else frontier.chosen.folder
    seed = request.settings.seed
    control = control_of(
        request, candidate, staged, old, new, examples, work / "control", seed, say=say, progress=progress
    )
    repeats = [Repeat(seed, chosen, staged, control)]
    share = None if frontier is None else frontier.chosen.share
    repeats += [
        repeat(
            request, candidate, share, another, old, start, new, examples, documents, known, work, prepare=prepare,
            say=say, progress=progress,
        )
        for another in range(seed + 1, seed + request.seeds)
    ]  # fmt: skip
    picked = pick(judge, repeats, documents, known, progress)
    standings["compat"] = picked.standings[repeats.index(picked.compat)]
    proof, bound = _prove(request, tested, old, new, picked, repeats, say, progress)
    delivered = picked.compat.folder
    if proof.judgement.delivered == CONTROL:
        assert picked.control is not None and picked.control.control is not None
        delivered = picked.control.control.folder
    first(lambda: _publish(delivered, out / "adapter"))
    known_better = _known_better(standings["new"], proof)
    if known_better:
        note(known_better)
    return Fixed(
        request, out / "adapter", candidate, trained, proof, standings, tuple(trials),
        tuple(finals) if len(finals) > 1 else (), frontier, control,
        staged.first, bound, tuple(dict.fromkeys((*notes, *trained.notes, *proof.notes))),
        round(time.perf_counter() - started, 1),
        {
            "train": len(examples.train), "validation": documents.size, "unlabelled": len(examples.unlabelled),
            "test": tested.size,
        },
        picked if len(repeats) > 1 else None,
    )  # fmt: skip


def _known_better(new: Standing, proof: Proof) -> str | None:
    """A note where NEW scores clearly better on the documents that were chosen on than on those of the proof."""
    metric = proof.metrics[0]
    score = metric.comparisons["new"].metrics["accuracy_new" if metric.kind == "discrete" else "score_new"]
    if score.value is None or score.low is None or score.high is None or metric.n == 0:
        return None
    error = (score.high - score.low) / (2 * 1.96)
    error *= math.sqrt(1 + metric.n / new.n)  # of the difference, both as noisy as their numbers say
    sign = -1 if new.score < 0 else 1  # a standing's is turned where less is better
    if new.score - sign * score.value <= CLEARLY * error:
        return None
    return (
        f"NEW scores {abs(new.score):.4g} on the documents that were chosen on and {score.value:.4g} on those of the "
        "proof: it may have been trained on the former."
    )


def _without_blend(request: FixRequest, new: Reference, note: Say) -> FixRequest:
    """Where NEW's adapter is of a kind that cannot be blended, the adapter is taken as it is trained."""
    why = why_not_blended(new.adapter) if request.blend == AUTO and new.adapter is not None else ""
    if not why:
        return request
    note(f"No blends with NEW are tried: {why}.")
    return dataclasses.replace(request, blend=None)


def _start(request: FixRequest, old: Reference, new: Reference, work: Path, note: Say) -> Reference:
    """What the adapter starts as."""
    if request.init == "new":
        return new
    assert old.adapter is not None
    assert new.base is not None
    source, base = old.adapter, new.base
    moved = first(lambda: transfer(source, base, work / "transfer", new.adapter))
    note(f"--init transfer: {len(moved.moved)} modules moved, {len(moved.left)} left as they are in NEW.")
    return resolve(str(moved.folder))


def _preferred(
    request: FixRequest, examples: Examples, judge: Judge, old: Reference, new: Reference, say: Say, progress: Any
) -> Examples:
    """Examples with both models' outputs where a strategy wants them."""
    wanted = {name for text in (request.strategy, *request.candidates) for name in text.split("+")}
    if "regression-preference" not in wanted or examples.kind != "text":
        return examples
    say("both models answer the training documents, for preferences")
    documents = [int(example.doc_id) for example in (*examples.train, *examples.validation)]
    runs = judge.run(judge.on_training_documents(examples, documents), {"old": old, "new": new}, progress=progress)
    picked = {side: judge.pick(run)[0] for side, run in runs.items()}
    return with_preferences(examples, picked["old"], picked["new"])


def _train(
    request: FixRequest, old: Reference, start: Reference, examples: Examples, documents: LoadedTask,
    known: dict[str, Run], work: Path, prepare: Prepare, say: Say, note: Say, progress: Any,
) -> tuple[list[Trial], list[Trial]]:  # fmt: skip
    """The trials where there are any, from the best on, and what was trained in full."""
    trials: list[Trial] = []
    finalists = [Candidate.of(request.strategy)] if request.strategy != AUTO else []
    if not finalists:
        candidates = candidates_for(examples.kind, request.candidates, request.trial_share)
        trials = run_trials(
            candidates, old, start, examples, request.settings, request.judge, documents, known, request.trial_share,
            work / "trials", prepare=prepare, say=say, note=note, progress=progress,
        )  # fmt: skip
        best_ones = trials[: request.finalists]
        say(f"auto goes on with {' and '.join(trial.candidate.name for trial in best_ones)}")
        if request.trial_share == 1:
            return trials, best_ones
        finalists = [trial.candidate for trial in best_ones]
    finals = run_finals(
        finalists, old, start, examples, request.settings, request.judge, documents, known, work / "compat",
        prepare=prepare, say=say, note=note, progress=progress,
    )  # fmt: skip
    return trials, finals


def _settle(
    request: FixRequest, finals: list[Trial], new: Reference, documents: LoadedTask, known: dict[str, Run], work: Path,
    say: Say, progress: Any,
) -> tuple[Trial, Frontier | None]:  # fmt: skip
    """What is taken of what was trained in full: of all their blends with NEW, or of them as they are."""
    if request.blend is None:
        winner = best([final.standing for final in finals], errors=1.0)
        return next(final for final in finals if final.standing is winner), None
    walked = []
    for number, final in enumerate(finals, 1):
        place = work / (f"blend-{number}" if number > 1 else "blend")
        walked.append(walk(request, new, final.trained.folder, documents, known, place, say=say, progress=progress))
    winner = best([frontier.chosen.standing for frontier in walked])
    return next((a, b) for a, b in zip(finals, walked, strict=True) if b.chosen.standing is winner)


def _prove(
    request: FixRequest, loaded: LoadedTask, old: Reference, new: Reference, picked: Picked, repeats: list[Repeat],
    say: Say, progress: Any,
) -> tuple[Proof, Bound | None]:  # fmt: skip
    judge, several = request.judge, len(repeats) > 1
    models = {"old": old, "new": new}
    for each in repeats if several else [picked.compat]:
        models[f"{COMPAT} {each.seed}"] = resolve(str(each.folder))
        if each.control is not None:
            models[f"{CONTROL} {each.seed}"] = resolve(str(each.control.folder))
    runs = judge.run(loaded, models, say, progress)
    proof = prove(
        runs["old"], runs["new"], runs[f"{COMPAT} {picked.compat.seed}"],
        None if picked.control is None else runs[f"{CONTROL} {picked.control.seed}"], seed=judge.seed,
        margin=request.margin,
        trained={e.seed: (runs[f"{COMPAT} {e.seed}"], runs.get(f"{CONTROL} {e.seed}")) for e in repeats if several},
    )  # fmt: skip
    if judge.metric:
        ahead = sorted(proof.metrics, key=lambda m: m.metric != judge.metric)
        proof = dataclasses.replace(proof, metrics=tuple(ahead))
    return proof, bound_of(runs["old"], runs["new"], loaded, proof.metrics[0].metric)


def _publish(source: Path, target: Path) -> None:
    """Copy the adapter to its place, whole or not at all."""
    beside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside)
    put(beside, target)


def _identity(request: FixRequest, old: Reference, new: Reference) -> dict[str, Any]:
    """What decides the result: a folder that was made for something else is not gone on with."""
    rest = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    for name in ("old", "new", "judge", "settings", "force", "notes", "margin", "seeds"):
        rest.pop(name)
    task = {
        name: getattr(request.judge, name)
        for name in ("task", "split", "dev", "num_fewshot", "limit", "metric", "seed")
    }
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in rest.items()}
    return {
        "old": old.fingerprint(),
        "new": new.fingerprint(),
        **task,
        **plain,
        "documents to choose on": CHOOSING_SHARE if request.judge.dev is None else 0,
        "settings": request.settings.deciding(),
    }
