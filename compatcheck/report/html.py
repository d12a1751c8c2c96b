"""The report as one HTML file that needs nothing else: no network, no server, no other file.

Pictures are SVG drawn by the template. The instance browser is DataTables (from the itables package), embedded; a
content security policy forbids every request and every other script.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.compare.result import Result
from compatcheck.report import figures, head, html_charts, looks, trend, trust
from compatcheck.report.hints import next_steps
from compatcheck.report.html_data import payload
from compatcheck.report.rows import slice_fields, small_slices, worst_slices
from compatcheck.report.text import safe_text

if TYPE_CHECKING:
    from jinja2 import Environment


def render(result: Result, *, folder: Path | None = None) -> str:
    """Return the whole file as text. Every text of the user's data in it is escaped or data, never markup or code."""
    scripts = (datatables(), _asset("worddiff.js") + _asset("report.js"))
    packed = payload(result)
    word, reason = figures.verdict_line(result)
    template = _environment().get_template("report.html.j2")
    return template.render(
        result=result,
        word=word,
        reason=reason,
        advice=figures.advice_line(result),
        coverage=head.coverage(result),
        differ=head.differ(result),
        first=figures.worst_comparison(result),
        remarks=packed.remarks,
        payload=packed.data,
        css=_asset("report.css"),
        scripts=scripts,
        script_hashes=[_hash(script) for script in scripts],
        hints=next_steps(replace(result, command="")),  # browsing is what the page is for
    )


def notebook_fragment(result: Result) -> str:
    """A compact summary for a notebook cell: verdict and one row per comparison. Self-contained, no script."""
    word, reason = figures.verdict_line(result)
    return (
        _environment()
        .get_template("notebook.html.j2")
        .render(result=result, word=word, reason=reason, coverage=head.coverage(result), differ=head.differ(result))
    )


def _hash(script: str) -> str:
    """What the content security policy names an inline script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


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
        loader=PackageLoader("compatcheck.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = _shown
    environment.filters["embedded"] = Markup  # our own files only
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.globals.update(
        figures=figures,
        trust=trust,
        looks=looks,
        trend=trend.trend,
        charts=html_charts,
        slice_fields=slice_fields,
        worst_slices=worst_slices,
        small_slices=small_slices,
        bar=_bar,
    )
    return environment


def _shown(value: Any) -> str:
    return safe_text(value)


def _bar(part: int, most: int) -> str:
    """A width for a bar, in percent of the longest."""
    return f"{100 * part / most:.1f}" if most else "0"
