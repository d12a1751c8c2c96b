"""``compatcheck train-task`` on a real base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compatcheck.cli.app import run
from tests.engines.adapters import save_task
from tests.factories import write_rows

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


def test_a_task_with_code_of_its_own(fixtures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is trained on where it is trusted, as in every other command."""
    task, rows = save_task(tmp_path / "task")
    config = task.read_text().replace('"Question: {{question}} Answer:"', "!function own.text")
    task.write_text(config.replace("test_split: test", "training_split: train\ntest_split: test"))
    (task.parent / "own.py").write_text("def text(doc):\n    return doc['question']\n")
    folder = tmp_path / "data" / "choice"
    write_rows(folder / "train.jsonl", [json.loads(line) for line in rows.read_text().splitlines()])
    write_rows(folder / "test.jsonl", [{"question": "another", "choices": ["a", "b"], "label": 0}])
    arguments = ["train-task", str(fixtures / "models" / "base-v1"), "--task", str(task), "--data", str(folder.parent)]
    arguments += ["--preset", "quick", "--set", "max_steps=1", "-q", "--out", str(tmp_path / "out")]
    assert run(arguments) == 2
    assert "--trust-task" in capsys.readouterr().err
    assert run([*arguments, "--trust-task"]) == 0
