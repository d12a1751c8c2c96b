"""`--reference old` on recorded files without targets, from the command line to every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck.cli.app import run

WORDS = ("worse", "worst", "negative flip", "wrong", "what broke", "regress")
CHANGED = range(0, 40, 2)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 answers without targets, of which 20 change, all of them in the category "billing"."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    old = [{"id": i, "input": f"q{i}", "prediction": f"it is {i}", "category": ("billing", "tech")[i % 2]}
           for i in range(200)]  # fmt: skip
    new = [{**row, "prediction": f"it was {row['id']}"} if row["id"] in CHANGED else row for row in old]
    for name, rows in (("old", old), ("new", new)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        pd.DataFrame(rows).to_csv(f"{name}.csv", index=False)
        pd.DataFrame(rows).to_parquet(f"{name}.parquet")
    return tmp_path


def diff(*options: str, kind: str = "jsonl") -> tuple[int, dict[str, Any]]:
    code = run(["diff", f"old.{kind}", f"new.{kind}", "--reference", "old", *options, "--out", "out", "--overwrite"])
    return code, json.loads(Path("out/report.json").read_text(encoding="utf-8"))


def test_without_it_a_file_without_targets_is_refused_with_the_way_out(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diff", "old.jsonl", "new.jsonl"]) == 2
    error = capsys.readouterr().err
    assert "old.jsonl:1: no field `target`" in error
    assert "diff OLD NEW --reference old" in error
    Path("gaps.jsonl").write_text('{"id": 1, "target": null, "prediction": "a"}\n', encoding="utf-8")
    assert run(["diff", "gaps.jsonl", "new.jsonl"]) == 2
    assert "--reference old" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("way", [[], ["--stream"]])
def test_changed_answers_are_counted(files: Path, kind: str, way: list[str]) -> None:
    code, report = diff("--slice-by", "category", *way, kind=kind)
    (found,) = report["comparisons"]
    assert (code, report["verdict"], found["metric"], found["n"]) == (0, "none", "changed", 200)
    assert found["quadrants"] is None
    assert found["changes"] == {"unchanged": 180, "changed": 20}
    assert found["metrics"]["agreement"] == found["metrics"]["agreement"] | {"count": 180, "of": 200, "value": 0.9}
    slices = {part["value"]: (part["changed"]["count"], part["n"]) for part in found["slices"]}
    assert slices == {"billing": (20, 100), "tech": (0, 100)}


def test_held_in_memory_and_streamed_are_the_same(files: Path) -> None:
    options = ["--metric", "rougeL", "--metric", "changed", "--slice-by", "category"]
    _, held = diff("--no-stream", *options)
    _, streamed = diff("--stream", *options)
    for one, other in zip(held["comparisons"], streamed["comparisons"], strict=True):
        for name in ("metrics", "changes", "slices", "pairing", "signature", "n"):
            assert one[name] == other[name]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("changed:20%", 0), ("changed:5%", 1), ("changed:11%", 3), ("agreement:80%", 0), ("agreement:97%", 1),
        ("rougeL.similarity:0.5", 0), ("similarity:0.999", 1), ("category=billing/changed:40%", 0),
        ("category=billing/changed:5%", 1), ("category=billing/agreement:60%", 0), ("missing:0%", 0),
    ],
)  # fmt: skip
def test_budgets(files: Path, rule: str, code: int) -> None:
    found, report = diff("--metric", "rougeL", "--fail-on", rule)
    assert found == code
    assert report["comparisons"][0]["gates"][0]["verdict"] == {0: "pass", 1: "fail", 3: "inconclusive"}[code]
    assert report["advice"]["bump"] == ("major" if code == 1 else "undecided")


@pytest.mark.parametrize("rule", ["nfr:2%", "net:-1%", "accuracy:-1%", "regression:0.1", "category=billing/nfr:5%"])
def test_budgets_on_right_answers_are_refused_before_anything_is_read(
    rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diff", "no-such-old.jsonl", "no-such-new.jsonl", "--reference", "old", "--fail-on", rule]) == 2
    error = capsys.readouterr().err
    assert "needs targets" in error
    assert "changed:5%" in error


def test_no_format_says_that_an_answer_is_worse(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats = ("terminal", "markdown", "html", "junit", "sarif", "github", "json", "png", "svg")
    options = [part for name in formats for part in ("--format", name)]
    code, _ = diff("--metric", "rougeL", "--metric", "changed", "--slice-by", "category", "--fail-on", "changed:5%",
                   *options)  # fmt: skip
    assert code == 1
    shown = {"terminal": capsys.readouterr().out}
    shown |= {name: Path("out", name).read_text(encoding="utf-8") for name in ("report.md", "github.md")}
    shown |= {path.name: path.read_text(encoding="utf-8") for path in Path("out").glob("*.xml")}
    for name, text in shown.items():
        assert "20 of 200 answers changed (10.0 %); the budget allows 5 %. 180 are the same." in " ".join(
            text.replace("<code>", "").split()
        ) or name.endswith(".xml"), name
        assert not [word for word in WORDS if word in text.lower()], name
    sarif = json.loads(next(Path("out").glob("*.sarif*")).read_text(encoding="utf-8"))
    kinds = {each["ruleId"] for each in sarif["runs"][0]["results"]}
    assert kinds == {"changed-answer", "gate-failed"}
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "20 of 200 answers changed" in page
    assert "old wrong" not in page


def test_show_and_card(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diff()
    capsys.readouterr()
    assert run(["show", "out"]) == 0
    assert capsys.readouterr().out.count("~ changed · recorded/changed") == 20
    assert run(["show", "out", "--quadrant", "unchanged"]) == 0
    Path("model").mkdir()
    Path("model/README.md").write_text("# Mine\n", encoding="utf-8")
    assert run(["card", "out", "model"]) == 0
    text = Path("model/README.md").read_text(encoding="utf-8")
    assert "20 of 200 answers changed" in text
    assert "NFR" not in text


def test_metric_changed_needs_no_option_and_stands_beside_others(files: Path, tmp_path: Path) -> None:
    assert run(["diff", "old.jsonl", "new.jsonl", "--metric", "changed", "--out", "alone"]) == 0
    alone = json.loads(Path("alone/report.json").read_text(encoding="utf-8"))["comparisons"]
    assert [(each["metric"], each.get("reference")) for each in alone] == [("changed", "old")]
    for name in ("old", "new"):
        rows = [json.loads(line) for line in Path(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        text = "".join(json.dumps(row | {"target": f"it is {row['id']}"}) + "\n" for row in rows)
        Path(f"t-{name}.jsonl").write_text(text, encoding="utf-8")
    both = ["--metric", "exact_match", "--metric", "changed", "--fail-on", "nfr:20%", "--fail-on", "changed:20%"]
    assert run(["diff", "t-old.jsonl", "t-new.jsonl", *both, "--out", "both"]) == 0
    exact, changed = json.loads(Path("both/report.json").read_text(encoding="utf-8"))["comparisons"]
    assert exact["quadrants"]["negative_flip"] == changed["changes"]["changed"] == 20
    assert "reference" not in exact


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "score"], "--metric score: with --reference old answers are compared with each other"),
        (["--metric", "rouge"], "did you mean"),
        (["--reference", "new"], "unknown reference"),
        (["--repeats", "average"], "answers cannot be averaged"),
        (["--metric", "judge"], "needs a model that judges"),
        (["--metric", "judge", "--epsilon", "0.1"], "judge says which one is better"),
        (["--lower-is-better", "rouge1"], "--lower-is-better: is for scores by targets"),
    ],
)
def test_what_does_not_go_with_it_is_one_line(
    files: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diff", "old.jsonl", "new.jsonl", "--reference", "old", *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.strip().count("\n") == 0


def test_until_decided_and_a_recorded_rerun(files: Path) -> None:
    code, report = diff("--until-decided", "--fail-on", "changed:40%")
    assert code == 0
    assert report["comparisons"][0]["sequential"]["used"] < 200
    Path("again.jsonl").write_text(Path("old.jsonl").read_text(encoding="utf-8").replace("it is 7", "it is seven"))
    _, report = diff("--noise-run", "again.jsonl")
    (found,) = report["comparisons"]
    assert found["noise"]["metrics"]["changed"]["count"] == 11  # 7 and 70 to 79
    assert found["tests"]["noise_p"] > 0.05


@pytest.mark.parametrize(
    "command", [["run", "old.jsonl", "--out", "kept"], ["noise", "old.jsonl", "new.jsonl"], ["bless", "old.jsonl"]]
)
def test_one_model_has_nothing_to_be_held_against(
    files: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--metric", "changed"]) == 2
    error = capsys.readouterr().err
    assert "--metric changed: holds NEW's answers against OLD's" in error
    assert not Path("kept").exists()


def test_what_is_beside_quality_needs_no_targets(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "old.jsonl", "new.jsonl", "--reference", "old", "--fail-on", "refusal:5%", "-q"]) == 0
    assert "PASS" in capsys.readouterr().out
    c = compatcheck.diff("old.jsonl", "new.jsonl", reference="old", metric=["changed", "length"])
    assert list(c.only.beside) == ["length"]


def test_several_candidates(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("new.jsonl").read_text(encoding="utf-8")
    Path("other.jsonl").write_text(text.replace("it is", "now it is"), encoding="utf-8")
    options = ["--reference", "old", "--metric", "rougeL", "--fail-on", "changed:20%", "--format", "terminal"]
    formats = [part for name in ("markdown", "html", "json") for part in ("--format", name)]
    assert run(["diff", "old.jsonl", "new.jsonl", "other.jsonl", *options, *formats, "--out", "several"]) == 1
    shown = capsys.readouterr().out
    assert "1 of 2 candidates keeps every budget: new.jsonl" in shown
    data = json.loads(Path("several/report.json").read_text(encoding="utf-8"))
    assert [(cell["changed"]["count"], cell["nfr"]["value"]) for cell in data["matrix"]] == [(20, None), (200, None)]
    assert [one["comparisons"][0]["quadrants"] for one in data["candidates"]] == [None, None]
    assert run(["report", "several"]) == 1
    assert "worse" not in shown + capsys.readouterr().out


def test_a_settings_file_names_it(files: Path) -> None:
    Path("compatcheck.toml").write_text(
        '[checks.chat]\nold = "old.jsonl"\nnew = "new.jsonl"\nreference = "old"\nfail_on = ["changed:5%"]\n'
    )
    assert run(["diff", "-q"]) == 1
