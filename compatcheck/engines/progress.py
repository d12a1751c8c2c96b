"""Progress of an engine: instances per second and time left, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TextIO

EVERY = 30
"""Seconds between two lines where there is no terminal."""


class Progress(Protocol):
    """What an engine tells while it works. One stage at a time."""

    def start(self, label: str, total: float) -> None:
        """A stage begins: ``total`` instances lie ahead."""

    def advance(self, instances: float) -> None:
        """So many instances more are done; fractions when an instance has several requests."""

    def finish(self) -> None:
        """The stage is over."""


class SilentProgress:
    """Tells nobody."""

    def start(self, label: str, total: float) -> None:
        pass

    def advance(self, instances: float) -> None:
        pass

    def finish(self) -> None:
        pass


class BarProgress:
    """A rich progress bar. Labels are shown as they are: no markup is read from them."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left", markup=False),
            TimeRemainingColumn(),
            console=Console(file=stream or sys.stderr),
            transient=True,
        )
        self._task: int | None = None

    def start(self, label: str, total: float) -> None:
        self.finish()
        self._bar.start()
        self._task = self._bar.add_task(label, total=round(total), rate="")

    def advance(self, instances: float) -> None:
        if self._task is None:
            return
        task_id = self._bar.task_ids[-1]
        self._bar.advance(task_id, instances)
        speed = self._bar.tasks[-1].speed
        self._bar.update(task_id, rate=f"{speed:.1f}/s" if speed else "")

    def describe(self, label: str) -> None:
        """Another label for the stage that is under way."""
        if self._task is not None:
            self._bar.update(self._bar.task_ids[-1], description=label)

    def finish(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._bar.task_ids[-1])
            self._bar.stop()
            self._task = None

    def __enter__(self) -> BarProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()


class LineProgress:
    """A plain line every :data:`EVERY` seconds, for a log: how far, how fast, how long it will take."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream or sys.stderr, clock
        self._label, self._total, self._done, self._began, self._said = "", 0.0, 0.0, 0.0, 0.0

    def start(self, label: str, total: float) -> None:
        self._label, self._total, self._done = label, total, 0.0
        self._began = self._said = self._clock()

    def advance(self, instances: float) -> None:
        self._done += instances
        now = self._clock()
        if now - self._said >= EVERY and self._done:
            self._said = now
            rate = self._done / max(now - self._began, 1e-9)
            left = max(self._total - self._done, 0) / rate
            line = f"{self._label}: {self._done:,.0f} of {self._total:,.0f}, {rate:.1f}/s, {_span(left)} left"
            print(safe_line(line), file=self._stream, flush=True)

    def describe(self, label: str) -> None:
        """Another label for the stage that is under way."""
        self._label = label

    def finish(self) -> None:
        pass


def safe_line(text: str) -> str:
    """One line without control characters."""
    return "".join(each if each.isprintable() else " " for each in text)


def _span(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Stage:
    """Counts instances (documents) although work is done by requests: a document has as many as it has choices."""

    def __init__(self, progress: Progress, label: str, requests: Sequence[Any]) -> None:
        self._progress, self._label, self._requests = progress, label, len(requests)
        self._documents = len({(request.task_name, request.doc_id) for request in requests})

    def advance(self, requests: int) -> None:
        self._progress.advance(requests * self._documents / max(1, self._requests))

    def __enter__(self) -> Stage:
        self._progress.start(self._label, self._documents)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.finish()
