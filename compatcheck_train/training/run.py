"""Train a compatibility adapter, or a task adapter for a NEW that has none.

The loop is Accelerate's with our own step, not HF Trainer's: a micro-batch is a set of documents with their choices and
two teachers, the loss is a mean over positions or documents of the whole optimiser step, and checkpoints are
safetensors, where Trainer's are pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compatcheck.engines.hf import memory
from compatcheck.engines.hf.checking import check_loading
from compatcheck.engines.progress import Progress, SilentProgress
from compatcheck.errors import InputError
from compatcheck.references import Reference, resolve
from compatcheck_train.align.term import AlignedTerm, align_wants
from compatcheck_train.examples import Examples
from compatcheck_train.fix.output import Output
from compatcheck_train.loss import strategies
from compatcheck_train.loss.old_term import OldTerm
from compatcheck_train.loss.strategies import Strategy
from compatcheck_train.rows import make_items
from compatcheck_train.settings import TrainSettings
from compatcheck_train.teachers import Teacher
from compatcheck_train.training import sharding
from compatcheck_train.training.batches import Plan, make_plan
from compatcheck_train.training.loop import Loop
from compatcheck_train.training.models import Student, load_student, load_tokenizer, save_adapter
from compatcheck_train.training.progress import check_trackers
from compatcheck_train.training.setup import BY_POSITION, open_accelerator, same_tokens, settle_new, settle_old, wants
from compatcheck_train.training.student import Trainee

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A finished training. ``folder`` is the PEFT adapter; ``history`` has for each epoch its ``step``, ``loss`` (mean
    over its steps), ``validation_loss`` and ``followed`` (share that followed the old model); epoch 0 is NEW itself.
    ``seconds`` are those of the loop, over all runs where it was resumed."""

    folder: Path
    strategy: str
    steps: int
    best_epoch: int
    history: tuple[dict[str, float], ...]
    notes: tuple[str, ...]
    seconds: float
    parameters: int
    """Number of trained parameters."""
    tokens: int
    """Trained positions of an epoch."""


def train(
    old: str | Reference | None,
    new: str | Reference,
    examples: Examples,
    settings: TrainSettings,
    out: str | Path,
    *,
    say: Say = lambda _: None,
    progress: Progress | None = None,
    old_term: OldTerm | None = None,
) -> Trained:
    """Train a compatibility adapter on NEW's base, starting as NEW.

    A training that was interrupted goes on from its last checkpoint in ``out`` and ends as if nothing had happened; a
    finished one is returned as it is.

    Args:
        old: full model or adapter; None where the strategy has no old teacher.
        new: full model (a fresh adapter is trained) or adapter (a copy of it is trained).
        out: gets ``adapter/``, ``metrics.jsonl``, ``run.json`` and ``checkpoints/``.
        say: gets one line per step of the preparation; progress: a bar that may also have ``tell(text)``.
        old_term: another source of the old model's term than its states at the student's positions or, where the
            tokenizers differ, than the alignment of ``settings.alignment``.

    Raises:
        InputError: something given cannot be used, memory or disk do not suffice, the loss is no number, or ``out``
            holds something else.
    """
    strategy = strategies.get(settings.strategy)
    options = strategy.settled(settings.strategy_options)
    if examples.kind not in strategy.kinds:
        fitting = ", ".join(strategies.names(examples.kind))
        raise InputError(
            f"strategy {strategy.name} is not for {examples.kind} tasks like {examples.task}; there are: {fitting}"
        )
    if "answers" in strategy.needs and not any(example.chosen for example in (*examples.train, *examples.unlabelled)):
        raise InputError(f"strategy {strategy.name} needs both models' answers in the examples: fix.answers adds them")
    check_trackers(settings.report_to)
    new_reference = _model(new, "NEW", settings)
    old_reference = _model(old, "OLD", settings) if strategy.needs_old and old is not None else None
    if strategy.needs_old and old_reference is None:
        raise InputError(f"strategy {strategy.name} needs OLD")
    accelerator = open_accelerator(settings, Path(out))
    output = Output(Path(out), accelerator)
    output.claim(_identity(old_reference, new_reference, examples, settings, old_term))
    tokenizer = load_tokenizer(new_reference, settings)
    plan = _plan(tokenizer, examples, strategy, settings, new_reference)
    notes = [*examples.notes]
    if (kept := output.finished()) is not None:
        say(f"{out}: finished before")
        return Trained(folder=output.adapter, **kept)

    def note(text: str) -> None:
        notes.append(text)
        say(text)

    teacher: Teacher | None = None
    plain_term: OldTerm | None = None
    if old_reference is not None:
        old_tokenizer = load_tokenizer(old_reference, settings)
        twin = _old_plan(old_reference, old_tokenizer, plan, strategy, settings)
        aligned = twin is not plan and bool(strategy.needs & BY_POSITION) and old_term is None
        wanted = wants(strategy, "old", old_term is not None)
        if aligned:
            wanted = wanted | align_wants(settings.alignment, old_tokenizer, tokenizer)
        teacher = settle_old(old_reference, twin, wanted, settings, accelerator, note, progress)
        if aligned and teacher is not None:
            plain_term, teacher = AlignedTerm(teacher, old_tokenizer, tokenizer, settings.alignment), None
            note(f"OLD and NEW tokenize differently; the old model is followed through {settings.alignment} alignment.")
        elif "old-states" in strategy.needs:
            plain_term = old_term
        if plain_term is not None:
            plain_term.prepare(
                [plan.batch(i).texts for i in range(len(plan.items))],
                [[row.ids for item in group for row in item.rows] for group in plan.items],
            )
    split = sharding.active(settings)
    student = load_student(new_reference, settings, "cpu" if split else accelerator.device)
    if split:
        sharding.shard(student.peft, accelerator.device)
        note(f"The layers of NEW's base are split over {accelerator.num_processes} processes.")
    trainee = Trainee(student, plan, strategy, settings, options, accelerator.autocast, teacher, plain_term)
    settle_new(trainee, new_reference, accelerator, note, progress)
    count = sum(p.numel() for p in student.parameters().values())
    say(f"training {count:,} parameters with {strategy.name} on {len(examples.train)} documents")
    loop = Loop(trainee, accelerator, output, progress or SilentProgress(), note)
    try:
        standing = loop.run()
        if isinstance(plain_term, AlignedTerm) and plain_term.coverage is not None:
            note(f"{plain_term.coverage:.0%} of the weight of the old model found its counterpart in its tokens.")
    finally:
        for each in (teacher, trainee.new, plain_term):
            if each is not None:
                each.close()
        for tracker in getattr(accelerator, "trackers", []):
            tracker.finish()
    result = _finish(student, output, accelerator, standing, strategy.name, notes, plan)
    del loop, trainee, student
    memory.give_back()
    return result


def train_task_adapter(
    base: str | Reference,
    examples: Examples,
    settings: TrainSettings,
    out: str | Path,
    *,
    say: Say = lambda _: None,
    progress: Progress | None = None,
) -> Trained:
    """Train a fresh LoRA adapter on a full model with next-token loss on context and answer: a task adapter for a NEW
    that has none. Settings as for :func:`train`; their strategy does not count.

    Raises:
        InputError: as :func:`train`; also where ``base`` names an adapter.
    """
    reference = _model(base, "base", settings)
    if reference.adapter is not None:
        raise InputError(f"{reference.text}: has an adapter already; a task adapter is trained on a full model")
    own = replace(settings, strategy="continue-ce", strategy_options={}, ce_weight=None)
    return train(None, reference, examples, own, out, say=say, progress=progress)


def _model(given: str | Reference, side: str, settings: TrainSettings) -> Reference:
    reference = resolve(given, settings.trust_remote_code) if isinstance(given, str) else given
    if reference.base is None:
        raise InputError(f"{side} {reference.text}: recorded outputs cannot be trained on; give the model")
    adapters = [reference.adapter] if reference.adapter is not None else []
    check_loading(reference.base, adapters, trust_remote_code=settings.trust_remote_code, tokenizer=reference.tokenizer)
    return reference


def _plan(tokenizer: Any, examples: Examples, strategy: Strategy, settings: TrainSettings, new: Reference) -> Plan:
    most = settings.max_length
    weight = settings.weight_of_context if strategy.per == "position" else 0.0
    fit = make_items(tokenizer, [*examples.train, *examples.unlabelled], strategy.rows, most)
    hold = make_items(tokenizer, examples.validation, strategy.rows, most)
    plan = make_plan(fit, hold, settings.batch_size, settings.seed, weight)
    if not plan.training or not plan.validation:
        raise InputError(f"{examples.task}: no token to train on is left; check tokens, context_weight and the data")
    return plan


def _old_plan(old: Reference, tokenizer: Any, plan: Plan, strategy: Strategy, settings: TrainSettings) -> Plan:
    """The micro-batches in the old model's tokens: the same object where they are equal."""
    twin = plan.retold(tokenizer, strategy.rows, settings.max_length)
    if same_tokens(plan, twin):
        return plan
    if "same-tokens" in strategy.needs:
        choice = ", ".join(n for n in strategies.names() if "same-tokens" not in strategies.get(n).needs)
        raise InputError(
            f"{old.text} and NEW tokenize differently, and strategy {strategy.name} mixes both distributions token by "
            f"token; take one of: {choice}"
        )
    return twin


def _identity(
    old: Reference | None, new: Reference, examples: Examples, settings: TrainSettings, old_term: OldTerm | None
) -> dict[str, Any]:
    """What decides the result: a folder with another one is not gone on with."""
    return {
        "old": old.fingerprint() if old is not None else None,
        "new": new.fingerprint(),
        "examples": examples.fingerprint,
        "settings": settings.deciding(),
        "old_term": old_term.identity if old_term is not None else None,
    }


def _finish(
    student: Student, output: Output, accelerator: Any, standing: Any, strategy: str, notes: list[str], plan: Plan,
) -> Trained:  # fmt: skip
    facts: dict[str, Any] = {
        "strategy": strategy,
        "steps": standing.step,
        "best_epoch": standing.best_epoch,
        "history": tuple(standing.history),
        "notes": tuple(dict.fromkeys(notes)),
        "seconds": round(standing.seconds, 2),
        "parameters": sum(p.numel() for p in student.parameters().values()),
        "tokens": round(sum(plan.size(i, "position") for i in range(plan.training))),
    }
    if accelerator.is_main_process:
        save_adapter(student, output.adapter)
        output.finish(facts)
    accelerator.wait_for_everyone()
    return Trained(folder=output.adapter, **facts)
