"""Processes of ours that must die with us, spoken to in JSON lines, and what their logs say when they fail.

A child lives in a session of its own, so that Ctrl-C reaches only us, and holds the reading end of a pipe from us: when
we end in whatever way, the pipe closes and the child ends its whole session (see ``vllm.host``). When the child dies
instead, we end what it left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from compatcheck.scratch import Scratch

PARENT = "COMPATCHECK_PARENT_PROCESS"
"""Environment variable with the number of the process that starts another one."""
_TRACKER = "multiprocessing.resource_tracker"
_ERROR_LINE = re.compile(r"\b([A-Za-z_][\w.]*(?:Error|Exception)): (.+)")
_SAYS_NOTHING = ("initialization failed", "see root cause", "see stack trace", "died unexpectedly")


class Child:
    """One process, with a ``folder`` of its own for temporary files that is removed with it."""

    def __init__(self, module: str, log: Path, environment: Mapping[str, str]) -> None:
        """Start ``python -m module FD``; it reads JSON lines from its stdin and writes them to the descriptor FD.
        ``log`` takes its stdout and stderr, and those of whatever it starts; ``environment`` is set on top of ours."""
        scratch = Scratch()
        self.folder = scratch.folder
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        reading, writing = os.pipe()
        paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        own = {"PYTHONPATH": paths, "TMPDIR": str(self.folder), PARENT: str(os.getpid())}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(writing)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writing,),
                start_new_session=True,
                env={**os.environ, **own, **environment},
            )
        os.close(writing)
        self.end = weakref.finalize(self, _end, self._process, scratch)
        threading.Thread(target=_listen, args=(os.fdopen(reading, "rb"), self._inbox), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one message. Raises OSError where the child is gone."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any] | None:
        """The next message, waited for; None when the child is gone."""
        while True:
            try:  # a bare get() could not be interrupted on every platform
                return self._inbox.get(timeout=1.0)
            except queue.Empty:
                continue

    def log_line(self) -> str:
        """The most telling line that it wrote since its start: an error's first message, or the last line."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_start)
                return telling_line(file.read().decode(errors="replace"))
        except OSError:
            return ""


def _listen(pipe: BinaryIO, inbox: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with pipe, contextlib.suppress(ValueError):  # a line cut off in the middle: it is gone
        for line in pipe:
            inbox.put(json.loads(line))
    inbox.put(None)


def says_nothing(message: str) -> bool:
    """Whether an error only points at another one."""
    return any(phrase in message.lower() for phrase in _SAYS_NOTHING)


def telling_line(log: str, most: int = 300) -> str:
    """The line of a log that says what went wrong; at most ``most`` characters."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for line in lines:
        found = _ERROR_LINE.search(line)
        if found and not says_nothing(found[2]):
            return f"{found[1].rsplit('.', 1)[-1]}: {found[2]}"[:most]
    return lines[-1][:most] if lines else ""


def members(session: int) -> list[psutil.Process]:
    """Every living process of a session, and what descends from its leader."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
    with contextlib.suppress(psutil.Error):
        found |= {child.pid: child for child in psutil.Process(session).children(recursive=True)}
    return list(found.values())


def kill_session(session: int, spare: int | None = None) -> None:
    """Kill a session, but for the process ``spare``, which must end next.

    Python's resource trackers go last, by themselves: they free the shared memory of those that used it."""
    trackers: list[psutil.Process] = []
    for _ in range(3):  # what was started while we were looking
        others = []
        for process in members(session):
            tracks = False
            with contextlib.suppress(psutil.Error):
                tracks = any(_TRACKER in part for part in process.cmdline())
            if tracks:
                trackers.append(process)
            elif process.pid != spare:
                others.append(process)
        if not others:
            break
        _kill(others)
    if spare is None:  # else the trackers wait for it
        _kill(psutil.wait_procs(trackers, timeout=3.0)[1])


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _end(process: subprocess.Popen[bytes], scratch: Scratch) -> None:
    kill_session(process.pid)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    scratch.close()


def watch_parent(folders: Sequence[Path] = (), whole_session: bool = False) -> None:
    """End this process, from a thread, when the one that started it is gone. Polled: no signal tells it everywhere.

    Who that was stands in the environment, so that a parent which died before we got here is missed as well."""
    parent = os.getppid()
    named = int(os.environ.get(PARENT, parent))
    os.environ[PARENT] = str(os.getpid())
    runs = False
    with contextlib.suppress(psutil.Error):
        runs = psutil.Process(named).status() != psutil.STATUS_ZOMBIE
    if named != parent and not runs:
        end_now(folders, whole_session)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        end_now(folders, whole_session)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def end_now(folders: Sequence[Path] = (), whole_session: bool = False) -> None:
    """End this process at once, with its session where it leads one, and remove folders on the way."""
    if whole_session:
        kill_session(os.getpid(), spare=os.getpid())
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGKILL)
