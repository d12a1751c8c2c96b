"""Evaluate a few documents at a time: prompts are built once, engines are opened once and stay open between."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from compatcheck.errors import InputError
from compatcheck.evaluation.evaluate import EngineOptions, Evaluated, Plan, Planned, plan_jobs
from compatcheck.evaluation.failures import failed_documents, failure_note
from compatcheck.evaluation.jobs import Job, group_by_base
from compatcheck.evaluation.lm_eval_rows import task_runs_of_samples
from compatcheck.evaluation.requests import build_requests, notes_on_prompts, quiet, these_documents
from compatcheck.evaluation.task import settings_of
from compatcheck.records import TEXT_COLUMNS, TaskRun

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from compatcheck.evaluation.store.database import Store

ENOUGH_FAILED = 25
"""Where so many documents were asked for and not one was answered, the rest is not tried."""


@dataclass
class _Asked:
    """One job, and what of it was evaluated so far."""

    plan: Plan
    planned: Planned
    requests: Mapping[int, list[Instance]]
    """By a document's place among those of the task, with the prompts that an evaluation of them all has."""
    notes: tuple[str, ...] = ()
    """What is said of its prompts."""
    steps: list[tuple[TaskRun, ...]] = field(default_factory=list)
    answered: list[Mapping[str, Any]] = field(default_factory=list)
    """The samples of one document that was answered, by which a step without any is read."""
    waiting: list[Mapping[str, Any]] = field(default_factory=list)
    """Samples of documents that could not be answered, as long as none was."""
    documents: int = 0
    seconds: float = 0.0


class Stepwise:
    """Several jobs, each evaluated on the documents that are asked for, as often as documents are asked for."""

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
        self._prompts = (options.apply_chat_template, options.fewshot_as_multiturn)
        self._plans = plan_jobs(group_by_base(jobs), options, say, progress, store)
        working = [plan for plan in self._plans if plan.has_work]
        if len(working) > 1 and any(plan.fills_memory for plan in working):
            raise InputError(
                "--until-decided keeps both models loaded, and vLLM has no room for two of these: evaluate OLD first "
                "(compatcheck run OLD …), so that its answers come from the store, or say --engine hf"
            )
        self._asked: list[_Asked] = []
        for plan in self._plans:
            for planned in plan.jobs:
                requests: dict[int, list[Instance]] = defaultdict(list)
                for instance in build_requests(planned.engine, planned.job.task, *self._prompts):
                    requests[int(instance.doc_id)].append(instance)
                self._asked.append(_Asked(plan, planned, requests, notes_on_prompts(planned.job.task)))

    def evaluate(self, side: str, task: str, places: Sequence[int]) -> tuple[TaskRun, ...]:
        """Evaluate one side on the documents at these ``places`` of the task; their records, one run per filter.

        Empty where not one of the documents asked for so far could be answered.

        Raises:
            InputError: an engine that cannot be loaded, or a task of which nothing at all could be answered.
        """
        one = self._find(side, task)
        for plan in self._plans:
            if plan.starts_early and plan.has_work:  # while one answers, the other one starts
                plan.start()
        started, lazy = time.perf_counter(), one.plan.engine
        loading = lazy.loading_seconds
        samples, failed = self._samples(one, places)
        one.seconds += time.perf_counter() - started - (lazy.loading_seconds - loading)
        one.documents += len(places)
        runs = self._read(one, samples, failed)
        if runs:
            one.steps.append(runs)
        elif one.documents >= max(ENOUGH_FAILED, len(places)):
            raise InputError(f"task {task}: no document could be answered: {next(iter(failed.values()))}")
        return runs

    def finish(self) -> list[Evaluated]:
        """What every job gave, over all documents that were asked for.

        Raises:
            InputError: a job of which nothing could be answered.
        """
        return [self._finished(one) for one in self._asked]

    def close(self) -> None:
        """Free the memory of every engine that was opened."""
        for plan in self._plans:
            plan.engine.close()

    def _find(self, side: str, task: str) -> _Asked:
        return next(a for a in self._asked if (a.planned.job.side, a.planned.job.task.name) == (side, task))

    def _samples(self, one: _Asked, places: Sequence[int]) -> tuple[list[Mapping[str, Any]], dict[Any, str]]:
        from lm_eval.evaluator import evaluate

        loaded, engine = one.planned.job.task, one.planned.engine
        chosen = {place: one.requests[place] for place in sorted(places)}
        with quiet(), these_documents(loaded, chosen):
            results: Any = evaluate(
                lm=engine, task_dict={"tasks": {loaded.name: loaded.task}}, bootstrap_iters=0, log_samples=True
            )
        names = {place: place if loaded.indices is None else loaded.indices[place] for place in chosen}
        samples: list[Mapping[str, Any]] = [
            {**sample, "doc_id": names[sample["doc_id"]]} for sample in results["samples"][loaded.name]
        ]
        asked = set(names.values())
        return samples, {name: why for name, why in failed_documents(engine, loaded).items() if name in asked}

    def _read(self, one: _Asked, samples: list[Mapping[str, Any]], failed: Mapping[Any, str]) -> tuple[TaskRun, ...]:
        """The samples as records. Without a sample that was answered it is not known what they are scored by."""
        waiting, one.waiting = one.waiting, []
        failed = {**{sample["doc_id"]: sample["error"] for sample in waiting}, **failed}
        samples = [*waiting, *samples]
        first = next((sample["doc_id"] for sample in samples if sample["doc_id"] not in failed), None)
        settings = settings_of(one.planned.engine, one.planned.job.task, *self._prompts)
        if first is not None:
            one.answered = one.answered or [sample for sample in samples if sample["doc_id"] == first]
            return task_runs_of_samples(samples, one.planned.job.task, settings, failed)
        if not one.answered:
            one.waiting = [{**sample, "error": failed[sample["doc_id"]]} for sample in samples]
            return ()
        runs = task_runs_of_samples([*one.answered, *samples], one.planned.job.task, settings, failed)
        known = str(one.answered[0]["doc_id"])
        return tuple(replace(run, records=run.records[run.records["doc_id"] != known]) for run in runs)

    def _finished(self, one: _Asked) -> Evaluated:
        job, engine = one.planned.job, one.planned.engine
        failed = failed_documents(engine, job.task)
        if not one.steps:
            raise InputError(f"task {job.task.name}: no document could be answered: {next(iter(failed.values()))}")
        runs = tuple(merged([step[place] for step in one.steps]) for place in range(len(one.steps[0])))
        notes = (*one.notes, *engine.notes, *failure_note(job.reference.text, job.task, failed, one.documents))
        return Evaluated(job, runs, dict(engine.identity), one.seconds, notes, engine.asked, engine.from_store)


def merged(steps: Sequence[TaskRun]) -> TaskRun:
    """The records of several steps as those of one run, in the order of the documents.

    A metric is smooth where it is in any step; a field is a slice field where it is one in every step.
    """
    kinds = {metric.name: set[str]() for metric in steps[0].metrics}
    for step in steps:
        for metric in step.metrics:
            kinds.setdefault(metric.name, set()).add(metric.kind)
    metrics = tuple(
        replace(metric, kind="smooth" if "smooth" in kinds[metric.name] else metric.kind) for metric in steps[0].metrics
    )
    everywhere = set.intersection(*(set(step.records.columns) for step in steps))
    names = dict.fromkeys(name for step in steps for name in step.records.columns)
    kept = [name for name in names if name in everywhere or name in TEXT_COLUMNS or ":" in name]
    records = pd.concat([step.records.reindex(columns=kept) for step in steps], ignore_index=True)
    order = records["doc_id"].map(_numbered).sort_values(kind="stable").index
    notes = dict.fromkeys(note for step in steps for note in step.notes)
    return replace(steps[0], metrics=metrics, records=records.loc[order].reset_index(drop=True), notes=tuple(notes))


def _numbered(name: str) -> tuple[int, str]:
    return (int(name), name) if str(name).isdigit() else (-1, str(name))
