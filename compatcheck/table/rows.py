"""What a file of checked rows gave: the table, and what was found out on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from compatcheck.errors import InputError
from compatcheck.table.layout import MISSING, Layout, listed
from compatcheck.table.reading import Row, Source
from compatcheck.table.values import NUMBER, REFERENCES, TEXT, TEXTS, first_index


@dataclass
class Field:
    """A field that a file may lack altogether, but not in some rows only."""

    name: str
    seen: bool = False
    gap: tuple[int, Row] | None = None
    """First row without it (and without an error)."""

    def note(self, values: list[Any], numbers: Sequence[int], rows: Sequence[Row], failed: Sequence[bool]) -> None:
        if MISSING not in values:
            self.seen = True
            return
        self.seen = self.seen or any(value is not MISSING for value in values)
        if self.gap is None:
            place = first_index(list(zip(values, failed, strict=True)), lambda one: one[0] is MISSING and not one[1])
            self.gap = (numbers[place], rows[place]) if place >= 0 else None


@dataclass
class RowTable:
    """All rows of one file, or none where they lie on disk (:mod:`compatcheck.table.disk`)."""

    table: pa.Table
    source: Source
    metrics: tuple[str, ...]
    """Names of the scores the file carries."""
    has_predictions: bool
    has_targets: bool
    first: tuple[int, Row]
    target_field: str = field(default="target")
    names_score: bool = False
    """Whether one of the scores is called just ``score``, so that it is the one that counts."""
    faults: Mapping[str, InputError] = field(default_factory=dict)
    """Of the scores that are no numbers what is wrong with them."""
    notes: tuple[str, ...] = ()
    typed: frozenset[str] = frozenset()
    """Which of ``target`` and ``prediction`` are numbers or booleans, not texts."""

    def missing(self, name: str, option: str) -> InputError:
        """The error of a field that no row has."""
        return missing_field(self.source, *self.first, name, option)


def missing_field(source: Source, number: int, row: Row, name: str, option: str) -> InputError:
    """The error of a row without a field; says which fields it has and which option names another."""
    return InputError(f"{source.at(number)}: no field `{name}` (fields: {listed(row)}); name it with {option}")


def extract_targets(rows: RowTable, layout: Layout) -> RowTable:
    """Take the answer out of every target.

    Where the pattern matches no target at all, targets are answers already and stay whole. Raises InputError where
    it matches some targets but not others.
    """
    table = rows.table
    if layout.extract is None or not rows.has_targets:
        return rows
    lists = REFERENCES in table.column_names
    whole = table[REFERENCES if lists else "target"].to_pylist()
    found = [None if one is None else [layout.extracted(text) for text in (one if lists else [one])] for one in whole]
    if all(one is None or all(text is None for text in one) for one in found):
        return rows
    place = first_index(found, lambda one: one is not None and None in one)
    if place >= 0:
        raise InputError(
            f"{rows.source.at(table[NUMBER][place].as_py())}: --extract finds nothing in `{rows.target_field}`, though "
            "it does in other rows; change the pattern or the target"
        )
    index = table.column_names.index
    texts = pa.array([None if one is None else " | ".join(dict.fromkeys(map(str, one))) for one in found], TEXT)
    table = table.set_column(index("target"), "target", texts)
    if lists:
        table = table.set_column(index(REFERENCES), REFERENCES, pa.array(found, TEXTS))
    return replace(rows, table=table)
