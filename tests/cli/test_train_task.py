"""``compatcheck train-task`` on a real base."""

from __future__ import annotations

from pathlib import Path

import pytest

from compatcheck.cli.app import run

pytestmark = pytest.mark.slow


def test_a_task_adapter_from_the_command_line(
    fixtures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(fixtures / "models" / "base-v1")
    given = ["--task", "piqa", "--data", str(fixtures / "data"), "--preset", "quick", "--train-limit", "10", "-q"]
    arguments = ["train-task", base, *given, "--set", "max_steps=1", "--out", str(tmp_path / "task")]
    assert run(arguments) == 0
    assert capsys.readouterr().out == f"task adapter: {tmp_path / 'task' / 'adapter'}\n"
    assert (tmp_path / "task" / "adapter" / "adapter_model.safetensors").is_file()
    assert run(["train-task", str(tmp_path / "task" / "adapter"), *given, "--out", str(tmp_path / "other")]) == 2
    assert "has an adapter already" in capsys.readouterr().err
    assert run([*arguments, "--set", "epoch=3"]) == 2
    assert "no such training setting" in capsys.readouterr().err
