"""Reports: renderings of one immutable result. Nothing is computed here but layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compatcheck.report.formats import FORMATS, Format, find_format, render
from compatcheck.report.store import load, save

if TYPE_CHECKING:
    from compatcheck.compare.result import Result

__all__ = ["FORMATS", "Format", "find_format", "load", "notebook_fragment", "render", "save"]


def notebook_fragment(result: Result) -> str:
    """A compact HTML summary for a notebook cell."""
    from compatcheck.report import html

    return html.notebook_fragment(result)
