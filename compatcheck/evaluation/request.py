"""What is asked for: the tasks and metrics of a comparison, and both of its sides, which may not be the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compatcheck.errors import InputError
from compatcheck.evaluation.against import against_old
from compatcheck.evaluation.grouping import EngineOptions
from compatcheck.evaluation.prompted import named
from compatcheck.evaluation.store import Where
from compatcheck.readers import Layout
from compatcheck.records import KL, Run
from compatcheck.references import Reference, resolve
from compatcheck.tasks.load import TaskOptions
from compatcheck.tasks.resolve import resolve_task

PLACEHOLDER = "{task}"
"""Stands in a reference for the task's name, where every task has an adapter or a file of its own."""


@dataclass(frozen=True)
class SideOptions:
    """How one side is evaluated, or read where it is recorded."""

    tasks: TaskOptions = field(default_factory=TaskOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    layout: Layout = field(default_factory=Layout)
    key_name: str | None = None
    """Environment variable of the server's key."""


@dataclass(frozen=True)
class Request:
    """What to compare and how to get it."""

    old: str
    new: str
    tasks: tuple[str, ...] = ()
    filter: str | None = None
    """Of a task's filters this one alone."""
    metrics: tuple[str, ...] = ()
    metric_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of metrics by name, e.g. ``{"bertscore": {"model_type": …}}``."""
    old_options: SideOptions = field(default_factory=SideOptions)
    new_options: SideOptions = field(default_factory=SideOptions)
    store: Where = None
    """Folder of the response store; None for the usual one, False for none."""
    seed: int = 0
    """Of the judge."""
    reference: str | None = None
    """``old``: OLD's answers are the reference, nothing is scored by a target."""
    resolved: dict[Any, dict[str | None, Reference]] = field(default_factory=dict, compare=False, repr=False)
    """What references name that were resolved before, also for requests made of this one."""
    replayed: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)
    """OLD's answers to the turns of conversations, once they are known; shared as ``resolved`` is."""
    needed: Mapping[str, str] = field(default_factory=dict)
    """Figures that recorded answers must say (``latency`` …), each with the budget that asks for it."""
    kl: bool = False
    """Whether next-token distributions are compared too (:mod:`compatcheck.evaluation.divergence`): a metric that is of
    no single answer, and so not among ``metrics``."""
    judge: str | None = None
    """The model that names themes, and that of ``--metric judge`` where its settings name none."""

    def __post_init__(self) -> None:
        if KL in self.metrics:
            object.__setattr__(self, "metrics", tuple(name for name in self.metrics if name != KL))
            object.__setattr__(self, "kl", True)

    @property
    def against(self) -> tuple[str, ...]:
        """The metrics that hold NEW's answers against OLD's."""
        return against_old(self.metrics, self.reference)

    @property
    def scored(self) -> tuple[str, ...]:
        """The metrics that were asked for and are scored by targets."""
        return tuple(name for name in self.metrics if name not in self.against)

    def side(self, name: str, text: str | None = None) -> Side:
        """What a side names (or ``text`` in place of OLD), resolved once. Raises InputError: nothing that can be
        compared, or recorded outputs for some tasks and models for others."""
        text = text or (self.new if name == "new" else self.old)
        options = self.new_options if name == "new" else self.old_options
        key = (text, options.engine.trust_remote_code, options.key_name)
        if key not in self.resolved:
            self.resolved[key] = _references(text, self.tasks, options)
        return Side(name, text, options, self.resolved[key])


@dataclass(frozen=True)
class Side:
    """OLD or NEW as the user wrote it, and what it names."""

    name: str
    text: str
    options: SideOptions
    references: dict[str | None, Reference]
    """Reference per task; the key None stands for one that serves every task."""

    @property
    def recorded(self) -> bool:
        """Nothing is evaluated: recorded outputs or a kept run."""
        return all(reference.recorded is not None for reference in self.references.values())

    def of(self, task: str) -> Reference:
        return self.references.get(task) or self.references[None]


def _references(text: str, tasks: Sequence[str], options: SideOptions) -> dict[str | None, Reference]:
    trusted, key_name = options.engine.trust_remote_code, options.key_name
    if PLACEHOLDER not in text:
        return {None: resolve(text, trusted, key_name)}
    if not tasks and not options.tasks.prompts:
        raise InputError(f"a reference with {PLACEHOLDER} needs --task")
    names = [source.name for task in tasks for source in resolve_task(task)] + [*named((), options.tasks)]
    references: dict[str | None, Reference] = {
        name: resolve(text.replace(PLACEHOLDER, name), trusted, key_name) for name in names
    }
    if len({reference.recorded is None for reference in references.values()}) > 1:
        raise InputError(f"{text}: recorded outputs for some tasks and a model for others; make it one kind")
    return references


_MEND = (
    "name the other one; where one file holds both answers, name their fields with --old-prediction-field and "
    "--new-prediction-field; for a noise check say --allow-same"
)


def refuse_same_model(request: Request) -> None:
    """Raise InputError where both sides name the same model with equal settings, before any of it is loaded. Told from
    names and places."""
    if request.old_options != request.new_options:
        return
    old, new = request.side("old").references, request.side("new").references
    if old.keys() == new.keys() and all(_place(old[task]) == _place(new[task]) is not None for task in old):
        raise InputError(f"OLD and NEW are the same: {request.old}; {_MEND}")


def _place(reference: Reference) -> Reference | None:
    if reference.recorded is not None:
        return None
    base, adapter = (path and path.resolve() for path in (reference.base, reference.adapter))
    return replace(reference, text="", base_name=None, base=base, adapter=adapter)


def refuse_same(request: Request, old: Run, new: Run, *, differ: bool, known: bool) -> None:
    """Raise InputError where both runs have one fingerprint, and no setting that is known of them differs.

    ``known`` says whether all of them are: what a run does not say of itself may be another prompt. Where both were
    made by this command, it is what their model or server has by itself, and so the same. A server may have changed
    between two runs, but not where their answers are the very same ones."""
    one, other = old.manifest, new.manifest
    recorded = one.kind == other.kind == "recorded"
    made = not (request.side("old").recorded or request.side("new").recorded)
    differ = differ or (not made and request.old_options.layout != request.new_options.layout)
    if not one.fingerprint or one.fingerprint != other.fingerprint or differ:
        return
    names = one.reference if one.reference == other.reference else f"{one.reference} and {other.reference}"
    if recorded or known or made:
        settings = "with the same fields" if recorded else "with the same settings"
        raise InputError(f"OLD and NEW are the same: {names} ({one.fingerprint}) {settings}; {_MEND}")
    if request.old == request.new or _same_answers(old, new):
        raise InputError(
            f"OLD and NEW are the same: {names} ({one.fingerprint}) with the very same answers; ask the server again "
            "with --no-store, or name the other one; for a noise check say --allow-same"
        )


def _same_answers(old: Run, new: Run) -> bool:
    """Whether the answers were given once and kept, or stored: each took as long, to the last digit, as the other."""
    theirs = {(task.task, task.filter): task for task in new.tasks}
    compared = 0
    for one in old.tasks:
        other = theirs.get((one.task, one.filter))
        took = [getattr(task, "records", {}) for task in (one, other)]
        if other is None or any("latency" not in records for records in took):
            continue
        both = took[0][["doc_id", "latency"]].merge(took[1][["doc_id", "latency"]], on="doc_id").dropna()
        if (both["latency_x"] != both["latency_y"]).any():
            return False
        compared += len(both)
    return compared > 0
