"""The HTML report in headless Chromium, with the network off."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.compare.kinds import KindCount
from compatcheck.compare.result import Result
from tests.browser import SCREENS, Open, sideways, violations

pytestmark = pytest.mark.browser


def ids(page: Any) -> list[str]:
    return page.locator("#instances tbody .row-id").all_inner_texts()  # type: ignore[no-any-return]


def info(page: Any) -> str:
    return page.inner_text(".dt-info")  # type: ignore[no-any-return]


def until(page: Any, condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait without evaluating a string in the page, which its content security policy forbids."""
    for _ in range(round(seconds * 50)):
        if condition():
            return
        page.wait_for_timeout(20)
    raise AssertionError("the page did not come to the expected state")


def choose_quadrant(page: Any, name: str) -> None:
    page.click(f'#quadrants [data-filter="{name}"]')


def test_filter_by_quadrant(open_report: Open, failing: Result) -> None:
    page = open_report(failing)
    assert info(page) == "1–12 of 41 (of 400)"  # negative flips come first
    for name, count in (("all", 400), ("positive_flip", 71), ("both_correct", 128), ("both_wrong", 160)):
        choose_quadrant(page, name)
        assert info(page).startswith(f"1–12 of {count}")
        assert page.get_attribute(f'[data-filter="{name}"]', "aria-pressed") == "true"
    page.click('.quadrant[data-quadrant="negative_flip"]')
    assert info(page) == "1–12 of 41 (of 400)"
    rows = failing.comparisons[0].negative_flips["doc_id"]
    assert ids(page) == [*rows.head(12)]


def test_search_finds_words_in_every_text(open_report: Open, failing: Result) -> None:
    page = open_report(failing)
    choose_quadrant(page, "all")
    rows = failing.comparisons[0].instances
    texts = rows[["doc_id", "input", "target", "prediction_old", "prediction_new", "response_old", "response_new",
                  "steps", "topic"]].astype(str).agg(" ".join, axis=1).str.lower()  # fmt: skip
    expected = int((texts.str.contains("biscuits") & texts.str.contains("money")).sum())
    assert 0 < expected < 400
    page.fill("#search", "Biscuits MONEY")
    until(page, lambda: info(page).endswith(f"of {expected} (of 400)"))
    page.fill("#search", "nothing-holds-this")
    until(page, lambda: info(page).startswith("none of 400"))
    assert "No instance passes the filters." in page.inner_text("#instances")
    page.click("#clear")
    assert info(page) == "1–12 of 400"


def test_sort_by_gain(open_report: Open, several: Result) -> None:
    page = open_report(several)  # samsum, as smooth scores are: the worst first
    worst = several.comparisons[2].negative_flips
    assert ids(page)[0] == worst.iloc[0]["doc_id"]
    assert worst.iloc[0]["gain"] == several.comparisons[2].instances["gain"].min()
    page.click('[data-show="2"]')
    choose_quadrant(page, "all")
    gains = several.comparisons[2].instances["gain"]
    header = page.locator("#instances thead th", has_text="Gain")
    cells = page.locator("#instances tbody td:nth-child(3)")

    def shown() -> list[float]:
        return [float(text.replace("−", "-")) for text in cells.all_inner_texts()]

    until(page, lambda: shown() == sorted(gains)[:12])
    assert header.get_attribute("aria-sort") == "ascending"
    header.click()
    until(page, lambda: shown() == sorted(gains, reverse=True)[:12])
    assert header.get_attribute("aria-sort") == "descending"


def test_an_instance_side_by_side_with_word_differences(open_report: Open, failing: Result) -> None:
    page = open_report(failing)
    row = failing.comparisons[0].negative_flips.iloc[2]
    page.locator("#instances tbody tr").nth(2).click()
    detail = page.locator("#detail")
    assert detail.locator("h3").inner_text() == row["doc_id"]
    boxes = detail.locator(".columns").first.locator(".text")
    assert boxes.locator("h4").all_text_contents() == ["Target", "Old", "New"]
    assert boxes.locator("pre").all_inner_texts() == [row["target"], row["prediction_old"], row["prediction_new"]]
    left, right, third = (boxes.nth(i).bounding_box() for i in range(3))
    assert left["y"] == right["y"] == third["y"]
    assert left["x"] < right["x"] < third["x"]
    responses = detail.locator(".columns.pair .text")
    assert responses.nth(0).locator("pre").inner_text() == row["response_old"]
    assert f"there are {row['prediction_old']} left" in responses.nth(0).locator("del").all_inner_texts()
    assert f"{row['prediction_new']} remain" in responses.nth(1).locator("ins").all_inner_texts()
    detail.get_by_role("button", name="each ↔ target").click()
    assert boxes.nth(1).locator("ins").count() == 0  # old is the target
    assert boxes.nth(2).locator("ins").all_inner_texts() == [row["prediction_new"]]


def test_the_keyboard_walks_through_the_list(open_report: Open, failing: Result) -> None:
    page = open_report(failing)
    expected = list(failing.comparisons[0].negative_flips["doc_id"])
    page.locator("#instances tbody tr").first.focus()
    page.keyboard.press("Enter")
    for _ in range(13):
        page.keyboard.press("ArrowDown")
    assert page.locator("#detail h3").inner_text() == expected[13]
    assert info(page).startswith("13–24")
    page.keyboard.press("ArrowUp")
    assert page.locator("#detail h3").inner_text() == expected[12]
    page.get_by_role("button", name="Next instance").click()
    assert page.locator("#detail h3").inner_text() == expected[13]


def test_filter_by_slice_and_by_change(open_report: Open, failing: Result) -> None:
    page = open_report(failing)
    choose_quadrant(page, "all")
    rows = failing.comparisons[0].instances
    page.select_option("#field", label="topic")
    page.select_option("#value", label=f"money ({int((rows['topic'] == 'money').sum())})")
    assert info(page).startswith(f"1–12 of {int((rows['topic'] == 'money').sum())} ")
    page.check("#changed")
    both = int(((rows["topic"] == "money") & rows["changed"]).sum())
    assert info(page).startswith(f"1–12 of {both} ")


def with_kinds(result: Result) -> Result:
    """The same with kinds of failure, as a comparison has them: every third flip a refusal."""
    comparison = result.comparisons[0]
    flips = comparison.instances["quadrant"] == "negative_flip"
    kinds = ["refused" if place % 3 == 0 else "number" for place in range(int(flips.sum()))]
    rows = comparison.instances.assign(failure_kind=None)
    rows.loc[flips, "failure_kind"] = kinds
    counts = tuple(KindCount(kind, kinds.count(kind)) for kind in ("number", "refused"))
    return replace(result, comparisons=(replace(comparison, instances=rows, kinds=counts), *result.comparisons[1:]))


def test_kinds_of_failure_filter(open_report: Open, failing: Result) -> None:
    page = open_report(with_kinds(failing))
    buttons = page.locator(".kinds button")
    assert buttons.all_inner_texts() == ["another number 27", "refused 14"]
    buttons.nth(1).click()
    assert info(page) == "1–12 of 14 (of 400)"
    assert page.input_value("#kind") == "refused"
    page.select_option("#kind", "number")
    assert info(page) == "1–12 of 27 (of 400)"
    page.click("#clear")
    assert info(page) == "1–12 of 400"


def test_what_broke_is_there_before_any_table_and_leads_into_the_list(open_report: Open, failing: Result) -> None:
    page = open_report(with_kinds(failing))
    cards = page.locator(".broken .flip")
    assert cards.count() == 5
    assert cards.locator(".badge").all_inner_texts() == ["another number", "refused"] * 2 + ["another number"]
    first = page.locator(".broken .text.new").first.bounding_box()["y"]
    assert first < 900, "the first broken answer is on the first screen"
    assert first < page.locator("table").first.bounding_box()["y"]
    link = cards.nth(1).locator("a.flip-id")
    link.click()
    until(page, lambda: page.inner_text("#detail h3") == link.inner_text())
    term = page.locator(".comparison.current .term").first
    term.focus()  # the glossary works by keyboard
    assert term.locator(".tip").is_visible()


def test_errors_are_a_bucket_of_their_own(open_report: Open, errors: Result) -> None:
    page = open_report(errors)
    choose_quadrant(page, "error")
    assert len(ids(page)) == 4
    assert "New failed: HTTP 500: upstream timed out" in page.inner_text("#detail")
    choose_quadrant(page, "both_wrong")
    page.fill("#search", "")
    assert "∅" in page.inner_text("#instances")


def test_the_theme_follows_the_system_and_the_button(open_report: Open, failing: Result) -> None:
    def background(page: Any) -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")  # type: ignore[no-any-return]

    page = open_report(failing)
    assert background(page) == "rgb(246, 247, 249)"
    page.click("#theme")
    assert background(page) == "rgb(15, 18, 22)"
    assert page.inner_text("#theme .label") == "Light"
    page.reload()
    page.wait_for_selector("#instances tbody tr")
    assert background(page) == "rgb(15, 18, 22)"  # the choice is remembered
    dark = open_report(failing, scheme="dark")
    assert background(dark) == "rgb(15, 18, 22)"
    dark.click("#theme")
    assert background(dark) == "rgb(246, 247, 249)"


@pytest.mark.parametrize("name", ["failing", "several", "hostile", "errors"])
def test_a_telephone_needs_no_sideways_scrolling(open_report: Open, name: str, request: pytest.FixtureRequest) -> None:
    page = open_report(request.getfixturevalue(name), width=390)
    assert sideways(page) == []  # every column is seen, the verdicts among them
    page.locator("#instances tbody tr").nth(1).click()
    until(page, lambda: abs(page.locator("#detail").bounding_box()["y"]) < 40)
    tops = [box.bounding_box() for box in page.locator("#detail .columns").first.locator(".text").all()]
    assert tops[0]["x"] == tops[1]["x"] == tops[2]["x"]
    assert tops[0]["y"] < tops[1]["y"] < tops[2]["y"]


def test_hostile_text_is_shown_and_never_run(open_report: Open, hostile: Result) -> None:
    page = open_report(hostile)
    page.fill("#search", "<img onerror")
    page.wait_for_timeout(300)
    assert info(page) == "1–12 of 12"
    for _ in range(3):
        page.get_by_role("button", name="Next instance").click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    shown = page.inner_text("#detail")
    for part in (
        "</script><script>window.hacked=1</script><img src=x",
        "[/red][bold]{{ 7*7 }}",
        "\\x1b[31mred",
        "\\u202e",
    ):
        assert part in shown


def test_twelve_thousand_instances_stay_usable(open_report: Open, large: Callable[[int], Result]) -> None:
    page = open_report(large(12_000))
    choose_quadrant(page, "all")
    assert info(page) == "1–12 of 12,000"
    assert page.locator("#instances tbody tr").count() == 12  # rows are made when they are shown
    took = page.evaluate(
        """async () => {
            const start = performance.now();
            document.querySelector("#search").value = "cookies";
            document.querySelector("#search").dispatchEvent(new Event("input"));
            while (!document.querySelector(".dt-info").textContent.includes("(of 12,000)")) {
                await new Promise((resolve) => setTimeout(resolve, 10));
            }
            return performance.now() - start;
        }"""
    )
    assert took < 3000
    page.click('[data-show="1"]')
    assert page.locator(".comparison.current h2").inner_text() == "samsum/rouge1"


def detail_id(page: Any) -> str:
    return page.locator("#detail h3").inner_text()  # type: ignore[no-any-return]


def test_keys_step_filter_search_and_help(open_report: Open, failing: Result) -> None:
    page = open_report(failing)
    rows = failing.comparisons[0].instances
    negative = list(failing.comparisons[0].negative_flips["doc_id"])
    assert detail_id(page) == negative[0]
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert detail_id(page) == negative[2]
    page.keyboard.press("k")
    assert detail_id(page) == negative[1]
    assert page.inner_text("#status") == f"Instance {negative[1]}"  # read out by a screen reader
    for key, name in (("2", "positive_flip"), ("3", "both_wrong"), ("4", "both_correct"), ("1", "negative_flip")):
        page.keyboard.press(key)
        assert page.get_attribute(f'[data-filter="{name}"]', "aria-pressed") == "true"
        assert info(page).startswith(f"1–12 of {int((rows['quadrant'] == name).sum())} ")
    page.keyboard.press("0")
    assert info(page) == "1–12 of 400"
    page.keyboard.press("/")
    page.keyboard.type("j 1")  # in the field a key is a letter
    assert page.input_value("#search") == "j 1"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("j")  # the help is modal
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    page.click("#help")
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#keys").is_visible()


def test_keys_of_a_smooth_comparison(open_report: Open, several: Result) -> None:
    page = open_report(several)
    page.keyboard.press("3")
    assert page.get_attribute('[data-filter="unchanged"]', "aria-pressed") == "true"


def test_it_opens_on_the_worst_comparison(open_report: Open, several: Result, failing: Result) -> None:
    page = open_report(several)  # by the negative flip rate: samsum has 45.5 %
    assert page.locator(".comparison.current h2").inner_text() == "samsum/rouge1"
    worse = replace(several, comparisons=(*several.comparisons, replace(failing.comparisons[0], task="gated")))
    page = open_report(worse)  # a broken budget comes before any rate
    assert page.locator(".comparison.current h2").inner_text() == "gated/flexible-extract/exact_match"
    assert page.get_attribute('[data-show="3"]', "aria-current") == "true"


def test_an_instance_has_an_address(open_report: Open, several: Result) -> None:
    page = open_report(several)
    assert "#" not in page.url  # as long as nothing was chosen
    page.click('[data-show="1"]')
    page.keyboard.press("j")
    chosen = detail_id(page)
    address = f"#gsm8k/flexible-extract/exact_match/{chosen}"
    assert page.url.endswith(address)
    assert page.get_attribute("#detail a", "href") == address
    other = several.comparisons[0].instances
    correct = str(other["doc_id"][other["quadrant"] == "both_correct"].iloc[20])
    page.goto(f"{page.url.partition('#')[0]}#gsm8k/strict-match/exact_match/{correct}")
    until(page, lambda: detail_id(page) == correct)
    assert page.locator(".comparison.current h2").inner_text() == "gsm8k/strict-match/exact_match"
    page.reload()
    page.wait_for_selector("#instances tbody tr")
    assert detail_id(page) == correct
    page.goto(f"{page.url.partition('#')[0]}#gsm8k/strict-match/exact_match/nowhere")
    until(page, lambda: page.inner_text("#status") == "Instance nowhere is not in this file.")
    page.goto(f"{page.url.partition('#')[0]}#%E0%A4%A/x/y/z")  # no valid encoding: nothing happens
    page.reload()
    page.wait_for_selector("#instances tbody tr")


def test_hostile_ids_and_tasks_make_addresses_too(open_report: Open, hostile: Result) -> None:
    named = replace(hostile.comparisons[0], task='t/#%"><script>', filter="a/b")
    page = open_report(replace(hostile, comparisons=(named,)))
    page.keyboard.press("j")
    chosen, url = detail_id(page), page.url
    assert url.partition("#")[2].count("/") == 3
    page.goto("about:blank")
    page.goto(url)
    page.wait_for_selector("#instances tbody tr")
    assert detail_id(page) == chosen
    assert page.evaluate("window.hacked") is None


def test_the_link_is_copied(open_report: Open, failing: Result) -> None:
    page = open_report(failing)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("link", name="Link").click()
    until(page, lambda: page.inner_text("#status") == "The link to this instance is copied.")
    assert page.url.endswith(f"#gsm8k/flexible-extract/exact_match/{detail_id(page)}")
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_print_shows_every_comparison_in_light_colours(open_report: Open, several: Result) -> None:
    page = open_report(several, scheme="dark")
    assert page.locator(".comparison:visible").count() == 1
    page.emulate_media(media="print")
    assert page.locator(".comparison:visible").count() == 3
    for part in ("#theme", "#tools", ".list", ".detail-nav", ".jump", "#help"):
        assert not page.locator(part).first.is_visible()
    assert page.locator("#detail h3").is_visible()  # the chosen instance is printed
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


AXE = [(name, *screen) for name in ("failing", "several") for screen in SCREENS]


@pytest.mark.parametrize(("name", "width", "scheme"), [*AXE, ("hostile", 390, "light"), ("errors", 390, "dark")])
def test_axe_finds_no_violation(
    open_report: Open, name: str, width: int, scheme: str, request: pytest.FixtureRequest
) -> None:
    page = open_report(request.getfixturevalue(name), width, scheme, bypass_csp=True)
    assert violations(page, "() => document.querySelector('#keys').showModal()") == []


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_long_answers_can_be_scrolled_and_figures_beside_them_fit(
    open_report: Open, width: int, scheme: str, tmp_path: Path
) -> None:
    for side, wrong in (("old", 0), ("new", 7)):
        rows = [
            {"id": n, "target": str(n), "prediction": "So:\n" * (n % 3 * 40) + str(n + (n < wrong)), "cost": 0.01 * n}
            for n in range(60)
        ]
        (tmp_path / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = compatcheck.diff(tmp_path / "old.jsonl", tmp_path / "new.jsonl", extract=r"(\d+)$")
    page = open_report(result, width, scheme, bypass_csp=True)
    stops = page.locator(".flip .text pre[tabindex]")
    assert 0 < stops.count() < page.locator(".flip .text pre").count()
    assert sideways(page) == []
    assert violations(page) == []
