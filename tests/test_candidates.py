"""Several candidates against one OLD: the figures of single comparisons, one error rate, formats, kept and read."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.compare import candidates
from compatcheck.compare.serialise import result_from_dict
from compatcheck.errors import InputError
from compatcheck.results import load
from tests.factories import write_rows

N = 200
MARKUP = "<script>alert(1)</script> | \x1b[31m"


def rows(path: Path, right: float, seed: int) -> Path:
    """Answers to two tasks, of which ``right`` are right, drawn anew where OLD's are."""
    rng = random.Random(seed)
    found = [
        {"task": task, "id": f"{n}", "input": f"{task} {n} {MARKUP}", "target": "yes",
         "prediction": "yes" if rng.random() < right else None if n % 9 == 0 else f"no {seed}"}
        for task in ("sums", "words") for n in range(N)
    ]  # fmt: skip
    return write_rows(path, found)


@pytest.fixture
def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """OLD and three candidates: one better, one far worse, one alike."""
    monkeypatch.chdir(tmp_path)
    return [rows(tmp_path / name, right, seed).name for name, right, seed in (
        ("old.jsonl", 0.8, 1), ("better.jsonl", 0.97, 2), ("worse.jsonl", 0.5, 3), ("alike.jsonl", 0.8, 4)
    )]  # fmt: skip


def test_every_figure_is_that_of_a_single_comparison(four: list[str]) -> None:
    old, *news = four
    several = compatcheck.diff(old, news, metric="exact_match")
    assert several.names == tuple(news)
    for name in news:
        single = compatcheck.diff(old, name, metric="exact_match")
        mine = several[name]
        assert mine.comparisons == single.comparisons
        assert mine.notes == tuple(note.replace("new 1", "new") for note in single.notes)
        assert mine.differences == single.differences
        pd.testing.assert_frame_equal(mine.instances, single.instances)
        of = several.matrix[several.matrix["candidate"] == name]
        assert of["nfr"].tolist() == [each.metrics["nfr"].value for each in single.comparisons]
        assert of["score_new"].tolist() == [each.metrics["accuracy_new"].value for each in single.comparisons]
        assert (of["verdict"] == "none").all()
    assert several[1].new.reference == "worse.jsonl"
    with pytest.raises(InputError, match=r"--candidate worse: there is none \(did you mean 'worse.jsonl'\?\)"):
        several["worse"]


def test_budgets_of_all_candidates_hold_together(tmp_path: Path) -> None:
    """Of many candidates of which each breaks a budget only just, none is shown to break it."""

    def write(name: str, broken: int) -> Path:
        made = [{"id": n, "target": "a", "prediction": "b" if n < broken else "a"} for n in range(400)]
        return write_rows(tmp_path / f"{name}.jsonl", (row | {"note": name} for row in made))

    old, news = write("old", 0), [write(f"new{n}", 15) for n in range(6)]
    options = {"metric": "exact_match", "fail_on": "nfr:2%"}
    assert compatcheck.diff(old, news[0], **options).verdict == "fail"
    together = compatcheck.diff(old, news, **options)
    assert together.verdict == "inconclusive"
    reason = together[0].comparisons[0].gates[0].reason
    assert "with 6 budgets judged together p is" in reason
    far = compatcheck.diff(old, [*news[:4], write("far", 60)], **options)
    assert [one.verdict for one in far.results] == [*["inconclusive"] * 4, "fail"]
    assert far.verdict == "fail"


def test_a_candidate_that_is_old_is_refused_before_any_model_is_loaded(fixtures: Path) -> None:
    old, other = (fixtures / "models" / name for name in ("base-v1", "base-v2"))
    with pytest.raises(InputError, match=f"OLD and NEW are the same: {re.escape(str(old))}; name the other one"):
        compatcheck.diff(old, [other, old], task="piqa", data=fixtures / "data")


def test_a_budget_that_is_advisory_has_no_part_in_the_matrix(four: list[str]) -> None:
    budgets = {"fail_on": "accuracy:-90%", "advisory": "nfr:1%"}
    several = compatcheck.diff(four[0], four[2:3], metric="exact_match", **budgets)
    assert {gate.verdict for one in several[0].comparisons for gate in one.gates} == {"pass", "fail"}
    assert (several.matrix["verdict"] == "pass").all()


def test_kept_and_read_again(four: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "diff",
        *four[:3],
        "--candidate",
        four[3],
        "--metric",
        "exact_match",
        "--fail-on",
        "nfr:16%",
        "--out",
        "o",
    ]
    assert run([*command, *(part for name in ("terminal", "html", "markdown") for part in ("--format", name))]) == 1
    shown = capsys.readouterr().out
    assert "FAIL  1 of 3 candidates keeps every budget: better.jsonl" in shown
    assert "\x1b" not in shown
    assert "\\x1b[31m" in shown
    report = json.loads(Path("o/report.json").read_text())
    assert (report["schema"], report["verdict"]) == ("compatcheck.report/2", "fail")
    assert len(report["matrix"]) == 6
    assert [one["verdict"] for one in report["candidates"]] == ["pass", "fail", "inconclusive"]
    again = compatcheck.load_candidates("o")
    made = compatcheck.diff(four[0], four[1:], metric="exact_match", fail_on="nfr:16%")
    assert [replace(again[n], command="") for n in range(3)] == [made[n] for n in range(3)]
    assert (again.names, again.verdict, again.matrix.equals(made.matrix)) == (made.names, made.verdict, True)
    assert len(pd.read_parquet("o/instances.parquet")) == 3 * 2 * N
    page = Path("o/report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in Path("o/report.md").read_text()
    assert "default-src 'none'" in page
    assert run(["report", "o"]) == 1
    assert capsys.readouterr().out.replace("old", "OLD").split()[:2] == ["✗", "FAIL"]
    assert run(["report", "o", "-q", "--candidate", "1"]) == 0
    assert run(["report", "o", "-q", "--candidate", "worse.jsonl"]) == 1


def test_of_one_candidate_nothing_else_is_read(
    four: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The comparisons of all were made again, to show one."""
    compatcheck.diff(four[0], four[1:], metric="exact_match").save("o")
    every, made = compatcheck.load_candidates("o"), []
    monkeypatch.setattr(
        candidates, "result_from_dict", lambda data, rows: made.append(len(rows)) or result_from_dict(data, rows)
    )
    assert compatcheck.load("o", "2") == every[1]
    assert made == [2 * N]
    assert run(["report", "o", "--candidate", "9"]) == 2
    assert "--candidate 9: there is none; there are 1 to 3: better.jsonl" in capsys.readouterr().err


def test_an_instance_is_shown_with_every_answer(four: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    several = compatcheck.diff(four[0], four[1:], metric="exact_match")
    several.save("o")
    rows = several.instances
    one = rows[(rows["candidate"] == "worse.jsonl") & (rows["quadrant"] == "negative_flip")].iloc[0]
    assert run(["show", "o", one["doc_id"], "--task", one["task"]]) == 0
    out = capsys.readouterr().out
    answers = rows[(rows["doc_id"] == one["doc_id"]) & (rows["task"] == one["task"])]
    for number, (sign, text) in enumerate(zip(answers["quadrant"], answers["prediction_new"], strict=True), 1):
        mark = {"negative_flip": "−", "positive_flip": "+"}.get(sign, "")
        assert f"  {mark}{number}".ljust(9) + ("∅ no answer" if pd.isna(text) else text) in out


def test_what_is_for_one_new_is_refused(four: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for more, why in (
        (["--stream"], "--stream: is for one NEW"),
        (["--until-decided", "--fail-on", "nfr:2%"], "--until-decided: is for one NEW"),
        (["--format", "junit"], "--format junit: is of one candidate"),
        (["--candidate", "alike.jsonl"], "NEW alike.jsonl: is named twice"),
        (["--candidate", "old.jsonl"], "OLD and NEW are the same"),
        (["--candidate", "gone.jsonl"], "gone.jsonl"),
    ):
        assert run(["diff", *four, *more]) == 2
        assert why in capsys.readouterr().err
    with pytest.raises(InputError, match="NEW is an empty list"):
        compatcheck.diff(four[0], [])
    compatcheck.diff(four[0], four[1:3]).save("o")
    assert run(["card", "o"]) == 2
    assert "holds several candidates; name one with --candidate: 1 better.jsonl, 2 wor" in capsys.readouterr().err
    report = json.loads(Path("o/report.json").read_text())
    for damage in ({"candidates": {}}, {"verdict": "good"}, {"old": 3}, {"candidates": [{"name": "x"}]}):
        Path("o/report.json").write_text(json.dumps(report | damage))
        assert run(["report", "o"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_candidates_of_the_settings_file(four: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(".git").mkdir()
    Path("compatcheck.toml").write_text(
        "[checks.pick]\nold = 'old.jsonl'\nnew = ['better.jsonl', 'worse.jsonl']\nmetric = 'exact_match'\n"
    )
    assert run(["diff", "--out", "o", "-q"]) == 0
    assert "2 candidates; set a budget" in capsys.readouterr().out
    assert load("o", "2").new.reference == "worse.jsonl"
