"""Inputs on which other comparers were seen to go wrong, each of them run on the input of its test: NeMo Evaluator's
`nel compare` and `nel gate`, EvalShift 1.6.1's analysis and policy, Modeldiffr 0.9.3's paired bootstrap."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from compatcheck.cli.app import run

Rows = list[dict[str, Any]]
Diff = Callable[..., tuple[int, dict[str, Any]]]


def write(name: str, rows: Rows) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def scored(scores: list[float]) -> Rows:
    return [{"id": i, "target": "t", "prediction": "p", "score": score} for i, score in enumerate(scores)]


def answered(right: list[bool]) -> Rows:
    return [{"id": i, "target": "a", "prediction": "a" if each else "b"} for i, each in enumerate(right)]


@pytest.fixture
def diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diff:
    """Compares two lists of rows as files: the exit code, and report.json."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)

    def compare(old: Rows, new: Rows, *options: str) -> tuple[int, dict[str, Any]]:
        write("old.jsonl", old)
        write("new.jsonl", new)
        code = run(["diff", "old.jsonl", "new.jsonl", *options, "--out", "out"])
        return code, json.loads(Path("out/report.json").read_text(encoding="utf-8"))

    return compare


def test_half_of_the_scores_falling_is_no_pass(diff: Diff) -> None:
    """There a flip is a reward that leaves zero, so 250 scores that fell by 0.2 were "identical"."""
    old, new = scored([0.6] * 500), scored([0.4, 0.6] * 250)
    for rule in ("nfr:2%", "regression:0.05", "mean_regression:0.1"):
        code, report = diff(old, new, "--fail-on", rule)
        assert (code, report["verdict"]) == (1, "fail")
    (found,) = report["comparisons"]
    assert found["quadrants"] == {"positive_flip": 0, "negative_flip": 250, "unchanged": 250}
    assert found["metrics"]["nfr"]["value"] == 0.5
    assert found["metrics"]["mean_regression"]["value"] == pytest.approx(0.2)


def test_a_small_drop_keeps_a_wide_limit(diff: Diff) -> None:
    """There an effect size in standard deviations was held against a limit in points, and 0.002 broke 0.05."""
    old = [0.4 + i % 7 / 50 for i in range(1000)]
    code, report = diff(scored(old), scored([score - 0.002 for score in old]), "--fail-on", "regression:0.05")
    assert (code, report["verdict"]) == (0, "pass")
    gate = report["comparisons"][0]["gates"][0]
    assert "mean difference −0.002," in gate["reason"]
    code, _ = diff(scored(old), scored([score - 0.2 for score in old]), "--fail-on", "regression:0.05")
    assert code == 1  # the limit is one


def test_five_flips_in_a_thousand_settle_it(diff: Diff) -> None:
    """There few flips are INCONCLUSIVE however many instances were the same."""
    old = [i >= 3 for i in range(1000)]  # the first three become right, the last two wrong
    new = [i < 998 for i in range(1000)]
    code, report = diff(answered(old), answered(new), "--fail-on", "nfr:2%", "--fail-on", "net:-1%")
    assert report["comparisons"][0]["quadrants"] == {
        "both_correct": 995, "positive_flip": 3, "negative_flip": 2, "both_wrong": 0
    }  # fmt: skip
    assert (code, report["verdict"]) == (0, "pass")


@pytest.mark.parametrize("settings", ["fail_on = [", 'fail_onn = ["nfr:2%"]\n', 'fail_on = ["nfr:two"]\n'])
def test_a_broken_policy_is_no_regression(diff: Diff, settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    """There both exit with 1, so CI cannot tell a worse model from a typing error."""
    rows = answered([True] * 100)
    regressed, _ = diff(rows, answered([i > 40 for i in range(100)]), "--fail-on", "nfr:2%")
    Path("compatcheck.toml").write_text(settings, encoding="utf-8")
    capsys.readouterr()
    broken = run(["diff", "old.jsonl", "new.jsonl"])
    error = capsys.readouterr().err.removeprefix("settings: compatcheck.toml\n")
    assert (regressed, broken) == (1, 2)
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_damaged_line_is_named_and_an_unpaired_row_counted(diff: Diff, capsys: pytest.CaptureFixture[str]) -> None:
    """There lines that are no JSON and ids of one side alone were left out without a word."""
    rows = answered([True] * 50)
    code, report = diff(rows[2:], rows[:45])
    assert code == 0
    assert {key: report["comparisons"][0]["pairing"][key] for key in ("paired", "only_old", "only_new")} == {
        "paired": 43, "only_old": 5, "only_new": 2
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "5 only in old" in shown
    assert "2 only in new" in shown
    lines = Path("new.jsonl").read_text(encoding="utf-8").splitlines()
    lines[6] = lines[6][:-9]
    Path("new.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run(["diff", "old.jsonl", "new.jsonl", "--out", "damaged"]) == 2
    assert "new.jsonl:7: " in capsys.readouterr().err
    assert not Path("damaged").exists()


def test_a_difference_far_into_a_text_is_shown(diff: Diff, capsys: pytest.CaptureFixture[str]) -> None:
    """There the texts of a flip were cut at 80 characters."""
    same = "The same words on both sides. " * 60
    old = [{"id": 1, "target": f"{same}yes", "prediction": f"{same}yes", "input": "q" * 500}]
    new = [{**old[0], "prediction": f"{same}no"}]
    diff(old, new, "--format", "terminal", "--format", "markdown", "--format", "github", "--format", "junit")
    shown = capsys.readouterr().out
    assert "[-yes-]" in shown
    assert "{+no+}" in shown
    assert "<del>yes</del>" in Path("out/report.md").read_text(encoding="utf-8")
    kept = pd.read_parquet("out/instances.parquet").iloc[0]
    assert (kept["prediction_old"], kept["prediction_new"]) == (old[0]["prediction"], new[0]["prediction"])
    assert kept["input"] == "q" * 500


def test_a_rate_within_its_budget_at_five_is_no_pass(diff: Diff) -> None:
    """EvalShift held the rate that it saw against the budget: 1 of 5 with 30 % passes, and so does 0 of 5 with 10 %."""
    for broken, budget in ((1, "30%"), (0, "10%")):
        code, report = diff(
            answered([True] * 5), answered([False] * broken + [True] * (5 - broken)), *_fail(budget), "--allow-same"
        )
        assert (code, report["verdict"]) == (3, "inconclusive")
        assert report["comparisons"][0]["gates"][0]["needed_n"] > 5


def test_ten_of_ten_broken_is_a_difference(diff: Diff) -> None:
    """EvalShift had nothing to test where all fell alike (zero variance): severity "none", and a pass by its policy."""
    code, report = diff(answered([True] * 10), answered([False] * 10), *_fail("30%"))
    assert (code, report["verdict"]) == (1, "fail")
    (found,) = report["comparisons"]
    assert found["quadrants"]["negative_flip"] == 10
    assert found["tests"]["mcnemar_p"] < 0.01


def test_a_hundred_each_way_is_not_within_noise(diff: Diff) -> None:
    """Modeldiffr resampled the difference of the means, which is 0: 100 broken and 100 fixed are "within noise"."""
    old = answered([True] * 500 + [False] * 500)
    new = answered([False] * 100 + [True] * 500 + [False] * 400)
    code, report = diff(old, new, *_fail("5%"))
    assert (code, report["verdict"]) == (1, "fail")
    (found,) = report["comparisons"]
    assert (found["quadrants"]["negative_flip"], found["quadrants"]["positive_flip"]) == (100, 100)
    assert found["metrics"]["net"]["value"] == 0
    assert found["metrics"]["nfr"]["low"] > 0.08


def _fail(budget: str) -> tuple[str, str]:
    return "--fail-on", f"nfr:{budget}"
