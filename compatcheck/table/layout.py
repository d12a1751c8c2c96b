"""How to read recorded rows: which field is which, and what to take out of a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError


class Missing:
    """The value of a field that a row does not have."""


MISSING = Missing()


@dataclass(frozen=True)
class Layout:
    """Which fields of a recorded row are its id, target and prediction.

    Field names may be dotted paths into nested objects and lists: ``6b_finetuning.solution``, ``choices.0.text``.
    None stands for the default names ``id``, ``target`` and ``prediction``.
    Raises InputError when ``extract`` is not a regular expression.
    """

    id_field: str | None = None
    target_field: str | None = None
    prediction_field: str | None = None
    extract: str | None = None
    """Regular expression for predictions and targets: the last match counts, of it group 1 (the whole match where
    the pattern has no group). A prediction without a match is "no answer"."""
    targets: Path | None = None
    """A third file whose rows give the target by id."""
    filter: str | None = None
    """Keep only the rows of this filter."""
    repeats: str | None = None
    """``average``: several rows of one id are samples of one document (:mod:`compatcheck.table.repeats`)."""
    tool: str | None = None
    """The tool that wrote the outputs (:data:`compatcheck.readers.foreign.READERS`), where the user says so."""
    part: str | None = None
    """Which part of them: a provider, a model, a split."""

    @property
    def names_fields(self) -> bool:
        """Whether the user said which field is what."""
        return any((self.id_field, self.target_field, self.prediction_field))

    def __post_init__(self) -> None:
        if self.extract is not None:
            try:
                re.compile(self.extract)
            except re.error as error:
                raise InputError(f"--extract '{self.extract}' is not a regular expression: {error}") from None

    def extracted(self, text: str) -> str | None:
        """What :attr:`extract` takes out of a text, without white space at the ends; None without a match."""
        pattern = re.compile(self.extract or "")
        found = None
        for found in pattern.finditer(text):  # noqa: B007 - the last match is wanted
            pass
        if found is None:
            return None
        value: str | None = found.group(1 if pattern.groups else 0)
        return None if value is None else value.strip()


def dig(row: Mapping[str, Any], path: str) -> Any:
    """Value at a dotted path, :data:`MISSING` where there is none, None where the way there is null.

    A field whose own name has dots comes before a path.
    """
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else MISSING
        elif value is None:
            return None
        else:
            return MISSING
    return value


def picker(path: str) -> Callable[[Sequence[Mapping[str, Any]]], list[Any]]:
    """Return a function that takes the field out of many rows, fast where the name has no dots."""
    if "." in path:
        return lambda rows: [dig(row, path) for row in rows]
    return lambda rows: [row.get(path, MISSING) for row in rows]


def field_names(row: Mapping[str, Any], prefix: str = "", depth: int = 2) -> list[str]:
    """The fields of a row for an error message, nested ones dotted, in the order of the row."""
    names: list[str] = []
    for key, value in row.items():
        if isinstance(value, Mapping) and value and depth > 1:
            names += field_names(value, f"{prefix}{key}.", depth - 1)
        else:
            names.append(prefix + key)
    return names
