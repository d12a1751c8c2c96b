"""Targets from a file of their own, by id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.table.layout import MISSING, Layout, dig, listed, obvious
from compatcheck.table.reading import Row, Source, read_rows
from compatcheck.table.values import Checked, text_of


class Targets:
    """What is right for each id, as a file says it."""

    def __init__(self, path: Path, by_id: dict[str, Any]) -> None:
        self.path = path
        self._by_id = by_id
        self._left = dict.fromkeys(by_id)

    def of(self, ids: Sequence[str]) -> list[Any]:
        """The target of each id, :data:`MISSING` where the file has none."""
        for one in ids:
            self._left.pop(one, None)
        return [self._by_id.get(one, MISSING) for one in ids]

    def left(self) -> tuple[str, ...]:
        """The note on targets of which no id was asked for: rows that both sides lack would not be seen otherwise."""
        if not self._left:
            return ()
        few = ", ".join(f"{one:.40}" for one in islice(self._left, 3))
        return (f"{self.path}: {len(self._left):,} of its {len(self._by_id):,} ids have no row here, such as {few}",)


def read_targets(path: Path, layout: Layout, source: Source | None = None) -> Targets:
    """Read the file of targets: its id from ``--id-field``, its target from ``--target-field``.

    Without ``--target-field`` the target is the first there is of ``target``, ``--prediction-field``, ``prediction``
    and ``output``, so that the outputs of a third model can serve as targets, or else what is obviously one.
    ``source`` gives rows of no such file.
    Raises InputError for a row without id or target, and for an id with two different targets.
    """
    source = source or read_rows(path)
    checked = Checked(source)
    id_field, field = layout.id_field, layout.target_field
    by_id: dict[str, Any] = {}
    places: dict[str, int] = {}
    for numbers, rows in source.chunks:
        id_field = id_field or ("id" if "id" in rows[0] else obvious(list(rows[0]), ["id"], ()).get("id", "id"))
        field = field or _target_field(rows[0], layout, id_field)
        ids = [dig(row, id_field) for row in rows]
        for number, row, one in zip(numbers, rows, ids, strict=True):
            if one is MISSING:
                raise checked.fail(number, f"no field `{id_field}` (fields: {listed(row)}); name it with --id-field")
            target = dig(row, field)
            if target is MISSING or target is None:
                what = f"no field `{field}`" if target is MISSING else f"`{field}` is null"
                raise checked.fail(number, f"{what} (fields: {listed(row)}); name it with --target-field")
            key = text_of(one)
            if key in by_id and by_id[key] != target:
                raise InputError(
                    f"{source.at(number)}: the id {key!r:.80} again, with another `{field}` than in "
                    f"{source.place(places[key])}"
                )
            by_id[key], places[key] = target, number
        checked.ids(ids, numbers, id_field)
    return Targets(path, by_id)


def _target_field(row: Row, layout: Layout, id_field: str) -> str:
    names = ("target", layout.prediction_field, "prediction", "output")
    found = next((name for name in names if name is not None and dig(row, name) is not MISSING), None)
    return found or obvious(list(row), ["target"], {id_field}).get("target", "target")


def in_one_layout(target: Any) -> Any:
    """A JSON text as an object in the file is written, so that both sides ask the same; anything else as it is."""
    from compatcheck.similarity.structured import parse

    if not isinstance(target, str) or target.strip()[:1] not in ("{", "["):
        return target
    try:
        return json.dumps(parse(target), ensure_ascii=False, sort_keys=True)
    except ValueError:
        return target
