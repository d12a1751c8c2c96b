from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.cells import cell_len

from compatcheck.compare.result import Estimate, Result
from compatcheck.report import render

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture(params=["failing", "several", "hostile", "errors"])
def result(request: pytest.FixtureRequest) -> Result:
    found: Result = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_the_terminal(result: Result, width: int) -> None:
    wide = [line for line in render(result, "terminal", width=width).split("\n") if cell_len(line) > width]
    assert wide == []


def test_wide_characters_count_as_two_columns(failing: Result) -> None:
    comparison = failing.comparisons[0]
    rows = comparison.instances.assign(target="日本語の長い文" * 30, prediction_new="👍" * 80)
    shown = render(replace(failing, comparisons=(replace(comparison, instances=rows),)), "terminal", width=80)
    assert max(cell_len(line) for line in shown.split("\n")) <= 80
    assert "日本語" in shown


def test_piped_output_holds_no_escape_and_no_control(result: Result) -> None:
    shown = render(result, "terminal")  # standard output is not a terminal here
    assert not CONTROL.search(shown)
    assert not any(line.endswith(" ") for line in shown.split("\n"))


def test_no_color_wins_over_a_terminal(failing: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compatcheck.report.terminal._is_terminal", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in render(failing, "terminal")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in render(failing, "terminal")


def test_the_order_is_verdict_flips_quadrants_metrics_slices_signature_next(failing: Result) -> None:
    shown = render(failing, "terminal", width=80)
    assert shown.startswith(
        "✗ FAIL  41 of 400 answers were right and are now wrong (10.2 %); the budget\nallows 2 %. 71 got better.\n"
    )
    assert "\nwhy    negative flip rate 10.4 % (lower bound 9.1 %) is above 2 %\n" in shown
    places = [
        shown.index(part)
        for part in ("\nnext   ", "What broke: 3 of 41", "new right", "\nAccuracy", "Worst slices", "Signature")
    ]
    assert places == sorted(places)
    assert "│ old right │ 128  32.0 %              │ 41  10.2 %               │" in shown
    assert "accuracy, old  169 of 400    42.2 %" in shown
    assert "Pairing" not in shown  # nothing is off
    assert "compatcheck diff old new --task gsm8k --format html --out compat-report\n" in shown


def test_slices_have_bars_and_the_worst_comes_first(failing: Result) -> None:
    lines = render(failing, "terminal", width=80).split("\n")
    first = lines[lines.index("Worst slices") + 2]
    assert re.fullmatch(r"topic=distance +98 +14\.3 % +0\.16 +31 \+{10}-{8}", first)


def test_quiet_is_the_verdict_line_alone(failing: Result, hostile: Result) -> None:
    assert render(failing, "terminal", quiet=True) == (
        "✗ FAIL  41 of 400 answers were right and are now wrong (10.2 %); the budget allows 2 %. 71 got better."
    )
    assert "\n" not in render(hostile, "terminal", quiet=True)


def test_several_comparisons_start_with_an_overview(several: Result) -> None:
    shown = render(several, "terminal", width=80)
    overview = shown[shown.index("Overview") : shown.index("───")]
    assert [line.split()[0] for line in overview.splitlines()[2:] if line] == [
        "gsm8k/strict-match",
        "gsm8k/flexible-extract",
        "samsum/rouge1",
    ]
    assert "! The adapter names another base" in shown


def test_many_comparisons_are_shown_in_part_and_it_is_said(several: Result) -> None:
    many = tuple(replace(several.comparisons[0], task=f"task{i}") for i in range(7))
    shown = render(replace(several, comparisons=many), "terminal")
    assert "3 more comparisons are in the overview alone." in shown
    assert all(f"task{i}/strict-match" in shown for i in range(7))


def test_what_is_off_with_the_pairing_is_said(errors: Result) -> None:
    text = " ".join(render(errors, "terminal", width=120).split())
    assert "Pairing 56 pairs; 2 only in old (b7, b9); 1 repeated row dropped; errors, not scored: 0 old, 4 new" in text
    assert "∅ no answer" in text


def test_undefined_figures_carry_their_reason(hostile: Result) -> None:
    line = next(line for line in render(hostile, "terminal", width=80).split("\n") if "(BEC)" in line)
    assert line.split("(BEC)")[1].split() == ["undefined", "no", "instance", "to", "divide", "by"]


def test_hostile_text_is_shown_and_not_obeyed(hostile: Result) -> None:
    for color in (False, True):
        flat = re.sub(r"\s+", "", re.sub(r"\x1b\[[\d;]*m", "", render(hostile, "terminal", color=color, width=100)))
        for part in ("[/red][bold]", "\\x1b[31mred\\x1b[0m\\x07\\x9b31m", "\\u202egnp.exe", "\\ud800", "{{7*7}}"):
            assert part in flat
    assert "\x07" not in render(hostile, "terminal", color=True)


def test_differences_are_never_cut_away(failing: Result) -> None:
    comparison = failing.comparisons[0]
    rows = comparison.instances.iloc[[1]].assign(
        target="x", prediction_old="same " * 400 + "yes " + "same " * 400, prediction_new="same " * 400 + "no "
        + "same " * 400, response_old=None, response_new=None, quadrant="negative_flip",
    )  # fmt: skip
    shown = render(replace(failing, comparisons=(replace(comparison, instances=rows),)), "terminal", width=80)
    assert "[-yes-]" in shown
    assert "{+no+}" in shown
    flat = " ".join(shown.split())
    assert flat.count("… 1,940 characters left out …") == 2  # before the change, on both sides


def test_plain_signs_stand_in_where_the_encoding_lacks_them(several: Result) -> None:
    comparison = replace(several.comparisons[0], task="tâche")
    shown = render(replace(several, comparisons=(comparison,)), "terminal", encoding="ascii")
    shown.encode("ascii")
    assert "+-----------+" in shown
    assert "t\\xe2che" not in shown.split("Signature")[0]  # a single comparison is not named


def test_the_next_command_fits_the_verdict(failing: Result, several: Result) -> None:
    kept = render(failing, "terminal", folder=Path("my reports"))
    assert "next   look at all 41 that got worse:\n  compatcheck show 'my reports'\n" in kept
    assert "--fail-on nfr:2%" in render(several, "terminal")
    unsure = replace(failing, verdict="inconclusive")
    assert "next   compare about 4,200 instances: raise --limit, or record more\n" in render(unsure, "terminal")
    limited = replace(unsure, command="compatcheck diff a b --task t --limit 400")
    assert "  compatcheck diff a b --task t --limit 4200\n" in render(limited, "terminal")


def test_a_long_command_can_be_pasted_from_the_terminal(failing: Result) -> None:
    words = [
        "compatcheck",
        "diff",
        "old runs/a b.jsonl",
        "new.jsonl",
        "--extract",
        r"it's: (\d+) \"x\"",
        *["--task", "t"] * 20,
    ]
    shown = render(replace(failing, command=shlex.join(words)), "terminal", width=60)
    lines = re.split(r"\n(?! )", shown[shown.index("got worse:") :])[0].splitlines()[1:]
    assert len(lines) > 3
    assert max(map(len, lines)) <= 60
    pasted = "\n".join(lines).replace("\\\n", "")  # as a shell does
    assert shlex.split(pasted) == [*words, "--format", "html", "--out", "compat-report"]


def test_an_empty_comparison_renders(failing: Result) -> None:
    comparison = failing.comparisons[0]
    nothing = replace(
        comparison, n=0, quadrants=dict.fromkeys(comparison.quadrants, 0), slices=(), gates=(),
        metrics={"nfr": Estimate(None, of=0, why="no pair was scored")}, instances=comparison.instances.head(0),
    )  # fmt: skip
    shown = render(replace(failing, comparisons=(nothing,), verdict="none"), "terminal", width=80)
    assert "undefined" in shown
    assert "no pair was scored" in shown
    assert "0  –" in shown
    assert isinstance(nothing.instances, pd.DataFrame)
