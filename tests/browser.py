"""Headless Chromium for tests of pages: what a page must never say or ask for, and what axe finds in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCREENS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
Open = Callable[..., Any]


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium; a test without it is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), "")
    if not path:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@contextmanager
def offline(chromium: Any) -> Iterator[Open]:
    """Opens files; at the end no console message, error or request beyond the file may have occurred."""
    troubles: list[str] = []
    contexts = []

    def opened(path: Path, width: int = 1280, scheme: str = "light", *, bypass_csp: bool = False) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=bypass_csp
        )
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else troubles.append(r.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def violations(page: Any, *states: str) -> list[tuple[str, str, str]]:
    """What axe finds in a page, and in each state that one of ``states``, a function of JavaScript, brings it to.

    axe is put into the page, which its content security policy forbids: it is opened with ``bypass_csp``.
    """
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    page.add_script_tag(path=str(Path(package.__file__).with_name("axe.min.js")))
    problems = []
    for prepare in ("() => {}", *states):
        page.evaluate(prepare)
        found = page.evaluate("axe.run({resultTypes: ['violations']})")
        assert len(found["passes"]) >= 10
        problems += [
            (each["id"], node["html"][:160], node["failureSummary"])
            for each in found["violations"]
            for node in each["nodes"]
        ]
    return problems


def sideways(page: Any) -> list[str]:
    """What of a page is wider than the window, and tables that scroll sideways."""
    wide = ["the page"] if page.evaluate("document.documentElement.scrollWidth > window.innerWidth") else []
    return wide + [
        table.get_attribute("aria-label")
        for table in page.locator(".scroll:visible").all()
        if not table.evaluate("each => each.scrollWidth <= each.clientWidth")
    ]
