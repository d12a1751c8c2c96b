"""Reports: renderings of one immutable result. Nothing is computed here but layout."""

from __future__ import annotations

from compatcheck.report.formats import FORMATS, Format, check_formats, notebook_fragment, render
from compatcheck.report.store import load, save

__all__ = ["FORMATS", "Format", "check_formats", "load", "notebook_fragment", "render", "save"]
