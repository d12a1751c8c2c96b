"""Pages of reports in headless Chromium: pictures to look at, and what a reader waits for and scrolls past.

python -m benchmarks.bench_pages FOLDER PAGE.html …

Of every page: a picture of each width and colour scheme in FOLDER, pixels from the top to the first broken answer,
seconds from navigation until it and until the first row of the list of instances are there.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from pathlib import Path
from typing import Any

WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
TALLEST = 4_000
"""Pixels of a page that a picture shows."""
BROKEN, ROW = ".text.new, .text.worse", "#instances tbody tr[data-row]"
WATCH = """
const wanted = %s;
window.seen = {};
const look = () => {
  for (const each of wanted) {
    const box = document.querySelector(each)?.getBoundingClientRect();
    if (!(each in window.seen) && box?.height) {
      window.seen[each] = {seconds: performance.now() / 1000, top: Math.round(box.top + window.scrollY)};
    }
  }
  requestAnimationFrame(look);
};
look();
"""


def open_page(browser: Any, path: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
    """A page that was loaded, and what it said or asked for that it should not."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, troubles = context.new_page(), list[str]()
    page.on("console", lambda message: troubles.append(message.text))
    page.on("request", lambda one: None if one.url.startswith(("file:", "data:")) else troubles.append(one.url))
    page.add_init_script(WATCH % [BROKEN, ROW])
    page.goto(path.resolve().as_uri())
    page.wait_for_timeout(1_500)
    return page, troubles


def main(folder: str, *pages: str) -> None:
    """Take the pictures and print a line for each."""
    from playwright.sync_api import sync_playwright

    Path(folder).mkdir(parents=True, exist_ok=True)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for path, width, scheme in itertools.product(map(Path, pages), WIDTHS, SCHEMES):
            page, troubles = open_page(browser, path, width, scheme)
            seen, high = page.evaluate("window.seen"), page.evaluate("document.documentElement.scrollHeight")
            wide = page.evaluate("document.documentElement.scrollWidth")
            name = f"{path.parent.name}-{width}-{scheme}"
            part = {"x": 0, "y": 0, "width": width, "height": min(high, TALLEST)}
            page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True, clip=part)
            found = [
                f"{each['top']} px, {each['seconds']:.2f} s" if (each := seen.get(one)) else "–"
                for one in (BROKEN, ROW)
            ]
            print(
                f"{name:<24} {path.stat().st_size / 1e6:4.1f} MB, {high:,} px{' SIDEWAYS' if wide > width else ''}; "
                f"broken answer {found[0]}; first row {found[1]} {'; '.join(troubles)}",
                flush=True,
            )
            page.context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
