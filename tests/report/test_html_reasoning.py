"""What a model thought before its answer, in the page: folded, searchable, and text whatever it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from compatcheck.compare.result import Result
from tests.report.test_html_browser import until

pytestmark = pytest.mark.browser


def test_reasoning_is_folded_beside_the_answers(open_report: Callable[..., Any], failing: Result) -> None:
    (only,) = failing.comparisons
    thought = "Adding <img src=x onerror=alert(1)> up"
    rows = only.instances.assign(reasoning_old=None, reasoning_new=[thought, *[None] * (len(only.instances) - 1)])
    page = open_report(replace(failing, comparisons=(replace(only, instances=rows),)))
    page.click('#quadrants [data-filter="all"]')
    page.fill("#search", "onerror")
    until(page, lambda: page.inner_text(".dt-info").startswith("1–1 of 1"))
    page.click("#instances tbody .row-id")
    folded = page.locator("#detail details", has_text="Reasoning, kept apart and not scored")
    assert folded.get_attribute("open") is None
    folded.locator("summary").click()
    assert folded.locator("h4").all_text_contents() == ["New, reasoning"]
    assert folded.locator("pre").inner_text() == thought
    assert page.locator("#detail img").count() == 0
