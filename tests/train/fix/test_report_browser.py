"""The page of a fix in headless Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compatcheck_train.report.html import render_html
from tests.browser import SCREENS, browser, offline, sideways, violations
from tests.train.fix.conftest import Made
from tests.train.fix.test_report import smooth

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_axe_finds_no_violation_and_nothing_scrolls_sideways(made: Made, tmp_path: Path) -> None:
    import copy

    pages: dict[str, Any] = {"whole": made.report, "smooth": smooth(copy.deepcopy(made.report))}
    with browser() as chromium:
        for (name, report), (width, scheme) in ((each, screen) for each in pages.items() for screen in SCREENS):
            path = tmp_path / f"{name}.html"
            path.write_text(render_html(report), encoding="utf-8")
            with offline(chromium) as opened:
                page = opened(path, width, scheme, bypass_csp=True)
                assert (name, width, scheme, violations(page), sideways(page)) == (name, width, scheme, [], [])
