"""Which model answers which task, grouped so that every base is loaded once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatcheck.models import kind_of
from compatcheck.models.endpoints import Endpoint
from compatcheck.references import Reference
from compatcheck.tasks import LoadedTask


@dataclass(frozen=True)
class Job:
    """One side's reference on one task. ``side`` is ``old`` or ``new``."""

    side: str
    reference: Reference
    task: LoadedTask


@dataclass(frozen=True)
class BaseGroup:
    """Jobs that share a loaded base, with every adapter they need beside it. Or jobs that share a server."""

    base: Path | str
    """The base's folder, or the server's address."""
    adapters: Mapping[str, Path]
    """Name -> folder. Names are the folders' own, told apart by a number where they collide."""
    jobs: tuple[tuple[Job, str | None], ...]
    """Each job with the name of its adapter (None is the base itself), or of its model on the server."""
    endpoints: tuple[Endpoint, ...] = ()
    """The models on the server; empty for a base."""
    tokenizer: Path | None = None
    """Folder of the tokenizer, where it is not the base's own."""


def group_by_base(jobs: Iterable[Job]) -> list[BaseGroup]:
    """Group jobs by what is loaded once, in the order in which it first appears.

    Models share a base where their adapters only add to it and they read texts by the same tokenizer
    (:mod:`compatcheck.models.kinds`); every other adapter gets a base of its own.

    Raises:
        InputError: an adapter's configuration cannot be read.
    """
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        reference = job.reference
        if reference.endpoint is not None:
            groups.setdefault((reference.endpoint.url,), []).append(job)
            continue
        assert reference.base is not None, "recorded outputs need no engine"
        own = None
        if reference.adapter is not None and not kind_of(reference.adapter).plain:
            own = reference.adapter.resolve()
        groups.setdefault((reference.base.resolve(), reference.tokenizer, own), []).append(job)
    return [_server(key[0], jobs) if len(key) == 1 else _group(key[0], jobs) for key, jobs in groups.items()]


def _server(url: str, jobs: list[Job]) -> BaseGroup:
    paired = [(job, job.reference.endpoint) for job in jobs]
    models = tuple({model.model: model for _, model in paired if model is not None}.values())
    return BaseGroup(url, {}, tuple((job, model.model if model else None) for job, model in paired), models)


def _group(base: Path, jobs: list[Job]) -> BaseGroup:
    names: dict[Path, str] = {}
    for job in jobs:
        folder = job.reference.adapter
        if folder is not None and folder.resolve() not in names:
            stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in folder.resolve().name)
            taken = set(names.values())
            name, number = stem, 2
            while name in taken:
                name, number = f"{stem}_{number}", number + 1
            names[folder.resolve()] = name
    paired = tuple((job, names[job.reference.adapter.resolve()] if job.reference.adapter else None) for job in jobs)
    adapters = {name: folder for folder, name in names.items()}
    return BaseGroup(base, adapters, paired, tokenizer=jobs[0].reference.tokenizer)
