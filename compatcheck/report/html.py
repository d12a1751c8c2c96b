"""The report as one HTML file that needs nothing else: no network, no server, no other file.

Pictures are SVG in the page. The instance browser is DataTables (from the itables package), embedded; a content
security policy forbids every request and every other script. The instances are one block of ``embedded``.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from compatcheck.compare.result import Comparison, Result
from compatcheck.report import charts, content, figures, headline, looks, sections, themes, trend
from compatcheck.report.embedded import payload
from compatcheck.report.instances import telling_flips, which_flips
from compatcheck.report.text import safe_text, trim_middle
from compatcheck.report.worddiff import Segment, side_by_side, trim_segments

if TYPE_CHECKING:
    from jinja2 import Environment

PICTURED = 100
"""Comparisons that have pictures, those that matter most: each takes a few hundredths of a second to draw."""
BROKEN = 5
"""Flips at the top of the page, of the comparison that matters most."""
SHOWN = 1_500
"""Characters of one text of theirs."""


def render(result: Result, *, folder: Path | None = None) -> str:
    """Return the whole file as text. Every text of the user's data in it is escaped or data, never markup or code."""
    del folder  # the next step is not to make this page
    packed, remarks = payload(result)
    first = content.worst_comparison(result)
    return _page(
        "report.html.j2",
        result,
        first=first,
        broken=telling_flips(result.comparisons[first], BROKEN) if result.comparisons else [],
        pictured=content.most_important(result, PICTURED),
        remarks=remarks,
        payload=packed,
        css=_asset("report.css"),
        steps=content.next_steps(result, browsing=True),
        **scripts_of("pair.js"),
    )


def scripts_of(name: str) -> dict[str, list[str]]:
    """The scripts of a page with a browser of instances, of which ``name`` shows one, and what names each of them in
    the content security policy."""
    scripts = [datatables(), "".join(map(_asset, ("worddiff.js", name, "browser.js")))]
    hashes = [base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode() for script in scripts]
    return {"scripts": scripts, "script_hashes": [f"sha256-{each}" for each in hashes]}


def notebook_fragment(result: Result) -> str:
    """A compact summary for a notebook cell: verdict and one row per comparison. Self-contained, no script."""
    return _page("notebook.html.j2", result)


def page_of(name: str, **values: Any) -> str:
    """A page by its template, which gets these values and the style sheet."""
    return _environment().get_template(name).render(css=_asset("report.css"), **values)


def _page(name: str, result: Result, **more: Any) -> str:
    word = content.verdict_line(result)[0]
    return _environment().get_template(name).render(result=result, word=word, version=result.version, **more)


def _asset(name: str) -> str:
    text = resources.files("compatcheck.report").joinpath("assets", name).read_text(encoding="utf-8")
    if not _embeddable(text):
        raise ValueError(f"{name} cannot be embedded: it holds what ends a script element")
    return text


def _embeddable(text: str) -> bool:
    """Whether an HTML parser reads ``text`` as the whole content of a script element."""
    return "</script" not in text.lower() and "<!--" not in text


@cache
def datatables() -> str:
    """DataTables and jQuery as a module script that sets ``globalThis.DataTable``.

    The bundle is an ES module in the itables package. A report is one file, so its export statement is turned into an
    assignment; itables itself is not imported.
    """
    spec = importlib.util.find_spec("itables")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the HTML report needs the itables package: pip install itables")
    bundle = Path(spec.origin).with_name("html") / "dt_bundle.js"
    text = bundle.read_text(encoding="utf-8").replace("\r\n", "\n")
    # In string and pattern literals alone: an HTML parser must not see a comment or another script begin.
    text = re.sub(r"""(?<=["'`/(|])<(?=!--|/?script)""", r"\\x3C", text)
    export = re.search(r"export\s*\{([^{}]*)\}", text)
    name = re.search(r"([\w$]+) as default\b", export[1]) if export else None
    if export is None or name is None or not _embeddable(text):
        raise ValueError(f"{bundle}: not the DataTables bundle this report knows; use itables 2.9 or later, below 3")
    return f"{text[: export.start()]}globalThis.DataTable={name[1]};{text[export.end() :]}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("compatcheck.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["shown"] = safe_text
    environment.filters["embedded"] = Markup  # our own files and pictures only
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.globals.update(
        figures=figures, content=content, sections=sections, trend=trend, charts=charts, looks=looks,
        headline=headline, address=address, themes=themes,
        which_flips=which_flips, side_by_side=_side_by_side, kinds_of=_kinds, shorten=partial(trim_middle, limit=SHOWN),
    )  # fmt: skip
    return environment


def address(comparison: Comparison, doc_id: str) -> str:
    """Where the browser of instances shows it: ``#task/filter/metric/id``."""
    parts = map(safe_text, (comparison.task, comparison.filter, comparison.metric, doc_id))
    return "#" + "/".join(quote(part, safe="") for part in parts)


def _side_by_side(old: str | None, new: str | None) -> list[tuple[Segment, ...]]:
    return [trim_segments(each, SHOWN) for each in side_by_side(old, new)]


def _kinds(comparison: Comparison) -> str:
    """The kinds of failure and the themes for the filter of the browser, as JSON: name, words, count."""
    found = [[each.kind, sections.kind_label(each.kind), each.count] for each in comparison.kinds or ()]
    found += [[each.name, f"theme: {each.name}", each.answers] for each in themes.findings(comparison)]
    return json.dumps([[safe_text(cell) if isinstance(cell, str) else cell for cell in each] for each in found])
