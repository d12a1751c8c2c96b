"""200 hostile texts wherever a report shows text, in headless Chromium: nothing runs or is asked for, all is shown."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest

from compatcheck.compare.result import Advice, BlessedRun, BlessedScore, Gate, Result
from compatcheck.report import notebook_fragment, save
from compatcheck.report.text import safe_text

pytestmark = pytest.mark.browser

JS = "window.hacked=alert(1)"
ATTACKS = (
    f"<script>{JS}</script>", f"<img src=x onerror={JS}>", f"<svg onload={JS}></svg>",
    f"<svg><script>{JS}</script></svg>", f"<iframe srcdoc='<script>{JS}</script>'></iframe>",
    f"<iframe src='javascript:{JS}'></iframe>", f"<a href='javascript:{JS}'>x</a>", f"<body onload={JS}>",
    f"<details open ontoggle={JS}>x</details>", f"<video><source onerror={JS}></video>",
    f"<object data='javascript:{JS}'></object>", "<embed src='http://a.invalid'>",
    "<link rel=stylesheet href=http://a.invalid/a.css>", "<style>@import 'http://a.invalid/a.css';</style>",
    "<div style='background:url(http://a.invalid/a.png)'>x</div>", "<base href=http://a.invalid>",
    "<meta http-equiv=refresh content='0;url=http://a.invalid'>",
    f"<form action=http://a.invalid><input autofocus onfocus={JS}></form>",
    f"<math><mi xlink:href='javascript:{JS}'>x</mi></math>", f"<template><script>{JS}</script></template>",
    "{{ ().__class__.__mro__ }}{% raw %}", f"<!--><script>{JS}</script>-->",
    f"<xmp><p title='</xmp><img src=x onerror={JS}>'>",
    f"\x00<scr\x00ipt>{JS}</script>\x1b[2J\u202e\ud800", f"<noscript><p title='</noscript><img src=x onerror={JS}>'>",
)  # fmt: skip
AROUND = (
    ("", ""), ("</script>", ""), ("</style></title>", ""), ('">', ""), ("' ", " '"), ("</pre></code></td></table>", ""),
    ("]]>", "<![CDATA["), ("a\n\n", "\n``` | $x$ ::error::x ##[group]"),
)  # fmt: skip
TEXTS = [f"{before}{attack}{after}" for attack, (before, after) in itertools.product(ATTACKS, AROUND)]
ELEMENTS = """
    html head meta title link style body a header span svg rect path g text line main section h1 h2 h3 h4 p div strong
    code details summary dl dt dd table caption thead tr th tbody tfoot td button colgroup col dialog kbd form label
    select option input noscript article pre b ul li script nav del ins
"""
"""All that a report is made of; an element of a hostile text is none of them or has nothing that acts."""


@pytest.fixture
def attacked(failing: Result) -> Result:
    comparison = failing.comparisons[0]
    rows = comparison.instances.head(len(TEXTS)).reset_index(drop=True)
    texts = ("doc_id", "input", "target", "prediction_old", "prediction_new", "response_old", "response_new", "topic",
             "error_old")  # fmt: skip
    for place, column in enumerate(texts):
        turned = TEXTS[place:] + TEXTS[:place]
        rows[column] = pd.Series(
            [f"{text} {number}" if column == "doc_id" else text for number, text in enumerate(turned)], dtype=object
        )
    rows["quadrant"] = "negative_flip"
    some = iter(itertools.cycle(TEXTS))
    undefined = replace(comparison.metrics["nfr"], value=None, why=next(some))
    named = replace(
        comparison, task=next(some), filter=next(some), metric=next(some), instances=rows, n=len(rows),
        signature=next(some), tests={next(some): 0.5},
        quadrants={"both_correct": 0, "positive_flip": 0, "negative_flip": len(rows), "both_wrong": 0},
        gates=tuple(Gate(next(some), "fail", next(some)) for _ in range(20)),
        metrics={**comparison.metrics, next(some): comparison.metrics["nfr"], "bec": undefined},
        slices=tuple(replace(comparison.slices[0], field=next(some), value=next(some)) for _ in range(20)),
        pairing=replace(comparison.pairing, only_old=3, key=next(some), examples={"only_old": tuple(TEXTS[:2])}),
    )  # fmt: skip
    score = BlessedScore(named.task, named.filter, named.metric, 0.5, 0.4, 0.6, 10)
    side = replace(
        failing.old, reference=next(some), fingerprint=next(some), kind=next(some), engine={next(some): next(some)}
    )
    return replace(
        failing, old=side, new=replace(side, reference=next(some)), comparisons=(named, replace(named, task="another")),
        notes=tuple(TEXTS), command=next(some), version=next(some), advice=Advice("major", next(some)),
        history=tuple(BlessedRun(next(some), next(some), next(some), next(some), True, (score,)) for _ in range(3)),
    )  # fmt: skip


def test_there_are_two_hundred() -> None:
    assert len(set(TEXTS)) == 200


def test_nothing_runs_and_everything_is_shown(open_report: Callable[..., Any], attacked: Result) -> None:
    page = open_report(attacked)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    rows = attacked.comparisons[0].instances
    for number in range(len(TEXTS)):
        shown = page.locator("#detail h3, #detail pre").all_text_contents()
        expected = ["doc_id", "input", "target", "prediction_old", "prediction_new", "response_old", "response_new"]
        assert shown == [safe_text(rows[name].iloc[number], multiline=True) for name in expected]
        if number % 50 == 0:
            page.get_by_role("button", name="each ↔ target").click()
            page.get_by_role("button", name="old ↔ new").click()
        page.keyboard.press("j")
    page.fill("#search", "<script>")
    page.select_option("#field", index=2)
    page.select_option("#value", index=3)
    page.click("#clear")
    page.click('[data-show="1"]')
    page.emulate_media(media="print")
    names = "[...document.querySelectorAll('*')].map((each) => [each.localName, ...each.getAttributeNames()])"
    found = page.evaluate(names)
    assert {name for name, *_ in found} <= set(ELEMENTS.split())
    assert not [name for _, *names in found for name in names if name.startswith("on")]
    assert page.evaluate("document.scripts.length") == 2  # its own; the instances were unpacked and removed
    assert page.evaluate("typeof window.hacked") == "undefined"
    links = page.evaluate("[...document.querySelectorAll('[href]')].map((each) => each.getAttribute('href'))")
    assert all(link.startswith(("#", "data:,")) for link in links)


def test_pieces_for_other_pages_and_pictures_run_nothing(chromium: Any, attacked: Result, tmp_path: Path) -> None:
    save(attacked, tmp_path, ["svg"])
    (tmp_path / "cell.html").write_text(f"<!doctype html><meta charset=utf-8>{notebook_fragment(attacked)}")
    context = chromium.new_context()
    context.set_offline(True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    for name in ("cell.html", "report.svg"):
        page.goto((tmp_path / name).as_uri())
        assert page.evaluate("typeof window.hacked") == "undefined"
    assert [url.rpartition("/")[2] for url in asked] == ["cell.html", "report.svg"]
    context.close()


def longest_common_subsequence(one: list[str], other: list[str]) -> int:
    table = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, against in enumerate(other, 1):
            diagonal, table[place] = (
                table[place],
                diagonal + 1 if word == against else max(table[place], table[place - 1]),
            )
    return table[-1]


def test_word_differences_are_the_shortest(chromium: Any) -> None:
    """The page's own difference keeps as many words as a longest common subsequence has, and loses none."""
    source = (files("compatcheck.report") / "assets" / "worddiff.js").read_text(encoding="utf-8")
    random = Random(5)
    pairs = [[random.choices("abcd", k=random.randrange(12)) for _ in range(2)] for _ in range(500)]
    pairs += [[[], []], [list("abc"), []], [[], list("abc")], [list("abc"), list("abc")]]
    page = chromium.new_page()
    found = page.evaluate(f"(pairs) => {{ {source}; return pairs.map(([a, b]) => diffWords(a, b)); }}", pairs)
    page.close()
    for (before, after), parts in zip(pairs, found, strict=True):
        kept = [word for part in parts if not part["removed"] and not part["added"] for word in part["value"]]
        assert [word for part in parts if not part["added"] for word in part["value"]] == before
        assert [word for part in parts if not part["removed"] for word in part["value"]] == after
        assert len(kept) == longest_common_subsequence(before, after)
