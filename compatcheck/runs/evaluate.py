"""Run references on tasks: lm-eval builds the requests, applies its filters and its metrics; the engine answers."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compatcheck.records import TaskRun
from compatcheck.runs.jobs import Job, group_by_base
from compatcheck.runs.lm_eval_rows import task_runs_of_samples
from compatcheck.tasks import LoadedTask

if TYPE_CHECKING:
    from lm_eval.api.model import LM

Log = Callable[[Job, Mapping[str, Any], Any], None]
"""Gets a job, what lm-eval's ``evaluate`` returned for it (samples included) and the engine."""


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine; the same for OLD and NEW."""

    engine: str = "auto"
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | str = "auto"
    dtype: str = "auto"
    device: str | None = None
    seed: int = 0
    trust_remote_code: bool = False
    apply_chat_template: bool = False


@dataclass(frozen=True)
class Evaluated:
    """What one job gave: the records under every filter, and how they came about."""

    job: Job
    runs: tuple[TaskRun, ...]
    engine: Mapping[str, Any]
    seconds: float
    notes: tuple[str, ...] = ()


def evaluate_jobs(
    jobs: Iterable[Job],
    options: EngineOptions,
    say: Callable[[str], None] = lambda _: None,
    progress: Any = None,
    log: Log | None = None,
) -> list[Evaluated]:
    """Evaluate every job, one base after the other, memory freed between.

    ``say`` gets one line before each model is loaded and each task is run. ``progress`` is handed to the engine.

    Raises:
        InputError: an engine that does not exist, or a model it cannot load.
    """
    from compatcheck.engines import open_engine

    done: list[Evaluated] = []
    for group in group_by_base(jobs):
        adapters = ", ".join(group.adapters)
        name = group.jobs[0][0].reference.base_name or str(group.base)
        say(f"loading {name}" + (f" with {adapters}" if adapters else ""))
        engine: Any = open_engine(
            options.engine,
            group.base,
            dict(group.adapters),
            batch_size=options.batch_size,
            dtype=options.dtype,
            device=options.device,
            seed=options.seed,
            engine_args=dict(options.engine_args),
            trust_remote_code=options.trust_remote_code,
            progress=progress,
        )
        try:
            for job, adapter in group.jobs:
                engine.activate(adapter)
                say(f"{job.side}: {job.task.name}, {job.task.size} instances")
                before = len(engine.notes)
                started = time.perf_counter()
                told = functools.partial(log, job) if log else None
                runs = evaluate_task(engine, job.task, options.apply_chat_template, told)
                seconds = time.perf_counter() - started
                notes = tuple(engine.notes if not done else engine.notes[before:])
                done.append(Evaluated(job, runs, dict(engine.identity), seconds, notes))
        finally:
            engine.close()
    return done


def evaluate_task(
    engine: LM,
    loaded: LoadedTask,
    apply_chat_template: bool = False,
    log: Callable[[Mapping[str, Any], Any], None] | None = None,
) -> tuple[TaskRun, ...]:
    """Evaluate one task with an engine (any ``lm_eval.api.model.LM``); one :class:`TaskRun` per filter."""
    settings = loaded.settings | ({"chat_template": True} if apply_chat_template else {})
    results = _results(engine, loaded, apply_chat_template, errors=log is not None)
    runs = task_runs_of_samples(results["samples"][loaded.name], loaded, settings)
    if log is not None:
        log(results, engine)
    return runs


def _results(engine: LM, loaded: LoadedTask, apply_chat_template: bool, errors: bool) -> dict[str, Any]:
    """What lm-eval's ``evaluate`` returns; ``errors`` adds its standard errors, of which some are resampled."""
    from lm_eval.evaluator import evaluate

    loaded.task.set_fewshot_seed(seed=loaded.settings["seed"])  # the same examples for OLD and NEW
    with _quiet():
        results = evaluate(
            lm=engine,
            task_dict={"tasks": {loaded.name: loaded.task}},
            samples={loaded.name: loaded.indices} if loaded.indices is not None else None,
            bootstrap_iters=100_000 if errors else 0,  # lm-eval's default
            log_samples=True,
            apply_chat_template=apply_chat_template,
        )
    return dict(results)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Progress bars and log lines of lm-eval and transformers off: the user sees the engine's bar and our notes."""
    import lm_eval.api.task as module

    bar = module.tqdm
    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers")]
    levels = [logger.level for logger in loggers]
    module.tqdm = functools.partial(bar, disable=True)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        module.tqdm = bar
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
