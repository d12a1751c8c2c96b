from __future__ import annotations

import html
import json
from dataclasses import replace

import pytest

from compatcheck.compare.result import Advice, Estimate, Gate, Result
from compatcheck.report import content, figures, render, sections


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0667, "share", "6.7 %"),
        (0.0, "share", "0.0 %"),
        (0.0001, "share", "0.01 %"),
        (-0.0123, "points", "−1.2 pts"),
        (0.13, "points", "+13.0 pts"),
        (0.42, "score", "0.4200"),
        (31.4159, "score", "31.42"),
        (0.474, "ratio", "0.47×"),
    ],
)
def test_numbers_are_worded_by_their_unit(value: float, unit: str, text: str) -> None:
    assert figures.number(value, unit) == text


def test_intervals_and_denominators() -> None:
    nfr = Estimate(88 / 1319, 0.0545, 0.0814, 88, 1319)
    assert figures.interval("nfr", nfr) == "5.5 – 8.1 %"
    assert figures.interval("net", Estimate(0.01, -0.02, 0.04)) == "−2.0 – +4.0 pts"
    assert figures.interval("mean_difference", Estimate(0.01, -0.02, 0.04)) == "−0.0200 – +0.0400"
    assert figures.denominator(nfr) == "88 of 1,319"
    assert figures.denominator(Estimate(0.4, of=200)) == "over 200"
    undefined = Estimate(None, why="nothing")
    assert figures.estimate("nfr", undefined) == "undefined"
    assert figures.interval("nfr", undefined) == ""


@pytest.mark.parametrize(
    ("p", "text"), [(None, "p undefined"), (1e-9, "p < 0.0001"), (0.0123, "p = 0.012"), (0.5, "p = 0.50")]
)
def test_p_values(p: float | None, text: str) -> None:
    assert figures.p_value(p) == text


def test_the_verdict_line_names_the_gate_that_decided(failing: Result) -> None:
    assert content.verdict_line(failing) == (
        "FAIL",
        "nfr:2%: negative flip rate 10.4 % (lower bound 9.1 %) is above 2 %",
    )
    second = replace(failing.comparisons[0], gates=(Gate("net:-1%", "fail", "too low"),) * 2)
    both = replace(failing, comparisons=(failing.comparisons[0], second))
    reason = content.verdict_line(both)[1]
    assert reason.startswith("gsm8k/flexible-extract/exact_match: nfr:2%: ")
    assert reason.endswith(" (and 2 more)")


def test_the_verdict_line_of_a_pass_and_of_none(failing: Result) -> None:
    comparison = failing.comparisons[0]
    kept = replace(comparison, gates=(Gate("nfr:30%", "pass", "13.0 % at most"),))
    assert content.verdict_line(replace(failing, comparisons=(kept,), verdict="pass")) == (
        "PASS",
        "1 budget kept: nfr:30%: 13.0 % at most",
    )
    assert content.verdict_line(replace(failing, verdict="none")) == (
        "NO BUDGET",
        "41 of 400 got worse (10.2 %), 71 got better (17.8 %)",
    )
    assert content.verdict_line(Result(failing.old, failing.new, ()))[1] == "nothing was compared"


def test_pairing_remarks_say_only_what_is_off(failing: Result, errors: Result) -> None:
    assert sections.pairing_remarks(failing.comparisons[0]) == []
    assert sections.pairing_remarks(errors.comparisons[0]) == [
        "2 only in old (b7, b9)",
        "1 repeated row dropped",
        "errors, not scored: 0 old, 4 new",
        "no answer: 0 old, 3 new",
    ]


def test_release_advice_is_in_every_report(failing: Result, several: Result) -> None:
    advised = replace(failing, advice=Advice("major", "a regression is shown: <nfr:2%> is broken"))
    assert "advice major version bump  a regression is shown: <nfr:2%> is broken" in render(advised, "terminal")
    assert "**Release advice: major version bump**, <code>a regression is shown&#58; &#60;nfr&#58;2%&#62;" in render(
        advised, "markdown"
    )
    assert "Release advice: major version bump</strong>" in render(advised, "html")
    assert "&lt;nfr:2%&gt; is broken" in render(advised, "html")
    assert json.loads(render(advised, "json"))["advice"] == {
        "bump": "major", "reason": "a regression is shown: <nfr:2%> is broken"
    }  # fmt: skip
    assert json.loads(render(several, "json"))["advice"] is None
    for format in ("terminal", "markdown"):
        assert "dvice" not in render(several, format)


def test_small_slices_are_folded_away_and_the_choice_of_the_worst_is_said(failing: Result) -> None:
    comparison = failing.comparisons[0]
    (first, *_) = comparison.slices
    lost = Estimate(0.25, 0.1, 0.4, 5, 20, lower=0.1, upper=0.4)
    slices = (
        replace(first, value="large", n=20, lost=lost),
        replace(first, value="small", n=19, nfr=replace(first.nfr, value=1.0)),
    )
    result = replace(failing, comparisons=(replace(comparison, slices=slices),))
    for format in ("terminal", "markdown", "html"):
        text = " ".join(html.unescape(render(result, format)).split())
        shown = text[: text.index("const")] if format == "html" and "const" in text else text
        assert "topic=large" in shown or ">topic</span> large" in shown, format
        assert "topic=small" not in shown and ">topic</span> small" not in shown, format
        assert "25.0 %" in shown, format
        assert "not adjusted for selection" in shown, format
        assert "1 slice has fewer than 20 instances: in report.json" in shown, format


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("nfr:5%", "; the budget allows 5 %"),
        ("gsm8k/nfr:0.5 %", "; the budget allows 0.5 %"),
        ("topic=money/nfr:5%", ""),  # of a slice
        ("net:-1%", ""),
    ],
)
def test_the_first_sentence_is_plain(failing: Result, rule: str, said: str) -> None:
    comparison = failing.comparisons[0].with_gates((Gate(rule, "fail", "…"),))
    first = f"41 of 400 answers were right and are now wrong (10.2 %){said}. 71 got better."
    result = replace(failing, comparisons=(comparison,))
    assert content.sentence(result) == first
    for format in ("terminal", "markdown", "html", "github"):
        assert first.replace("%", "") in " ".join(render(result, format).replace("%25", "").replace("%", "").split()), (
            format
        )


def test_the_first_sentence_of_scores_and_of_several(several: Result) -> None:
    assert content.sentence(several) == "samsum/rouge1: 91 of 200 answers score lower (45.5 %). 99 score higher."
    assert content.sentence(replace(several, comparisons=())) == "Nothing was compared."
