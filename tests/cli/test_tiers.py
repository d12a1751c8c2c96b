"""Advisory budgets and required tasks, on the command line, in the settings file and in reports."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from tests.factories import repository, right


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    repository(tmp_path, {"old": right(200, 200), "new": right(180, 200)})
    return ["old.jsonl", "new.jsonl"]


def test_an_advisory_budget_that_breaks_leaves_the_exit_code(
    sides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diff", *sides, "--fail-on", "nfr:20%", "--advisory", "nfr:2%"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "✗ FAIL nfr:2% (advisory)" in shown
    assert "✓ PASS nfr:20%" in shown
    assert run(["diff", *sides, "--advisory", "nfr:2%"]) == 0
    assert "✗ FAIL nfr:2% (advisory)" in " ".join(capsys.readouterr().out.split())
    assert run(["diff", *sides, "--fail-on", "nfr:2%"]) == 1


def test_every_report_says_which_budget_is_advisory(sides: list[str]) -> None:
    result = compatcheck.diff(*sides, fail_on="nfr:20%", advisory=["nfr:2%"])
    result.save("out", ["markdown", "html", "junit", "sarif", "github"])
    gates = json.loads(Path("out/report.json").read_text())["comparisons"][0]["gates"]
    assert [(gate["rule"], gate["tier"], gate["verdict"]) for gate in gates] == [
        ("nfr:20%", "critical", "pass"),
        ("nfr:2%", "advisory", "fail"),
    ]
    for name in ("report.md", "report.html", "junit.xml"):
        (page,) = Path("out").rglob(name)
        text = html.unescape(page.read_text(encoding="utf-8")).replace("\\", "")
        assert "nfr:2% (advisory)" in text, name
        assert "<failure" not in text
    assert "gate-failed" not in {
        found["ruleId"] for found in json.loads(next(Path("out").rglob("*.sarif")).read_text())["runs"][0]["results"]
    }
    assert compatcheck.load("out").only.gates == result.only.gates


def test_a_required_task_that_is_missing_is_one_line_and_exit_code_two(
    sides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["diff", *sides, "--fail-on", "nfr:20%", "--required"]
    assert run([*arguments, "recorded"]) == 0
    capsys.readouterr()
    assert run([*arguments, "gsm8k", "--out", "out"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].endswith(
        "--required gsm8k: the task was not compared: no instance of it is scored on both sides; compared are recorded"
    )
    assert not Path("out/report.json").exists()
    with pytest.raises(InputError, match="--required gsm8k"):
        compatcheck.diff(*sides, required="gsm8k")


def test_the_settings_file_has_both(sides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("compatcheck.toml").write_text(
        'fail_on = ["nfr:20%"]\nadvisory = ["nfr:2%"]\nrequired = ["gsm8k"]\n[checks.a]\nold = "old.jsonl"\n'
        'new = "new.jsonl"\n'
    )
    assert run(["diff"]) == 2
    assert "--required gsm8k" in capsys.readouterr().err
    assert run(["diff", "--required", "recorded", "-q"]) == 0
