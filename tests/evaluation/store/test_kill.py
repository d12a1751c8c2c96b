"""kill -9 in the middle of the work: nothing that was answered is lost, and the report is that of a run left alone.

Five kills by default; ``COMPATCHECK_KILLS=20`` for more.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from compatcheck.evaluation.store import database
from compatcheck.evaluation.store.database import Store

KILLS = int(os.environ.get("COMPATCHECK_KILLS", "5"))
LIMIT = 96
BATCH = 8
TASKS = {"piqa": 2, "samsum": 1}
"""Requests of a document: two choices are scored, one summary is written."""
REQUESTS = 2 * LIMIT * sum(TASKS.values())

# The command line, with every request that is begun and every answer that comes in written down as it happens.
DRIVER = """
import os, sys
log = os.open(sys.argv.pop(1), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
from compatcheck.cli import main
from compatcheck.engines.hf import decoding, scoring
from compatcheck.evaluation.store import engine

forward, admit, add_partial = scoring._forward, decoding._Run._admit, engine._Incoming.add_partial

def counted_forward(runner, parts, stores):
    begun = sum(len(d.branches) for part in parts for d in part.documents)
    os.write(log, b"begun\\n" * begun)
    return forward(runner, parts, stores)

def counted_admit(self, free):
    before = len(self._queue)
    result = admit(self, free)
    os.write(log, b"begun\\n" * (before - len(self._queue)))
    return result

def counted_answer(self, *given):
    os.write(log, b"answered\\n")
    return add_partial(self, *given)

scoring._forward, decoding._Run._admit, engine._Incoming.add_partial = counted_forward, counted_admit, counted_answer
main()
"""


def start(folder: Path, fixtures: Path) -> subprocess.Popen[bytes]:
    """``compatcheck diff`` in a folder of its own, so that the commands of all runs read the same."""
    arguments = [
        "diff", f"{fixtures}/adapters/{{task}}-v1", f"{fixtures}/adapters/{{task}}-v2",
        "--data", str(fixtures / "data"), "--num-fewshot", "0", "--limit", str(LIMIT), "--batch-size", str(BATCH),
        "--engine", "hf", "--device", "cpu", "--store", "store", "--out", "out", "-q",
    ]  # fmt: skip
    tasks = [part for task in TASKS for part in ("--task", task)]
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, "log", *arguments, *tasks],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def count(folder: Path) -> Counter[str]:
    log = folder / "log"
    return Counter(log.read_text().split()) if log.exists() else Counter()


def finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate(timeout=500)
    assert process.returncode == 0, error.decode()


def report(folder: Path) -> dict[str, Any]:
    """The report less what says how the run went: its time, and what came from the store.

    After a kill a request has other neighbours in its batch, which moves the last digits of its log-likelihood.
    """
    found: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    found.pop("created", None)
    for side in ("old", "new"):
        assert found[side]["settings"].pop("seconds") >= 0
        assert found[side]["settings"]["answers"] == REQUESTS // 2
        found[side]["settings"].pop("from_store")
    found["notes"] = [note for note in found["notes"] if "answers from the store" not in note]
    for one in found["comparisons"]:
        one |= {"margins": {name: f"{value:.4g}" for name, value in one.get("margins", {}).items()}}
    return found


def stored(folder: Path) -> int:
    with Store(folder / "store") as store:
        found = store._ask("SELECT count(*) FROM answers", ())
        assert store.notes == []
    return int(found[0][0])


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_again_and_again_it_ends_with_the_same_report(
    fixtures: Path, tmp_path: Path, record_property: Any
) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    for folder in (alone, killed):
        folder.mkdir()
    finish(start(alone, fixtures))
    distinct = stored(alone)
    assert distinct <= REQUESTS
    assert count(alone) == {"begun": distinct, "answered": distinct}

    rng = random.Random(time.time_ns())
    lost = 0
    for _ in range(KILLS):
        before = count(killed)["begun"]
        process = start(killed, fixtures)
        target = before + rng.randint(0, 2 * (distinct - before) // (KILLS + 2))
        if rng.random() < 0.2:  # while it is starting
            time.sleep(rng.uniform(0, 3))
        else:
            while count(killed)["begun"] <= target and process.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:
            break  # it was done before the signal
        now = count(killed)["answered"] - stored(killed) if (killed / "store" / database.FILE).exists() else 0
        assert now - lost <= 2 * BATCH, "of what was answered at most one batch is lost"
        lost = now
    finish(start(killed, fixtures))
    total = count(killed)
    repeated = total["begun"] - distinct
    figures = f"{KILLS} kills: {distinct} requests, {repeated} begun twice, {lost} answered twice"
    print(figures)
    record_property("kills", figures)
    assert stored(killed) == distinct
    assert repeated <= KILLS * 2 * BATCH, "one batch of eight documents with two choices each"
    assert database.set_aside_files(killed / "store") == []

    assert report(killed) == report(alone)
    one, two = (pd.read_parquet(folder / "out" / "instances.parquet") for folder in (alone, killed))
    pd.testing.assert_frame_equal(one, two)
    again = tmp_path / "killed" / "log"
    again.unlink()
    finish(start(killed, fixtures))
    assert not again.exists() or again.read_text() == "", "the whole of it is stored now"
    assert report(killed) == report(alone)
