"""Progress of long work, on stderr: what is done, how fast, how long it takes, and what is known meanwhile."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TextIO

from compatcheck.engines.answers import about

EVERY = 30
"""Seconds between two lines where there is no terminal."""
FRAMES = 5
"""Pictures of the bar a second."""
_FIGURES = 56
"""Columns that are kept for what stands beside the bar, so that its length does not change with every figure."""
_ENOUGH = 0.02
"""Of the work of a stage what must be done for a time left: the first answers take the longest, where they are long."""
Share = Callable[[int, int], str]


class Progress(Protocol):
    """What an engine tells while it works. One stage at a time."""

    def start(self, label: str, total: float, done: float = 0) -> None:
        """A stage of ``total`` instances begins; ``done`` of them are there already and in no rate. With some done, and
        label and total of the last stage, that one goes on."""

    def advance(self, instances: float, tokens: int | None = None) -> None:
        """So many instances more are done; fractions when an instance has several requests. ``tokens`` that were
        generated, or read to be scored; None where they are not known."""

    def beside(self, text: str | Callable[[], str]) -> None:
        """What else is known of the stage; a callable is asked when it is shown."""

    def finish(self) -> None:
        """The stage is over."""


class SilentProgress:
    """Tells nobody."""

    def start(self, label: str, total: float, done: float = 0) -> None:
        pass

    def advance(self, instances: float, tokens: int | None = None) -> None:
        pass

    def beside(self, text: str | Callable[[], str]) -> None:
        pass

    def finish(self) -> None:
        pass


def _share(count: int, of: int) -> str:
    return f"{count / of:.1%}, {count:,} of {of:,}"


class Measured:
    """A stage that is measured: rates are means since it began, also over the parts in which its work was handed on.
    ``share`` words a count of several."""

    def __init__(self, clock: Callable[[], float], share: Share) -> None:
        self._clock, self.share = clock, share
        self.label, self.total = "", 0.0
        self.done = self._worked = 0.0
        self._tokens: int | None = 0
        self._began: float | None = None
        self._beside: str | Callable[[], str] = ""

    def start(self, label: str, total: float, done: float = 0) -> None:
        if not done or (label, total) != (self.label, self.total) or self._began is None:
            self.label, self.total = label, total
            self._worked, self._tokens, self._began, self._beside = 0.0, 0, self._clock(), ""
        self.done = done

    def advance(self, instances: float, tokens: int | None = None) -> None:
        self.done += instances
        self._worked += instances
        self._tokens = None if tokens is None or self._tokens is None else self._tokens + tokens

    def beside(self, text: str | Callable[[], str]) -> None:
        self._beside = text

    @property
    def _seconds(self) -> float:
        return 0.0 if self._began is None else self._clock() - self._began

    @property
    def count(self) -> str:
        return f"{self.done:,.0f} of {self.total:,.0f}"

    @property
    def speed(self) -> list[str]:
        """Instances and tokens a second and the time left; as long as little is done, the time that was spent."""
        seconds, said = self._seconds, list[str]()
        ahead = max(self.total - self.done, 0)
        if self._worked and seconds > 0:
            said.append(f"{self._worked / seconds:,.1f}/s")
        if self._tokens and seconds > 0:
            said.append(f"{self._tokens / seconds:,.0f} tokens/s")
        if self._worked <= _ENOUGH * (self._worked + ahead):
            return [*said, f"{span(seconds)} so far"]
        return [*said, f"{span(ahead * seconds / self._worked)} left"]

    @property
    def known(self) -> str:
        """What else is known."""
        return self._beside if isinstance(self._beside, str) else self._beside()


class BarProgress(Measured):
    """Three rows on a terminal: what is done, a bar with rates and time, what else is known. No markup is read."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, share: Share = _share
    ) -> None:
        from rich.console import Console

        super().__init__(clock, share)
        self._console = Console(file=stream or sys.stderr)
        self._live: Any = None

    def start(self, label: str, total: float, done: float = 0) -> None:
        from rich.live import Live

        self.finish()
        super().start(label, total, done)
        self._live = Live(
            console=self._console, get_renderable=self._rows, refresh_per_second=FRAMES, transient=True,
            redirect_stdout=False,
        )  # fmt: skip
        self._live.start()

    def _rows(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        def row(text: str) -> Text:
            return Text(safe_line(text), no_wrap=True, overflow="ellipsis")

        figures = row(" · ".join([self.count, *self.speed]))
        width = max(8, min(40, self._console.width - max(_FIGURES, len(figures)) - 1))
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=max(self.total, 1), completed=min(self.done, self.total), width=width), figures)
        return Group(row(self.label), bar, *([row(self.known)] if self.known else []))

    def finish(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class LineProgress(Measured):
    """A plain line every :data:`EVERY` seconds, for a log, also where nothing moves: a thread looks at the clock."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, share: Share = _share
    ) -> None:
        super().__init__(clock, share)
        self._stream = stream or sys.stderr
        self._said = clock()
        self._over: threading.Event | None = None

    def start(self, label: str, total: float, done: float = 0) -> None:
        self.finish()
        super().start(label, total, done)
        self._over = threading.Event()
        threading.Thread(target=self._watch, args=(self._over,), daemon=True, name="progress").start()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(max(0.1, self._said + EVERY - self._clock())):
            self.tick()

    def tick(self) -> None:
        """Say where the work is, if the last line is :data:`EVERY` seconds old."""
        now = self._clock()
        if now - self._said >= EVERY:
            self._said = now
            said = ", ".join([self.count, *self.speed, *([self.known] if self.known else [])])
            print(safe_line(f"{self.label}: {said}"), file=self._stream, flush=True)

    def finish(self) -> None:
        if self._over is not None:
            self._over.set()
            self._over = None


def safe_line(text: str) -> str:
    """One line without control characters."""
    return "".join(each if each.isprintable() else " " for each in text)


def span(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Stage:
    """Counts instances (documents) although work is done by requests: a document has as many as it has choices."""

    def __init__(self, progress: Progress, label: str, requests: Sequence[Any]) -> None:
        self._progress, self._label, self._requests = progress, label, len(requests)
        self._documents = len({(request.task_name, request.doc_id) for request in requests})

    def advance(self, requests: int, tokens: int | None = None) -> None:
        self._progress.advance(requests * self._documents / max(1, self._requests), tokens)

    def answered(self, answers: Sequence[Any]) -> None:
        """Requests are done; texts say how many tokens they have, where it is known. None: one that failed."""
        tokens = [0 if answer is None else about(answer).output_tokens for answer in answers]
        self.advance(len(answers), None if None in tokens else sum(each or 0 for each in tokens))

    def __enter__(self) -> Stage:
        self._progress.start(self._label, self._documents)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.finish()
