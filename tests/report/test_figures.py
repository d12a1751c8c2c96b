from __future__ import annotations

import html
import json
from dataclasses import replace

import pytest

from compatcheck.compare.result import Advice, Estimate, Gate, Result
from compatcheck.report import content, figures, headline, render, sections


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
        "41 of 400 answers were right and are now wrong (10.2 %); the budget allows 2 %. 71 got better.",
    )
    assert headline.reason(failing) == "negative flip rate 10.4 % (lower bound 9.1 %) is above 2 %"
    second = replace(failing.comparisons[0], gates=(Gate("net:-1%", "fail", "too low"),) * 2)
    both = replace(failing, comparisons=(failing.comparisons[0], second))
    assert (
        headline.reason(both)
        == "in gsm8k, negative flip rate 10.4 % (lower bound 9.1 %) is above 2 % (and 2 other budgets)"
    )
    assert content.sentence(both).endswith("2 of 2 comparisons break a budget.")


def test_the_verdict_line_of_a_pass_and_of_none(failing: Result) -> None:
    comparison = failing.comparisons[0]
    kept = replace(comparison, gates=(Gate("nfr:30%", "pass", "13.0 % at most"),))
    assert content.verdict_line(replace(failing, comparisons=(kept,), verdict="pass")) == (
        "PASS",
        "41 of 400 answers were right and are now wrong (10.2 %); the budget allows 30 %. 71 got better.",
    )
    assert content.verdict_line(replace(failing, verdict="none")) == (
        "NO BUDGET",
        "41 of 400 answers were right and are now wrong (10.2 %); the budget allows 2 %. 71 got better.",
    )
    assert content.verdict_line(Result(failing.old, failing.new, ()))[1] == "Nothing was compared."


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
    assert "<dt>Advice</dt><dd><strong>major version bump</strong>" in render(advised, "html")
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


@pytest.mark.parametrize("rule", ["topic=money/nfr:5%", "net:-1%"])
def test_a_broken_budget_on_another_figure_comes_before_the_flips(failing: Result, rule: str) -> None:
    comparison = failing.comparisons[0].with_gates((Gate(rule, "fail", "net change −3 %: below the −1 % allowed"),))
    said = content.sentence(replace(failing, comparisons=(comparison,)))
    assert said == (
        "Net change −3 %: below the −1 % allowed. 41 of 400 answers were right and are now wrong (10.2 %). 71 got "
        "better."
    )


def test_a_verdict_that_does_not_stand_says_why_first(failing: Result) -> None:
    why = "141 of 400 rows (35.2 %) show nothing"
    gate = Gate("nfr:20%", "inconclusive", f"negative flips 10 %: within the 20 % allowed; but {why}", doubt=why)
    result = replace(failing, comparisons=(failing.comparisons[0].with_gates((gate,)),), verdict="inconclusive")
    assert content.sentence(result) == (
        f"Not decided: {why}. As scored, 41 of 400 answers were right and are now wrong (10.2 %); the budget allows "
        "20 %. 71 got better."
    )
    assert headline.reason(result) == ""


def test_the_first_sentence_of_scores_and_of_several(several: Result) -> None:
    assert content.sentence(several) == "In samsum, 91 of 200 answers score lower (45.5 %). 99 score higher."
    assert content.sentence(replace(several, comparisons=())) == "Nothing was compared."


def test_what_is_said_of_several_is_said_once(failing: Result) -> None:
    said = "the weights behind an endpoint cannot be fingerprinted"
    result = replace(failing, notes=(f"http://a: {said}", "On the CPU: float32.", f"http://b: {said}", "No colon."))
    assert content.notes(result) == [f"http://a; http://b: {said}", "On the CPU: float32.", "No colon."]
