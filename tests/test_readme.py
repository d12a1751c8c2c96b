"""What the README shows is what a user sees."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from compatcheck.cli.app import run
from tests.docs.pages import check_command, indented_commands

README = Path(__file__).parent.parent / "README.md"


def test_the_terminal_output_shown_is_what_the_demo_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded answers give the same report as the models; only the two lines naming the sides differ."""
    monkeypatch.setenv("COLUMNS", "80")
    run(["demo", "--recorded", "--out", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    text = README.read_text(encoding="utf-8")
    shown = text[text.index("The first part of `compatcheck demo`:") : text.index("The HTML report is one file")]
    lines = [line.removeprefix("    ") for line in shown.rstrip().splitlines()[2:]]

    def common(lines: list[str]) -> list[str]:
        """Without what differs: the sides, what is known of them, the CPU's note, and the order of the tasks."""
        sides = next(n for n, line in enumerate(lines) if line.startswith("old    "))
        after = next(n for n, line in enumerate(lines) if line.startswith("rows "))
        step = next(n for n, line in enumerate(lines) if line.startswith("next "))
        broke = next(n for n, line in enumerate(lines) if line.startswith("What broke"))
        rest = [*lines[:sides], *lines[after:step], *lines[broke:]]
        return [line.rstrip() for line in rest if not line.startswith("samsum/rouge1 ")]

    assert len(lines) > 60
    assert common(lines) == common(printed)[: len(common(lines))]
    (samsum,) = (line for line in lines if line.startswith("samsum/rouge1 "))
    assert samsum in [line.rstrip() for line in printed]
    assert sum(line.startswith(("old    fixtures/adapters/", "new    fixtures/adapters/")) for line in lines) == 2


def test_from_nothing_to_a_verdict_on_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands; the last one is run on rows as they are shown."""
    text = README.read_text(encoding="utf-8")
    part = text[text.index("**On your own outputs**") : text.index("![The HTML report]")]
    commands = [each.strip() for line in re.findall(r"^    (.*)$", part, re.M) for each in line.split("&&")]
    install, compared = map(shlex.split, commands)
    check_command(install)
    (row,) = re.findall(r"`(\{.*?\})`", part)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    for name in ("old", "new"):
        rows = [json.dumps(json.loads(row) | {"id": number, "side": name}) for number in range(200)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    assert run(compared[1:]) == 0
    assert (tmp_path / "report" / "report.html").is_file()


def test_every_command_shown_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each documented option exists: a command may only fail because its files are not here."""
    monkeypatch.chdir(tmp_path)
    commands = [words for words in indented_commands(README.read_text(encoding="utf-8")) if words[1] == "diff"]
    assert len(commands) >= 18
    for words in commands:
        assert run(words[1:]) == 2
        error = capsys.readouterr().err
        assert not re.search(r"No such option|Missing|unknown|expected one argument", error), f"{words}\n{error}"
