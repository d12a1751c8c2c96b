"""``compatcheck plan``: the published figures, in 80 columns and as JSON."""

from __future__ import annotations

import json

import pytest

from compatcheck.cli.app import run


def test_text_holds_the_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--nfr", "2%", "--flip-rate", "10%"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {
        line.split()[0]: line.split()[1:3] for line in lines if line.strip() and line.split()[0].strip(",")[0].isdigit()
    }
    assert rows["100"] == ["never", "6"]
    assert rows["500"] == ["4", "16"]
    assert rows["1,000"] == ["12", "29"]
    assert any("1,544 instances" in line for line in lines)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--nfr", "3%", "--expected", "5%", "--n", "400", "--format", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["budget"] == 0.03
    assert plan["table"][0]["decision"] == {"n": 400, "passes_to": 6, "fails_from": 19}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nfr", "3"], "write 3%"),
        (["--nfr", "much"], "must be a share such as 2%"),
        (["--expected", "20%"], "exceeds --flip-rate"),
        (["--power", "10%"], "--power 0.1"),
        (["--format", "html"], "known: terminal, json"),
    ],
)
def test_what_cannot_be_meant(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_sequential(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "--sequential", "--nfr", "5%", "--rate", "0.5%", "--rate", "20%", "--max", "1000", "--step", "10"]
    assert run(asked) == 0
    shown = capsys.readouterr().out
    assert "judged every 10 documents until decided, at most 1,000" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert run([*asked, "--format", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["schema"] == "compatcheck.plan/1"
    assert [row["rate"] for row in plan["table"]] == [0.005, 0.2]
    assert plan["table"][0]["passes"] > 0.95
    assert plan["table"][1]["fails"] > 0.95
