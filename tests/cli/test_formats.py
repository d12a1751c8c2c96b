"""The formats for CI as a user asks for them: printed, kept in a folder, several in one run."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from compatcheck.cli.app import run

HOSTILE = "::error::boom\n::add-mask::secret\n##[error]x %0A"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """29 negative flips of 1,000, on recorded outputs with hostile text; a shell without GitHub's variables."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for side, flips in (("old", 0), ("new", 29)):
        rows = [
            {"id": i, "input": HOSTILE, "target": "a", "prediction": HOSTILE if i < flips else "a"} for i in range(1000)
        ]
        (tmp_path / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["diff", "old.jsonl", "new.jsonl", "--fail-on", "nfr:2%"]


def test_a_single_format_goes_to_standard_output(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*pair, "--format", "junit"]) == 1
    assert ElementTree.fromstring(capsys.readouterr().out).get("failures") == "1"
    assert run([*pair, "--format", "junit", "--junit-flips"]) == 1
    assert ElementTree.fromstring(capsys.readouterr().out).get("failures") == "30"
    assert run([*pair, "--format", "sarif"]) == 1
    assert json.loads(capsys.readouterr().out)["version"] == "2.1.0"
    assert not Path("compat-report").exists()


def test_several_formats_go_into_a_folder(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    formats = ["junit", "sarif", "github", "html", "markdown", "json"]
    assert run([*pair, *(part for name in formats for part in ("--format", name)), "--out", "out"]) == 1
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "compatcheck.sarif", "github.md", "instances.parquet", "junit.xml", "report.html", "report.json", "report.md"
    ]  # fmt: skip
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 11
    assert all(re.match("::(error|warning) title=[^:]*::", line) for line in lines)
    assert "kept in out: report.json, instances.parquet, junit.xml" in captured.err


@pytest.mark.parametrize("formats", [["terminal", "json"], ["junit", "sarif"], ["github", "junit"]])
def test_what_cannot_be_printed_together_is_kept(
    pair: list[str], formats: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*pair, *(part for name in formats for part in ("--format", name))]) == 1
    assert Path("compat-report/report.json").is_file()
    out = capsys.readouterr().out
    assert out.startswith({"terminal": "✗ FAIL", "junit": "", "github": "::error title="}[formats[0]])


def test_annotations_and_the_report_side_by_side(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*pair, "--format", "terminal", "--format", "github"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("✗ FAIL")
    assert "\n::error title=compatcheck%3A FAIL::" in out
    assert not Path("compat-report").exists()


def test_the_step_summary_is_written_where_there_is_one(
    pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    assert run([*pair, "-q"]) == 1
    assert not (tmp_path / "summary").exists()
    assert run([*pair, "--format", "github", "-q"]) == 1
    assert "## ❌ compatcheck: FAIL" in (tmp_path / "summary").read_text()
    (tmp_path / "summary").write_bytes(b"x" * 1024 * 1024)
    capsys.readouterr()
    assert run([*pair, "--format", "github"]) == 1
    assert "no room is left" in capsys.readouterr().err


def test_the_terminal_report_gives_a_runner_no_command(
    pair: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(pair)
    assert not capsys.readouterr().out.startswith("::")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    tokens = set()
    for _ in range(2):
        assert run(pair) == 1
        lines = capsys.readouterr().out.splitlines()
        token = re.fullmatch("::stop-commands::([0-9a-f]{32})", lines[0])
        assert token
        assert lines[-1] == f"::{token[1]}::"
        tokens.add(token[1])
    assert len(tokens) == 2


READERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "sarif": json.loads,
    "junit": ElementTree.canonicalize,
    "markdown": html.unescape,
}


@pytest.mark.parametrize("format", READERS)
def test_a_printed_format_gives_a_runner_no_command_and_says_the_same(
    pair: list[str], format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe to another program cannot be told from the runner's, so nothing may stand around the text."""
    assert run([*pair, "--format", format]) == 1
    plain = capsys.readouterr().out
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert run([*pair, "--format", format]) == 1
    printed = capsys.readouterr().out
    assert READERS[format](printed) == READERS[format](plain)
    assert not [line for line in printed.splitlines() if line.lstrip().startswith("::") or "##[" in line]


def test_an_error_message_gives_a_runner_no_command(
    pair: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("new.jsonl").write_text(
        '{"id": "##[error]x\\u001b[31m", "target": "a", "prediction": "a"}\n'
        '{"id": "##[error]x\\u001b[31m", "target": "a", "prediction": "b"}\n'
    )
    Path("compatcheck.toml").write_text(
        '[checks.one]\nold = "old.jsonl"\nnew = "new.jsonl"\n[checks.two]\nold = "old.jsonl"\nnew = "new.jsonl"\n'
    )
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for arguments in (pair, ["diff"]):
        assert run(arguments) == 2
        error = capsys.readouterr().err
        assert "#\\x23[error]x\\x1b[31m" in error
        assert "##[" not in error
        assert "\x1b" not in error
