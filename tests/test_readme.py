"""What the README shows is what a user sees."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from compatcheck.cli.app import run

README = Path(__file__).parent.parent / "README.md"


def test_the_terminal_output_shown_is_what_the_demo_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded answers give the same report as the models; only the two lines naming the sides differ."""
    monkeypatch.setenv("COLUMNS", "80")
    run(["demo", "--recorded", "--out", str(tmp_path)])
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    text = README.read_text(encoding="utf-8")
    shown = text[text.index("The first part of `compatcheck demo`:") : text.index("The HTML report is one file")]
    lines = [line.removeprefix("    ").rstrip() for line in shown.splitlines()[2:]]
    own = {line for line in lines if line.startswith(("old fixtures/", "new fixtures/", "    sha256", "! On the CPU"))}
    for line in lines:
        assert line in printed or line in own, line
    assert len(own) <= 4


def test_every_command_shown_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """Each documented option exists: a command may only fail because its files are not here."""
    text = README.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("    compatcheck diff ")]
    assert len(commands) >= 8
    for command in commands:
        assert run(shlex.split(command)[1:]) == 2
        error = capsys.readouterr().err
        assert not re.search(r"No such option|Missing|unknown|expected one argument", error), f"{command}\n{error}"
