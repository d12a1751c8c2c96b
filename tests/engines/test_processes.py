"""Processes of engines die with ours in every way in which ours can end, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from compatcheck.engines import processes
from compatcheck.engines.processes import Child, telling_line

ROOT = Path(__file__).parents[2]
OURS = """
import json, sys, time
from pathlib import Path
from compatcheck.engines.processes import Child
child = Child("tests.engines.sleeper", Path(sys.argv[1]), {})
print(json.dumps({**child.hear(), "folder": str(child.folder)}), flush=True)
"""


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def gone(pids: list[int]) -> bool:
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            continue
    return True


def started(tmp_path: Path) -> tuple[Child, dict[str, Any]]:
    child = Child("tests.engines.sleeper", tmp_path / "log", {})
    facts = child.hear()
    assert facts is not None
    return child, facts


def test_a_child_is_spoken_to_and_its_whole_session_ends_with_it(tmp_path: Path) -> None:
    child, facts = started(tmp_path)
    child.tell({"text": "any \u2028 line \ud800"})
    assert child.hear() == {"echo": {"text": "any \u2028 line \ud800"}}
    assert len(processes.members(child.pid)) >= 2
    child.end()
    assert gone(facts["pids"])
    assert processes.members(child.pid) == []
    assert not child.folder.exists()
    assert not Path("/dev/shm", facts["memory"]).exists(), "shared memory is given back"
    assert child.hear() is None
    assert (tmp_path / "log").read_text().startswith("a line of the log")
    child.end()


def test_a_child_that_is_killed_is_noticed_and_what_it_left_is_ended(tmp_path: Path) -> None:
    child, facts = started(tmp_path)
    os.kill(child.pid, signal.SIGKILL)
    assert child.hear() is None
    assert until(lambda: gone(facts["pids"])), "its own child notices by itself"
    child.end()
    assert not child.folder.exists()


ENDINGS = {
    "normal end": "",
    "exception": "raise RuntimeError('boom')",
    "exit": "import os; os._exit(3)",
    "interrupt": "time.sleep(60)",
    "terminate": "time.sleep(60) ",
    "kill": "time.sleep(60)  ",
}
SIGNALS = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}


@pytest.mark.parametrize("ending", ENDINGS)
def test_however_we_end_they_end(ending: str, tmp_path: Path) -> None:
    import json

    ours = subprocess.Popen(
        [sys.executable, "-c", OURS + ENDINGS[ending], str(tmp_path / "log")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    assert ours.stdout is not None
    facts = json.loads(ours.stdout.readline())
    if ending in SIGNALS:
        ours.send_signal(SIGNALS[ending])
    ours.wait(timeout=30)
    assert until(lambda: gone(facts["pids"]))
    assert until(lambda: not Path(facts["folder"]).exists())
    assert until(lambda: processes.members(facts["pids"][0]) == [])
    assert until(lambda: not Path("/dev/shm", facts["memory"]).exists())


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        ("INFO one\n\n  INFO two  \n", "INFO two"),
        (
            "INFO\n(Worker pid=3) ERROR 11-20 x.py:9]   ValueError: no room on node 0\nTraceback\n"
            "RuntimeError: Engine core initialization failed. See root cause above.\n",
            "ValueError: no room on node 0",
        ),
        ("Exception: WorkerProc initialization failed due to an exception\nlast\n", "last"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory\n", "OutOfMemoryError: CUDA out of memory"),
        ("KeyError: " + "x" * 999, ("KeyError: " + "x" * 999)[:300]),
    ],
)
def test_the_line_that_says_what_went_wrong(log: str, line: str) -> None:
    assert telling_line(log) == line
