"""Both sides of a comparison, document by document as they are drawn: evaluated where it is a model, read where not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from compatcheck.errors import InputError
from compatcheck.evaluation import collect
from compatcheck.evaluation.evaluate import Evaluated, Stepwise, in_order, merged
from compatcheck.evaluation.grouping import Job, Say
from compatcheck.evaluation.judging import judged
from compatcheck.evaluation.request import Request, Side
from compatcheck.evaluation.settling import as_to_be_read, read_as_asked
from compatcheck.evaluation.store import open_store
from compatcheck.records import Manifest, Run, TaskRun

Pair = Callable[[TaskRun, TaskRun], Any]
"""Pairs two task runs; what it returns has a ``key``: ``id`` or ``content hash``."""
_COLUMNS = {"id": "doc_id", "content hash": "doc_hash", "input": "input"}


class Drawing:
    """Documents of every task by their numbers from 0 on; a number stands for the same document on every run."""

    def __init__(self, request: Request, pair: Pair, stack: contextlib.ExitStack, say: Say, progress: Any) -> None:
        """What is opened is closed by ``stack``."""
        self._request, self._pair = request, pair
        self._sides = (request.side("old"), request.side("new"))
        # How a score is read is settled by all of its rows, before any of them is drawn.
        recorded = [side for side in self._sides if side.recorded]
        runs = collect.read_sides(recorded, request)
        self._recorded = {side.name: _settled(run, request) for side, run in zip(recorded, runs, strict=True)}
        self._steps: dict[tuple[str, str, str], list[TaskRun]] = {}
        self._columns: dict[str, str] = {}
        self._stepwise: Stepwise | None = None
        models = [side for side in self._sides if not side.recorded]
        self.documents: Mapping[str, Sequence[Any]]
        """Of every task the documents that can be drawn, in an order that does not depend on that of the rows."""
        if models:
            jobs = collect.jobs_of(models, request, say, progress)
            self._store = stack.enter_context(open_store(request.store))
            self._stepwise = Stepwise(jobs, say, progress, self._store)
            stack.callback(self._stepwise.close)
            self.documents = {job.task.name: range(job.task.size) for job in jobs}
            _check_alike(jobs)
        else:
            self.documents = self._shared_documents()

    def step(self, numbers: Mapping[str, Sequence[int]]) -> tuple[Run, Run]:
        """Both sides on these documents of each task, alone. A task of which nothing was answered yet is missing.
        Raises InputError: a model that cannot be run, or a recorded side without records of the task."""
        found: dict[str, list[TaskRun]] = {side.name: [] for side in self._sides}
        for task, chosen in numbers.items():
            evaluated: list[TaskRun] = []
            for side in self._sides:
                if self._stepwise is not None and side.name not in self._recorded:
                    runs = collect.of_filter(self._stepwise.evaluate(side.name, task, chosen), self._request)
                    found[side.name] += self._keep(side.name, runs)
                    evaluated += runs
            for name in self._recorded:
                found[name] += self._keep(name, self._read(name, task, chosen, evaluated))
        old, new = (Run(Manifest(side.text, "", ""), tuple(found[side.name])) for side in self._sides)
        return old, new

    def finish(self) -> tuple[Run, Run]:
        """Both sides on all documents that were drawn. Raises InputError: a side of which nothing could be answered."""
        evaluated = self._stepwise.finish() if self._stepwise is not None else []
        if evaluated and self._store is not None and self._store.notes:
            evaluated[0] = replace(evaluated[0], notes=(*evaluated[0].notes, *self._store.notes))
        old, new = (self._finished(side, evaluated) for side in self._sides)
        return old, new

    def _finished(self, side: Side, evaluated: Sequence[Evaluated]) -> Run:
        run = self._recorded.get(side.name) or collect.evaluated_run(side, evaluated)
        tasks = []
        for one in run.tasks:
            steps = self._steps.get((side.name, one.task, one.filter))
            if steps or one.task not in self.documents:  # what one side has alone is not drawn, and not left out unsaid
                tasks.append(merged(steps) if steps else one)
        return collect.with_requested_metrics(replace(run, tasks=tuple(tasks)), self._request)

    def _keep(self, side: str, runs: Sequence[TaskRun]) -> list[TaskRun]:
        read = [read_as_asked(run, self._request) for run in runs]
        for run in read:
            self._steps.setdefault((side, run.task, run.filter), []).append(run)
        return read

    def _read(self, side: str, task: str, numbers: Sequence[int], evaluated: Sequence[TaskRun]) -> Sequence[TaskRun]:
        """Find the rows of a recorded side: by the documents' own names, or by those that were just evaluated."""
        mine = [run for run in self._recorded[side].tasks if run.task == task]
        if not mine:
            there = ", ".join(dict.fromkeys(run.task for run in self._recorded[side].tasks))
            raise InputError(f"{side}: has no records of task '{task}' (it has {there}); say with --task which it is")
        if self._stepwise is None:
            column, names = self._columns[task], [self.documents[task][number] for number in numbers]
        elif evaluated:
            if task not in self._columns:
                theirs = next((run for run in evaluated if run.filter == mine[0].filter), evaluated[0])
                both = (mine[0], theirs) if side == "old" else (theirs, mine[0])
                self._columns[task] = _COLUMNS[self._pair(*both).key]
            column = self._columns[task]
            names = list(pd.unique(pd.concat([run.records[column] for run in evaluated])))
        else:
            return []
        return [
            replace(run, records=run.records[run.records[column].isin(names)].reset_index(drop=True))
            for run in mine
            if column in run.records
        ]

    def _shared_documents(self) -> dict[str, Sequence[Any]]:
        old, new = (self._recorded[side.name] for side in self._sides)
        theirs = {(run.task, run.filter): run for run in new.tasks}
        names: dict[str, set[Any]] = {}
        for run in old.tasks:
            other = theirs.get((run.task, run.filter))
            if other is not None:
                column = self._columns.setdefault(run.task, _COLUMNS[self._pair(run, other).key])
                names.setdefault(run.task, set()).update(run.records[column], other.records[column])
        return {task: sorted(found, key=in_order) for task, found in names.items()}


def _check_alike(jobs: Sequence[Job]) -> None:
    """Raise InputError where a place in a task is not the same document on both sides."""
    ids: dict[str, list[str]] = {}
    for job in jobs:
        loaded = job.task
        own = [loaded.name_of(number) for number in loaded.numbers]
        if ids.setdefault(loaded.name, own) != own:
            raise InputError(
                "--until-decided: the prompts of OLD and NEW are not the same documents in the same order; give both "
                "files the same ids, or leave out --until-decided"
            )


def _settled(run: Run, request: Request) -> Run:
    return replace(run, tasks=tuple(as_to_be_read(one, request) for one in run.tasks))


@contextlib.contextmanager
def drawing(request: Request, pair: Pair, say: Say = lambda _: None, progress: Any = None) -> Iterator[Drawing]:
    """Both sides of a request, to be drawn from; models and store are closed at the end.

    ``pair`` is :func:`compatcheck.compare.pairing.pair`, which this room cannot import."""
    with judged(request, say, progress) as request, contextlib.ExitStack() as stack:
        yield Drawing(request, pair, stack, say, progress)
