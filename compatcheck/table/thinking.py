"""Reasoning in recorded answers: taken out of them where the user says so, else said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.reasoning import SEEN, split
from compatcheck.table.reading import Row

STRIP = "strip"
_CUT = "thinking"
"""The ``finish_reason`` of a text that ended within its reasoning."""


def stripped(predictions: Sequence[Any], rows: Sequence[Row]) -> tuple[list[Any], list[Row]]:
    """The answers without reasoning, and the rows with it in ``reasoning``; their ``response`` goes without it too."""
    answers, kept = [], []
    for value, row in zip(predictions, rows, strict=True):
        answer, response = value, row.get("response")
        for text in (response, value):
            found = split(text) if isinstance(text, str) else None
            if found is None or (found.answer == text and not found.unfinished):
                continue
            said = [each for each in (row.get("reasoning"), found.reasoning) if isinstance(each, str) and each]
            row = {**row, "reasoning": "\n\n".join(dict.fromkeys(said)) or None}
            if text is value:
                answer = found.answer or (None if found.unfinished else "")
                row |= {"finish_reason": _CUT} if found.unfinished else {}
            else:
                row |= {"response": found.answer or None}
        answers.append(answer)
        kept.append(row)
    return answers, kept


def note(path: object, columns: dict[str, pa.Array]) -> str | None:
    """What is said of answers that hold reasoning; None where the rows that were looked at hold none."""
    for name in ("response", "prediction"):
        if name in columns and pc.any(pc.match_substring_regex(columns[name], SEEN)).as_py():
            return (
                f"{path}: answers hold what a model thought before them (<think> …), which is read as part of them; "
                "--reasoning strip keeps it apart, and --reasoning keep says that it is meant"
            )
    return None
