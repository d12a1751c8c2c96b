"""Train a compatibility adapter, or a task adapter for a NEW that has none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compatcheck.engines.hf import memory
from compatcheck.engines.hf.checking import check_loading
from compatcheck.engines.hf.head import Head, head_of
from compatcheck.engines.progress import Progress, SilentProgress
from compatcheck.errors import InputError
from compatcheck.paths import cache_dir
from compatcheck.references import Reference, resolve
from compatcheck_train.align.term import AlignedTerm, align_wants
from compatcheck_train.batches import Plan, make_items, make_plan
from compatcheck_train.examples import Examples
from compatcheck_train.loss import strategies
from compatcheck_train.loss.strategies import Strategy
from compatcheck_train.settings import TrainSettings
from compatcheck_train.teachers import CachedTeacher, OnlineTeacher, Teacher, build, cache, estimate_bytes
from compatcheck_train.teachers.online import Wants, model_states
from compatcheck_train.training import processes
from compatcheck_train.training.checkpoint import Output
from compatcheck_train.training.loop import Loop, Trainee
from compatcheck_train.training.models import dtype_of, load_old, load_student, load_tokenizer, save_adapter

Say = Callable[[str], None]
_DISK_SHARE = 0.8
"""Share of the free disk that ``auto`` fills at most."""


@dataclass(frozen=True)
class Trained:
    """A finished training. ``folder`` is the PEFT adapter; ``history`` has for each epoch its ``step``, ``loss`` (mean
    over its steps), ``validation_loss`` and ``followed`` (share that followed the old model); epoch 0 is the start.
    ``seconds`` are those of the loop, over all runs where it was resumed; ``parameters`` the number of those trained,
    ``tokens`` the trained positions of an epoch."""

    folder: Path
    strategy: str
    steps: int
    best_epoch: int
    history: tuple[dict[str, float], ...]
    notes: tuple[str, ...]
    seconds: float
    parameters: int
    tokens: int


def train(
    old: str | Reference | None, new: str | Reference, examples: Examples, settings: TrainSettings, out: str | Path, *,
    say: Say = lambda _: None, progress: Progress | None = None,
) -> Trained:  # fmt: skip
    """Train a compatibility adapter on NEW's base, starting as NEW. One that was interrupted resumes from its last
    checkpoint in ``out`` and ends as if nothing had happened; a finished one is returned as it is.

    ``old`` is a full model or adapter, None where the strategy has no old teacher; ``new`` a full model (a fresh
    adapter is trained) or adapter (a copy of it is). ``out`` gets ``adapter/``, ``metrics.jsonl``, ``run.json`` and
    ``checkpoints/``. InputError where something given cannot be used, memory or disk do not suffice, the loss is no
    number, or ``out`` holds something else."""
    strategy = _strategy(examples, settings)
    new_side = _model(new, "NEW", settings)
    old_side = _model(old, "OLD", settings) if strategy.needs_old and old is not None else None
    if strategy.needs_old and old_side is None:
        raise InputError(f"strategy {strategy.name} needs OLD")
    accelerator = processes.open_accelerator(settings, Path(out))
    output = Output(Path(out), accelerator)
    sides = {"old": None if old_side is None else old_side.fingerprint(), "new": new_side.fingerprint()}
    output.claim({**sides, "examples": examples.fingerprint, "settings": settings.deciding()})
    if (kept := output.finished()) is not None:
        say(f"{out}: finished before")
        return Trained(folder=output.adapter, **kept)
    setup = Setup(strategy, settings, accelerator, say, progress, [*examples.notes])
    tokenizer = load_tokenizer(new_side, settings)
    plan = plan_of(tokenizer, examples, strategy, settings)
    teacher, term = setup.old(old_side, plan, tokenizer) if old_side is not None else (None, None)
    trainee = setup.trainee(new_side, plan, teacher, term)
    count = sum(p.numel() for p in trainee.student.parameters().values())
    say(f"training {count:,} parameters with {strategy.name} on {len(examples.train)} documents")
    try:
        state = Loop(trainee, accelerator, output, progress or SilentProgress(), setup.note).run()
        if term is not None and term.coverage is not None:
            setup.note(f"{term.coverage:.0%} of the weight of the old model found its counterpart in its tokens.")
    finally:
        for each in (teacher, trainee.new, term, *getattr(accelerator, "trackers", [])):
            if each is not None:
                each.finish() if hasattr(each, "finish") else each.close()
    facts: dict[str, Any] = {
        "strategy": strategy.name, "steps": state.step, "best_epoch": state.best_epoch, "history": tuple(state.history),
        "notes": tuple(dict.fromkeys(setup.notes)), "seconds": round(state.seconds, 2), "parameters": count,
        "tokens": round(sum(plan.size(i, "position") for i in range(plan.training))),
    }  # fmt: skip
    if accelerator.is_main_process:
        save_adapter(trainee.student, output.adapter)
        output.finish(facts)
    accelerator.wait_for_everyone()
    del trainee
    memory.give_back()
    return Trained(folder=output.adapter, **facts)


def _strategy(examples: Examples, settings: TrainSettings) -> Strategy:
    """The strategy that is asked for; InputError where task, options or trackers do not fit."""
    strategy = strategies.get(settings.strategy)
    strategy.settled(settings.strategy_options)
    strategy.check_kind(examples.kind, examples.task)
    if "answers" in strategy.needs and not any(example.chosen for example in (*examples.train, *examples.unlabelled)):
        raise InputError(f"strategy {strategy.name} needs both models' answers in the examples: fix.answers adds them")
    check_trackers(settings.report_to)
    return strategy


def train_task_adapter(
    base: str | Reference, examples: Examples, settings: TrainSettings, out: str | Path, *,
    say: Say = lambda _: None, progress: Progress | None = None,
) -> Trained:  # fmt: skip
    """Train a fresh LoRA adapter on a full model with next-token loss on context and answer: a task adapter for a NEW
    that has none. As :func:`train`, but for the settings' strategy, which does not count; InputError where ``base``
    names an adapter."""
    reference = _model(base, "base", settings)
    if reference.adapter is not None:
        raise InputError(f"{reference.text}: has an adapter already; a task adapter is trained on a full model")
    own = replace(settings, strategy="continue-ce", strategy_options={}, ce_weight=None)
    return train(None, reference, examples, own, out, say=say, progress=progress)


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse (InputError) a tracker whose package is not installed."""
    for name in names:
        packages = ("tensorboard", "tensorboardX") if name == "tensorboard" else (name,)
        if all(importlib.util.find_spec(package) is None for package in packages):
            raise InputError(f"report_to {name}: the package is not installed (pip install {name})")


def _model(given: str | Reference, side: str, settings: TrainSettings) -> Reference:
    reference = resolve(given, settings.trust_remote_code) if isinstance(given, str) else given
    if reference.base is None:
        raise InputError(f"{side} {reference.text}: recorded outputs cannot be trained on; give the model")
    adapters = [reference.adapter] if reference.adapter is not None else []
    check_loading(reference.base, adapters, trust_remote_code=settings.trust_remote_code, tokenizer=reference.tokenizer)
    return reference


def plan_of(tokenizer: Any, examples: Examples, strategy: Strategy, settings: TrainSettings) -> Plan:
    """The micro-batches of a training in NEW's tokens."""
    most = settings.max_length
    weight = settings.weight_of_context if strategy.per == "position" else 0.0
    fit = make_items(tokenizer, [*examples.train, *examples.unlabelled], strategy.rows, most)
    hold = make_items(tokenizer, examples.validation, strategy.rows, most)
    plan = make_plan(fit, hold, settings.batch_size, settings.seed, weight)
    if not 0 < plan.training < len(plan.items):
        raise InputError(f"{examples.task}: no token to train on is left; check tokens, context_weight and the data")
    return plan


@dataclass
class Setup:
    """Before the first step: where each teacher comes from, and the student."""

    strategy: Strategy
    settings: TrainSettings
    accelerator: Any
    say: Say = lambda _: None
    progress: Progress | None = None
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.say(text)

    def old(self, reference: Reference, plan: Plan, tokenizer: Any) -> tuple[Teacher | None, AlignedTerm | None]:
        """The old model as a teacher or, where it tokenizes differently, what aligns one with the student's tokens."""
        own_tokenizer, needs, settings = load_tokenizer(reference, self.settings), self.strategy.needs, self.settings
        twin = plan.retold(own_tokenizer, self.strategy.rows, settings.max_length)
        tokens = [[[row.ids for item in group for row in item.rows] for group in each.items] for each in (plan, twin)]
        if tokens[0] == tokens[1]:
            twin = plan
        elif "same-tokens" in needs:
            choice = ", ".join(n for n in strategies.names() if "same-tokens" not in strategies.get(n).needs)
            raise InputError(
                f"{reference.text} and NEW tokenize differently, and strategy {self.strategy.name} mixes both "
                f"distributions token by token; take one of: {choice}"
            )
        aligned = twin is not plan and bool(needs & {"old-states", "old-facts"})
        wanted = self._wants("old")
        if aligned:
            wanted = (wanted - {"states"}) | align_wants(settings.alignment, own_tokenizer, tokenizer)
        device, split = self.accelerator.device, processes.sharded(settings)

        def open_teacher() -> OnlineTeacher:
            model = load_old(reference, settings, "cpu" if split else device)
            if split:
                processes.shard(model, device)
            inner = model.get_base_model() if reference.adapter is not None else model
            head = head_of(inner, "old" if reference.adapter is not None else None).frozen()
            states = model_states(inner, self.accelerator.autocast, settings.shared_prefix)
            return OnlineTeacher(states, head, twin, wanted)

        teacher = self._teacher("old model", reference, twin, wanted, open_teacher, None)
        if not aligned:
            return teacher, None
        self.note(
            f"OLD and NEW tokenize differently; the old model is followed through {settings.alignment} alignment."
        )
        return None, AlignedTerm(teacher, plan, own_tokenizer, tokenizer, settings.alignment)

    def trainee(
        self, reference: Reference, plan: Plan, old: Teacher | None, term: AlignedTerm | None = None
    ) -> Trainee:
        """The student with its teachers; NEW's states are cached, or its base runs with the frozen adapter."""
        settings, accelerator = self.settings, self.accelerator
        split = processes.sharded(settings)
        student = load_student(reference, settings, "cpu" if split else accelerator.device)
        if split:
            processes.shard(student.peft, accelerator.device)
            self.note(f"The layers of NEW's base are split over {accelerator.num_processes} processes.")
        trainee = Trainee(student, plan, self.strategy, settings, accelerator.autocast, old, term)
        wanted = self._wants("new")
        if wanted:
            head = trainee.new_head

            def online() -> OnlineTeacher:
                return OnlineTeacher(trainee.new_states, head, plan, wanted)

            trainee.new = self._teacher("new model", reference, plan, wanted, online, head)
        return trainee

    def _wants(self, side: str) -> Wants:
        needs = self.strategy.needs_with(self.settings.strategy_options)
        facts = bool(needs & {f"{side}-facts", f"{side}-sums"})
        return frozenset(["states"] * (f"{side}-states" in needs) + ["facts"] * facts)

    def _teacher(
        self, who: str, reference: Reference, plan: Plan, wanted: Wants, online: Callable[[], OnlineTeacher],
        head: Head | None,
    ) -> Teacher:  # fmt: skip
        """Cached (it runs once and is freed) as asked for, or where it is used more than once and the disk holds it;
        else it runs in every step. ``head`` is given where it is the student's own."""
        settings = self.settings
        how = settings.teacher if head is None else settings.new_teacher
        if how == "online":
            return online()
        from transformers import AutoConfig

        dtype = dtype_of(reference, settings)
        config = AutoConfig.from_pretrained(reference.base, trust_remote_code=settings.trust_remote_code)
        config = config.get_text_config()
        vocabulary = config.vocab_size if head is None else 0
        need = estimate_bytes(plan, wanted, config.hidden_size, vocabulary, dtype.itemsize)
        root = settings.cache_folder if settings.cache_folder is not None else cache_dir("teacher")
        free = cache.free_bytes(root)
        if need > free * _DISK_SHARE:
            if how == "cache":
                raise InputError(
                    f"{root}: caching the {who} takes {_size(need)}, {_size(free)} are free; give another cache folder"
                )
            self.note(f"Caching the {who} would take {_size(need)} of {_size(free)} free, so it runs in every step.")
            return online()
        numbers = f"{dtype}{'+bf16' * settings.bf16}{'+shared' * settings.shared_prefix}"
        device = self.accelerator.device
        folder = cache.cache_folder(reference.fingerprint(), plan, wanted, numbers, device.type, settings.cache_folder)
        if not cache.complete(folder):
            self.note(f"The {who} runs once; what it gives takes {_size(need)} in {folder}.")
        build(
            online, folder, who, accelerator=self.accelerator, progress=self.progress,
            together=processes.sharded(settings),
        )  # fmt: skip
        return CachedTeacher(folder, plan, wanted, device, head)


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
