"""What is known while a model answers: how far the whole job is, and the negative flips among the answers so far.

Answers come in the order in which engines finish them, the longest or the shortest first: they are no random part of
the documents, so that these flips are shown and never judged.
"""

from __future__ import annotations

import copy
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compatcheck.engines.answers import without_reasoning
from compatcheck.engines.progress import SilentProgress
from compatcheck.records import TaskRun, score_column
from compatcheck.table.choices import HASH_LENGTH
from compatcheck.tasks import LoadedTask
from compatcheck.tasks.load import KEEP

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from compatcheck.engines.progress import Progress

SHARE = 0.01
"""Of the time of a job what scoring answers as they come may take: where scoring is slow, some are passed over."""
FREE = 0.05
"""Seconds that it may take in any case."""


class JobProgress:
    """The progress of an engine as that of a job: over all parts in which it is asked, less what the store had."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress or SilentProgress()
        self._label, self._total = "", 0
        self._done = self._asked = 0.0
        self._flips: RunningFlips | None = None

    @property
    def share(self) -> Callable[[int, int], str] | None:
        """How a share is worded; None where nobody looks."""
        return getattr(self._progress, "share", None)

    def begin(self, label: str, total: int | None, flips: RunningFlips | None = None) -> None:
        """A job of ``total`` documents; None: of as many as the engine is asked at a time."""
        self._label, self._total, self._done, self._flips = label, total or 0, 0.0, flips

    def ask(self, requests: Sequence[Instance], there: Mapping[int, Any]) -> None:
        """These requests come next; ``there`` has the answers that are known, by their places."""
        documents = {one.doc_id for one in requests}
        self._done += len(documents - {one.doc_id for place, one in enumerate(requests) if place not in there})
        if self._flips is not None:
            self._flips.expect(requests)
            for place, answer in there.items():
                self._flips.answered(requests[place], answer)

    def answered(self, request: Instance, answer: Any) -> None:
        if self._flips is not None:
            self._flips.answered(request, answer)

    def start(self, label: str, total: float, done: float = 0) -> None:
        self._asked = total
        whole, there = (self._total, self._done) if self._total else (total, done)
        self._progress.start(f"{self._label}, {label}" if self._label else label, whole, there)
        if self._flips is not None:
            self._progress.beside(self._flips.text)

    def advance(self, instances: float, tokens: int | None = None) -> None:
        self._progress.advance(instances, tokens)

    def beside(self, text: str | Callable[[], str]) -> None:
        self._progress.beside(text)

    def finish(self) -> None:
        self._done += self._asked
        self._asked = 0.0
        self._progress.finish()


class RunningFlips:
    """Counts what OLD had right and NEW has wrong, by the first discrete metric of a task, as NEW's answers come.

    A second, passing look at some answers: what is compared is scored once, by lm-eval, when all have come.
    """

    def __init__(self, loaded: LoadedTask, of_old: TaskRun, say: Callable[[int, int], str], same: bool) -> None:
        """``say`` words (negative flips, of how many documents); ``same``: OLD's documents are these, else those count
        whose content is the same."""
        (self._metric, *_) = [each.name for each in of_old.metrics if each.kind == "discrete" and each.higher_is_better]
        self._loaded, self._say, self._several = loaded, say, len(of_old.metrics) > 1
        self._filters: Any = next(each for each in loaded.task._filters if each.name == of_old.filter)
        records = of_old.records
        self._old = {
            key: (score == 1, content)
            for key, score, content in zip(
                records["doc_id"], records[score_column(self._metric)], records["doc_hash"], strict=True
            )
            if score == score  # an error has none
        }
        self._same = same
        self._wanted: Counter[int] = Counter()
        self._found: dict[int, list[tuple[Instance, Any]]] = defaultdict(list)
        self._spent, self._began = 0.0, time.perf_counter()
        self.negative = self.of = 0

    def expect(self, requests: Sequence[Instance]) -> None:
        """These will be answered; a document is scored when all of its requests are."""
        self._wanted = Counter(int(request.doc_id or 0) for request in requests)
        self._found.clear()

    def answered(self, request: Instance, answer: Any) -> None:
        place = int(request.doc_id or 0)
        self._found[place].append((request, answer))
        if len(self._found[place]) == self._wanted[place]:
            self._score(place, self._found.pop(place))

    def _score(self, place: int, answers: list[tuple[Instance, Any]]) -> None:
        started = time.perf_counter()
        if self._spent > FREE + SHARE * (started - self._began):
            return
        number = place if self._loaded.indices is None else self._loaded.indices[place]
        old_right, content = self._old.get(self._loaded.name_of(number), (None, None))
        if old_right is not None and (self._same or content == _content(answers[0][0].doc)):
            try:
                score = self._score_of(answers)
            except Exception:  # the task's own code, which scores all of it in the end and is told of there
                self._old.clear()
                score = None
            if score is not None:
                self.of += 1
                self.negative += old_right and score != 1
        self._spent += time.perf_counter() - started

    def _score_of(self, answers: list[tuple[Instance, Any]]) -> Any:
        requests = sorted((self._as_scored(*each) for each in answers), key=lambda one: one.idx)
        self._filters.apply(requests)
        left = [request.filtered_resps[self._filters.name] for request in requests]
        return self._loaded.task.process_results(requests[0].doc, left).get(self._metric)

    def _as_scored(self, request: Instance, answer: Any) -> Instance:
        """A copy of the request with its answer: the request itself is lm-eval's."""
        mine = copy.copy(request)
        text = isinstance(answer, str) and self._loaded.reasoning != KEEP
        mine.resps, mine.filtered_resps = [without_reasoning(answer) if text else answer], {}
        return mine

    def text(self) -> str:
        """``NFR so far …``; empty as long as nothing is known."""
        if not self.of:
            return ""
        return f"{f'{self._metric}: ' * self._several}NFR so far {self._say(self.negative, self.of)}"


def _content(doc: Any) -> str:
    """A document's fingerprint, as lm-eval's samples have it."""
    from lm_eval.utils import handle_non_serializable, hash_string

    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return hash_string(text)[:HASH_LENGTH]


def running_flips(
    loaded: LoadedTask, of_old: Sequence[TaskRun], say: Callable[[int, int], str] | None, same: bool
) -> RunningFlips | None:
    """The flips of a task as NEW answers it; None where no metric of OLD's is discrete, where answers are drawn several
    times, or where scoring runs what the model wrote."""
    if say is None:
        return None
    task: Any = loaded.task
    for run in of_old:
        discrete = any(each.kind == "discrete" and each.higher_is_better for each in run.metrics)
        plain = int(getattr(task.config, "repeats", 1) or 1) == 1 and not getattr(task.config, "unsafe_code", False)
        filters = [each.name for each in getattr(task, "_filters", None) or ()]
        if run.task == loaded.name and run.filter in filters and discrete and plain and "doc_hash" in run.records:
            return RunningFlips(loaded, run, say, same)
    return None
