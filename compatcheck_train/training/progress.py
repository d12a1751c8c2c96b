"""Progress of a training: loss, share of what follows the old model, time left; and the metrics that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

from compatcheck.engines.progress import BarProgress, Progress, SilentProgress
from compatcheck.errors import InputError


@runtime_checkable
class Telling(Protocol):
    """A :class:`compatcheck.engines.progress.Progress` that also takes a short text beside its bar."""

    def tell(self, text: str) -> None: ...


class TrainingBar(BarProgress):
    """The engines' bar with loss and share of masked tokens beside it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.progress import TextColumn

        super().__init__(stream)
        self._bar.columns = (*self._bar.columns, TextColumn("{task.fields[told]}", markup=False))

    def start(self, label: str, total: float) -> None:
        self.finish()
        self._bar.start()
        self._task = self._bar.add_task(label, total=round(total), rate="", told="")

    def tell(self, text: str) -> None:
        if self._task is not None:
            self._bar.update(self._bar.task_ids[-1], told=text)


def tell(progress: Progress, text: str) -> None:
    """Show a text where the progress can."""
    if isinstance(progress, Telling):
        progress.tell(text)


def open_training_progress(quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """A bar on stderr, or silence when ``quiet`` or where stderr is no terminal."""
    import sys

    stream = stream or sys.stderr
    return SilentProgress() if quiet or not stream.isatty() else TrainingBar(stream)


class Metrics:
    """metrics.jsonl: one line per optimiser step and per epoch, in order; and the trackers that were asked for."""

    def __init__(self, path: Path, accelerator: Any, resumed_at: int) -> None:
        self._path = path
        self._accelerator = accelerator
        if accelerator.is_main_process:
            kept = [line for line in self._lines() if json.loads(line)["step"] <= resumed_at] if resumed_at else []
            temporary = path.with_suffix(".partial")
            temporary.write_text("".join(f"{line}\n" for line in kept))
            temporary.replace(path)

    def _lines(self) -> list[str]:
        found = []
        for line in self._path.read_text().splitlines() if self._path.is_file() else []:
            try:
                json.loads(line)
            except ValueError:  # the last line of a killed run
                break
            found.append(line)
        return found

    def write(self, step: int, values: dict[str, float | int]) -> None:
        if self._accelerator.is_main_process:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        self._accelerator.log({k: v for k, v in values.items() if v is not None}, step=step)


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise InputError for a tracker whose package is not installed."""
    import importlib.util

    for name in names:
        if importlib.util.find_spec(name) is None and not (
            name == "tensorboard" and importlib.util.find_spec("tensorboardX") is not None
        ):
            raise InputError(f"report_to {name}: the package is not installed (pip install {name})")
