"""Never green without evidence: rows that show nothing, a rule that does not fit, OLD that is NEW."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from tests.factories import write_rows

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
Rows = list[dict[str, Any]]


def write(path: Path, rows: Rows) -> str:
    return str(write_rows(path, ({"id": i, **row} for i, row in enumerate(rows))))


def sides(folder: Path, old: Rows, new: Rows) -> tuple[str, str]:
    return write(folder / "old.jsonl", old), write(folder / "new.jsonl", new)


RIGHT: dict[str, Any] = {"target": "a", "prediction": "a"}
WRONG: dict[str, Any] = {"target": "a", "prediction": "b"}
SILENT: dict[str, Any] = {"target": "a", "prediction": None}
FAILED: dict[str, Any] = {"target": "a", "prediction": None, "error": "timeout"}


# Coverage


@STREAM
@pytest.mark.parametrize(
    ("new", "said"),
    [
        ([RIGHT] * 259, "141 only in OLD"),
        ([RIGHT] * 160 + [FAILED] * 240, "240 in error in NEW"),
        ([RIGHT] * 390 + [{"target": "z", "prediction": "z"}] * 10, "10 with changed content"),
        ([RIGHT] * 600, "200 only in NEW"),
    ],
    ids=["cut", "failed", "changed", "longer"],
)
def test_no_budget_passes_where_rows_show_nothing(
    tmp_path: Path, new: Rows, said: str, stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    old, after = sides(tmp_path, [RIGHT] * 400, new)
    way = "--stream" if stream else "--no-stream"
    assert run(["diff", old, after, "--fail-on", "nfr:2%", way, "-q"]) == 3
    line = capsys.readouterr().out
    assert said in line
    assert line.count("\n") == 1
    assert "--max-missing 2 %" in line
    assert run(["diff", old, after, "--fail-on", "nfr:2%", way, "-q", "--max-missing", "70%"]) == 0
    assert said.lower() in capsys.readouterr().out.lower()  # said where it passes, too


@STREAM
def test_rows_without_an_answer_on_both_sides_show_nothing(tmp_path: Path, stream: bool) -> None:
    old, new = sides(tmp_path, [RIGHT] * 380 + [SILENT] * 20, [RIGHT] * 380 + [SILENT] * 19 + [RIGHT])
    c = compatcheck.diff(old, new, fail_on="nfr:2%", stream=stream)
    assert (c.verdict, c.only.pairing.no_answer_both) == ("inconclusive", 19)
    assert "19 without an answer on both sides" in c.only.gates[0].reason
    assert compatcheck.diff(old, new, fail_on="nfr:2%", stream=stream, max_missing=0.05).verdict == "pass"


@STREAM
@pytest.mark.parametrize("blank", ["", " \n"])
def test_an_empty_text_is_no_answer_unless_it_is_right(tmp_path: Path, blank: str, stream: bool) -> None:
    """In CSV an empty cell is none, and so it counts in every format: what servers send of a withheld answer."""
    mute = {"target": "a", "prediction": blank}
    old, new = sides(tmp_path, [RIGHT] * 380 + [mute] * 20, [RIGHT] * 370 + [mute] * 30)
    c = compatcheck.diff(old, new, fail_on=["nfr:9%", "no_answer:5%"], stream=stream)
    p = c.only.pairing
    assert (p.no_answer_old, p.no_answer_new, p.no_answer_both) == (20, 30, 20)
    assert [gate.verdict for gate in c.only.gates] == ["inconclusive", "fail"]
    assert compatcheck.diff(old, new, metric="rouge1", stream=stream).only.pairing.no_answer_both == 20
    assert compatcheck.diff(old, new, reference="old", stream=stream).only.pairing.no_answer_both == 20
    assert compatcheck.evaluate(old).scores[0].no_answer == 20
    meant = {"target": "", "prediction": blank}
    old, new = sides(tmp_path, [RIGHT] * 380 + [meant] * 20, [RIGHT] * 370 + [WRONG] * 10 + [meant] * 20)
    c = compatcheck.diff(old, new, fail_on=["nfr:9%", "no_answer:5%"], stream=stream)
    assert (c.verdict, c.only.pairing.no_answer_both, c.only.pairing.no_answer_new) == ("pass", 0, 0)


@STREAM
@pytest.mark.parametrize("unseen", ["\u200b", "\ufeff "])
def test_signs_that_nobody_sees_are_no_answer(tmp_path: Path, unseen: str, stream: bool) -> None:
    mute = {"target": "a", "prediction": unseen}
    old, new = sides(tmp_path, [RIGHT] * 380 + [mute] * 20, [RIGHT] * 370 + [mute] * 30)
    c = compatcheck.diff(old, new, fail_on="nfr:9%", stream=stream)
    assert (c.verdict, c.only.pairing.no_answer_both) == ("inconclusive", 20)


def test_a_few_rows_may_be_missing(tmp_path: Path) -> None:
    old, new = sides(tmp_path, [RIGHT] * 400, [RIGHT] * 392)
    assert compatcheck.diff(old, new, fail_on="nfr:2%").verdict == "pass"
    assert compatcheck.diff(old, new, fail_on="nfr:2%", max_missing="1%").verdict == "inconclusive"


def test_missing_rows_do_not_hide_a_failure(tmp_path: Path) -> None:
    old, new = sides(tmp_path, [RIGHT] * 400, [WRONG] * 200)
    assert compatcheck.diff(old, new, fail_on="nfr:2%").verdict == "fail"


@STREAM
@pytest.mark.parametrize(
    ("budget", "new", "verdict"),
    [
        ("missing:1%", [RIGHT] * 396, "pass"),
        ("missing:1%", [RIGHT] * 395, "fail"),
        ("errors:1%", [RIGHT] * 396 + [FAILED] * 4, "pass"),
        ("errors:1%", [RIGHT] * 395 + [FAILED] * 5, "fail"),
        ("no_answer:5%", [RIGHT] * 380 + [SILENT] * 20, "pass"),
        ("no-answer:5%", [RIGHT] * 379 + [SILENT] * 21, "fail"),
        ("cut_off:2%", [RIGHT | {"x": 1}] * 400, "inconclusive"),
        ("cut_off:2%", [RIGHT | {"finish_reason": "stop"}] * 392 + [RIGHT | {"finish_reason": "length"}] * 8, "pass"),
        (
            "cut_off:2%",
            [RIGHT | {"finish_reason": "stop"}] * 391 + [RIGHT | {"finish_reason": "MAX_TOKENS"}] * 9,
            "fail",
        ),
    ],
)
def test_budgets_on_rows_are_counts(tmp_path: Path, budget: str, new: Rows, verdict: str, stream: bool) -> None:
    old, after = sides(tmp_path, [RIGHT] * 400, new)
    c = compatcheck.diff(old, after, fail_on=budget, stream=stream)
    assert c.verdict == verdict
    assert c.only.gates[0].reason


@STREAM
@pytest.mark.parametrize(
    ("budget", "new", "said"),
    [
        ("no_answer:5%", [FAILED] * 400, "there is no row to count"),
        ("cut_off:5%", [RIGHT | {"finish_reason": "stop"}] * 300 + [FAILED] * 100, "100 in error in NEW"),
        ("no_answer:5%", [RIGHT] * 300, "100 only in OLD"),
        (
            "cut_off:2%",
            [RIGHT | {"finish_reason": "stop"}] * 391 + [RIGHT] * 9,
            "9 of 400 rows (2.25 %) do not say how",
        ),
        (
            "latency:+10%",
            [RIGHT | {"latency": 1.01}] * 391 + [RIGHT] * 9,
            "9 of 400 rows (2.25 %) do not say the latency",
        ),
        ("refusal:5%", [RIGHT] * 391 + [SILENT] * 9, "9 of 400 rows (2.25 %) do not say the refusal"),
        ("length:+5%", [RIGHT] * 391 + [SILENT] * 9, "9 of 400 rows (2.25 %) do not say the length"),
    ],
)
def test_no_budget_passes_on_what_is_not_known(tmp_path: Path, budget: str, new: Rows, said: str, stream: bool) -> None:
    old, after = sides(tmp_path, [RIGHT | {"latency": 1.0}] * 400, new)
    c = compatcheck.diff(old, after, fail_on=budget, stream=stream)
    assert c.verdict == "inconclusive"
    assert said in c.only.gates[0].reason
    if c.only.n:
        assert compatcheck.diff(old, after, fail_on=budget, stream=stream, max_missing="30%").verdict == "pass"


@STREAM
@pytest.mark.parametrize("lacking", [{"prediction"}, {"prediction", "target"}])
def test_rows_that_all_failed_need_no_answer(tmp_path: Path, lacking: set[str], stream: bool) -> None:
    failed = {name: value for name, value in FAILED.items() if name not in lacking}
    old, new = sides(tmp_path, [RIGHT] * 40, [failed] * 40)
    c = compatcheck.diff(old, new, fail_on="nfr:2%", stream=stream)
    assert (c.verdict, c.only.n, c.only.pairing.errors_new) == ("inconclusive", 0, 40)
    assert compatcheck.diff(old, new, fail_on="errors:1%", stream=stream).verdict == "fail"
    write(Path(new), [failed, {"target": "a", "answered": "a"}])
    with pytest.raises(InputError, match=r"no field `prediction`.* answered"):
        compatcheck.diff(old, new, stream=stream)


@pytest.mark.parametrize(
    ("budget", "row"),
    [
        ("latency:+10%", FAILED | {"latency": 1.0}),
        ("refusal:5%", FAILED),
        ("refusal:5%", SILENT),
        ("length:+5%", SILENT),
    ],
)
def test_what_no_pair_tells_hides_no_other_verdict(tmp_path: Path, budget: str, row: dict[str, Any]) -> None:
    old, new = sides(tmp_path, [RIGHT | {"latency": 1.0}] * 40, [row] * 40)
    (gate,) = compatcheck.diff(old, new, fail_on=budget).only.gates
    assert (gate.verdict, "no pair has it on both sides" in gate.reason) == ("inconclusive", True)
    counted = "errors:5%" if "error" in row else "no_answer:5%"
    assert compatcheck.diff(old, new, fail_on=[budget, counted]).verdict == "fail"


def test_a_mean_of_few_is_written_as_any_other(tmp_path: Path) -> None:
    old, new = sides(tmp_path, [RIGHT | {"latency": 3.0}] * 20, [RIGHT | {"latency": 1.0}] * 20)
    (gate,) = compatcheck.diff(old, new, fail_on="latency:+10%").only.gates
    assert gate.reason == "change of latency is −66.7 %, a mean of 20: fewer than 30 values settle no budget"


def test_scores_that_rows_lack_are_named_where_nothing_is_shared(tmp_path: Path) -> None:
    old, new = sides(tmp_path, [RIGHT | {"score": 1}] * 4, [FAILED] * 4)
    with pytest.raises(InputError, match="every row of NEW on recorded is in error"):
        compatcheck.diff(old, new)


def test_a_budget_on_rows_is_no_estimate_among_others(tmp_path: Path) -> None:
    """Failures of counted rows are shown however many budgets there are (no correction for looking often)."""
    old, new = sides(tmp_path, [RIGHT] * 400, [RIGHT] * 395 + [FAILED] * 5)
    budgets = ["errors:1%", *(f"nfr:{limit}%" for limit in range(5, 25))]
    c = compatcheck.diff(old, new, fail_on=budgets)
    assert [gate.verdict for gate in c.only.gates] == ["fail", *["pass"] * 20]


@pytest.mark.parametrize("bad", ["errors:101%", "missing:-1%", "errors:2", "cut_off:x"])
def test_budgets_on_rows_that_cannot_be_meant(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InputError, match="--fail-on"):
        compatcheck.diff(*sides(tmp_path, [RIGHT], [RIGHT | {"x": 1}]), fail_on=bad)


@pytest.mark.parametrize("bad", ["two", "-1%", "2", "nan"])
def test_a_share_that_cannot_be_meant(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InputError, match="--max-missing"):
        compatcheck.diff(*sides(tmp_path, [RIGHT], [RIGHT | {"x": 1}]), max_missing=bad)


def test_a_task_that_one_side_lacks_is_counted_in_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = {task: [{**RIGHT, "id": f"{task}{i}", "task": task} for i in range(300)] for task in ("sums", "names")}
    old, new = sides(tmp_path, of["sums"] + of["names"], of["sums"] + [])
    assert run(["diff", old, new, "--fail-on", "nfr:2%", "-q"]) == 3
    assert "names (none): 300 rows only in OLD" in capsys.readouterr().out
    assert run(["diff", old, new, "--fail-on", "missing:1%", "-q"]) == 1
    assert "all of its 300 rows are missing" in capsys.readouterr().out
    assert run(["diff", old, new, "--fail-on", "nfr:2%", "-q", "--task", "sums", "--metric", "exact_match"]) == 0
    report = compatcheck.diff(old, new)
    assert [(one.side, one.task, one.rows) for one in report.absent] == [("old", "names", 300)]
    assert any("its 300 rows are not compared" in note for note in report.notes)


def test_the_report_has_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = [RIGHT | {"finish_reason": "stop"}] * 380 + [SILENT] * 10 + [RIGHT | {"finish_reason": "length"}] * 5
    old, after = sides(tmp_path, [RIGHT] * 400, new)
    out = tmp_path / "report"
    formats = [x for name in ("terminal", "markdown", "html", "junit") for x in ("--format", name)]
    run(["diff", old, after, "--out", str(out), *formats])
    shown = capsys.readouterr().out
    told = "395 of 400 rows compared (98.8 %): 5 only in old; no answer: 0 old, 10 new; cut off: 0 old, 5 new"
    for text in (shown, *((out / name).read_text() for name in ("report.md", "report.html", "junit.xml"))):
        assert told in " ".join(text.split())
        assert "not recorded how OLD and NEW were made" in " ".join(text.split())
    report = json.loads((out / "report.json").read_text())
    pairing = report["comparisons"][0]["pairing"]
    told = {"rows_old": 400, "rows_new": 395, "cut_off_old": None, "cut_off_new": 5, "no_answer_new": 10}
    assert {name: pairing[name] for name in told} == told
    again = compatcheck.load(out)
    assert again.only.pairing == compatcheck.diff(old, after).only.pairing


def test_settings_and_the_fixture_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides(tmp_path, [RIGHT] * 400, [RIGHT] * 300)
    monkeypatch.chdir(tmp_path)
    check = 'fail_on = "nfr:2%"\n{}[checks.one]\nold = "old.jsonl"\nnew = "new.jsonl"\n'
    for line, code in (("", 3), ('max_missing = "30%"\n', 0), ("max-missing = 0.3\n", 0), ("max_missing = true\n", 2)):
        (tmp_path / "compatcheck.toml").write_text(check.format(line))
        assert run(["diff", "-q"]) == code


# Another reading


def case_differs(folder: Path, old: int, new: int, of: int = 300) -> tuple[str, str]:
    """As many of ``of`` answers are right but for their case."""
    return sides(
        folder,
        *([{"target": "yes", "prediction": "Yes" if i < right else "No"} for i in range(of)] for right in (old, new)),
    )


@STREAM
def test_a_verdict_that_case_would_turn_is_open_until_it_is_said(tmp_path: Path, stream: bool) -> None:
    old, new = case_differs(tmp_path, 252, 153)
    c = compatcheck.diff(old, new, fail_on="net:-5%", stream=stream)
    assert c.verdict == "inconclusive"
    (note,) = [note for note in c.notes if "ignore_case" in note]
    assert "252 of OLD's and 153 of NEW's 300 answers" in note, note
    said = {meant: {"exact_match": {"ignore_case": meant}} for meant in (True, False)}
    assert compatcheck.diff(old, new, fail_on="net:-5%", stream=stream, metric_args=said[True]).verdict == "fail"
    strict = compatcheck.diff(old, new, fail_on="agreement:50%", stream=stream, metric_args=said[False])
    assert not any("ignore_case" in note for note in strict.notes)


@STREAM
def test_a_failure_by_case_alone_is_open_too(tmp_path: Path, stream: bool) -> None:
    old, new = sides(
        tmp_path, [{"target": "yes", "prediction": "yes"}] * 300, [{"target": "yes", "prediction": "Yes"}] * 300
    )
    c = compatcheck.diff(old, new, fail_on="nfr:2%", stream=stream)
    assert c.verdict == "inconclusive"
    assert "if case is ignored the verdict is pass" in c.only.gates[0].reason
    for meant, verdict in ((True, "pass"), (False, "fail")):
        args = {"exact_match": {"ignore_case": meant}}
        assert compatcheck.diff(old, new, fail_on="nfr:2%", stream=stream, metric_args=args).verdict == verdict


def test_case_and_punctuation_together(tmp_path: Path) -> None:
    old, new = (
        [{"target": "yes", "prediction": "[Yes]" if i < right else "[No]"} for i in range(300)] for right in (252, 153)
    )
    c = compatcheck.diff(*sides(tmp_path, old, new), fail_on="nfr:5%")
    assert [one.way for one in c.only.readings if one.metrics] == [("ignore_case", "ignore_punctuation")]
    assert c.verdict == "inconclusive"
    args = {"exact_match": {"ignore_case": True, "ignore_punctuation": True}}
    assert compatcheck.diff(*sides(tmp_path, old, new), fail_on="nfr:5%", metric_args=args).verdict == "fail"


def test_recorded_exact_match_is_read_otherwise_too(tmp_path: Path) -> None:
    """lm-eval's generic exact match strips nothing: the option holds for scores that were recorded as well."""
    old, new = (
        [{"target": "Paris", "prediction": text, "score:exact_match": score}] * 200
        for text, score in (("Paris", 1), (" Paris", 0))
    )
    paths = sides(tmp_path, old, new)
    c = compatcheck.diff(*paths, fail_on="nfr:2%")
    assert c.verdict == "inconclusive"
    assert "exact_match.strip=true" in c.only.gates[0].reason
    for meant, verdict in ((True, "pass"), (False, "fail")):
        args = {"exact_match": {"strip": meant}}
        assert compatcheck.diff(*paths, fail_on="nfr:2%", metric_args=args).verdict == verdict


def test_readings_are_kept(tmp_path: Path) -> None:
    c = compatcheck.diff(*case_differs(tmp_path, 252, 153), fail_on="nfr:2%")
    again = compatcheck.load(c.save(tmp_path / "kept"))
    assert again.only.readings == c.only.readings
    assert again.differences == c.differences


@STREAM
def test_a_score_never_hides_exact_match_unsaid(tmp_path: Path, stream: bool) -> None:
    old, new = sides(
        tmp_path,
        [{"target": "POS", "prediction": "POS", "score": 0.99}] * 200,
        [{"target": "POS", "prediction": "NEG", "score": 0.995}] * 200,
    )
    c = compatcheck.diff(old, new, fail_on="nfr:2%", stream=stream)
    assert c.verdict == "inconclusive"
    assert "by exact match the verdict is fail" in c.only.gates[0].reason
    assert compatcheck.diff(old, new, fail_on="nfr:2%", stream=stream, metric="score").verdict == "pass"
    assert compatcheck.diff(old, new, fail_on="nfr:2%", stream=stream, metric="exact_match").verdict == "fail"


# OLD is NEW


@STREAM
def test_the_same_file_is_refused(tmp_path: Path, stream: bool) -> None:
    (tmp_path / "copy").mkdir()
    old, copy = write(tmp_path / "a.jsonl", [RIGHT] * 50), write(tmp_path / "copy" / "b.jsonl", [RIGHT] * 50)
    for new in (old, copy):
        with pytest.raises(InputError, match=r"OLD and NEW are the same.*--new-prediction-field.*--allow-same"):
            compatcheck.diff(old, new, stream=stream)
        c = compatcheck.diff(old, new, stream=stream, allow_same=True)
        assert any("every answer of NEW is that of OLD" in note for note in c.notes)


@STREAM
def test_two_fields_of_one_file_are_two_sides(tmp_path: Path, stream: bool) -> None:
    both = write(tmp_path / "both.jsonl", [{"target": "a", "v1": "a", "v2": "b"}] * 50)
    c = compatcheck.diff(both, both, old_prediction_field="v1", new_prediction_field="v2", stream=stream)
    assert c.only.quadrants["negative_flip"] == 50
    with pytest.raises(InputError, match="OLD and NEW are the same"):
        compatcheck.diff(both, both, prediction_field="v1", stream=stream)
    kept = [compatcheck.evaluate(both, prediction_field=name).save(tmp_path / name) for name in ("v1", "v2")]
    assert compatcheck.diff(*kept, stream=stream).only.quadrants["negative_flip"] == 50
    with pytest.raises(InputError, match="OLD and NEW are the same"):
        compatcheck.diff(kept[0], kept[0], stream=stream)


def test_equal_answers_of_two_runs_are_a_note(tmp_path: Path) -> None:
    c = compatcheck.diff(*sides(tmp_path, [RIGHT] * 400, [RIGHT | {"x": 1}] * 400), fail_on="nfr:2%")
    assert c.verdict == "pass"
    assert any("every answer of NEW is that of OLD" in note for note in c.notes)
