"""``report --compare``: kept comparisons and runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compatcheck.cli.app import run
from tests.factories import repository, right


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    repository(tmp_path, {"old": right(100), "a": right(97), "b": right(60)})
    for name in ("a", "b"):
        run(["diff", "old.jsonl", f"{name}.jsonl", "--fail-on", "nfr:20%", "--out", f"runs/{name}", "-q"])
    assert run(["run", "b.jsonl", "--out", "runs/c", "-q"]) == 0
    capsys.readouterr()
    return tmp_path


def test_a_table_with_bounds(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--compare", "runs/a", "runs/b", "runs/c"]) == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert title == "recorded/exact_match"
    assert " ".join(head.split()) == "kept in new verdict negative flip rate 95 % accuracy, new 95 % n"
    assert [row.split()[:3] for row in rows] == [
        ["runs/a", "a.jsonl", "pass"], ["runs/b", "b.jsonl", "fail"], ["runs/c", "b.jsonl", "none"],
    ]  # fmt: skip
    assert "40.0 %  30.9 – 49.8 %" in rows[1]
    assert rows[2].split()[3] == "–"  # a run has a score and nothing that flips


def test_json_and_other_settings(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["diff", "old.jsonl", "a.jsonl", "--limit", "50", "--out", "runs/d", "-q"])
    capsys.readouterr()
    assert run(["report", "--compare", "runs/a", "runs/d"]) == 0
    assert "! not all were made with the same settings" in capsys.readouterr().out
    assert run(["report", "--compare", "runs/a", "runs/d", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "compatcheck.history/1"
    assert [entry["metrics"]["nfr"]["count"] for entry in found["entries"]] == [3, 0]


def test_a_folder_of_several_checks(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--compare", "runs"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["runs/a", "runs/b"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs/a", "runs/b"], "2 folders; name one, or say --compare"),
        (["--compare", "nowhere"], "nowhere: does not exist"),
        (["--compare", "runs/a", "--format", "html"], "--format html: unknown format"),
        (["runs/a", "--junit-flips"], "--junit-flips is for --format junit"),
    ],
)
def test_what_does_not_fit(kept: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert run(["report", *words]) == 2
    assert said in capsys.readouterr().err
