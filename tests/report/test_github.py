from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from compatcheck.compare.result import Advice, Gate, Result
from compatcheck.errors import InputError
from compatcheck.report import render, save
from compatcheck.report.github import (
    SUMMARY_LIMIT,
    append_summary,
    comment,
    escape_data,
    escape_property,
    marker,
)

SAID = "41 of 400 answers were right and are now wrong (10.2 %); the budget allows 20 %. 71 got better.\n"
COMMAND = re.compile(r"::(error|warning|notice) title=([^,:]*)::(.*)")
NASTY = "::error::boom %0A::warning::x\r\n::stop-commands::t `tick` <script>x</script> @someone a:b,c"


def commands(result: Result) -> list[tuple[str, str, str]]:
    """Every line as the runner reads it: kind, title and message with their escapes taken back."""
    found = []
    for line in render(result, "github").split("\n"):
        read = COMMAND.fullmatch(line)
        assert read, line
        found.append((read[1], unquote(read[2]), unquote(read[3])))
    return found


def nasty(result: Result) -> Result:
    comparison = result.comparisons[0]
    texts = dict.fromkeys(("input", "target", "prediction_old", "prediction_new", "response_new"), NASTY)
    rows = comparison.instances.assign(**texts, doc_id=[f"{NASTY}{i}" for i in range(len(comparison.instances))])
    gates = (Gate(NASTY, "fail", NASTY), Gate("net:-1%", "fail", NASTY))
    return replace(
        result,
        comparisons=(replace(comparison, task=NASTY, instances=rows, gates=gates),),
        notes=(NASTY,),
        command=NASTY,
    )


def test_escapes_of_workflow_commands() -> None:
    assert escape_data("50%\r\n%0A a:b, c") == "50%25%0D%0A%250A a:b, c"
    assert escape_property("50%\r\n%0A a:b, c") == "50%25%0D%0A%250A a%3Ab%2C c"


def test_annotations_of_a_failing_comparison(failing: Result) -> None:
    found = commands(failing)
    assert found[0] == (
        "error", "compatcheck: FAIL", "41 of 400 answers were right and are now wrong (10.2 %); the budget allows 2 %. "
        "71 got better.\nnegative flip rate 10.4 % (lower bound 9.1 %) is above 2 %"
    )  # fmt: skip
    assert found[1][:2] == ("warning", "gsm8k/flexible-extract/exact_match: net:-1%")
    row = failing.comparisons[0].negative_flips.iloc[0]
    assert found[2][:2] == ("warning", f"negative flip in gsm8k/flexible-extract/exact_match: {row['doc_id']}")
    assert f"\ntarget: {row['target']}\nold: {row['prediction_old']}\nnew: {row['prediction_new']}\n" in found[2][2]
    assert [kind for kind, _, _ in found].count("warning") == 10  # what GitHub shows
    assert [kind for kind, _, _ in found].count("error") == 1


def test_no_budget_and_a_kept_one_are_notices(several: Result, failing: Result) -> None:
    assert [kind for kind, _, _ in commands(several)] == ["notice"]
    kept = failing.comparisons[0].with_gates((Gate("nfr:20%", "pass", "kept"),))
    result = replace(failing, comparisons=(kept,), verdict="pass", advice=Advice("minor", "better"))
    assert commands(result) == [("notice", "compatcheck: PASS", f"{SAID}kept\nrelease advice: minor: better")]


def test_more_budgets_than_are_shown_are_counted(failing: Result) -> None:
    gates = tuple(Gate(f"nfr:{i}%", "fail", "broken") for i in range(25))
    result = replace(failing, comparisons=(failing.comparisons[0].with_gates(gates),))
    errors = [each for each in commands(result) if each[0] == "error"]
    assert len(errors) == 10
    assert errors[-1][2] == "17 more budgets: fail; see the report"
    assert [title.rpartition(" ")[2] for _, title, _ in errors[1:-1]] == [f"nfr:{i}%" for i in range(8)]


def test_hostile_text_is_no_command(failing: Result, hostile: Result) -> None:
    for result in (nasty(failing), hostile):
        for _, title, text in commands(result):
            assert "\r" not in title + text
            assert "\n" not in title
        for line in render(result, "github").split("\n"):
            assert len(line.encode()) < 20_000
    long = failing.comparisons[0].with_gates((Gate("a", "fail", "x" * 100_000), Gate("b" * 100_000, "fail", "y")))
    for line in render(replace(failing, comparisons=(long,)), "github").split("\n"):
        assert len(line.encode()) < 20_000
    texts = [text for _, _, text in commands(nasty(failing))]
    assert "%0A" in texts[0]  # it is shown as it was written, and not as a line feed
    assert "\n::stop-commands" in texts[0]  # a line feed of the message, "%0A" in the command


def test_the_comment_is_marked_escaped_and_short_enough(failing: Result, large: Callable[[int], Result]) -> None:
    text = comment(nasty(failing))
    first, _, rest = text.partition("\n")
    assert re.fullmatch(r"<!-- compatcheck:[0-9a-f]{12} -->", first)
    outside = re.sub(r"<pre>.*?</pre>", "", rest, flags=re.S)
    assert "<script" not in text
    assert "@someone" not in outside
    assert "`" not in outside
    rows = large(1_000).comparisons[0].instances.assign(input="words " * 3_000, target="日本語" * 2_000)
    huge = replace(
        large(1_000),
        comparisons=tuple(replace(large(1_000).comparisons[0], task=f"t{i}", instances=rows) for i in range(60)),
    )
    text = comment(replace(huge, notes=("n" * 1024 * 1024,)))
    assert len(text) <= 65_536  # what GitHub takes as a comment
    assert text.count("<details>") == text.count("</details>")
    assert "40 more comparisons are in the overview alone." in text or "The rest is left out" in text


def test_the_marker_stays_when_the_new_model_and_the_figures_change(failing: Result, several: Result) -> None:
    again = replace(failing, new=replace(failing.new, reference="org/model-v3"), verdict="pass")
    assert marker(again) == marker(failing)
    assert marker(several) != marker(failing)
    assert marker(failing, Path("out/a")) == marker(failing, Path("/elsewhere/a")) != marker(failing, Path("out/b"))


def test_kept_files_hold_the_comment(failing: Result, tmp_path: Path) -> None:
    save(failing, tmp_path, ["github"])
    assert (tmp_path / "github.md").read_text().startswith(f"{marker(failing, tmp_path)}\n## ❌ compatcheck: FAIL\n")


def test_the_summary_is_appended_and_never_beyond_the_limit(
    failing: Result, large: Callable[[int], Result], tmp_path: Path
) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    assert append_summary(failing, path)
    text = path.read_text()
    assert text.startswith("before\n\n## ❌ compatcheck: FAIL")
    assert "<summary>Negative flips 4 to 30 of 41</summary>" in text

    texts = dict.fromkeys(("input", "target", "prediction_old", "response_old"), "日本 語 " * 300)
    rows = large(1_000).comparisons[0].instances.assign(**texts)
    many = tuple(replace(large(1_000).comparisons[0], task=f"t{i}", instances=rows) for i in range(20))
    huge = replace(large(1_000), comparisons=many)
    path.write_bytes(b"x" * (SUMMARY_LIMIT - 200_000))
    for _ in range(3):
        append_summary(huge, path)
        assert path.stat().st_size <= SUMMARY_LIMIT
    assert path.stat().st_size > SUMMARY_LIMIT - 100_000
    path.write_bytes(b"x" * (SUMMARY_LIMIT - 100))
    assert not append_summary(huge, path)
    assert path.stat().st_size == SUMMARY_LIMIT - 100
    with pytest.raises(InputError, match=r"GITHUB_STEP_SUMMARY=.* cannot be written"):
        append_summary(failing, tmp_path / "missing" / "summary.md")


def test_a_cut_summary_ends_with_a_closing_line(large: Callable[[int], Result], tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * (SUMMARY_LIMIT - 5_000))
    first = large(1_000).comparisons[0]
    assert append_summary(
        replace(large(1_000), comparisons=tuple(replace(first, task=f"t{i}") for i in range(9))), path
    )
    text = path.read_text()
    assert text.endswith("*The rest is left out: see report.json and the HTML report.*\n")
    assert text.count("<details>") == text.count("</details>")
    assert len(text.encode()) <= SUMMARY_LIMIT
