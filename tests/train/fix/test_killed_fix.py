"""``compatcheck fix`` killed outright at random moments: the adapter and the figures are those of a fix left alone.

Four kills by default; ``COMPATCHECK_KILLS=20`` for more.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("COMPATCHECK_KILLS", "4"))
VERDICTS = (0, 1, 3)


class Fix:
    """``compatcheck fix`` in a folder of its own: trials, training, blend, control and proof, a checkpoint a step."""

    def __init__(self, folder: Path, fixtures: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.arguments = [
            sys.executable, "-c", "from compatcheck.cli import main; main()", "fix",
            *(str(fixtures / "adapters" / f"piqa-{version}") for version in ("v1", "v2")),
            "--task", "piqa", "--data", str(fixtures / "data"), "--out", "out", "--preset", "quick",
            "--train-limit", "200", "--limit", "40", "--candidate", "choice-ensemble", "--candidate", "muscle",
            "--set", "max_steps=6", "--set", "save_steps=1", "--set", "cache_folder=teachers", "--teacher", "cache",
            "--engine", "hf", "--device", "cpu", "--store", "store", "--force", "--trial-share", "0.34",
        ]  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "COMPATCHECK_CACHE": str(self.folder / "user")}
        with (self.folder / "said").open("wb") as said:
            return subprocess.Popen(
                self.arguments, cwd=self.folder, env=variables, stdout=subprocess.DEVNULL, stderr=said,
                start_new_session=True,
            )  # fmt: skip

    def to_the_end(self) -> float:
        """Runs it, and returns for how many seconds it said something."""
        process = self.start()
        self.wait_for_a_word(process)
        started = time.monotonic()
        assert process.wait(500) in VERDICTS and (self.folder / "out" / "fix_report.json").is_file(), self.said[-2000:]
        return time.monotonic() - started

    def wait_for_a_word(self, process: subprocess.Popen[bytes]) -> None:
        while not self.said and process.poll() is None:
            time.sleep(0.01)

    @property
    def said(self) -> str:
        path = self.folder / "said"
        return path.read_text() if path.is_file() else ""

    @property
    def stage(self) -> str:
        """What it was doing: the last line, in short, and whether it was already in the proof."""
        lines = self.said.splitlines()
        proof = any(line.startswith("training the control") for line in lines)
        return ("after the control began: " if proof else "") + (lines[-1][:32] if lines else "starting")

    @property
    def adapter(self) -> str:
        return hashlib.sha256((self.folder / "out" / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()

    @property
    def report(self) -> dict[str, Any]:
        """Without times, and without the notes, which say where a training went on."""
        found: dict[str, Any] = json.loads((self.folder / "out" / "fix_report.json").read_text())
        for part in (found, found["training"], found["control"], *found["trials"]):
            part.pop("seconds")
            part.pop("notes", None)
        found.pop("estimated_seconds")
        return found


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_again_and_again_it_ends_with_the_same_adapter(
    fixtures: Path, tmp_path: Path, record_property: Any
) -> None:
    whole = Fix(tmp_path / "whole", fixtures)
    lasts = whole.to_the_end()
    rng = random.Random(time.time_ns())
    killed = [Fix(tmp_path / "killed-0", fixtures)]
    kills: list[str] = []
    while len(kills) < KILLS:
        process = killed[-1].start()
        if rng.random() > 0.1:
            killed[-1].wait_for_a_word(process)
        try:
            process.wait(rng.uniform(0, 1) * lasts)
        except subprocess.TimeoutExpired:
            kill(process)
            kills.append(killed[-1].stage)
            continue
        assert process.returncode in VERDICTS, killed[-1].said[-2000:]
        killed.append(Fix(tmp_path / f"killed-{len(killed)}", fixtures))  # it was done before the kill: another one
    killed[-1].to_the_end()
    figures = f"{len(kills)} kills of {len(killed)} fixes of {lasts:.0f} s, at: {'; '.join(kills)}"
    print(figures)
    record_property("kills", figures)
    for each in killed:
        assert each.adapter == whole.adapter
        assert each.report == whole.report
        leftovers = [path for path in (each.folder / "out").rglob("*") if path.name.startswith(".")]
        assert leftovers == []
