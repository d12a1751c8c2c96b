"""Targets from a file of their own, by id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.readers.reading import Row, Source, read_rows
from compatcheck.table.columns import Checked, text_of
from compatcheck.table.layout import MISSING, Layout, dig, field_names, picker


class Targets:
    """What is right for each id, as a file says it."""

    def __init__(self, path: Path, by_id: dict[str, Any]) -> None:
        self.path = path
        self._by_id = by_id

    def of(self, ids: Sequence[str]) -> list[Any]:
        """The target of each id, :data:`MISSING` where the file has none."""
        return [self._by_id.get(one, MISSING) for one in ids]


def read_targets(path: Path, layout: Layout, source: Source | None = None) -> Targets:
    """Read the file of targets: its id from ``--id-field``, its target from ``--target-field``.

    Without ``--target-field`` the target is the first there is of ``target``, ``--prediction-field``, ``prediction``
    and ``output``, so that the outputs of a third model can serve as targets. ``source`` gives rows of no such file.
    Raises InputError for a row without id or target, and for an id with two different targets.
    """
    source = source or read_rows(path)
    checked = Checked(source)
    id_field = layout.id_field or "id"
    pick_id, field = picker(id_field), layout.target_field
    by_id: dict[str, Any] = {}
    places: dict[str, int] = {}
    for numbers, rows in source.chunks:
        ids = pick_id(rows)
        for number, row, one in zip(numbers, rows, ids, strict=True):
            if one is MISSING:
                raise checked.fail(number, f"no field `{id_field}` (fields: {_names(row)}); name it with --id-field")
            field = field or _target_field(row, layout)
            target = MISSING if field is None else dig(row, field)
            if target is MISSING or target is None:
                what = f"no field `{field or 'target'}`" if target is MISSING else f"`{field}` is null"
                raise checked.fail(number, f"{what} (fields: {_names(row)}); name it with --target-field")
            key = text_of(one)
            if key in by_id and by_id[key] != target:
                raise InputError(
                    f"{source.at(number)}: the id {key!r:.80} again, with another `{field}` than in "
                    f"{source.place(places[key])}"
                )
            by_id[key], places[key] = target, number
        checked.ids(ids, numbers, id_field)
    return Targets(path, by_id)


def _target_field(row: Row, layout: Layout) -> str | None:
    names = ("target", layout.prediction_field, "prediction", "output")
    return next((name for name in names if name is not None and dig(row, name) is not MISSING), None)


def _names(row: Row) -> str:
    return ", ".join(field_names(row)) or "none"
