"""Which row of NEW belongs to which row of OLD: by id and checked content, never by order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.errors import InputError
from compatcheck.records import TaskRun

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]
CONTENT = ("doc_hash", "target_hash", "target")
"""Columns whose difference says that the rows of a pair are of different content."""
EXAMPLES = 5
"""Ids that are named for each kind of row that is left out."""


@dataclass(frozen=True)
class Pairs:
    """Row positions of the pairs, ``old[i]`` with ``new[i]``, in the order of OLD; and what found no partner."""

    old: Rows
    new: Rows
    key: str
    only_old: int
    only_new: int
    target_changed: int
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def take(self, order: Rows) -> Pairs:
        """The same pairs in another order."""
        return replace(self, old=self.old[order], new=self.new[order])


@dataclass(frozen=True)
class _Match:
    old: Rows
    new: Rows
    only_old: Rows
    only_new: Rows
    conflict: NDArray[np.bool_]

    @property
    def agreeing(self) -> int:
        return int(np.count_nonzero(~self.conflict))


def pair(old: TaskRun, new: TaskRun) -> Pairs:
    """Pair the records of two runs on the same task and filter.

    Rows are paired by ``doc_id``. A pair whose ``doc_hash``, ``target_hash`` or ``target`` differ is one of different
    content: it is counted and not kept. Where that holds for most ids (data numbered anew), and every row of both sides
    carries a ``doc_hash`` of its own, rows are paired by that hash instead.

    Raises:
        InputError: no rows, an id missing or repeated, no row in common, or only rows of different content.
    """
    for side, run in (("OLD", old), ("NEW", new)):
        if len(run.records) == 0:
            raise no_records(side, run.task)
        if "doc_id" not in run.records:
            raise InputError(
                f"{side} has records without a 'doc_id' for task '{run.task}'; name the field with --id-field"
            )
    old_codes, new_codes = _shared_codes(old.records["doc_id"], new.records["doc_id"])
    for side, run, codes in (("OLD", old, old_codes), ("NEW", new, new_codes)):
        _require_unique(side, run, codes)
    match, key = _match(old, new, old_codes, new_codes), "id"
    if 2 * match.agreeing < len(match.old) or len(match.old) == 0:
        by_content = _match_by_content(old, new)
        if by_content is not None and by_content.agreeing > match.agreeing:
            match, key = by_content, "content hash"
    if len(match.old) == 0:
        raise nothing_in_common(old.task, old.records, new.records)
    if match.agreeing == 0:
        first_old, first_new = old.records.iloc[match.old[:1]], new.records.iloc[match.new[:1]]
        raise all_changed(old.task, len(match.old), first_old, first_new)
    keep = ~match.conflict
    examples = {
        "only_old": _ids(old.records, match.only_old),
        "only_new": _ids(new.records, match.only_new),
        "target_changed": _ids(old.records, match.old[match.conflict]),
    }
    return Pairs(
        old=match.old[keep],
        new=match.new[keep],
        key=key,
        only_old=len(match.only_old),
        only_new=len(match.only_new),
        target_changed=len(match.old) - match.agreeing,
        examples={name: ids for name, ids in examples.items() if ids},
    )


def _shared_codes(old: pd.Series, new: pd.Series) -> tuple[Rows, Rows]:
    """Number the values of both columns alike; a null becomes -1."""
    codes, _ = pd.factorize(pd.concat([old, new], ignore_index=True))
    return codes[: len(old)], codes[len(old) :]


def _require_unique(side: str, run: TaskRun, codes: Rows) -> None:
    if (codes < 0).any():
        raise InputError(f"{side} has a record without an id on task '{run.task}' (record {int(codes.argmin()) + 1})")
    repeated = np.bincount(codes) > 1
    if repeated.any():
        row = int(np.flatnonzero(repeated[codes])[0])
        raise InputError(
            f"{side} has more than one record with the id {_some(run.records, [row])} on task '{run.task}'; "
            "an id stands for one document: mend the data or name another field with --id-field"
        )


def _match(old: TaskRun, new: TaskRun, old_codes: Rows, new_codes: Rows) -> _Match:
    position = np.full(max(old_codes.max(), new_codes.max()) + 1, -1, dtype=np.intp)
    position[new_codes] = np.arange(len(new_codes))
    partner = position[old_codes]
    found = partner >= 0
    old_rows, new_rows = np.flatnonzero(found), partner[found]
    taken = np.zeros(len(new_codes), dtype=bool)
    taken[new_rows] = True
    conflict = _conflict(old.records, new.records, old_rows, new_rows)
    return _Match(old_rows, new_rows, np.flatnonzero(~found), np.flatnonzero(~taken), conflict)


def _match_by_content(old: TaskRun, new: TaskRun) -> _Match | None:
    if "doc_hash" not in old.records or "doc_hash" not in new.records:
        return None
    old_codes, new_codes = _shared_codes(old.records["doc_hash"], new.records["doc_hash"])
    for codes in (old_codes, new_codes):
        if (codes < 0).any() or np.bincount(codes).max() > 1:
            return None
    return _match(old, new, old_codes, new_codes)


def _conflict(old: pd.DataFrame, new: pd.DataFrame, old_rows: Rows, new_rows: Rows) -> NDArray[np.bool_]:
    """Whether the content of a pair differs. A side that does not record a column cannot contradict the other."""
    conflict = np.zeros(len(old_rows), dtype=bool)
    for column in CONTENT:
        if column not in old or column not in new:
            continue
        before, after = take(old[column], old_rows), take(new[column], new_rows)
        if column == "doc_hash" and _first_kind(before) != _first_kind(after):
            continue
        null_before, null_after = before.isna().to_numpy(), after.isna().to_numpy()
        unequal = differ(before, after)
        failures = failed(old, old_rows) | failed(new, new_rows)
        conflict |= contradicts(column, unequal, null_before, null_after, failures)
    return conflict


def contradicts(column: str, unequal: Flags, null_before: Flags, null_after: Flags, failures: Flags) -> Flags:
    """In which pairs one of the :data:`CONTENT` columns says that the content differs; all of shape (pairs,)."""
    conflict = unequal & ~null_before & ~null_after
    if column == "target" and not (null_before.all() or null_after.all()):
        # One side knows a target where the other has none. A record in error may lack anything.
        conflict |= (null_before ^ null_after) & ~failures
    return conflict


def _first_kind(hashes: pd.Series) -> str:
    known = hashes.dropna()
    return hash_kind(known.iloc[0]) if len(known) else ""


def hash_kind(value: object) -> str:
    """What a hash was made of, where it says so: ``input`` of ``input:0f3a…``.

    Hashes of the recorded input and of the whole document are not held against each other.
    """
    return str(value).rpartition(":")[0]


def failed(records: pd.DataFrame, rows: Rows) -> NDArray[np.bool_]:
    """Which of the rows have an error."""
    if "error" not in records:
        return np.zeros(len(rows), dtype=bool)
    return take(records["error"], rows).notna().to_numpy()


def take(column: pd.Series, rows: Rows) -> pd.Series:
    """``column`` at the positions ``rows``, numbered from 0; shares memory where that is the whole column in order."""
    if len(rows) != len(column) or not np.array_equal(rows, np.arange(len(column))):
        column = column.take(rows)
    return column.reset_index(drop=True)


def differ(before: pd.Series, after: pd.Series) -> NDArray[np.bool_]:
    """Where two columns differ; null equals only null."""
    if isinstance(before.dtype, pd.CategoricalDtype) or isinstance(after.dtype, pd.CategoricalDtype):
        before, after = before.astype(object), after.astype(object)
    null_before, null_after = before.isna().to_numpy(), after.isna().to_numpy()
    unequal = before.ne(after).fillna(True).to_numpy(dtype=bool)
    return (unequal & ~null_before & ~null_after) | (null_before ^ null_after)


def _ids(records: pd.DataFrame, rows: Rows) -> tuple[str, ...]:
    return tuple(str(value) for value in records["doc_id"].iloc[rows[:EXAMPLES]])


def _some(records: pd.DataFrame, rows: slice | list[int]) -> str:
    return ", ".join(_quoted(value) for value in records["doc_id"].iloc[rows])


def _quoted(value: object) -> str:
    """One short line, whatever the text holds."""
    text = ascii(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def no_records(side: str, task: str) -> InputError:
    return InputError(f"{side} has no records for task '{task}': nothing to compare")


def nothing_in_common(task: str, old: pd.DataFrame, new: pd.DataFrame) -> InputError:
    """The error of two runs without a common id; the first rows of each are enough."""
    return InputError(
        f"OLD and NEW have no id in common on task '{task}': OLD has {_some(old, slice(3))}, "
        f"NEW has {_some(new, slice(3))}; name the right field with --id-field"
    )


def all_changed(task: str, count: int, old: pd.DataFrame, new: pd.DataFrame) -> InputError:
    """The error of ``count`` pairs that all differ in content; each table holds the first of them as its first row."""
    shown = ""
    if "target" in old and "target" in new:
        before, after = old["target"].iloc[0], new["target"].iloc[0]
        if before != after:
            shown = f", with target {_quoted(before)} in OLD and {_quoted(after)} in NEW"
    return InputError(
        f"OLD and NEW were recorded for different data on task '{task}': all {count} rows with a common "
        f"id differ in content or target (first: id {_some(old, [0])}{shown})"
    )
