"""Files that know only text (CSV): which columns are numbers, once all rows were seen."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.table.values import NUMBER_PATTERN, PLAIN, TEXT, number_in, text_of

_OWN = frozenset({"doc_id", "target", "prediction", "error", *PLAIN})
_ANSWERS = ("target", "prediction")


class Untyped:
    """Watches the columns chunk by chunk."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        """Columns that hold a text which is no number."""
        self._written: set[str] = set()
        """Of targets and predictions those that hold something which is not as a program writes a float."""
        self._answers: dict[str, None] = {}
        """Which of targets and predictions there are."""

    def watch(self, columns: Mapping[str, pa.Array]) -> None:
        """Take note of a chunk."""
        self._answers |= {name: None for name in _ANSWERS if name in columns}
        for name, column in columns.items():
            if column.type != TEXT or name in self._texts or column.null_count == len(column):
                continue
            if not pc.all(pc.match_substring_regex(column, NUMBER_PATTERN)).as_py():
                self._texts.add(name)
                self._written.add(name)
            elif name in _ANSWERS and name not in self._written and not all(map(_is_float, column.to_pylist())):
                self._written.add(name)

    def typed(self, scored: bool) -> frozenset[str]:
        """Which of targets and predictions :meth:`settled` takes as numbers, and which of them are floats."""
        names = sorted(self._answers, key=_ANSWERS.index)
        if scored or not names or names[0] in self._texts:
            return frozenset()
        floats = [f"{name} as floats" for name in names if name not in self._written]
        return frozenset([*floats, *(name for name in names if name not in self._texts)])

    def settled(self, table: pa.Table, scored: bool) -> pa.Table:
        """The rows with columns of numbers as numbers.

        So are targets and predictions, unless the file is ``scored``: what are floats throughout (pandas makes ``7``
        one where another row has none) is spelled as such numbers are elsewhere. Where all targets are numbers, so is
        each prediction that is one, and spelled as its target if they are equal, whatever other rows answer."""
        for place, name in enumerate(table.column_names):
            column = table[name]
            fit = column.type == TEXT and name not in _OWN and not name.startswith(("prediction:", "field:"))
            if fit and name not in self._texts and column.null_count < len(column):
                try:
                    column = column.cast(pa.int64())
                except pa.ArrowInvalid:
                    column = column.cast(pa.float64())
                table = table.set_column(place, name, column)
        answers = {name: table[name].to_pylist() for name in _ANSWERS if name in table.column_names}
        if scored or not answers or next(iter(answers)) in self._texts:  # targets, or predictions where there are none
            return table
        for name in answers.keys() - self._written:
            answers[name] = list(map(_respelled, answers[name]))
        if len(answers) == len(_ANSWERS):
            pairs = zip(answers["prediction"], answers["target"], strict=True)
            answers["prediction"] = [
                t if p is not None and t is not None and number_in(p) == number_in(t) else _respelled(p)
                for p, t in pairs
            ]
        for name, texts in answers.items():
            table = table.set_column(table.column_names.index(name), name, pa.array(texts, TEXT))
        return table


def _is_float(text: str | None) -> bool:
    return text is None or (re.fullmatch(NUMBER_PATTERN, text) is not None and repr(float(text)) == text)


def _respelled(text: str | None) -> str | None:
    """A number that is written as a float as other formats have it; anything else as it is."""
    return text_of(float(text)) if text is not None and _is_float(text) else text
