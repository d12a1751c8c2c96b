"""`compatcheck diff` on recorded outputs, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

import compatcheck
from compatcheck.cli.app import run
from tests.factories import write_rows

EXTRACT = r"A:\s*\$?(-?[0-9][0-9,]*(?:\.[0-9]+)?)"
HOSTILE = [
    "[/red][bold]markup[/bold]",
    "\x1b[31mescape\x1b[0m\x07",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "| a | b |\n|---|---|\n```\n# heading",
    "{{ 7 * 7 }} {% raw %}",
    "</script><!-- ]]>",
    "\u202eright to left\u2066",
    "=cmd|' /C calc'!A0",
]


def write(path: Path, rows: list[dict]) -> str:
    return str(write_rows(path, rows))


def pair(tmp_path: Path, flips: int, total: int) -> tuple[str, str]:
    old = [{"id": i, "target": "a", "prediction": "a", "topic": i % 2} for i in range(total)]
    new = [{**row, "prediction": "b" if row["id"] < flips else "a"} for row in old]
    return write(tmp_path / "old.jsonl", old), write(tmp_path / "new.jsonl", list(reversed(new)))


def test_a_field_that_the_sides_disagree_on_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = [{"id": i, "target": "a", "prediction": "a", "topic": i % 2, "part": i // 10} for i in range(100)]
    new = [row | {"prediction": "b", "topic": 1, "part": float(row["part"])} for row in reversed(old)]
    sides = [write(tmp_path / "old.jsonl", old), write(tmp_path / "new.jsonl", new)]
    said = []
    for further in (["--slice-by", "topic"], ["--fail-on", "topic=1/nfr:5%"], ["--cluster-by", "part"]):
        run(["diff", *sides, *further, "--format", "json"])
        said.append([note for note in json.loads(capsys.readouterr().out)["notes"] if "another" in note])
    note = "recorded: `topic` is another in NEW than in OLD in 50 of 100 rows; OLD's counts"
    assert said == [[note], [note], []]


def test_one_file_on_both_sides_is_said_to_be_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The head said that they differ, in the model alone."""
    old, new = pair(tmp_path, 3, 50)
    for other, same in ((old, True), (new, False)):
        run(["diff", old, other, "--allow-same"])
        said = " ".join(capsys.readouterr().out.split())
        assert ("OLD and NEW are the same" in said, "not recorded how OLD and NEW were made" in said) == (
            same,
            not same,
        )


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
@pytest.mark.parametrize("ids", ["same", "other"])
def test_a_limit_takes_the_same_rows_of_files_in_other_orders(ids: str, stream: bool, tmp_path: Path) -> None:
    """It took the first ones of each file, of which few had a partner."""
    old = [{"id": i, "target": "a", "prediction": "a", "doc_hash": f"h{i}", "task": f"t{i % 2}"} for i in range(100)]
    new = [row | {"prediction": "b", "id": f"n{row['id']}" if ids == "other" else row["id"]} for row in old]
    new = new if ids == "other" else new[::-1]  # without an id in common the first rows are all there is to go by
    files = [write_rows(tmp_path / "old.jsonl", old), write_rows(tmp_path / "new.jsonl", new)]
    found = compatcheck.diff(*files, limit=10, stream=stream)
    for each in found.comparisons:
        pairing = each.pairing
        assert (each.n, pairing.only_old, pairing.only_new, each.quadrants["negative_flip"]) == (10, 0, 0, 10)
    assert found.comparisons[0].instances["doc_id"].tolist() == [str(i) for i in range(0, 20, 2)]


def test_a_limit_takes_olds_rows_of_every_candidate(tmp_path: Path) -> None:
    old, new = pair(tmp_path, 3, 50)
    other = write(tmp_path / "other.jsonl", Path(new).read_text(encoding="utf-8").splitlines()[:47])
    found = compatcheck.diff(old, [new, other], limit=5)
    assert [each.only.n for each in found] == [5, 2]


def test_a_limit_takes_olds_rows_of_a_kept_run(tmp_path: Path) -> None:
    old, new = pair(tmp_path, 3, 50)
    compatcheck.evaluate(new).save(tmp_path / "kept")
    found = compatcheck.diff(old, tmp_path / "kept", limit=5)
    assert (found.only.n, found.only.pairing.only_new, found.only.quadrants["negative_flip"]) == (5, 0, 3)
    assert compatcheck.diff(tmp_path / "kept", old, limit=5).only.quadrants["positive_flip"] == 0


def test_a_limit_says_what_new_lacks_of_olds_rows(tmp_path: Path) -> None:
    rows = [{"id": i, "target": "a", "prediction": "a"} for i in range(20)]
    files = [write(tmp_path / "old.jsonl", rows), write(tmp_path / "new.jsonl", rows[:0:-1])]
    pairing = compatcheck.diff(*files, limit=4).only.pairing
    assert (pairing.paired, pairing.only_old, pairing.only_new, pairing.examples["only_old"]) == (3, 1, 0, ("0",))


@pytest.mark.parametrize(
    ("flips", "code", "verdict"), [(0, 0, "pass"), (12, 0, "pass"), (20, 3, "inconclusive"), (29, 1, "fail")]
)
def test_exit_codes_follow_the_verdict(tmp_path: Path, flips: int, code: int, verdict: str) -> None:
    old, new = pair(tmp_path, flips, 1000)
    out = tmp_path / "out"
    assert run(["diff", old, new, "--fail-on", "nfr:2%", "--out", str(out), "-q"]) == code
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == verdict
    assert report["comparisons"][0]["gates"][0]["verdict"] == verdict
    assert run(["report", str(out), "-q"]) == code
    assert run(["diff", old, new, "--fail-on", "nfr:2%", "-q", "--exit-zero"]) == 0


def test_quiet_prints_the_verdict_line_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = pair(tmp_path, 29, 1000)
    run(["diff", old, new, "--fail-on", "nfr:2%", "-q"])
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert "FAIL" in captured.out
    assert captured.err == ""


def test_json_on_stdout_is_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = pair(tmp_path, 5, 100)
    assert run(["diff", old, new, "--format", "json", "--slice-by", "topic"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "compatcheck.report/1"
    assert report["verdict"] == "none"
    (comparison,) = report["comparisons"]
    assert comparison["quadrants"] == {"both_correct": 95, "positive_flip": 0, "negative_flip": 5, "both_wrong": 0}
    assert comparison["pairing"]["paired"] == 100
    assert comparison["metrics"]["nfr"] | {"low": 0, "high": 0} == comparison["metrics"]["nfr"] | {"low": 0, "high": 0}
    assert (comparison["metrics"]["nfr"]["count"], comparison["metrics"]["nfr"]["of"]) == (5, 100)
    assert comparison["metrics"]["bec"]["value"] is None
    assert comparison["metrics"]["bec"]["why"]
    assert {(s["value"], s["n"]) for s in comparison["slices"]} == {("0", 50), ("1", 50)}


def test_kept_files_and_rendering_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = pair(tmp_path, 5, 100)
    out = tmp_path / "out"
    run(["diff", old, new, "--out", str(out), "--format", "terminal", "--format", "html", "--format", "markdown"])
    first = capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == ["instances.parquet", "report.html", "report.json", "report.md"]
    run(["report", str(out)])
    assert capsys.readouterr().out == first
    table = pd.read_parquet(out / "instances.parquet")
    assert len(table) == 100
    assert table["quadrant"].value_counts().to_dict() == {"both_correct": 95, "negative_flip": 5}


def test_hostile_outputs_appear_as_text_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"{i}", "target": text, "prediction": text, "input": text} for i, text in enumerate(HOSTILE)]
    old = write(tmp_path / "old.jsonl", rows)
    new = write(tmp_path / "new.jsonl", [{**row, "prediction": row["prediction"] + " changed"} for row in rows])
    out = tmp_path / "out"
    formats = ["--format", "terminal", "--format", "html", "--format", "markdown", "--format", "json"]
    assert run(["diff", old, new, "--out", str(out), *formats]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "\u202e" not in printed
    assert "[/red]" in printed
    html = (out / "report.html").read_text()
    assert "<script>alert(1)" not in html
    assert "<img src=x" not in html
    markdown = (out / "report.md").read_text()
    assert "\x1b" not in markdown
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    for element in ("<script", "<img", "<h1>heading", "<a "):
        assert element not in rendered


def test_gsm8k_solutions_of_two_real_models(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(shared / "gsm8k" / "example_model_solutions.jsonl.gz")
    arguments = [
        "--id-field", "question", "--target-field", "ground_truth", "--extract", EXTRACT, "--format", "json",
        "--old-prediction-field", "6b_finetuning.solution", "--new-prediction-field", "175b_finetuning.solution",
    ]  # fmt: skip
    assert run(["diff", file, file, *arguments]) == 0
    (comparison,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert comparison["n"] == comparison["pairing"]["paired"] == 1319
    assert comparison["quadrants"] == {
        "both_correct": 198,
        "positive_flip": 260,
        "negative_flip": 88,
        "both_wrong": 773,
    }
    assert (comparison["pairing"]["no_answer_old"], comparison["pairing"]["no_answer_new"]) == (4, 5)


def test_alpaca_eval_outputs_of_two_vicunas_against_a_third(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = shared / "outputs" / "alpaca_eval"
    arguments = [
        str(outputs / "vicuna-7b-v1.3.jsonl.gz"), str(outputs / "vicuna-7b-v1.5.jsonl.gz"), "--id-field", "instruction",
        "--prediction-field", "output", "--targets", str(outputs / "gpt4_0613.jsonl.gz"), "--target-field", "output",
        "--metric", "rouge1", "--format", "json",
    ]  # fmt: skip
    assert run(["diff", *arguments]) == 0
    (comparison,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (comparison["kind"], comparison["n"]) == ("smooth", 805)
    assert comparison["quadrants"] == {"positive_flip": 398, "negative_flip": 398, "unchanged": 9}
    assert comparison["metrics"]["score_old"]["value"] == pytest.approx(0.4273, abs=5e-5)


def test_real_lm_eval_samples(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared / "outputs" / "lm_eval" / "Phi-3-mini-4k-instruct"
    assert run(["diff", str(folder), str(folder), "--allow-same", "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    sizes = {(c["task"], c["filter"]): c["n"] for c in report["comparisons"]}
    assert sizes[("hendrycks_math_algebra", "none")] == 1187
    assert sizes[("gsm8k", "flexible-extract")] == sizes[("gsm8k", "strict-match")] == 10
    for comparison in report["comparisons"]:
        assert comparison["quadrants"]["negative_flip"] == comparison["quadrants"]["positive_flip"] == 0


def test_recorded_texts_scored_as_the_task_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = "2 + 2 = 4\n#### 4"
    old = write(
        tmp_path / "old.jsonl",
        [
            {"id": 0, "target": target, "prediction": "so #### 4"},
            {"id": 1, "target": target, "prediction": "it is 4."},
            {"id": 2, "target": target, "prediction": "no idea"},
        ],
    )
    new = write(tmp_path / "new.jsonl", [{"id": i, "target": target, "prediction": "#### 4"} for i in range(3)])
    assert run(["diff", old, new, "--task", "gsm8k", "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    table = {c["filter"]: c for c in report["comparisons"]}
    assert table["strict-match"]["quadrants"]["both_correct"] == 1
    assert table["strict-match"]["pairing"]["no_answer_old"] == 2
    assert table["flexible-extract"]["quadrants"]["both_correct"] == 2
    assert table["flexible-extract"]["pairing"]["no_answer_old"] == 1


def test_the_sides_have_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = pair(tmp_path, 3, 100)
    named = ["--old-name", "March", "--new-name", "June <b>", "--out", str(tmp_path / "out")]
    assert run(["diff", old, new, *named, "--format", "terminal", "--format", "html"]) == 0
    assert f"oldMarch({old})" in "".join(capsys.readouterr().out.split())  # long names are wrapped
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [report[side]["name"] for side in ("old", "new")] == ["March", "June <b>"]
    assert "June &lt;b&gt;" in (tmp_path / "out" / "report.html").read_text()
    run(["diff", old, new, "--format", "json"])
    assert "name" not in json.loads(capsys.readouterr().out)["old"]


def test_what_is_said_to_do_next_settles_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was ``--max-missing 10%`` whatever is missing, and one option where it takes two."""
    rows = [{"id": n, "target": "paris", "prediction": "Paris." if n < 200 else "paris"} for n in range(400)]
    old, part = write(tmp_path / "old.jsonl", rows), write(tmp_path / "part.jsonl", rows[:259])
    new = write(tmp_path / "new.jsonl", [row | {"prediction": "paris", "x": 1} for row in rows])
    for sides, said in (
        ([old, part], ["--max-missing 36%"]),
        ([new, old], ["--metric-arg exact_match.ignore_case=true --metric-arg exact_match.ignore_punctuation=true"]),
    ):
        diff = ["diff", *sides, "--fail-on", "nfr:2%"]
        further = said[0].split()
        assert run(diff) == 3
        assert said[0] in " ".join(capsys.readouterr().out.replace("\\\n", " ").split())
        assert run([*diff, *further]) == 0


@pytest.mark.parametrize("size", [60, 300])
def test_where_no_answer_could_be_read_that_is_said(
    size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sides without a single answer are not alike, and neither more rows nor a share of missing ones helps."""
    for name, answer in (("old", "so 4"), ("new", "4?")):
        rows = [{"id": n, "target": "4", "prediction": answer} for n in range(size)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [str(tmp_path / f"{name}.jsonl") for name in ("old", "new")]
    assert run(["diff", *files, "--extract", "answer: (.+)", "--fail-on", "nfr:2%"]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "no answer could be read: look at the answers" in said
    assert f"Not decided: {size} of {size} rows (100 %) show nothing" in said
    for wrong in ("would settle it", "--max-missing 10%", "every answer of NEW is that of OLD"):
        assert wrong not in said
