"""Damaged model folders: no traceback, never exit code 1, one line that names the file, no wrong answer.

A hundred of them run with the other tests, ``make fuzz`` runs a thousand.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.folders import attempt, build, complaint, difference

COUNT = max(100, int(os.environ.get("COMPATCHECK_FUZZ", "100")) // 20)
AT_ONCE = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("first", range(0, COUNT, AT_ONCE))
def test_damage(first: int, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (whole / "data" / "tinychoice" / "test.jsonl").read_text().splitlines()
    ]
    wrong = []
    for number in range(first, min(first + AT_ONCE, COUNT)):
        outcome = attempt(number, whole, tmp_path / "folder", capfd)
        found = complaint(outcome)
        if not found and outcome.code == 0:
            found = difference(outcome, tmp_path / "folder", rows)
        if found:
            wrong.append(f"{found}: {outcome}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_what_is_whole_goes_through(whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Else every refusal above would be right."""
    import shutil

    from compatcheck.cli.app import run

    for name in ("base", "adapter"):
        for chat in ([], ["--apply-chat-template"]):
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            tasks = [word for task in ("tinychoice", "tinygen") for word in ("--task", str(whole / f"{task}.yaml"))]
            given = ["run", str(whole / name), *tasks, "--data", str(whole / "data"), "--engine", "hf", "--no-store"]
            assert run([*given, "--quiet", "--out", str(tmp_path / "out"), *chat]) == 0, capfd.readouterr().err
