"""Reports: renderings of one immutable result. Nothing is computed here but layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from compatcheck.report.formats import FORMATS, Format, find_format, render
from compatcheck.report.store import load, save

if TYPE_CHECKING:
    from compatcheck.compare.candidates import Candidates
    from compatcheck.compare.result import Result

__all__ = ["FORMATS", "Format", "find_format", "load", "notebook_fragment", "render", "save"]


def notebook_fragment(result: Result | Candidates) -> str:
    """A compact HTML summary for a notebook cell."""
    from compatcheck.report import candidates, html
    from compatcheck.report.formats import is_several

    return candidates.fragment(result) if is_several(result) else html.notebook_fragment(cast("Result", result))
