"""What was blessed before, as a line of text and as a picture."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.compare.result import BlessedRun, BlessedScore, Result
from compatcheck.report import charts, render, trend
from compatcheck.results import Diff, load
from tests.factories import repository, right


@pytest.fixture
def blessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three blessed runs of 100 instances with 80, 40 (by force) and 90 right answers, and a candidate with 85."""
    monkeypatch.chdir(tmp_path)
    repository(tmp_path, {"first": right(80), "worse": right(40), "third": right(90), "candidate": right(85)})
    for name in ("first", "worse", "third"):
        assert run(["bless", f"{name}.jsonl", "--fail-on", "nfr:5%", "--force", "-q"]) == 0
    return tmp_path


def test_a_baseline_brings_its_history(blessed: Path) -> None:
    diff = compatcheck.diff("@main", "candidate.jsonl")
    assert [(run.name, run.reference, run.verdict, run.forced) for run in diff.history] == [
        ("@main~2", "first.jsonl", "none", False),
        ("@main~1", "worse.jsonl", "fail", True),
        ("@main", "third.jsonl", "pass", False),
    ]
    assert [(score.value, score.n, score.kind) for run in diff.history for score in run.scores] == [
        (0.8, 100, "discrete"),
        (0.4, 100, "discrete"),
        (0.9, 100, "discrete"),
    ]
    low, high = diff.history[0].scores[0].low, diff.history[0].scores[0].high
    assert low == pytest.approx(0.7112, abs=1e-4)  # Wilson, 80 of 100
    assert high == pytest.approx(0.8666, abs=1e-4)
    assert compatcheck.diff("third.jsonl", "candidate.jsonl").history == ()
    assert [run.name for run in compatcheck.diff("@main~1", "candidate.jsonl").history] == ["@main~2", "@main~1"]


def test_it_is_kept_with_the_comparison(blessed: Path) -> None:
    diff = compatcheck.diff("@main", "candidate.jsonl")
    diff.save("kept")
    assert json.loads(Path("kept/report.json").read_text())["history"][1]["forced"] is True
    again = load("kept")
    assert again.history == diff.history
    assert "◆ blessed by force" in Path("kept/report.html").read_text()


def test_text_formats_have_a_line(blessed: Path) -> None:
    diff = compatcheck.diff("@main", "candidate.jsonl")
    said = "@main~2 80.0 % → @main~1 40.0 % (forced) → @main 90.0 %; new 85.0 %"
    assert trend.line(diff, diff.only) == said
    shown = render(diff, "terminal", width=100)
    assert f"Blessed runs\nrecorded/exact_match  {said}\n" in shown
    assert "**Blessed runs**\n\n- <code>recorded/exact" in render(diff, "markdown").replace("&#95;", "_")


def test_new_is_drawn_only_where_old_is_what_was_blessed(blessed: Path) -> None:
    fewer = compatcheck.diff("@main", "candidate.jsonl", limit=50)
    assert trend.line(fewer, fewer.only) == "@main~2 80.0 % → @main~1 40.0 % (forced) → @main 90.0 %"
    assert trend.new_point(fewer.only, trend.points(fewer, fewer.only)) is None
    assert marks(charts.blessed(fewer, fewer.only)) == ["@main~2", "@main~1", "@main"]


def marks(picture: str) -> list[str]:
    """The names of the points of a picture, from left to right."""
    return [str(title.text).partition(":")[0] for title in ElementTree.fromstring(picture).iter("title")]


def test_the_picture_has_a_point_a_run_as_high_as_its_score(blessed: Path) -> None:
    diff = compatcheck.diff("@main", "candidate.jsonl")
    picture = charts.blessed(diff, diff.only)
    assert marks(picture) == ["@main~2", "@main~1", "@main", "new"]
    assert "@main~1: 40.0 % (30.9 – 49.8 %), forced" in picture
    paths = [str(path.get("d")) for path in ElementTree.fromstring(picture).iter("path")]
    runs = next(d for d in paths if d.count("L") == 2)  # the line through the blessed runs
    numbers = [float(n) for n in re.findall(r"[\d.]+", runs)]
    assert numbers[0::2] == [108, 248, 388]
    first, worse, third = numbers[1::2]
    assert (first - third) / (worse - third) == pytest.approx((90 - 80) / (90 - 40))
    trail = trend.points(diff, diff.only)
    assert [row[0] for row in trend.table(trail).rows] == ["@main", "@main~1", "@main~2"]


def test_one_blessed_run_is_no_trend(blessed: Path) -> None:
    diff = compatcheck.diff("@main~2", "candidate.jsonl")
    assert len(diff.history) == 1
    assert trend.points(diff, diff.only) == []
    assert charts.blessed(diff, diff.only) == ""
    assert trend.line(diff, diff.only) == ""
    assert "Blessed runs" not in render(diff, "html")


def many(result: Result, count: int, text: str = "model") -> Diff:
    comparison = result.comparisons[0]
    score = BlessedScore(comparison.task, comparison.filter, comparison.metric, 0.5, None, None, 10)
    runs = tuple(BlessedRun(f"@main~{count - k}", text, text, text, False, (score,)) for k in range(count))
    return Diff(**{each.name: getattr(result, each.name) for each in fields(Result)} | {"history": runs})


def test_long_histories_show_the_newest(failing: Result) -> None:
    diff = many(failing, 40)
    comparison = diff.comparisons[0]
    assert trend.line(diff, comparison).startswith("… 34 earlier → @main~6 50.0 % → ")
    picture = charts.blessed(diff, comparison)
    assert len(marks(picture)) == charts.DRAWN
    assert len(trend.table(trend.points(diff, comparison)).rows) == 40
    assert re.findall(r">(@main~\d+)</text>", picture) == ["@main~30", "@main~1"]


def test_names_of_runs_are_text(failing: Result, hostile: Result) -> None:
    page = render(many(failing, 3, hostile.old.reference + "<script>alert(1)</script>\x1b[31m"), "html")
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m" in page
