"""A finished fix as data, on the terminal, as Markdown and HTML."""

from __future__ import annotations

from compatcheck_train.report.data import SCHEMA, fix_to_dict, save
from compatcheck_train.report.text import render_text

__all__ = ["SCHEMA", "fix_to_dict", "render_text", "save"]
