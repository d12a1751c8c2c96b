"""Run references on tasks: lm-eval builds the requests, applies its filters and its metrics; the engine answers."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from compatcheck.evaluation.failures import failed_documents, failure_note
from compatcheck.evaluation.jobs import BaseGroup, Job, group_by_base
from compatcheck.evaluation.opening import EngineOptions, check_group, open_group, options_of
from compatcheck.evaluation.requests import build_requests, notes_on_prompts
from compatcheck.evaluation.task import evaluate_task
from compatcheck.evaluation.work import engine_for
from compatcheck.models import tokenizer
from compatcheck.records import TaskRun
from compatcheck.tasks import LoadedTask

if TYPE_CHECKING:
    from compatcheck.evaluation.store.database import Source, Store
    from compatcheck.evaluation.store.engine import LazyEngine, StoredEngine
    from compatcheck.evaluation.store.keys import Draws
    from compatcheck.references import Reference

_MEMORY = {"gpu_memory_utilization", "kv_cache_memory_bytes"}
"""Arguments of vLLM by which the user divides the memory himself."""
Log = Callable[[Job, Mapping[str, Any], Any], None]
"""Gets a job, what lm-eval's ``evaluate`` returned for it (samples included) and the engine."""


@dataclass(frozen=True)
class Evaluated:
    """What one job gave: the records under every filter, and how they came about."""

    job: Job
    runs: tuple[TaskRun, ...]
    engine: Mapping[str, Any]
    seconds: float
    notes: tuple[str, ...] = ()
    answers: int = 0
    """Requests that the task made."""
    answers_from_store: int = 0


@dataclass(frozen=True)
class Planned:
    """One job, and what it asks."""

    job: Job
    adapter: str | None
    engine: StoredEngine
    missing: int | None
    """Answers that the engine has to give; None where there is no store to know it from."""


@dataclass(frozen=True)
class Plan:
    """Jobs of one base. Where no job misses an answer the engine is never opened."""

    engine: LazyEngine
    jobs: tuple[Planned, ...]

    starts_early: bool = False
    """Whether the engine starts in the background, and there is memory for it beside another one."""
    fills_memory: bool = False
    """Whether the engine takes the memory for itself, so that no other one can be open beside it."""

    @property
    def has_work(self) -> bool:
        return any(planned.missing != 0 for planned in self.jobs)

    def start(self) -> None:
        """Start the engine for the first job that misses an answer."""
        self.engine.start(next(planned.adapter for planned in self.jobs if planned.missing != 0))


def evaluate_jobs(
    jobs: Iterable[Job],
    options: EngineOptions,
    say: Callable[[str], None] = lambda _: None,
    progress: Any = None,
    store: Store | None = None,
    log: Log | None = None,
) -> list[Evaluated]:
    """Evaluate every job, one base after the other, memory freed between. Models are loaded when answers are missing.

    ``say`` gets one line before each model is loaded and each task is run. ``progress`` is handed to the engine.
    Answers are taken from ``store`` where they are there and kept in it as they come.

    Raises:
        InputError: an engine that does not exist, or a model it cannot load.
    """
    done: list[Evaluated] = []
    plans = plan_jobs(group_by_base(jobs), options, say, progress, store)
    working = [plan for plan in plans if plan.has_work]
    try:
        for plan in plans:
            if plan in working:
                at = working.index(plan)
                for soon in working[at : at + 2]:
                    if soon.starts_early:
                        soon.start()
            try:
                done += [_evaluate(planned, plan.engine, options, say, log) for planned in plan.jobs]
            finally:
                plan.engine.close()
    finally:
        for plan in plans:
            plan.engine.close()
    return done


def plan_jobs(
    groups: Sequence[BaseGroup],
    options: EngineOptions,
    say: Callable[[str], None],
    progress: Any,
    store: Store | None,
) -> list[Plan]:
    """What every base has to do, known before any model is loaded. Who calls closes the engines.

    Raises:
        InputError: an engine that does not exist, or a model that cannot be loaded as its files show.
    """
    from compatcheck.evaluation.store.keys import Draws

    run, plan = Draws(), Draws()
    each = [options_of(group, groups, options) for group in groups]
    here = [job for group in groups if not group.endpoints for job, _ in group.jobs]
    engine = engine_for(here, options.engine, options.device, say)  # one for both sides: they are to be compared
    share = _share_of_memory(groups, engine, options)
    each = [
        mine if group.endpoints else replace(mine, engine=engine, memory_share=share)
        for group, mine in zip(groups, each, strict=True)
    ]
    plans = []
    for group, mine in zip(groups, each, strict=True):
        if mine.apply_chat_template:
            check_group(group, mine, tokenizer_alone=True)  # prompts are made with it
        plans.append(_plan(group, mine, say, progress, store, _Sources(mine), run, plan))
    for group, mine, planned in zip(groups, each, plans, strict=True):
        if planned.has_work:
            check_group(group, mine)
    return plans


def _share_of_memory(groups: Sequence[BaseGroup], engine: str, options: EngineOptions) -> float:
    """What of the memory each engine may take so that the next one can start while one answers; 1 where it cannot."""
    from compatcheck.engines.vllm.plan import share_beside

    if engine != "vllm" or _MEMORY & options.engine_args.keys():
        return 1.0
    return share_beside([group.base for group in groups if isinstance(group.base, Path)], options.dtype, options.device)


def open_answering(
    reference: Reference,
    name: str,
    options: EngineOptions,
    say: Callable[[str], None],
    progress: Any,
    store: Store | None,
    lazy: LazyEngine | None = None,
) -> tuple[StoredEngine, LazyEngine]:
    """One model to be asked anything, beside the tasks; ``name`` is what its requests are filed under.

    ``lazy`` is what an earlier call returned for the same model: it is loaded once. Who calls closes it.

    Raises:
        InputError: as :func:`evaluate_jobs`.
    """
    from compatcheck.engines import choose
    from compatcheck.evaluation.store.engine import LazyEngine, StoredEngine

    job = Job(name, reference, cast(LoadedTask, SimpleNamespace(name=name)))
    (group,) = group_by_base([job])
    options = options_of(group, [group], options)
    if not group.endpoints:
        options = replace(options, engine=choose(options.engine)[0])
    adapter = group.jobs[0][1]
    if lazy is None:
        lazy = LazyEngine(lambda needed: open_group(group, options, say, progress, [needed]))
    source = _Sources(options).of(job, adapter, group)
    folder = _tokenizer_folder(group, source.engine, options)
    return StoredEngine(lazy, adapter, source, store, seed=options.seed, tokenizer_folder=folder), lazy


def _plan(
    group: BaseGroup,
    options: EngineOptions,
    say: Callable[[str], None],
    progress: Any,
    store: Store | None,
    sources: _Sources,
    run_draws: Draws,
    plan_draws: Draws,
) -> Plan:
    from compatcheck.evaluation.store.engine import LazyEngine, StoredEngine
    from compatcheck.evaluation.store.keys import asks_to_sample

    needed: list[str | None] = []

    def open_(adapter: str | None) -> Any:
        return open_group(group, options, say, progress, dict.fromkeys([adapter, *needed]))

    lazy = LazyEngine(open_)
    planned: list[Planned] = []
    for job, adapter in group.jobs:
        source = sources.of(job, adapter, group)
        engine = StoredEngine(
            lazy,
            adapter,
            source,
            store,
            draws=run_draws,
            seed=options.seed,
            always_drawn=asks_to_sample(options.engine_args),
            tokenizer_folder=_tokenizer_folder(group, source.engine, options),
        )
        missing = None
        if store is not None:
            chat = options.apply_chat_template, options.fewshot_as_multiturn
            missing = engine.missing(build_requests(engine, job.task, *chat), plan_draws)
        if missing != 0:
            needed.append(adapter)
        planned.append(Planned(job, adapter, engine, missing))
    asked = _MEMORY & options.engine_args.keys()
    fills = options.engine == "vllm" and not group.endpoints and options.memory_share == 1 and not asked
    return Plan(lazy, tuple(planned), options.memory_share < 1, fills)


class _Sources:
    """What answers are filed under; every model's files are read once."""

    def __init__(self, options: EngineOptions) -> None:
        from compatcheck.engines import choose

        self._options = options
        self._engine, _ = choose(options.engine)
        self._fingerprint = functools.cache(lambda reference: reference.fingerprint())

    def of(self, job: Job, adapter: str | None, group: BaseGroup) -> Source:
        from compatcheck.evaluation.store.database import Source
        from compatcheck.evaluation.store.identity import identity_of
        from compatcheck.evaluation.store.keys import model_key

        engine = "endpoint" if group.endpoints else self._engine
        identity = identity_of(
            engine,
            None if group.endpoints else Path(group.base),
            dtype=self._options.dtype,
            device=self._options.device,
            engine_args=self._options.engine_args,
            trust_remote_code=self._options.trust_remote_code,
        )
        fingerprint = self._fingerprint(job.reference)
        key = model_key(fingerprint, identity)
        return Source(key, job.task.name, job.reference.text, fingerprint, engine, identity)


def _tokenizer_folder(group: BaseGroup, engine: str, options: EngineOptions) -> Path | None:
    """Where a chat template can be read without the model; None where only the engine knows how."""
    plain = engine == "hf" and not group.endpoints and not options.engine_args and not options.trust_remote_code
    return (group.tokenizer or Path(group.base)) if plain else None


def _evaluate(
    planned: Planned, engine: LazyEngine, options: EngineOptions, say: Callable[[str], None], log: Log | None
) -> Evaluated:
    job, stored = planned.job, planned.engine
    say(
        f"{job.side}: {job.task.name}, {job.task.size} instances"
        + (" (answers stored)" if planned.missing == 0 else "")
    )
    started, loading = time.perf_counter(), engine.loading_seconds
    told = functools.partial(log, job) if log else None
    runs = evaluate_task(stored, job.task, options.apply_chat_template, told, options.fewshot_as_multiturn)
    seconds = time.perf_counter() - started - (engine.loading_seconds - loading)
    notes = (
        *_tokenizer_note(job.reference, options),
        *notes_on_prompts(job.task),
        *stored.notes,
        *failure_note(job.reference.text, job.task, failed_documents(stored, job.task)),
    )
    return Evaluated(job, runs, dict(stored.identity), seconds, notes, stored.asked, stored.from_store)


def _tokenizer_note(reference: Reference, options: EngineOptions) -> tuple[str, ...]:
    if (
        "tokenizer" in options.engine_args
        or reference.tokenizer is None
        or reference.base is None
        or reference.adapter is None
    ):
        return ()
    found = " and ".join(tokenizer.differences(reference.base, reference.adapter))
    return (f"{reference.text}: the adapter's own tokenizer was used, which differs from its base's in {found}.",)
