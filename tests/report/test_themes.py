"""Themes as reports say and show them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from compatcheck.compare.result import Result
from compatcheck.compare.themes import Sides, Theme, Themes
from compatcheck.report import render, themes
from compatcheck.report.browse import select
from tests.browser import SCREENS, Open, sideways, violations
from tests.report.conftest import HOSTILE

LONG = "answers-with-a-bare-number-and-no-unit-whatsoever-" + "x" * 10
HELD = Theme(
    "drops the unit", "The answer gives a number without its unit.", "number", 27, 8, Sides(14, 1, 4, 0),
    Sides(2, 1, 14, 2), True, 0.0005, 0.001,
)  # fmt: skip
FAILED = Theme("too polite", "The answer apologises.", "refused", 14, 7, Sides(2, 2, 3, 0), None, False, 0.69, 0.69)
UNREAD = replace(FAILED, name="x", p=None, p_adjusted=None, why="of 7 held-out pairs 2 could be judged: too few")


def with_themes(result: Result, *found: Theme, notes: tuple[str, ...] = ()) -> Result:
    """The same with themes, those that hold found in the first flips."""
    comparison = result.comparisons[0]
    column = pd.Series(None, index=comparison.instances.index, dtype=object)
    flips = comparison.instances.index[comparison.instances["quadrant"] == "negative_flip"]
    for each in found:
        if each.holds:
            column.loc[flips[: each.held_out.new]] = each.name
            flips = flips[each.held_out.new :]
    said = Themes("http://judge.example/v1#judge", found, notes)
    comparison = replace(comparison, instances=comparison.instances.assign(failure_theme=column), themes=said)
    return replace(result, comparisons=(comparison, *result.comparisons[1:]))


def test_only_what_holds_is_a_finding_and_the_rest_is_counted(failing: Result) -> None:
    (comparison, *_) = with_themes(failing, HELD, FAILED, UNREAD, notes=("9 that got worse: too few",)).comparisons
    (finding,) = themes.findings(comparison)
    assert (finding.name, finding.answers) == ("drops the unit", 14)
    assert finding.evidence == (
        "New alone in 14 of 19 held-out flips, old alone in 1; p = 0.001 corrected; where nothing flipped in 2 of 17; "
        "2 pairs without a readable verdict."
    )
    assert themes.rest(comparison) == (
        "1 proposed theme did not hold; 1 proposed theme was not tested: of 7 held-out pairs 2 could be judged: too "
        "few; 9 that got worse: too few"
    )


def test_every_format_for_people_has_them_beside_the_kinds_of_failure(failing: Result) -> None:
    result = with_themes(failing, HELD, FAILED)
    for format in ("terminal", "markdown", "html"):
        text = " ".join(render(result, format).split())
        assert "drops the unit" in text and "New alone in 14 of 19 held-out flips" in text, format
        assert "1 proposed theme did not hold" in text and "too polite" not in text, format
    plain = render(failing, "terminal") + render(failing, "markdown")
    assert "Theme" not in plain and "judge" not in plain


def test_a_theme_is_found_by_the_search_of_the_pager(failing: Result) -> None:
    assert len(select(with_themes(failing, HELD), [0], "all", "drops unit")) == 14


def info(page: Any) -> str:
    return page.inner_text(".dt-info")  # type: ignore[no-any-return]


@pytest.mark.browser
def test_a_theme_is_a_filter_of_the_browser(open_report: Open, failing: Result) -> None:
    page = open_report(with_themes(failing, HELD, replace(HELD, name=HOSTILE, held_out=Sides(9, 0, 0, 0)), FAILED))
    buttons = page.locator(".themes button")
    assert buttons.count() == 2
    buttons.first.click()
    assert info(page) == "1–12 of 14 (of 400)"
    assert page.input_value("#kind") == "drops the unit"
    assert "theme drops the unit" in page.inner_text("#detail")
    buttons.nth(1).click()
    assert info(page) == "1–9 of 9 (of 400)"
    page.click("#clear")
    assert info(page) == "1–12 of 400"
    assert page.evaluate("window.hacked") is None


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_long_names_of_themes_fit(open_report: Open, failing: Result, width: int, scheme: str) -> None:
    result = with_themes(failing, replace(HELD, name=LONG), FAILED, notes=("y" * 200,))
    page = open_report(result, width, scheme, bypass_csp=True)
    assert sideways(page) == []
    assert violations(page) == []
