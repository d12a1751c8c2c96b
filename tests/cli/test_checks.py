"""``compatcheck diff`` with a settings file: checks, precedence, one verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compatcheck.cli.app import run
from tests.factories import repository


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return repository(tmp_path, {"good": "aaaa", "bad": "abbb"})


def settings(project: Path, text: str) -> None:
    (project / "compatcheck.toml").write_text(text)


TWO = """
quiet = true
[checks.worse]
old = "good.jsonl"
new = "bad.jsonl"
fail_on = ["nfr:2%"]
[checks.better]
old = "bad.jsonl"
new = "good.jsonl"
"""


def test_all_checks_one_verdict(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings(project, TWO)
    assert run(["diff"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("worse: ✗ FAIL")
    assert lines[1].startswith("better: · NO BUDGET")
    assert lines[2] == "2 checks: 1 failed (worse), 1 without a budget (better)"


def test_the_count_of_checks_is_by_their_verdicts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--exit-zero`` changes the exit code; what failed has not passed."""
    settings(project, TWO + 'fail_on = ["nfr:90%"]\n')
    assert run(["diff", "--exit-zero"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 checks: 1 failed (worse), 1 passed"


def test_one_check_by_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings(project, TWO)
    assert run(["diff", "--check", "better"]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_a_check_that_cannot_be_run_does_not_stop_the_others(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings(project, TWO + '[checks.gone]\nold = "gone.jsonl"\nnew = "good.jsonl"\n')
    assert run(["diff"]) == 2
    said = capsys.readouterr()
    counts = "1 could not be run (gone), 1 failed (worse), 1 without a budget (better)"
    assert said.out.splitlines()[-1] == f"3 checks: {counts}"
    assert "error: check gone: gone.jsonl" in said.err


def test_files_of_each_check_have_a_folder_of_their_own(project: Path) -> None:
    settings(project, 'out = "reports"\nformat = ["json", "markdown"]\n' + TWO)
    assert run(["diff"]) == 1
    assert sorted(path.name for path in (project / "reports").iterdir()) == ["better", "worse"]
    assert json.loads((project / "reports/worse/report.json").read_text())["verdict"] == "fail"
    assert (project / "reports/better/report.md").is_file()


def test_command_line_over_environment_over_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(project, 'limit = 2\nout = "kept"\nquiet = true\n')

    def n() -> int:
        assert run(["diff", "good.jsonl", "bad.jsonl"]) == 0
        return int(json.loads((project / "kept/report.json").read_text())["comparisons"][0]["n"])

    assert n() == 2
    monkeypatch.setenv("COMPATCHECK_LIMIT", "3")
    assert n() == 3
    assert run(["diff", "good.jsonl", "bad.jsonl", "--limit", "1"]) == 0
    assert json.loads((project / "kept/report.json").read_text())["comparisons"][0]["n"] == 1
    assert run(["diff", "good.jsonl", "bad.jsonl", "--fail-on", "nfr:90%", "--exit-zero"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["diff", "good.jsonl"], "NEW is missing"),
        (["diff"], "names checks"),
        (["diff", "good.jsonl", "bad.jsonl", "--check", "x"], "leave out OLD and NEW"),
        (["diff", "--config", "none.toml"], "none.toml: no such file"),
    ],
)
def test_what_cannot_be_run(project: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert says in capsys.readouterr().err


def test_unknown_check_is_said_with_a_suggestion(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings(project, TWO)
    assert run(["diff", "--check", "worst"]) == 2
    assert "no such check" in (said := capsys.readouterr().err)
    assert "did you mean 'worse'" in said


def test_control_characters_are_shown_and_not_sent_to_the_terminal(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;x\x07\x1b[2J"
    (project / f"good{evil}.jsonl").write_text((project / "good.jsonl").read_text())
    escaped = json.dumps(evil)[1:-1]
    check = f'old = "good{escaped}.jsonl"\nnew = "bad.jsonl"\nfail_on = ["nfr:2%"]\n'
    settings(project, f'[checks."one{escaped}"]\n{check}[checks."two{escaped}"]\n{check}')
    assert run(["diff"]) == 1
    assert run(["export", f"good{evil}.jsonl", "--to", "csv", "--out", f"a{evil}.csv"]) == 0
    assert run(["bless", f"good{evil}.jsonl"]) == 0
    assert run(["bless", "--history"]) == 0
    said = capsys.readouterr()
    assert "\\x1b]0;x\\x07\\x1b[2J" in said.out
    assert not set(said.out + said.err) & set("\x1b\x07")
