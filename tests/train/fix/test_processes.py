"""A fix over two processes (gloo): both train, the first one evaluates, writes and reports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from compatcheck_train.weights import read_lora


def launch(fixtures: Path, folder: Path, processes: int, *further: str) -> list[tuple[int, str, str]]:
    """``compatcheck fix`` as torchrun starts it; (exit code, stdout, stderr) of every process."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        sys.executable, "-c", "from compatcheck.cli import main; main()", "fix",
        *(str(fixtures / "adapters" / f"piqa-{version}") for version in ("v1", "v2")),
        "--task", "piqa", "--data", str(fixtures / "data"), "--out", "out", "--preset", "quick", "--train-limit", "150",
        "--limit", "40", "--candidate", "choice-ensemble", "--candidate", "muscle", "--set", "epochs=1",
        "--set", f"gradient_accumulation={2 // processes}", "--set", "cache_folder=teachers", "--engine", "hf",
        "--device", "cpu", "--store", "store", "--force", "--trial-share", "0.34", "--finalists", "1", *further,
    ]  # fmt: skip
    running = []
    for rank in range(processes):
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "COMPATCHECK_CACHE": str(folder / "user")}
        if processes > 1:
            variables |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
        running.append(
            subprocess.Popen(
                arguments, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    told = [process.communicate(timeout=500) for process in running]
    return [(process.returncode, *texts) for process, texts in zip(running, told, strict=True)]


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "fix_report.json").read_text())
    return found


@pytest.mark.slow
def test_two_processes_give_what_one_gives(fixtures: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    ((code, _, said),) = launch(fixtures, one, 1)
    assert code in (0, 1, 3) and (one / "out" / "fix_report.json").is_file(), said[-3000:]
    (first, second) = launch(fixtures, two, 2)
    assert first[0] in (0, 1, 3), first[2][-3000:]
    assert second[0] == 0, second[2][-3000:]
    assert "PROVEN" in first[1] or "INCONCLUSIVE" in first[1] or "NOT BETTER" in first[1]
    assert second[1] == "", "the first one speaks for both"
    assert "trial 1 of 2" in first[2] and "trial" not in second[2]
    alone, both = report(one), report(two)
    for training in ("training", "control"):
        curves = [[h["validation_loss"] for h in each[training]["history"]] for each in (alone, both)]
        assert curves[0] == pytest.approx(curves[1], rel=1e-4, abs=1e-5)
    trials = [sorted((t["name"], t["steps"]) for t in each["trials"]) for each in (alone, both)]
    assert trials[0] == trials[1] == [("choice-ensemble", 3), ("muscle", 3)]
    assert [each["training"]["steps"] for each in (alone, both)] == [8, 8]
    assert both["documents"] == alone["documents"]
    compat, others = (read_lora(folder / "out" / "work" / "compat" / "adapter") for folder in (one, two))
    for module, (a, b) in compat.pairs.items():
        torch.testing.assert_close(others.pairs[module], (a, b), atol=1e-3, rtol=1e-3)
    again = launch(fixtures, two, 2)
    assert [code for code, _, _ in again] == [first[0], 0], again[0][2][-3000:]
    assert report(two)["proof"] == both["proof"]


@pytest.mark.slow
def test_a_refusal_ends_all_of_them(fixtures: Path, tmp_path: Path) -> None:
    """The first process alone looks at the folder; the other is told."""
    mine = tmp_path / "two" / "out" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    found = launch(fixtures, tmp_path / "two", 2)
    assert [code for code, _, _ in found] == [2, 2], found
    assert all("holds something that is no fix; choose another folder" in errors for _, _, errors in found)
    assert [path.name for path in mine.parent.iterdir()] == ["thesis.txt"]
