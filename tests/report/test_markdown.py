from __future__ import annotations

import re
from dataclasses import replace

import pytest

from compatcheck.compare.result import Result
from compatcheck.report import render
from compatcheck.report.markdown import MAX_CHARACTERS, escape


def test_the_verdict_comes_first_and_flips_are_folded(failing: Result) -> None:
    text = render(failing, "markdown")
    assert text.startswith(
        "## ❌ compatcheck: FAIL\n\n**41 of 400 answers were right and are now wrong (10.2 %); the budget allows 2 %. "
        "71 got better.**\n\nold "
    )
    assert "\n\n**Why:** negative flip rate 10.4 % (lower bound 9.1 %) is above 2 %\n" in text
    assert text.index("**What broke: 3 of 41**") < text.index("<pre>") < text.index("| old right |")
    assert "| old right | both correct: 128 · 32.0 % | **negative flips: 41 · 10.2 % (7.6 – 13.6 %)** |" in text
    assert "<summary>Negative flips 4 to 10 of 41</summary>" in text
    assert "<del>there are 297 left</del>" in text
    assert "<ins>450 remain</ins>" in text
    assert text.count("<details>") == text.count("</details>") == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "<code>a&#124;b</code>"),
        ("`x` *y* _z_ ~w~", "<code>&#96;x&#96; &#42;y&#42; &#95;z&#95; &#126;w&#126;</code>"),
        ("@me #1 <b>&amp;", "<code>&#64;me &#35;1 &#60;b&#62;&#38;amp;</code>"),
        ("http://x.y www.x.y", "<code>http&#58;//x.y www&#46;x.y</code>"),
        ("[a](b)\n\x1b", "<code>&#91;a&#93;(b)&#92;n&#92;x1b</code>"),
    ],
)
def test_escape_leaves_no_mark_with_a_meaning(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_hostile_text_stays_text(hostile: Result) -> None:
    text = render(hostile, "markdown")
    tags = set(re.findall(r"</?([a-z]+)", text))
    assert tags <= {"code", "details", "summary", "pre", "del", "ins", "i", "sub"}
    blocks = re.sub(r"<pre>.*?</pre>", "", text, flags=re.S)
    outside = re.sub(r"<code>.*?</code>", "", blocks)
    assert "@someone" not in blocks
    assert "evil" not in outside
    rows = [line for line in blocks.split("\n") if line.startswith("| <code>topic")]
    assert len(rows) == 8
    assert {line.count("|") for line in rows} == {7}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", text)
    assert "\\x1b[31mred" in text


def test_a_long_report_stays_below_the_comment_limit(failing: Result) -> None:
    comparison = failing.comparisons[0]
    rows = comparison.instances.assign(input="long words " * 500, response_old="a b " * 900, response_new="c d " * 900)
    many = tuple(replace(comparison, instances=rows, task=f"task{i}") for i in range(12))
    text = render(replace(failing, comparisons=many), "markdown")
    assert len(text) <= MAX_CHARACTERS + 200
    assert "left out" in text
    assert text.count("<details>") == text.count("</details>")


def test_several_comparisons_have_an_overview(several: Result) -> None:
    text = render(several, "markdown")
    assert "### Overview" in text
    assert "| <code>samsum/rouge1</code> | 200 | 91 (45.5 %) | 99 (49.5 %) | 0.4379 → 0.4456 |" in text
    assert "> [!NOTE]\n> The adapter names another base" in text or "> <code>The adapter names" in text
