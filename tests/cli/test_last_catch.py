"""Whatever is raised anywhere leaves with exit code 2 and one line: 1 says that a regression is shown."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from compatcheck.cli import main
from compatcheck.cli.app import app, run
from tests.factories import repository, right

COMMANDS = [
    ([*prefix, str(command.name)], command)
    for prefix, each in [
        ([], app),
        *(([str(group.typer_instance.info.name)], group.typer_instance) for group in app.registered_groups),
    ]
    for command in each.registered_commands
]


class Panic(BaseException):
    """As libraries written in Rust raise it: no Exception."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return repository(tmp_path, {"good": right(100), "bad": right(60)})


def raising(error: BaseException) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


ERRORS = [
    RuntimeError("several\nlines\x1b[31m\nof text"), KeyError("a"), AssertionError(), RecursionError("too deep"),
    MemoryError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), Panic("index out of bounds"), SystemExit(1),
    SystemExit("a text"), StopIteration(), BrokenPipeError(32, "Broken pipe"), ChildProcessError(10, "No child"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_any_exception_is_one_line_and_2(
    project: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compatcheck.api.diff", raising(error))
    assert run(["diff", "good.jsonl", "bad.jsonl"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"internal error: {type(error).__name__}")
    assert line.endswith("; run again with COMPATCHECK_DEBUG=1 for the traceback, and report it")
    assert "compatcheck/" in line
    assert "\x1b" not in line


def test_the_traceback_on_demand(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compatcheck.api.diff", raising(RuntimeError("why")))
    monkeypatch.setenv("COMPATCHECK_DEBUG", "1")
    assert run(["diff", "good.jsonl", "bad.jsonl"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last)")
    assert said.splitlines()[-1].startswith("internal error: RuntimeError: why (compatcheck/")


@pytest.mark.parametrize(
    ("words", "command"), COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_every_command_has_it(
    words: list[str], command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("nothing")

    monkeypatch.setattr(command, "callback", fail)
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("internal error: ZeroDivisionError: nothing")


def test_a_full_disk_is_no_internal_error(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compatcheck.api.diff", raising(OSError(28, "No space left on device", "out/report.json")))
    assert run(["diff", "good.jsonl", "bad.jsonl"]) == 2
    assert capsys.readouterr().err == "error: out/report.json: No space left on device\n"


def test_a_file_that_was_taken_away_while_it_was_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compatcheck.api.diff", raising(FileNotFoundError(2, "No such file or directory", "w.gguf")))
    assert run(["diff", "a.jsonl", "b.jsonl"]) == 2
    assert capsys.readouterr().err == "error: w.gguf: No such file or directory\n"


def test_interrupted_stays_130(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compatcheck.api.diff", raising(KeyboardInterrupt()))
    assert run(["diff", "good.jsonl", "bad.jsonl"]) == 130


def test_one_check_that_breaks_leaves_the_others_running(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from compatcheck import api

    (project / "compatcheck.toml").write_text(
        '[checks.a]\nold = "bad.jsonl"\nnew = "good.jsonl"\n[checks.b]\nold = "good.jsonl"\nnew = "bad.jsonl"\n'
    )
    own = api.diff
    monkeypatch.setattr(api, "diff", lambda old, new, **given: own(old, new, **given) if new == "good.jsonl" else 1 / 0)
    assert run(["diff"]) == 2
    said = capsys.readouterr()
    assert "internal error: ZeroDivisionError" not in said.out
    assert "check b: internal error: ZeroDivisionError: division by zero" in said.err
    assert "1 could not be run (b)" in said.out


def shell(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path, **variables},
    )  # fmt: skip


CASES: Sequence[tuple[str, int, str]] = [
    ("python -m compatcheck diff good.jsonl bad.jsonl --fail-on nfr:2%", 1, ""),
    ("python -m compatcheck diff good.jsonl", 2, "error: NEW is missing: compatcheck diff OLD NEW\n"),
    ("compatcheck diff good.jsonl bad.jsonl --fail-on nfr:2% > /dev/full", 2, "error: [Errno 28] No space left on dev"),
    ("compatcheck diff good.jsonl bad.jsonl --fail-on nfr:2% | true; exit ${PIPESTATUS[0]}", 1, ""),
    ("compatcheck tasks | true; exit ${PIPESTATUS[0]}", 0, ""),
    ("compatcheck diff --help | true; exit ${PIPESTATUS[0]}", 0, ""),
    (
        "python -c 'import sys; sys.modules[\"typer\"] = None; from compatcheck.cli import main; main([\"tasks\"])'",
        2, "internal error: ModuleNotFoundError: import of typer halted",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("command", "code", "said"), CASES)
def test_in_a_shell(project: Path, command: str, code: int, said: str) -> None:
    done = shell(command, project)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
