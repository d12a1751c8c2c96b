"""The report as one HTML file that needs nothing else: no network, no server, no other file.

Pictures are SVG in the page. The instance browser is DataTables (from the itables package), embedded; a content
security policy forbids every request and every other script. The instances are one compressed block that the browser
unpacks: JSON ``{"strings": […], "comparisons": [{"id": […], "quadrant": […], …}]}``, gzip, base64; columns are lists,
texts are indices into ``strings`` (-1 for null), so that inputs shared by filters and metrics are stored once.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from compatcheck.compare.result import KIND_COLUMN, Comparison, Result
from compatcheck.compare.slices import text_of
from compatcheck.report import charts, content, figures, headline, looks, sections, trend
from compatcheck.report.instances import Instance, is_null, slice_fields, telling_flips, which_flips
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
MAX_ROWS = 20_000
"""Instances of one comparison that are embedded; flips and errors come first."""
ROWS_IN_ALL = 100_000
"""Instances of all comparisons, shared evenly among them; :data:`LEAST_ROWS` each at least."""
LEAST_ROWS = 200
SMALL = 1_000
"""Up to this many instances the payload stays below :data:`SMALL_BUDGET`."""
SMALL_BUDGET = 5_000_000
LARGE_BUDGET = 16_000_000
"""Bytes of base64 text."""
CAPS = (20_000, 6_000, 2_000, 800, 300)
"""Characters of one text that are kept; the first that meets the budget is used."""
_TEXTS = {
    "input": "input", "target": "target", "old": "prediction_old", "new": "prediction_new",
    **{name: name for name in ("response_old", "response_new", "error_old", "error_new", "prompt_old", "prompt_new",
                              "reasoning_old", "reasoning_new")},
}  # fmt: skip


def render(result: Result, *, folder: Path | None = None) -> str:
    """Return the whole file as text. Every text of the user's data in it is escaped or data, never markup or code."""
    del folder  # the next step is not to make this page
    scripts = (datatables(), _asset("worddiff.js") + _asset("report.js"))
    packed, remarks = payload(result)
    hashes = [base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode() for script in scripts]
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
        scripts=scripts,
        script_hashes=[f"sha256-{each}" for each in hashes],  # what the content security policy names a script by
        steps=content.next_steps(result, browsing=True),
    )


def notebook_fragment(result: Result) -> str:
    """A compact summary for a notebook cell: verdict and one row per comparison. Self-contained, no script."""
    return _page("notebook.html.j2", result)


def page_of(name: str, **values: Any) -> str:
    """A page by its template, which gets these values and the style sheet."""
    return _environment().get_template(name).render(css=_asset("report.css"), **values)


def _page(name: str, result: Result, **more: Any) -> str:
    word = content.verdict_line(result)[0]
    return _environment().get_template(name).render(result=result, word=word, **more)


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
        headline=headline, address=_address,
        which_flips=which_flips, side_by_side=_side_by_side, kinds_of=_kinds, shorten=partial(trim_middle, limit=SHOWN),
    )  # fmt: skip
    return environment


def _address(comparison: Comparison, flip: Instance) -> str:
    """Where the browser of instances shows it: ``#task/filter/metric/id``."""
    parts = (safe_text(comparison.task), safe_text(comparison.filter), safe_text(comparison.metric), flip.doc_id)
    return "#" + "/".join(quote(part, safe="") for part in parts)


def _side_by_side(old: str | None, new: str | None) -> list[tuple[Segment, ...]]:
    return [trim_segments(each, SHOWN) for each in side_by_side(old, new)]


def _kinds(comparison: Comparison) -> str:
    """The kinds of failure for the filter of the browser, as JSON: name, words, count."""
    found = [[each.kind, sections.kind_label(each.kind), each.count] for each in comparison.kinds or ()]
    return json.dumps([[safe_text(cell) if isinstance(cell, str) else cell for cell in each] for each in found])


def payload(result: Result) -> tuple[str, list[str]]:
    """The instances of all comparisons as base64 text, and what was left out of it, in sentences for the reader.

    All text in it went through ``safe_text``.
    """
    remarks, frames = [], []
    most = min(MAX_ROWS, max(ROWS_IN_ALL // max(len(result.comparisons), 1), LEAST_ROWS))
    for comparison in result.comparisons:
        frame = comparison.instances
        if len(frame) > most:
            rank = frame["quadrant"].map({"negative_flip": 0, "positive_flip": 1}).fillna(3)
            rank = rank.mask(frame["quadrant"].isna(), 2)
            frame = frame.loc[sorted(rank.sort_values(kind="stable").index[:most])]
        if len(frame) < comparison.rows:
            remarks.append(
                f"{comparison.name}: {len(frame):,} of {comparison.rows:,} instances are embedded, "
                "flips and errors first; all are in instances.parquet."
            )
        frames.append(frame)
    budget = SMALL_BUDGET if max(map(len, frames), default=0) <= SMALL else LARGE_BUDGET
    data, shortened, cap = "", 0, 0
    for cap in CAPS:
        data, shortened = _pack(result.comparisons, frames, cap)
        if len(data) <= budget:
            break
    if shortened:
        remarks.append(
            f"{shortened:,} texts longer than {cap:,} characters are shortened in their middle; "
            "they are whole in instances.parquet."
        )
    return data, remarks


class _Strings:
    """Every distinct text once, made safe and shortened to ``cap`` characters."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.index: dict[str, int] = {}
        self.texts: list[str] = []
        self.shortened = 0

    def add(self, value: Any) -> int:
        if is_null(value):
            return -1
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # whole numbers beside nulls come back from a table as 3.0
        raw = value if isinstance(value, str) else text_of(value)
        known = self.index.get(raw)
        if known is None:
            known = self.index[raw] = len(self.texts)
            text = trim_middle(safe_text(raw, multiline=True), self.cap)
            self.shortened += len(raw) > self.cap and text != raw
            self.texts.append(text)
        return known


def _pack(comparisons: Iterable[Comparison], frames: list[pd.DataFrame], cap: int) -> tuple[str, int]:
    strings = _Strings(cap)
    packed = [_columns(c, frame, strings) for c, frame in zip(comparisons, frames, strict=True)]
    document = json.dumps(
        {"strings": strings.texts, "comparisons": packed}, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    compressed = gzip.compress(document.encode("utf-8"), compresslevel=6, mtime=0)
    return base64.b64encode(compressed).decode("ascii"), strings.shortened


def _columns(comparison: Comparison, frame: pd.DataFrame, strings: _Strings) -> dict[str, Any]:
    def column(name: str) -> list[Any]:
        return frame[name].tolist() if name in frame.columns else [None] * len(frame)

    numbers = {name: position for position, name in enumerate(figures.groups(comparison))}
    columns: dict[str, Any] = {
        "kind": figures.kind(comparison),
        "id": [strings.add(value) for value in column("doc_id")],
        "quadrant": [-1 if is_null(value) else numbers[value] for value in column("quadrant")],
        "changed": [0 if is_null(value) else int(bool(value)) for value in column("changed")],
    }
    for name in ("gain", "score_old", "score_new"):
        columns[name] = [None if is_null(value) else round(float(value), 6) for value in column(name)]
    for name, source in _TEXTS.items():
        columns[name] = [strings.add(value) for value in column(source)]
    columns["failure"] = [strings.add(value) for value in column(KIND_COLUMN)]
    fields = slice_fields(frame)
    columns["fields"] = [safe_text(field) for field in fields]
    columns["values"] = [[strings.add(value) for value in column(field)] for field in fields]
    return columns
