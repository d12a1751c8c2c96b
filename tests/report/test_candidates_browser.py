"""The page of several candidates in headless Chromium: every answer to every instance, searched and filtered."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from compatcheck import diff
from compatcheck.compare.candidates import Candidates, rows_of
from tests.browser import SCREENS, Open, sideways, violations
from tests.report.conftest import HOSTILE, sentence
from tests.report.test_html_browser import detail_id, ids, info, until

pytestmark = pytest.mark.browser
TASKS = {"sums": "exact_match", "words": "exact_match"}


def write(path: Path, right: float, seed: int, n: int = 150, text: str = "") -> str:
    """Rows of two tasks: answers in a sentence; of the last row of a task an error with every seventh file."""
    rng, rows = random.Random(seed), []
    for task in TASKS:
        for number in range(n):
            answer = number % 40 if rng.random() < right else 100 + rng.randint(0, 9)
            said = f"{sentence(rng, 9)}{text} The answer is {answer}"
            row = {"task": task, "id": f"{task[0]}{number}", "input": f"Question {number} of {task}{text}",
                   "target": f"{number % 40}", "prediction": said, "level": number % 3}  # fmt: skip
            rows.append({**row, "error": "timed out"} if seed == 7 and number == n - 1 else row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def several(folder: Path, count: int, **options: Any) -> Candidates:
    sides = [write(folder / f"side{seed}.jsonl", 0.9 - 0.1 * (seed % 3), seed, **options) for seed in range(count + 1)]
    found: Any = diff(sides[0], sides[1:], metric="exact_match", extract=r"answer is (\d+)", fail_on="nfr:10%")
    assert isinstance(found, Candidates)
    return found


@pytest.fixture
def five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Candidates:
    monkeypatch.chdir(tmp_path)
    return several(tmp_path, 5)


def first_comparison(page: Any) -> str:
    return str(page.locator(".comparison.current h2").inner_text())


def test_every_instance_has_a_row_with_all_answers_those_broken_most_first(open_report: Open, five: Candidates) -> None:
    page = open_report(five)
    rows = rows_of(five, first_comparison(page))
    worse = [row for row in rows if row.broken]
    assert info(page) == f"1–12 of {len(worse)} (of 150)"
    assert ids(page) == [row.doc_id for row in worse[:12]]
    shown = page.locator("#instances tbody tr td:first-child").all_inner_texts()
    assert shown == [f"{row.broken} of 5" for row in worse[:12]]
    signs = {"negative_flip": "−", "positive_flip": "+", "both_correct": "=", "both_wrong": "×"}
    expected = [f"{signs[answer.quadrant or '']}{n}" for n, answer in enumerate(worse[0].answers, 1) if answer]
    assert page.locator("#instances tbody tr").first.locator(".mark [aria-hidden]").all_inner_texts() == expected
    boxes = page.locator("#detail .every > .text")
    texts = [text.partition("\n")[0] for text in boxes.locator("> pre, > .none").all_inner_texts()]
    given = ["∅ no answer" if answer is None or answer.text is None else answer.text for answer in worse[0].answers]
    assert texts == [worse[0].target, worse[0].old, *given]
    assert boxes.nth(2).locator("h4").inner_text() == f"1 side1.jsonl {signs[worse[0].answers[0].quadrant]} " + (
        "worse" if worse[0].answers[0].quadrant == "negative_flip" else "both correct"
    )
    boxes.nth(3).locator("summary").click()  # one unfolds all
    until(page, lambda: page.locator("#detail .every details[open]").count() == 6)
    page.get_by_role("button", name="Next instance").click()
    until(page, lambda: page.locator("#detail .every details[open]").count() == 6)


def test_worse_in_one_candidate_search_slices_and_the_other_task(open_report: Open, five: Candidates) -> None:
    page = open_report(five)
    rows = rows_of(five, first_comparison(page))
    for place in range(5):
        page.click(f'#quadrants [data-filter="{place}"]')
        mine = [row.doc_id for row in rows if row.answers[place] and row.answers[place].quadrant == "negative_flip"]
        assert info(page).endswith(f"of {len(mine)} (of 150)")
        assert ids(page) == mine[:12]
    page.keyboard.press("0")
    assert info(page) == "1–12 of 150"
    page.keyboard.press("2")
    assert page.get_attribute('[data-filter="1"]', "aria-pressed") == "true"
    assert page.get_attribute('[data-filter="1"] span', "title") == "side2.jsonl"
    page.click("#clear")
    texts = [
        one.instances.set_index("doc_id")[["input", "response_old", "response_new"]].astype(str).agg(" ".join, axis=1)
        for result in five.results for one in result.comparisons if one.name == first_comparison(page)
    ]  # fmt: skip
    held = sum(texts[1:], start=texts[0]).str.lower()
    expected = int((held.str.contains("cookies") & held.str.contains("taxi") & held.str.contains("liberals")).sum())
    assert 0 < expected < 150
    page.fill("#search", "cookies TAXI liberals")
    until(page, lambda: info(page).endswith(f"of {expected} (of 150)"))
    page.click("#clear")
    page.select_option("#field", label="level")
    page.select_option("#value", label="2 (50)")
    assert info(page) == "1–12 of 50 (of 150)"
    other = 1 - int(page.get_attribute("main", "data-first"))
    page.click(f'[data-show="{other}"]')
    assert first_comparison(page) == f"{list(TASKS)[other]}/exact_match"
    assert page.get_attribute(f'[data-show="{other}"]', "aria-current") == "true"


def test_keys_and_addresses(open_report: Open, five: Candidates) -> None:
    page = open_report(five)
    name = first_comparison(page)
    worse = [row.doc_id for row in rows_of(five, name) if row.broken]
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert detail_id(page) == worse[1]
    address = f"#{name.split('/')[0]}/none/exact_match/{worse[1]}"
    assert page.url.endswith(address)
    page.reload()
    page.wait_for_selector("#instances tbody tr")
    assert detail_id(page) == worse[1]
    link = page.locator(".broken a.flip-id").nth(2)
    assert link.inner_text() == worse[2]
    link.click()
    until(page, lambda: detail_id(page) == worse[2])


def test_a_candidate_that_lacks_or_fails_an_instance(
    open_report: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = write(tmp_path / "old.jsonl", 0.9, 1)
    failed, short = write(tmp_path / "failed.jsonl", 0.9, 7), write(tmp_path / "short.jsonl", 0.9, 2, n=140)
    page = open_report(diff(old, [failed, short], metric="exact_match", extract=r"answer is (\d+)"))
    page.keyboard.press("0")
    page.fill("#search", "s149")
    until(page, lambda: info(page) == "1–1 of 1 (of 150)")
    said = [[*filter(None, text.split("\n"))] for text in page.locator("#detail .every > .text").all_inner_texts()]
    assert said[2] == ["1 failed.jsonl ! not scored", "timed out", "29", "Whole text"]
    assert said[3] == ["2 short.jsonl · not compared", "not compared"]


def test_hostile_text_is_shown_and_never_run(
    open_report: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = open_report(several(tmp_path, 2, text=HOSTILE.replace("\ud800", "")), width=390)
    page.keyboard.press("j")
    page.locator("#detail .every summary").first.click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert "</script><script>window.hacked=1</script><img src=x" in page.inner_text("#detail")
    assert "\\x1b[31mred" in page.inner_text("#detail")
    assert sideways(page) == []


@pytest.mark.parametrize(("width", "scheme", "count"), [(*screen, 5) for screen in SCREENS] + [(390, "light", 2)])
def test_axe_finds_no_violation_and_nothing_scrolls_sideways(
    open_report: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, scheme: str, count: int
) -> None:
    monkeypatch.chdir(tmp_path)
    page = open_report(several(tmp_path, count), width, scheme, bypass_csp=True)
    assert violations(page, "() => document.querySelector('#keys').showModal()") == []
    page.keyboard.press("Escape")
    assert sideways(page) == []
    first = page.locator(".broken .text.worse").first.bounding_box()["y"]
    assert first < page.locator("table").first.bounding_box()["y"], "a broken answer comes before any table"
