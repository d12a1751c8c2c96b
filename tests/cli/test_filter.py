"""``--filter``: one filter of a task's answers, of recorded rows, kept runs, streams and documents that are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from tests.factories import write_rows


@pytest.fixture
def sides(tmp_path: Path) -> list[str]:
    for name, right in {"old": 90, "new": 60}.items():
        rows = [
            {"id": i, "filter": which, "target": "a", "prediction": "a" if i < right + extra else "b"}
            for which, extra in (("strict-match", 0), ("flexible-extract", 5))
            for i in range(100)
        ]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    return [str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl")]


@pytest.mark.parametrize("further", [{}, {"stream": True}, {"until_decided": True, "fail_on": "nfr:2%"}])
def test_one_filter_of_recorded_rows(sides: list[str], further: dict[str, object]) -> None:
    assert len(compatcheck.diff(*sides, **further).comparisons) == 2
    only = compatcheck.diff(*sides, filter="strict-match", **further).only
    assert only.filter == "strict-match"
    if not further:
        assert only.quadrants["negative_flip"] == 30


def test_one_filter_of_a_kept_run(sides: list[str], tmp_path: Path) -> None:
    compatcheck.evaluate(sides[0]).save(tmp_path / "kept")
    assert compatcheck.diff(tmp_path / "kept", sides[1], filter="flexible-extract").only.n == 100
    kept = compatcheck.evaluate(tmp_path / "kept", filter="flexible-extract")
    assert [one.filter for one in kept.tasks] == ["flexible-extract"]


def test_a_filter_that_is_not_there(sides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", *sides, "--filter", "strict-mach"]) == 2
    said = capsys.readouterr().err
    assert "strict-mach" in said and "did you mean 'strict-match'" in said
    compatcheck.evaluate(sides[0]).save(tmp_path / "kept")
    with pytest.raises(InputError, match=r"--filter x: recorded has no answers of it; it has "):
        compatcheck.diff(tmp_path / "kept", sides[1], filter="x")
