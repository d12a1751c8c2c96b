"""``FILE#PART`` of plain rows: those of one model, where a column says whose a row is."""

from __future__ import annotations

from collections.abc import Iterator

from compatcheck.errors import InputError, did_you_mean
from compatcheck.readers.reading import Chunk, Source
from compatcheck.table.columns import text_of
from compatcheck.table.layout import MISSING, dig

COLUMN = "model"
"""The column that a part without ``FIELD=`` is looked for in."""


def only_part(source: Source, part: str | None) -> Source:
    """The rows whose ``model`` is the part, or of ``FIELD=VALUE`` those whose field has the value; all without one.

    Raises InputError, when they are read, for a row that lacks the field, and where no row has the value.
    """
    if part is None:
        return source
    field, separator, value = part.partition("=")
    if not separator:
        field, value = COLUMN, part
    return Source(source.path, source.unit, _chosen(source, field, value))


def _chosen(source: Source, field: str, value: str) -> Iterator[Chunk]:
    seen: dict[str, None] = {}
    found = False
    for numbers, rows in source.chunks:
        kept = []
        for number, row in zip(numbers, rows, strict=True):
            said = dig(row, field)
            if said is MISSING or said is None:
                raise InputError(
                    f"{source.at(number)}: no field `{field}`, by which #{value} chooses rows; name another one as "
                    f"{source.path.name}#FIELD={value}"
                )
            seen.setdefault(text_of(said))
            if text_of(said) == value:
                kept.append((number, row))
        if kept:
            found = True
            yield [number for number, _ in kept], [row for _, row in kept]
    if not found:
        there = ", ".join(list(seen)[:20])
        raise InputError(f"{source.path}: no row has `{field}` {value!r}{did_you_mean(value, seen)}; there are {there}")
