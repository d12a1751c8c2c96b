"""One command line run in this process, watched: exit code, what it says and writes, how long and how much it takes."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECRETS = {
    "COMPATCHECK_API_KEY": "sk-marker-of-compatcheck-0001",
    "OPENAI_API_KEY": "sk-marker-of-openai-0002",
    "COMPATCHECK_API_KEY_127_0_0_1": "sk-marker-of-the-host-0003",
    "HF_TOKEN": "hf_markerofthehub0004",
    "SOME_PASSWORD": "marker-of-anything-else-0005",
}
"""Environment variables whose values stand in no output."""
SECONDS, BYTES = 20.0, 2 << 30
"""The most that one input may take: seconds of a processor, bytes of memory more than before."""
_PATIENCE = 60.0
"""Seconds by the clock, on a machine that others use too."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Input:
    """A command line, the folder in which all of it lies, and what is known of it."""

    kind: str
    done: str
    """The damage, in words."""
    arguments: list[str]
    box: Path
    out: Path | None = None
    """The one place that may be written to, besides cache, store and ``others``."""
    others: tuple[Path, ...] = ()
    rows: int | None = None
    """Rows of both sides together, where the input says how many there are."""
    compares: bool = True
    """Whether ``out`` is to hold nothing where the exit code is 2."""
    plain: bool = True
    """Whether what is printed is for people: no control characters."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of an input."""

    input: Input
    code: int
    said: str
    errors: str
    seconds: float
    processor: float
    memory: int
    changed: tuple[str, ...]
    """Files of the box that are others than before, outside of what may be written."""
    escaped: tuple[str, ...]
    """Paths outside of the box that were opened for writing."""

    def __str__(self) -> str:
        i = self.input
        line = (self.errors.strip().splitlines() or [""])[-1]
        return f"{i.kind}: {i.done}: compatcheck {' '.join(i.arguments)[:300]} -> {self.code}: {line[-500:]}"


class TooLong(BaseException):
    """The time of an input is over."""


class _Spy:
    """Sees what this process opens for writing, as far as Python does it."""

    def __init__(self) -> None:
        self.box: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.box is None:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and isinstance(path, str | bytes):
                self._take(path)
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "os.link", "shutil.rmtree"):
            made = slice(1, 2) if event in ("os.symlink", "os.link") else slice(0, 2 if event == "os.rename" else 1)
            for path in arguments[made]:
                if isinstance(path, str | bytes):
                    self._take(path)

    def _take(self, path: str | bytes) -> None:
        text = os.fsdecode(path)
        whole = os.path.normpath(os.path.join(os.getcwd(), text))  # noqa: PTH109, PTH118
        if not f"{whole}/".startswith(f"{self.box}/") and not whole.startswith("/dev/") and "__pycache__" not in whole:
            self.seen.append(whole)


_spy: _Spy | None = None


def attempt(input: Input) -> Outcome:
    """Run an input and see what comes of it."""
    global _spy
    from compatcheck.cli.app import run

    _spy = _spy or _Spy()
    for name in ("home", "tmp", "cache", "cwd"):
        (input.box / name).mkdir(exist_ok=True)
    box = input.box
    before = _contents(box)
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors=how) for how in ("strict", "backslashreplace"))
    with _environment(input), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        _reset_peak()
        memory, started, processor = _resident("VmRSS"), time.monotonic(), time.process_time()
        _spy.seen, _spy.box = [], input.box
        try:
            with _limited():
                code = int(run(list(input.arguments)))
        except TooLong:
            code = -1
        finally:
            _spy.box = None
        spent = (time.monotonic() - started, time.process_time() - processor, _resident("VmHWM") - memory)
    if any(box.glob(".compatcheck-scratch-*")):
        gc.collect()  # as the end of a process does
    said, errors = (_text(stream) for stream in (out, err))
    after = _contents(input.box)
    free = [path for path in (input.out, *input.others, input.box / "cache", input.box / "tmp") if path is not None]
    changed = tuple(
        sorted(
            name
            for name in before.keys() | after.keys()
            if before.get(name) != after.get(name) and not any((input.box / name).is_relative_to(path) for path in free)
        )
    )
    return Outcome(input, code, said, errors, *spent, changed, tuple(dict.fromkeys(_spy.seen)))


def complaints(outcome: Outcome) -> list[str]:
    """What is wrong with an outcome, whatever the input was; empty where nothing is."""
    i, wrong = outcome.input, []
    if outcome.code not in (0, 1, 2, 3):
        wrong.append(f"exit code {outcome.code}")
    wrong += [word for word in ("Traceback", "internal error", "panicked", "TooLong") if word in outcome.errors]
    if re.search(r"\.py:\d+: \w*Warning", outcome.errors):
        wrong.append("a warning of a library")
    if outcome.processor > SECONDS or outcome.seconds > _PATIENCE:
        wrong.append(f"took {outcome.processor:.0f} s ({outcome.seconds:.0f} by the clock)")
    if outcome.memory > BYTES:
        wrong.append(f"took {outcome.memory / 1e9:.1f} GB")
    if outcome.changed or outcome.escaped:
        wrong.append(f"written elsewhere: {[*outcome.changed, *outcome.escaped][:5]}")
    if (
        outcome.code == 2
        and i.arguments[0] != "doctor"
        and not [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    ):
        wrong.append("no line that begins with error:")
    if i.plain and (found := _CONTROL.search(f"{outcome.said}{outcome.errors}")):
        wrong.append(f"prints the control character {found[0]!r}")
    wrong += _secrets(outcome)
    wrong += _of_the_report(outcome)
    return wrong


def _secrets(outcome: Outcome) -> list[str]:
    found = [name for name, value in SECRETS.items() if value in outcome.said + outcome.errors]
    for path in outcome.input.box.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            found += [f"{name} in {path.name}" for name, value in SECRETS.items() if value.encode() in content]
    return [f"a secret: {found}"] if found else []


def _of_the_report(outcome: Outcome) -> list[str]:
    """1 only with a shown regression, nothing half-written, and every row accounted for."""
    i, wrong = outcome.input, []
    if i.out is None or not i.compares:
        return []
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(i.out.rglob("report.json"))]
    if outcome.code == 2 and i.out.exists() and any(i.out.iterdir()):
        wrong.append(f"half-written: {sorted(path.name for path in i.out.iterdir())}")
    shown = [gate for report in reports for one in report["comparisons"] for gate in one["gates"]]
    if outcome.code == 1 and not any(gate["verdict"] == "fail" for gate in shown):
        wrong.append("exit code 1 without a shown regression")
    if outcome.code in (0, 3) and any(report["verdict"] == "fail" for report in reports):
        wrong.append(f"exit code {outcome.code} with a shown regression")
    for report in reports:
        wrong += _rows(report, i.rows)
    return wrong


def _rows(report: dict[str, Any], rows: int | None) -> list[str]:
    wrong, counted = [], {}
    for one in report["comparisons"]:
        pairing = one["pairing"]
        name = f"{one['task']}/{one['filter']}"
        for side in ("old", "new"):
            met = pairing[f"rows_{side}"] - pairing[f"only_{side}"] - pairing["target_changed"]
            failed = (pairing["errors_old"], pairing["errors_new"])
            if not max(failed) <= met - pairing["paired"] <= sum(failed):
                wrong.append(f"rows of {side} do not add up in {name}: {pairing}")
        if sum(one["quadrants"].values()) != pairing["paired"]:
            wrong.append(f"quadrants {one['quadrants']} of {pairing['paired']} pairs in {name}")
        counted[name] = pairing["rows_old"] + pairing["rows_new"] + pairing["duplicates"]
    if rows is not None and not report["absent"] and sum(counted.values()) != rows:
        wrong.append(f"{sum(counted.values())} of {rows} rows are accounted for: {counted}")
    return wrong


@contextlib.contextmanager
def _environment(input: Input) -> Iterator[None]:
    import tempfile

    box = input.box
    given = {
        **SECRETS, "HOME": str(box / "home"), "TMPDIR": str(box / "tmp"), "COMPATCHECK_CACHE": str(box / "cache"),
        "COMPATCHECK_STORE": str(box / "cache" / "store"), "XDG_CACHE_HOME": str(box / "cache"), "NO_COLOR": "1",
        "MPLCONFIGDIR": str(box / "cache"), "NO_PROXY": "127.0.0.1", **input.environment,
    }  # fmt: skip
    before, here, temporary = dict(os.environ), Path.cwd(), tempfile.tempdir
    for name in ("COMPATCHECK_DEBUG", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "COMPATCHECK_BASELINES"):
        os.environ.pop(name, None)
    os.environ.update(given)
    os.chdir(box / "cwd")
    tempfile.tempdir = str(box / "tmp")
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
        tempfile.tempdir = temporary


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """No more than the time and memory of an input, and a little more: what takes too much ends here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_resident("VmSize") + 2 * BYTES, hard))

    def over(*_: object) -> None:
        raise TooLong("the time of this input is over")

    earlier = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, SECONDS + 5, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, earlier)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    content: bytes = stream.buffer.getvalue()  # type: ignore[attr-defined]
    return content.decode("utf-8", "replace")


def _contents(box: Path) -> dict[str, str]:
    found = {}
    for path in box.rglob("*"):
        if path.is_relative_to(box / "cache"):
            continue
        name = str(path.relative_to(box))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_dir():
            found[name] = "folder"
    return found


def empty(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
