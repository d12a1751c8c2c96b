"""kill -9 between two looks: the same documents are drawn again, and the verdict is that of a run left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

COMMAND = "from compatcheck.cli import main; main()"


def start(folder: Path, fixtures: Path) -> subprocess.Popen[str]:
    arguments = [
        "diff", f"{fixtures}/adapters/piqa-v1", f"{fixtures}/adapters/piqa-v2", "--task", "piqa", "--metric", "acc",
        "--data", str(fixtures / "data"), "--fail-on", "nfr:10%", "--until-decided", "--step", "4", "--max", "120",
        "--engine", "hf", "--device", "cpu", "--store", "store", "--out", "out",
    ]  # fmt: skip
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def report(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    found: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    return found, pd.read_parquet(folder / "out" / "instances.parquet")


def test_killed_between_two_looks(tmp_path: Path, fixtures: Path) -> None:
    left_alone, killed = tmp_path / "alone", tmp_path / "killed"
    code, said = finish(start(left_alone, fixtures))
    assert code in (0, 1, 3), said
    process = start(killed, fixtures)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("16 of"):
            process.send_signal(signal.SIGKILL)
            break
    assert finish(process)[0] == -signal.SIGKILL
    assert not (killed / "out" / "report.json").exists()
    assert finish(start(killed, fixtures))[0] == code
    (mine, rows), (theirs, others) = report(killed), report(left_alone)
    (one,), (other,) = mine["comparisons"], theirs["comparisons"]
    assert mine["verdict"] == theirs["verdict"]
    for name in ("sequential", "quadrants", "metrics", "gates", "n"):
        assert one[name] == other[name], name
    pd.testing.assert_frame_equal(rows, others)
    assert mine["old"]["settings"]["from_store"] > 0, "what was answered before the kill was not asked again"
