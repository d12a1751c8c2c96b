"""Run references on tasks: all documents, part by part as they fit into the memory, or those that are asked for."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from compatcheck.errors import InputError
from compatcheck.evaluation import bridge
from compatcheck.evaluation.grouping import Job, Say
from compatcheck.evaluation.plan import Planned, plan_jobs
from compatcheck.evaluation.rows import task_runs_of_samples
from compatcheck.evaluation.running import RunningFlips, running_flips
from compatcheck.models import tokenizer
from compatcheck.records import ANSWER_COLUMNS, TEXT_COLUMNS, Run, TaskRun
from compatcheck.tasks import LoadedTask
from compatcheck.tasks.description import label_fault
from compatcheck.tasks.load import KEEP

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
        self.beside: Sequence[TaskRun] = ()
        """Of a side before this one, which may hold the same texts."""
        self._settings = (engine, loaded, apply_chat_template, fewshot_as_multiturn)
        self._steps: list[tuple[TaskRun, ...]] = []
        self._answered: list[Mapping[str, Any]] = []  # of one document, by which a step without any is read
        self._waiting: list[Mapping[str, Any]] = []  # of documents that could not be answered, as long as none was
        self._unlabelled: dict[Any, str] = {}
        self.documents = 0

    def step(
        self, requests: Sequence[Instance], log: Callable[[Mapping[str, Any], Any], None] | None = None
    ) -> tuple[TaskRun, ...]:
        """The records of the documents asked about, one run per filter; empty where none so far could be answered.
        Raises InputError: a task of which nothing at all could be answered."""
        places = {int(request.doc_id or 0) for request in requests}
        results = bridge.ask(self._engine, self._loaded, requests, errors=log is not None)
        faults = {
            one["doc_id"]: label_fault(self._loaded.task, one["doc"]) for one in results["samples"][self._loaded.name]
        }
        self._unlabelled |= {document: fault for document, fault in faults.items() if fault is not None}
        failed = self._unlabelled | bridge.failed_documents(self._engine, self._loaded, places)
        runs = self._read(results["samples"][self._loaded.name], failed)
        runs = tuple(_sharing(run, self.beside, self.documents) for run in runs)
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
        known = self._loaded.name_of(self._answered[0]["doc_id"])
        return tuple(replace(run, records=run.records[run.records["doc_id"] != known]) for run in runs)

    def finish(self) -> tuple[TaskRun, ...]:
        """The records of all documents that were asked about, in the order of the task. Raises InputError: nothing
        could be answered."""
        if not self._steps:
            raise bridge.nothing_answered(self._loaded.name, bridge.failed_documents(self._engine, self._loaded))
        steps, self._steps = [list(step) for step in self._steps], []
        count = len(steps[0])
        names = getattr(self._loaded.task, "names", None)
        order = in_order if names is None else {name: place for place, name in enumerate(names)}.__getitem__
        return tuple(merged([step.pop(0) for step in steps], order) for _ in range(count))


class JobSteps(TaskSteps):
    """One planned job as :class:`TaskSteps`, with its time and what is said of it."""

    def __init__(self, planned: Planned, lazy: LazyEngine) -> None:
        self.job, self._stored, self._lazy, options = planned.job, planned.engine, lazy, planned.job.options
        self._options, self._chat = options, planned.chat
        planned.engine.keeps_reasoning = self.job.task.reasoning == KEEP
        self._seconds = 0.0
        self.notes: tuple[str, ...] = ()
        """What is said of the prompts."""
        super().__init__(planned.engine, self.job.task, planned.chat, options.fewshot_as_multiturn)

    def show(self, label: str) -> None:
        """What the progress of the next requests is called."""
        self._stored.progress.begin(label, None)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time, without that in which a model was loaded."""
        started, loading = time.perf_counter(), self._lazy.loading_seconds
        yield
        self._seconds += time.perf_counter() - started - (self._lazy.loading_seconds - loading)

    def requests(self, size: int = bridge.CHUNK) -> Iterator[list[Instance]]:
        """The requests of the task, those of so many documents at a time."""
        prompts = (self._chat, self._options.fewshot_as_multiturn)
        yield from bridge.request_chunks(self._stored, self.job.task, *prompts, size)
        self.notes = bridge.notes_on_prompts(self.job.task)
        formed = getattr(self.job.task.task, "formed", 0)
        if formed and not self._stored.served:
            here = self.job.reference.text
            self.notes += (f"{here}: runs here, where the response_format of {formed} prompts is not enforced.",)
        if self.job.task.conversational and not self._chat:
            self.notes += (
                f"{self.job.reference.text}: prompts of {self.job.task.name} were given as plain text, without a chat "
                "template.",
            )

    def evaluated(self) -> Evaluated:
        """What the job gave, over all documents that were asked for. Raises InputError: nothing could be answered."""
        job, engine, reference = self.job, self._stored, self.job.reference
        runs, own = self.finish(), list[str]()
        given = "tokenizer" in self._options.engine_args
        if reference.tokenizer and reference.base and reference.adapter and not given:
            found = " and ".join(tokenizer.differences(reference.base, reference.adapter))
            own = [f"{reference.text}: the adapter's own tokenizer was used, which differs from its base's in {found}."]
        failed = self._unlabelled | bridge.failed_documents(engine, job.task)
        own += [*self.notes, *engine.notes, *bridge.failure_note(reference.text, job.task, failed, self.documents)]
        return Evaluated(job, runs, dict(engine.identity), self._seconds, tuple(own), engine.asked, engine.from_store)


def evaluate_jobs(
    jobs: Iterable[Job],
    say: Say = lambda _: None,
    progress: Any = None,
    store: Store | None = None,
    log: Log | None = None,
    known: Run | None = None,
) -> list[Evaluated]:
    """Evaluate every job, one base after the other, memory freed between. Models are loaded when answers are missing.

    ``say`` gets one line before each model is loaded and each task is run. ``progress`` is handed to the engine.
    Answers are taken from ``store`` where they are there and kept in it as they come. ``known`` is OLD's run where it
    is recorded. Raises InputError: an engine that does not exist, or a model it cannot load."""
    done: list[Evaluated] = []
    plans = plan_jobs(jobs, say, progress, store)
    working = [plan for plan in plans if plan.has_work]
    asked = [planned for plan in plans for planned in plan.jobs if planned.missing != 0]
    try:
        for plan in plans:
            if plan in working:
                at = working.index(plan)
                for soon in working[at : at + 2]:
                    if soon.starts_early:
                        soon.start()
            for planned in plan.jobs:
                job, stored = planned.job, " (answers stored)" if planned.missing == 0 else ""
                say(f"{job.side}: {job.task.name}, {job.task.size} instances{stored}")
                steps = JobSteps(planned, plan.engine)
                steps.beside = next((one.runs for one in done if one.job.task is job.task), ())
                place = f"{asked.index(planned) + 1} of {len(asked)}, " if planned in asked and len(asked) > 1 else ""
                flips = _flips(job, done, known, plan.progress.share)
                plan.progress.begin(f"{place}{job.side}: {job.task.name}", job.task.size, flips)
                told = None if log is None else functools.partial(log, job)
                with steps.timed():
                    for requests in steps.requests(bridge.CHUNK if log is None else job.task.size):
                        steps.step(requests, told)
                done.append(steps.evaluated())
            plan.engine.close()
    finally:
        for plan in plans:
            plan.engine.close()
    return done


def _flips(
    job: Job, done: Sequence[Evaluated], known: Run | None, say: Callable[[int, int], str] | None
) -> RunningFlips | None:
    """Where NEW answers a task that OLD was asked before, what counts its flips meanwhile."""
    if say is None or not job.side.startswith("new"):
        return None
    old = next((one for one in done if (one.job.side, one.job.task.name) == ("old", job.task.name)), None)
    runs: Sequence[Any] = () if known is None else known.tasks
    return running_flips(job.task, runs if old is None else old.runs, say, old is not None and old.job.task is job.task)


class Stepwise:
    """Several jobs, each evaluated on the documents that are asked for, as often as documents are asked for.

    Prompts are those of an evaluation of all documents, built once; engines are opened once and stay open between."""

    def __init__(
        self, jobs: Iterable[Job], say: Say = lambda _: None, progress: Any = None, store: Store | None = None
    ) -> None:
        """Plan every job; no model is loaded. Raises InputError: an engine that does not exist, or two models of which
        only one fits into the memory."""
        self._plans = plan_jobs(jobs, say, progress, store)
        working = [plan for plan in self._plans if plan.has_work]
        if len(working) > 1 and any(plan.fills_memory for plan in working):
            raise InputError(
                "--until-decided keeps both models loaded, and vLLM has no room for two of these: evaluate OLD first "
                "(compatcheck run OLD …), so that its answers come from the store, or say --engine hf"
            )
        self._steps: dict[tuple[str, str], JobSteps] = {}
        self._requests: dict[tuple[str, str], dict[int, list[Instance]]] = {}
        for plan in self._plans:
            for planned in plan.jobs:
                key = (planned.job.side, planned.job.task.name)
                steps = self._steps[key] = JobSteps(planned, plan.engine)
                mine = self._requests[key] = defaultdict(list)
                for requests in steps.requests(max(bridge.CHUNK, planned.job.task.size)):
                    for request in requests:
                        mine[int(request.doc_id or 0)].append(request)

    def evaluate(self, side: str, task: str, places: Sequence[int]) -> tuple[TaskRun, ...]:
        """Evaluate one side on the documents at these ``places`` of the task; their records, one run per filter.

        Empty where not one of the documents asked for so far could be answered. Raises InputError: an engine that
        cannot be loaded, or a task of which nothing at all could be answered."""
        for plan in self._plans:
            if plan.starts_early and plan.has_work:  # while one answers, the other one starts
                plan.start()
        steps = self._steps[side, task]
        requests = [request for place in sorted(places) for request in self._requests[side, task][place]]
        steps.show(f"{side}: {task}")
        for request in requests:
            request.resps, request.filtered_resps = [], {}
        with steps.timed():
            return steps.step(requests)

    def finish(self) -> list[Evaluated]:
        """What every job gave, over all documents that were asked for. Raises InputError: a job of which nothing could
        be answered."""
        return [steps.evaluated() for steps in self._steps.values()]

    def close(self) -> None:
        """Free the memory of every engine that was opened."""
        for plan in self._plans:
            plan.engine.close()


def _sharing(run: TaskRun, beside: Sequence[TaskRun], start: int) -> TaskRun:
    """The run with those columns of text that another run has from row ``start`` on, so that memory holds them once."""
    other = next((one.records for one in beside if one.filter == run.filter), None)
    if other is None:
        return run
    for name in run.records.columns.intersection(other.columns):
        mine, theirs = run.records[name].array, other[name].array[start : start + run.rows]
        if mine.dtype == "str" and theirs.dtype == "str" and len(mine) == len(theirs) and mine.equals(theirs):
            run.records[name] = theirs
    return run


def merged(steps: Sequence[TaskRun], order: Callable[[Any], Any] | None = None) -> TaskRun:
    """The records of several steps as those of one run, in the order of the documents: by default that of their ids.

    A metric counts where every step has it, and is smooth where it is in any; a field is a slice field where it is one
    in every step."""
    if len(steps) == 1:
        return steps[0]
    metrics = []
    for metric in steps[0].metrics:
        mine = [m for step in steps for m in step.metrics if m.name == metric.name]
        if len(mine) == len(steps):
            smooth = next((each for each in mine if each.kind == "smooth"), mine[0])
            sizes = [max(1, len(step.records)) for step in steps]
            error = np.average([each.error**2 for each in mine], weights=sizes) ** 0.5
            metrics.append(replace(smooth, error=float(error)))
    known = {*TEXT_COLUMNS, *ANSWER_COLUMNS}
    everywhere = set.intersection(*(set(step.records.columns) for step in steps))
    names = dict.fromkeys(name for step in steps for name in step.records.columns)
    kept = [name for name in names if name in everywhere or name in known or ":" in name]
    records = pd.concat([step.records.reindex(columns=kept) for step in steps], ignore_index=True)
    numbers = pd.to_numeric(records["doc_id"], errors="coerce")
    if not (numbers.notna().all() and numbers.is_monotonic_increasing):
        places = records["doc_id"].map(order or in_order).sort_values(kind="stable").index
        records = records.loc[places].reset_index(drop=True)
    notes = dict.fromkeys(note for step in steps for note in step.notes)
    return replace(steps[0], metrics=tuple(metrics), records=records, notes=tuple(notes))


def in_order(name: Any) -> tuple[int, str]:
    """A key that sorts documents by their numbers, or by their names where those are no numbers."""
    text = str(name)
    return (int(text), text) if text.isdigit() else (-1, text)
