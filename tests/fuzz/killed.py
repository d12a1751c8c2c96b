"""A command line in a process of its own that dies, or meets a full disk, at a chosen moment.

The process is forked from one in which all is imported, so that a death costs a tenth of a second. Moments are counted
in what Python's audit hooks hear (files opened, folders made, files renamed and removed): the same number is the same
moment, on a slow machine too.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_EVENTS = ("open", "os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.chmod", "os.truncate")
PRELOAD = ["compatcheck.cli.app", "compatcheck.report", "compatcheck.api", "pandas", "pyarrow.parquet", "scipy.stats"]
NOBODY = 65534


@dataclass(frozen=True)
class Fate:
    """What happens to the process: killed at an event, files limited in size, or the rights of an ordinary user."""

    event: int | None = None
    most_bytes: int | None = None
    ordinary: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """How it ended: the exit code (-9 killed), what it said, and how many events there were."""

    code: int | None
    said: str
    errors: str
    events: int


def start(arguments: list[str], folder: Path, fate: Fate = Fate()) -> End:
    """Run a command line in ``folder`` and wait for its end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(arguments, str(folder), fate, theirs))
    process.start()
    theirs.close()
    try:
        said, errors, events = ours.recv()
    except EOFError:
        said, errors, events = "", "", 0
    process.join()
    return End(process.exitcode, said, errors, events)


def _work(arguments: list[str], folder: str, fate: Fate, answer: Any) -> None:
    environment = {"COMPATCHECK_CACHE": f"{folder}.cache", "COMPATCHECK_STORE": f"{folder}.store"}
    os.environ.update({**environment, **fate.environment})
    os.environ.pop("COMPATCHECK_DEBUG", None)
    if fate.ordinary and os.getuid() == 0:
        shutil.copytree(folder, f"{folder}.warm")
        _run(
            arguments, f"{folder}.warm"
        )  # all that is imported: an ordinary user may not read the files of root's Python
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    seen = 0

    def hear(event: str, _: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in _EVENTS:
            seen += 1
            if seen == fate.event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)
    if fate.most_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fate.most_bytes, resource.RLIM_INFINITY))
    code, said, errors = _run(arguments, folder)
    answer.send((said, errors, seen))
    os._exit(code)


def _run(arguments: list[str], folder: str) -> tuple[int, str, str]:
    from compatcheck.cli.app import run

    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = int(run(list(arguments)))
    return code, out.getvalue(), err.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and folder below, with the contents of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }
