"""What the readers of other tools' outputs share: values with the checks they need, and rows on their way to records.

A reader turns every record of its tool into a plain recorded row (``id``, ``input``, ``target``, ``prediction``,
``error``, ``score:<metric>``, slice fields). From there on it goes the way of any recorded row, with all its checks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.table.reading import Row, Source, json_kind
from compatcheck.table.values import LABEL_LENGTH, OWN_NAMES, text_of
from compatcheck.text import text_hash

Reduce = Callable[[Sequence[Any]], float]
"""Makes one score of several."""
Item = tuple[int, Row, Row]
"""Number of a record, the plain row made of it, and the record itself."""

_KINDS: dict[str, type | tuple[type, ...]] = {
    "an object": dict,
    "a list": list,
    "a text": str,
    "a number": (int, float),
    "a boolean": bool,
}


@dataclass
class Recording:
    """The records of one task, as a tool wrote them. ``items`` is read once."""

    source: Source
    items: Iterable[Item]
    task: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    """Which way scores point, by name, where the tool says it."""
    higher: bool = False
    """Whether a higher score is better whatever it is called, but for those of ``higher_is_better``."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what was left out; may grow while the items are read."""
    duplicates: int = 0
    """Records that were dropped because they repeat another one exactly."""
    spread: tuple[int, int] = (1, 1)
    """The least and the greatest number of samples of an instance that were averaged."""
    partial: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Scores that some rows lack: in how many of how many rows each is."""


class Record:
    """A JSON object with checked access to its fields. ``place`` says where it is: ``FILE: results[3]``."""

    def __init__(self, value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{place}: an object is needed, not {json_kind(value)}")
        self.value: Row = value
        self.place = place

    def get(self, name: str, kind: str, default: Any = None) -> Any:
        """A field of this kind (``"an object"``, ``"a list"``, ``"a text"`` …), the default where missing or null.

        Raises InputError for a value of another kind.
        """
        found = self.value.get(name)
        if found is None:
            return default
        if not isinstance(found, _KINDS[kind]) or (isinstance(found, bool) and kind == "a number"):
            raise InputError(f"{self.place}: `{name}` is {json_kind(found)}, but it must be {kind}")
        return found

    def need(self, name: str, kind: str) -> Any:
        """As :meth:`get`; a missing field is an error, too."""
        found = self.get(name, kind)
        if found is None:
            there = ", ".join(map(str, self.value)) or "none"
            raise InputError(f"{self.place}: no field `{name}` (fields: {there[:300]})")
        return found

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number; without a default it must be there. Raises InputError for anything else."""
        found = self.get(name, "a number", default) if default is not None else self.need(name, "a number")
        if not is_finite(found) or found != int(found):
            raise InputError(f"{self.place}: `{name}` is {found}, but it must be a whole number")
        return int(found)

    def record(self, name: str) -> Record:
        """The object in a field, empty where missing or null."""
        return Record(self.get(name, "an object", {}), f"{self.place}, `{name}`")

    def name(self, name: str) -> str:
        """A text or number that names something.

        Raises InputError where it is missing or anything else.
        """
        found = self.value.get(name)
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            if found is None:
                self.need(name, "a text")
            raise InputError(f"{self.place}: `{name}` is {json_kind(found)}, but it must be a text or a number")
        return text_of(found)

    def fail(self, message: str) -> InputError:
        return InputError(f"{self.place}: {message}")


def records(source: Source) -> Iterator[tuple[int, Record]]:
    """The rows of a file with their numbers, each with checked access."""
    for numbers, rows in source.chunks:
        for number, raw in zip(numbers, rows, strict=True):
            yield number, Record(raw, source.at(number))


def numbered(found: Sequence[Any], path: Path, unit: str) -> list[tuple[int, Record]]:
    """The objects of a list in a file, from 1 on; a file without any is refused."""
    if not found:
        raise InputError(f"{path}: no rows in this file")
    return [(number, Record(one, f"{path}: {unit} {number}")) for number, one in enumerate(found, 1)]


def fingerprint(value: Any) -> str:
    """That of a JSON value, whatever the order of its keys."""
    return text_hash(json.dumps(value, sort_keys=True, ensure_ascii=False))


def only_model(items: Iterable[tuple[str, Item]], part: str | None, path: Path) -> list[Item]:
    """The items of the model that ``part`` names, or of the only one, and those that name none.

    Raises InputError where it is not clear which model is meant.
    """
    named = list(items)
    there = {name: name for name, _ in named if name}
    if part is None and not there:
        return [item for _, item in named]
    chosen = of_one_model(path, there, part, "rows")
    return [item for name, item in named if name in ("", chosen)]


def seconds(record: Record, names: Mapping[str, float]) -> Row:
    """``latency`` in seconds, of the first of the fields that is there; each with its units in a second."""
    name = next((name for name in names if record.value.get(name) is not None), None)
    if name is None:
        return {}
    found = record.value[name]
    return {"latency": found / names[name] if is_finite(found) and not isinstance(found, bool) else text_of(found)}


def labels(fields: Mapping[str, Any], prefix: str = "") -> Row:
    """Scalars that are short enough to slice by, nested ones dotted; names that a row uses itself get ``field:``."""
    found: Row = {}
    for key, value in fields.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and prefix.count(".") < 3:
            found |= labels(value, f"{name}.")
        elif isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= LABEL_LENGTH):
            taken = name in OWN_NAMES or name.startswith(("score:", "prediction:"))
            found[f"field:{name}" if taken else name] = value
    return found


def is_finite(value: Any) -> bool:
    """Whether a value is a number that is neither NaN, nor infinite, nor too large for a float."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def count_scores(items: Sequence[Item], recording: Recording, always: Sequence[str] = ()) -> None:
    """Note in ``recording.partial`` which scores (but for those of ``always``) rows without an error lack."""
    good = [row for _, row, _ in items if not row.get("error")]
    for name in dict.fromkeys(key for row in good for key in row if key.startswith("score:") and key not in always):
        count = sum(name in row for row in good)
        if count < len(good):
            recording.partial[name.removeprefix("score:")] = (count, len(good))


def same_kind_of_targets(items: Iterable[Item]) -> list[Item]:
    """The items with every target a list of texts where any is one: tools write one alone as a text."""
    items = list(items)
    if any(isinstance(row.get("target"), list) for _, row, _ in items):
        for _, row, _ in items:
            if row.get("target") is not None and not isinstance(row["target"], list):
                row["target"] = [text_of(row["target"])]
    return items


def average_repeats(
    items: Iterable[Item], field: str, what: str, recording: Recording, reduce: Reduce | None = None
) -> list[Item]:
    """One item per id: scores of its repeats averaged (or reduced by ``reduce``), texts of the first that worked.

    What is sampled several times is one instance, not several. Repeats that failed take no part; an instance fails
    where all do. ``field`` of the tool's record counts them, ``what`` is what it calls them (``epochs``).
    A repeat that is there twice is a duplicate. Raises InputError where the two differ.
    """
    grouped: dict[Any, dict[Any, Item]] = {}
    for item in items:
        number, row, raw = item
        group = grouped.setdefault(row["id"], {})
        repeat = json.dumps(raw.get(field))
        if repeat not in group:
            group[repeat] = item
        elif repr(group[repeat][1]) == repr(row):
            recording.duplicates += 1
        else:
            raise InputError(
                f"{recording.source.at(number)}: the id {row['id']!r:.80} with `{field}` {repeat} again, with other "
                f"values than in {recording.source.place(group[repeat][0])}"
            )
    result, failed = [], 0
    sizes = [len(group) for group in grouped.values()] or [1]
    recording.spread = (min(sizes), max(sizes))
    for group in grouped.values():
        good = [item for item in group.values() if not item[1].get("error")]
        failed += (len(group) - len(good)) if good else 0
        number, row, raw = (good or list(group.values()))[0]
        if len(good) > 1:
            keys = dict.fromkeys(key for _, one, _ in good for key in one if key.startswith("score:"))
            some = {f"score:{name}" for name in recording.partial}
            scores = {key: [one.get(key) for _, one, _ in good if key in one or key not in some] for key in keys}
            row = row | {key: reduced(values, reduce or mean) for key, values in scores.items()}
        result.append((number, row, raw))
    most = recording.spread[1]
    if most > 1:
        done = "averaged" if reduce is None else f"reduced by {recording.settings.get(f'{what}_reducer', 'its rule')}"
        recording.notes.append(
            f"the {what} of an instance (up to {most}) are {done}; texts are those of the first that worked"
        )
    if failed:
        recording.notes.append(f"{failed:,} {what} failed and take no part in the averages")
    if reduce is not None:
        recording.spread = (1, 1)  # no means, whose error would be known
    return result


def reduced(values: Sequence[Any], reduce: Reduce) -> Any:
    """One score of several; what is no finite number stays as it is, for the checks that follow."""
    odd = [value for value in values if not is_finite(value)]
    return odd[0] if odd else reduce(values)


def mean(values: Sequence[Any]) -> float:
    return float(sum(values) / len(values))


def of_one_model(folder: Path, found: Mapping[str, Any], part: str | None, what: str) -> Any:
    """What belongs to the model that ``part`` names, or to the only one. Raises InputError where that is not clear."""
    names = ", ".join(sorted(found))
    if part is not None and part not in found:
        raise InputError(f"{folder}: no {what} of model '{part}'{did_you_mean(part, found)}; models there: {names}")
    if part is None and len(found) > 1:
        raise InputError(f"{folder}: {what} of several models; name one as {folder}#MODEL: {names}")
    return found[part] if part is not None else next(iter(found.values()))


def need_tasks(folder: Path, there: Sequence[str], tasks: Sequence[str], what: str) -> None:
    """Raise InputError where a task that is asked for is not there."""
    missing = next((name for name in tasks if name not in there), None)
    if missing is not None:
        hint = did_you_mean(missing, there)
        raise InputError(f"{folder}: no {what} of task {missing}{hint}; tasks there: {', '.join(sorted(there))}")
