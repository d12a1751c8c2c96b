"""Recorded outputs: what a model once said, read from files. No model, no torch and no lm-eval is loaded."""

from __future__ import annotations

from compatcheck.readers.parts import DEFAULT_TASK
from compatcheck.readers.recorded import is_recorded, load_recorded
from compatcheck.table.layout import Layout
from compatcheck.table.scoring import score_records

__all__ = ["DEFAULT_TASK", "Layout", "is_recorded", "load_recorded", "score_records"]
