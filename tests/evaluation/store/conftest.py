"""A small engine whose answers are known, and requests as lm-eval makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from compatcheck.evaluation import bridge
from compatcheck.evaluation.evaluate import TaskSteps
from compatcheck.evaluation.store.database import Source
from compatcheck.records import TaskRun
from compatcheck.tasks import LoadedTask


class CountingEngine(LM):
    """Answers with what it was asked, in batches, and counts. Draws differ from call to call."""

    def __init__(self, batch: int = 2) -> None:
        super().__init__()
        self.batch = batch
        self.asked: list[tuple[Any, ...]] = []
        self.draws: list[int | None] = []
        self.notes: list[str] = ["The engine was opened."]
        self.identity = {"engine": "counting", "versions": {"counting": "1"}}
        self.failures: dict[tuple[Any, Any], str] = {}
        self.active: str | None = "nothing"
        self.fails: Callable[[Instance], str | None] = lambda request: None
        self.dies_after: int | None = None
        self.reports = True
        self.closed = False

    def activate(self, name: str | None) -> None:
        self.active = name

    def close(self) -> None:
        self.closed = True

    def _answer(self, kind: str, requests: list[Instance], make: Callable[[Instance], Any]) -> list[Any]:
        answers = []
        for start in range(0, len(requests), self.batch):
            for request in requests[start : start + self.batch]:
                self.asked.append(request.args)
                self.draws.append(getattr(request, "draw", None))
                message = self.fails(request)
                if message is not None:
                    self.failures[request.task_name, request.doc_id] = message
                    answers.append("" if kind == "generate_until" else (0.0, False))
                    continue
                answers.append(make(request))
                if self.reports:
                    self.cache_hook.add_partial(kind, request.args, answers[-1])
            if self.dies_after is not None and len(self.asked) >= self.dies_after:
                raise KeyboardInterrupt
        self.notes.append(f"{kind} was answered.")
        return answers

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        return self._answer("loglikelihood", requests, lambda r: (-len(r.args[0]) - 0.1, len(r.args[1]) % 2 == 0))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return self._answer("loglikelihood_rolling", requests, lambda r: -float(len(r.args[0])))

    def generate_until(self, requests: list[Instance]) -> list[str]:
        def make(request: Instance) -> str:
            number = f" {len(self.asked)}" if request.args[1].get("temperature") else ""
            request.args[1].pop("until", None)  # as some backends do
            return f"{request.args[0]}!{number} ü\ud800"

        return self._answer("generate_until", requests, make)


def source(task: str = "task", model: str = "aa" * 20, reference: str = "models/old") -> Source:
    return Source(model, task, reference, "sha256:0", "counting", {"engine": "planned"})


def scoring(*texts: str, doc: int = 0) -> list[Instance]:
    return [Instance("loglikelihood", {}, (text, " x"), 0, ("task", doc + n, 1)) for n, text in enumerate(texts)]


def writing(*texts: str, **settings: Any) -> list[Instance]:
    return [
        Instance("generate_until", {}, (text, {"until": ["\n"], **settings}), 0, ("task", n, 1))
        for n, text in enumerate(texts)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "store"
    made.mkdir()
    return made


def build_requests(engine: LM, loaded: LoadedTask, chat: bool = False, multiturn: bool = True) -> list[Instance]:
    """All requests of a task."""
    (requests,) = bridge.request_chunks(engine, loaded, chat, multiturn, max(1, loaded.size))
    return requests


def evaluate_task(engine: LM, loaded: LoadedTask) -> tuple[TaskRun, ...]:
    """One task with an engine that is no job's."""
    steps = TaskSteps(engine, loaded, False, True)
    for requests in bridge.request_chunks(engine, loaded):
        steps.step(requests)
    return steps.finish()
