"""One side on one task as a job, and which jobs one loaded base or one server can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compatcheck.models import kind_of
from compatcheck.models.endpoints import Endpoint
from compatcheck.references import Reference
from compatcheck.tasks import LoadedTask

Say = Callable[[str], None]
"""Tells the user in a line what begins."""


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine, and what it is asked."""

    engine: str = "auto"
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | str = "auto"
    dtype: str = "auto"
    device: str | None = None
    seed: int = 0
    trust_remote_code: bool = False
    apply_chat_template: bool | None = None
    """None: where a model has a template, for prompts; not for tasks."""
    fewshot_as_multiturn: bool = True
    """Under a chat template few-shot examples are turns of their own, as on lm-eval's command line."""
    log_folder: Path | None = None
    """Takes what engines in processes of their own write; by default the user's cache."""
    memory_share: float = 1.0
    """Part of the memory that an engine may take; where it is less than 1 the next one starts beside it."""
    shuffle: int | None = None
    """Seed of another order and of other batches, for reruns that measure noise; None asks as the task is built."""
    gen: Mapping[str, Any] = field(default_factory=dict)
    """What the user says of decoding, to be held against what an engine has."""
    compared: Mapping[str, Any] = field(default_factory=dict)
    """Settings that bear on speed alone, where they are what OLD and NEW differ in: answers are filed apart by them."""

    @property
    def opened(self) -> EngineOptions:
        """What of them the opened engine depends on; the rest is how prompts are made, and where a log goes."""
        return replace(self, apply_chat_template=None, fewshot_as_multiturn=True, log_folder=None, gen={})


@dataclass(frozen=True)
class Job:
    """One side's reference on one task. ``side`` is ``old`` or ``new``."""

    side: str
    reference: Reference
    task: LoadedTask
    options: EngineOptions = field(default_factory=EngineOptions)


@dataclass(frozen=True)
class BaseGroup:
    """Jobs that share a loaded base, with every adapter they need beside it. Or jobs that share a server."""

    base: Path | str
    """The base's folder, or the server's address."""
    adapters: Mapping[str, Path]
    """Name -> folder. Names are the folders' own, told apart by a number where they collide."""
    jobs: tuple[tuple[Job, str | None], ...]
    """Each job with the name of its adapter (None is the base itself), or of its model on the server."""
    options: EngineOptions
    """Of its engine."""
    endpoints: tuple[Endpoint, ...] = ()
    """The models on the server; empty for a base."""
    tokenizer: Path | None = None
    """Folder of the tokenizer, where it is not the base's own."""


def group_by_base(jobs: Iterable[Job]) -> list[BaseGroup]:
    """Group jobs by what is loaded once, in the order in which it first appears.

    Models share a base where they run with equal options, their adapters only add to it and they read texts by the same
    tokenizer (:mod:`compatcheck.models.adapters`); every other adapter gets a base of its own. Raises InputError: an
    adapter's configuration cannot be read."""
    groups: list[tuple[tuple[Any, ...], list[Job]]] = []
    for job in jobs:
        key = _loaded_once(job)
        mine = next((mine for other, mine in groups if other == key), None)
        if mine is None:
            groups.append((key, [job]))
        else:
            mine.append(job)
    return [_group(key[1], mine) if mine[0].reference.endpoint is None else _server(mine) for key, mine in groups]


def _loaded_once(job: Job) -> tuple[Any, ...]:
    """Equal for jobs that one engine can serve."""
    reference, adapter, options = job.reference, job.reference.adapter, job.options.opened
    if reference.endpoint is not None:
        return options, reference.endpoint.url, reference.endpoint.key_name
    assert reference.base is not None, "recorded outputs need no engine"
    own = adapter.resolve() if adapter is not None and not kind_of(adapter).plain else None
    return options, reference.base.resolve(), reference.tokenizer, own


def _server(jobs: list[Job]) -> BaseGroup:
    paired = [(job, job.reference.endpoint) for job in jobs]
    models = tuple({model.model: model for _, model in paired if model is not None}.values())
    named = tuple((job, model.model if model else None) for job, model in paired)
    return BaseGroup(models[0].url, {}, named, jobs[0].options, models)


def _group(base: Path, jobs: list[Job]) -> BaseGroup:
    names: dict[Path, str] = {}
    for folder in (job.reference.adapter for job in jobs):
        if folder is not None and folder.resolve() not in names:
            stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in folder.resolve().name)
            name, number = stem, 2
            while name in names.values():
                name, number = f"{stem}_{number}", number + 1
            names[folder.resolve()] = name
    paired = tuple((job, names[job.reference.adapter.resolve()] if job.reference.adapter else None) for job in jobs)
    adapters = {name: folder for folder, name in names.items()}
    return BaseGroup(base, adapters, paired, jobs[0].options, tokenizer=jobs[0].reference.tokenizer)
