"""Instances that are added until a verdict decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compatcheck.cli.app import run
from tests.factories import repository, right


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    repository(tmp_path, {"old": right(1000, 1000), "new": ("a" if i % 67 else "b" for i in range(1000))})
    return str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl")


def notes(pair: tuple[str, str], out: Path, *more: str) -> list[str]:
    run(["diff", *pair, "--fail-on", "nfr:2%", "--out", str(out), "-q", *more])
    found = json.loads((out / "report.json").read_text())["notes"]
    return [note for note in found if "were open after" in note]


def test_adding_instances_is_said_and_stays_said(pair: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "kept"
    assert notes(pair, out, "--limit", "200") == []
    assert notes(pair, out, "--limit", "200") == [], "the same instances again add nothing"
    (said,) = notes(pair, out, "--limit", "500")
    assert "open after 200 instances" in said
    assert "judged again after 500" in said
    assert "--until-decided" in said
    (again,) = notes(pair, out, "--limit", "500")
    assert again == said
    (more,) = notes(pair, out)
    assert "open after 200, 500 instances" in more
    assert json.loads((out / "report.json").read_text())["earlier_looks"] == [200, 500]


def test_what_adds_nothing_is_not_said(pair: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "kept"
    notes(pair, out, "--limit", "200")
    assert notes(pair, tmp_path / "other") == [], "nothing is kept there"
    assert notes(pair, out, "--until-decided") == [], "it holds at every look"
    notes(pair, out, "--limit", "200")
    assert notes(pair, out, "--fail-on", "net:-3%") == [], "other budgets"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "report.json").write_text('{"verdict": "inconclusive"}')
    assert notes(pair, tmp_path / "broken", "--overwrite") == []


def test_a_decided_verdict_was_no_reason_to_add(pair: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "kept"
    run(["diff", *pair, "--fail-on", "nfr:20%", "--limit", "200", "--out", str(out), "-q"])
    assert run(["diff", *pair, "--fail-on", "nfr:20%", "--out", str(out), "-q"]) == 0
    assert json.loads((out / "report.json").read_text())["earlier_looks"] == []
