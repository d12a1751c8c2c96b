"""Run references on tasks: all documents, part by part as they fit into the memory, or those that are asked for."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from compatcheck.errors import InputError
from compatcheck.evaluation import bridge
from compatcheck.evaluation.plan import EngineOptions, Job, Planned, plan_jobs
from compatcheck.evaluation.rows import task_runs_of_samples
from compatcheck.models import tokenizer
from compatcheck.records import TEXT_COLUMNS, Metric, TaskRun
from compatcheck.tasks import LoadedTask

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM

    from compatcheck.evaluation.store.database import Store
    from compatcheck.evaluation.store.engine import LazyEngine

ENOUGH_FAILED = 25
"""Where so many documents were asked for and not one was answered, the rest is not tried."""
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


class TaskSteps:
    """One task with one engine, some documents at a time; their records are brought together at the end."""

    def __init__(self, engine: LM, loaded: LoadedTask, apply_chat_template: bool, fewshot_as_multiturn: bool) -> None:
        self._engine, self._loaded = engine, loaded
        self._settings = (engine, loaded, apply_chat_template, fewshot_as_multiturn)
        self._steps: list[tuple[TaskRun, ...]] = []
        self._answered: list[Mapping[str, Any]] = []  # of one document, by which a step without any is read
        self._waiting: list[Mapping[str, Any]] = []  # of documents that could not be answered, as long as none was
        self.documents = 0

    def step(
        self, requests: Sequence[Instance], log: Callable[[Mapping[str, Any], Any], None] | None = None
    ) -> tuple[TaskRun, ...]:
        """The records of the documents asked about, one run per filter; empty where none so far could be answered.

        Raises:
            InputError: a task of which nothing at all could be answered.
        """
        places = {int(request.doc_id or 0) for request in requests}
        results = bridge.ask(self._engine, self._loaded, requests, errors=log is not None)
        failed = bridge.failed_documents(self._engine, self._loaded, places)
        runs = self._read(results["samples"][self._loaded.name], failed)
        self.documents += len(places)
        if runs:
            self._steps.append(runs)
        elif self.documents >= ENOUGH_FAILED:
            raise bridge.nothing_answered(self._loaded.name, failed)
        if log is not None:
            log(bridge.only_answered(results, self._loaded, failed), self._engine)
        return runs

    def _read(self, samples: list[Mapping[str, Any]], failed: Mapping[Any, str]) -> tuple[TaskRun, ...]:
        """The samples as records. Without a sample that was answered it is not known what they are scored by."""
        waiting, self._waiting = self._waiting, []
        failed = {**{sample["doc_id"]: sample["error"] for sample in waiting}, **failed}
        samples = [*waiting, *samples]
        settings = bridge.settings_of(*self._settings)
        first = next((sample["doc_id"] for sample in samples if sample["doc_id"] not in failed), None)
        if first is not None:
            self._answered = self._answered or [sample for sample in samples if sample["doc_id"] == first]
            return task_runs_of_samples(samples, self._loaded, settings, failed)
        if not self._answered:
            self._waiting = [{**sample, "error": failed[sample["doc_id"]]} for sample in samples]
            return ()
        runs = task_runs_of_samples([*self._answered, *samples], self._loaded, settings, failed)
        known = str(self._answered[0]["doc_id"])
        return tuple(replace(run, records=run.records[run.records["doc_id"] != known]) for run in runs)

    def finish(self) -> tuple[TaskRun, ...]:
        """The records of all documents that were asked about, in the order of the task.

        Raises:
            InputError: nothing could be answered.
        """
        if not self._steps:
            raise bridge.nothing_answered(self._loaded.name, bridge.failed_documents(self._engine, self._loaded))
        return tuple(merged([step[place] for step in self._steps]) for place in range(len(self._steps[0])))


def evaluate_task(
    engine: LM,
    loaded: LoadedTask,
    apply_chat_template: bool = False,
    log: Callable[[Mapping[str, Any], Any], None] | None = None,
    fewshot_as_multiturn: bool = True,
) -> tuple[TaskRun, ...]:
    """Evaluate one task with an engine (any ``lm_eval.api.model.LM``); one :class:`TaskRun` per filter.

    ``log`` gets what lm-eval's ``evaluate`` returns; everything is in memory at once then.
    """
    steps = TaskSteps(engine, loaded, apply_chat_template, fewshot_as_multiturn)
    size = bridge.CHUNK if log is None else loaded.size
    for requests in bridge.request_chunks(engine, loaded, apply_chat_template, fewshot_as_multiturn, size):
        steps.step(requests, log)
    return steps.finish()


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
    plans = plan_jobs(jobs, options, say, progress, store)
    working = [plan for plan in plans if plan.has_work]
    try:
        for plan in plans:
            if plan in working:
                at = working.index(plan)
                for soon in working[at : at + 2]:
                    if soon.starts_early:
                        soon.start()
            for planned in plan.jobs:
                name, size = planned.job.task.name, planned.job.task.size
                stored = " (answers stored)" if planned.missing == 0 else ""
                say(f"{planned.job.side}: {name}, {size} instances{stored}")
                done.append(_evaluate(planned, plan.engine, options, log))
            plan.engine.close()
    finally:
        for plan in plans:
            plan.engine.close()
    return done


def _evaluate(planned: Planned, lazy: LazyEngine, options: EngineOptions, log: Log | None) -> Evaluated:
    job = planned.job
    told = None if log is None else lambda results, engine: log(job, results, engine)
    started, loading = time.perf_counter(), lazy.loading_seconds
    runs = evaluate_task(planned.engine, job.task, options.apply_chat_template, told, options.fewshot_as_multiturn)
    seconds = time.perf_counter() - started - (lazy.loading_seconds - loading)
    return _evaluated(planned, options, runs, seconds, job.task.size, bridge.notes_on_prompts(job.task))


def _evaluated(
    planned: Planned,
    options: EngineOptions,
    runs: tuple[TaskRun, ...],
    seconds: float,
    documents: int,
    notes: tuple[str, ...],
) -> Evaluated:
    job, engine, reference = planned.job, planned.engine, planned.job.reference
    own: tuple[str, ...] = ()
    if "tokenizer" not in options.engine_args and reference.tokenizer and reference.base and reference.adapter:
        found = " and ".join(tokenizer.differences(reference.base, reference.adapter))
        own = (f"{reference.text}: the adapter's own tokenizer was used, which differs from its base's in {found}.",)
    failed = bridge.failed_documents(engine, job.task)
    said = (*own, *notes, *engine.notes, *bridge.failure_note(reference.text, job.task, failed, documents))
    return Evaluated(job, runs, dict(engine.identity), seconds, said, engine.asked, engine.from_store)


class Stepwise:
    """Several jobs, each evaluated on the documents that are asked for, as often as documents are asked for.

    Prompts are those of an evaluation of all documents, built once; engines are opened once and stay open between.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        options: EngineOptions,
        say: Callable[[str], None] = lambda _: None,
        progress: Any = None,
        store: Store | None = None,
    ) -> None:
        """Plan every job; no model is loaded.

        Raises:
            InputError: an engine that does not exist, or two models of which only one fits into the memory.
        """
        self._options = options
        self._plans = plan_jobs(jobs, options, say, progress, store)
        working = [plan for plan in self._plans if plan.has_work]
        if len(working) > 1 and any(plan.fills_memory for plan in working):
            raise InputError(
                "--until-decided keeps both models loaded, and vLLM has no room for two of these: evaluate OLD first "
                "(compatcheck run OLD …), so that its answers come from the store, or say --engine hf"
            )
        prompts = (options.apply_chat_template, options.fewshot_as_multiturn)
        self._asked: dict[tuple[str, str], _Asked] = {}
        for plan in self._plans:
            for planned in plan.jobs:
                requests: dict[int, list[Instance]] = defaultdict(list)
                for request in bridge.build_requests(planned.engine, planned.job.task, *prompts):
                    requests[int(request.doc_id or 0)].append(request)
                steps = TaskSteps(planned.engine, planned.job.task, *prompts)
                notes = bridge.notes_on_prompts(planned.job.task)
                key = (planned.job.side, planned.job.task.name)
                self._asked[key] = _Asked(planned, plan.engine, steps, requests, notes)

    def evaluate(self, side: str, task: str, places: Sequence[int]) -> tuple[TaskRun, ...]:
        """Evaluate one side on the documents at these ``places`` of the task; their records, one run per filter.

        Empty where not one of the documents asked for so far could be answered.

        Raises:
            InputError: an engine that cannot be loaded, or a task of which nothing at all could be answered.
        """
        for plan in self._plans:
            if plan.starts_early and plan.has_work:  # while one answers, the other one starts
                plan.start()
        one = self._asked[side, task]
        requests = [request for place in sorted(places) for request in one.requests[place]]
        for request in requests:
            request.resps, request.filtered_resps = [], {}
        started, loading = time.perf_counter(), one.lazy.loading_seconds
        runs = one.steps.step(requests)
        one.seconds += time.perf_counter() - started - (one.lazy.loading_seconds - loading)
        return runs

    def finish(self) -> list[Evaluated]:
        """What every job gave, over all documents that were asked for.

        Raises:
            InputError: a job of which nothing could be answered.
        """
        return [
            _evaluated(each.planned, self._options, each.steps.finish(), each.seconds, each.steps.documents, each.notes)
            for each in self._asked.values()
        ]

    def close(self) -> None:
        """Free the memory of every engine that was opened."""
        for plan in self._plans:
            plan.engine.close()


@dataclass
class _Asked:
    """One job of several that are evaluated step by step."""

    planned: Planned
    lazy: LazyEngine
    steps: TaskSteps
    requests: Mapping[int, list[Instance]]
    """By a document's place among those of the task."""
    notes: tuple[str, ...] = ()
    """What is said of its prompts."""
    seconds: float = 0.0


def merged(steps: Sequence[TaskRun]) -> TaskRun:
    """The records of several steps as those of one run, in the order of the documents.

    A metric counts where every step has it, and is smooth where it is in any; a field is a slice field where it is one
    in every step.
    """
    if len(steps) == 1:
        return steps[0]
    metrics = []
    for metric in steps[0].metrics:
        mine = [(m, len(step.records)) for step in steps for m in step.metrics if m.name == metric.name]
        if len(mine) == len(steps):
            metrics.append(_of_all(mine))
    everywhere = set.intersection(*(set(step.records.columns) for step in steps))
    names = dict.fromkeys(name for step in steps for name in step.records.columns)
    kept = [name for name in names if name in everywhere or name in TEXT_COLUMNS or ":" in name]
    records = pd.concat([step.records.reindex(columns=kept) for step in steps], ignore_index=True)
    order = records["doc_id"].map(in_order).sort_values(kind="stable").index
    notes = dict.fromkeys(note for step in steps for note in step.notes)
    return replace(
        steps[0], metrics=tuple(metrics), records=records.loc[order].reset_index(drop=True), notes=tuple(notes)
    )


def _of_all(metrics: Sequence[tuple[Metric, int]]) -> Metric:
    """One metric of several steps, each with the number of its records."""
    smooth = next((metric for metric, _ in metrics if metric.kind == "smooth"), metrics[0][0])
    error = np.average([metric.error**2 for metric, _ in metrics], weights=[max(1, size) for _, size in metrics]) ** 0.5
    return replace(smooth, error=float(error))


def in_order(name: Any) -> tuple[int, str]:
    """A key that sorts documents by their numbers, or by their names where those are no numbers."""
    text = str(name)
    return (int(text), text) if text.isdigit() else (-1, text)
