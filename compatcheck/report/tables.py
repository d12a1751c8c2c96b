"""What formats draw: tables, and parts of a report made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Table:
    """Columns by heading and kind; a row that is shorter than the columns has its last text over the rest of them.

    Kinds: ``name`` (of the user's), ``text``, ``number``, ``figures`` (several numbers), ``value`` (a number that
    matters), ``worse``, ``better``, ``verdict``, ``metric`` (label and help), ``flips`` (counts, worse and better,
    drawn as a bar), ``whisker`` (an interval, drawn), ``track`` (bounds, drawn in text).
    """

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def most(self) -> int:
        """The largest sum in the column of flips, which is the last one."""
        return max((sum(row[-1]) for row in self.rows if self.columns[-1][1] == "flips"), default=0)

    def without(self, *drop: str) -> Table:
        """The table without columns of these headings or kinds, and without those that hold nothing."""
        gone = {
            place
            for place, column in enumerate(self.columns)
            if set(column) & set(drop) or (self.rows and all(row[place : place + 1] == ("",) for row in self.rows))
        }
        rows = tuple(tuple(cell for place, cell in enumerate(row) if place not in gone) for row in self.rows)
        return Table(tuple(c for place, c in enumerate(self.columns) if place not in gone), rows)


class Section(NamedTuple):
    """A part of a comparison's details that every format draws alike: a title, a table, and a sentence or more.

    A further one is a function of a comparison that returns it, or None, in ``sections.DETAILS``.
    """

    title: str
    table: Table | None = None
    note: str = ""
    folded: bool = True
    """Whether a page shows it only when it is asked for."""
