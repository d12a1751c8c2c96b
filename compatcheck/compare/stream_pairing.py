"""Pairing of runs that are too large to hold: the rules of :mod:`compatcheck.compare.pairing` on fingerprints.

Every id is a 64-bit fingerprint, so a row costs a few dozen bytes however long its texts. That two ids share one is
noticed when the rows meet (:class:`Collision`), and all is done again with another key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.compare.pairing import (
    CONTENT,
    EXAMPLES,
    Flags,
    Rows,
    all_changed,
    contradicts,
    hash_kind,
    no_records,
    nothing_in_common,
)
from compatcheck.records import StreamedRun

Places = NDArray[np.int32]
_SALTS = ("compatcheck pairs", "compatcheck again", "compatcheck third")
ATTEMPTS = len(_SALTS)


class Collision(Exception):
    """Two different ids have the same fingerprint: about once in 100,000 comparisons of 10 million rows."""


@dataclass(frozen=True)
class StreamPairs:
    """Which rows are pairs.

    ``place`` says of every row of NEW at which row of OLD its partner is, -1 where it is no part of a pair; shape
    (rows of NEW,). ``kept`` flags the rows of OLD that have one; shape (rows of OLD,).
    """

    place: Places
    kept: Flags
    key: str
    only_old: int
    only_new: int
    target_changed: int
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.kept))


@dataclass(frozen=True)
class _Match:
    partner: Places
    """Of every row of OLD the row of NEW, -1 where there is none."""
    only_new: Flags
    rows: NDArray[np.intp]
    """Rows of OLD with a partner."""
    conflict: Flags
    """Of these, whether the content differs."""

    @property
    def agreeing(self) -> int:
        return int(np.count_nonzero(~self.conflict))


def pair_streams(old: StreamedRun, new: StreamedRun, attempt: int = 0) -> StreamPairs:
    """Pair two streamed runs on the same task and filter, as :func:`compatcheck.compare.pairing.pair` does.

    Raises:
        InputError: no rows, no row in common, or only rows of different content.
        Collision: two ids of one side share a fingerprint.
    """
    for side, run in (("OLD", old), ("NEW", new)):
        if run.rows == 0:
            raise no_records(side, run.task)
    failures = _failed(old), _failed(new)
    match = _match(old, new, "doc_id", failures, attempt)
    assert match is not None
    key = "id"
    if 2 * match.agreeing < len(match.rows) or len(match.rows) == 0:
        both_known = "doc_hash" in old.complete and "doc_hash" in new.complete
        by_content = _match(old, new, "doc_hash", failures, attempt) if both_known else None
        if by_content is not None and by_content.agreeing > match.agreeing:
            match, key = by_content, "content hash"
    if len(match.rows) == 0:
        first = (lookup(run, np.arange(min(3, run.rows)), ["doc_id"]) for run in (old, new))
        raise nothing_in_common(old.task, *first)
    if match.agreeing == 0:
        names = ["doc_id", "target"]
        row_old, row_new = match.rows[:1], match.partner[match.rows[:1]]
        raise all_changed(old.task, len(match.rows), lookup(old, row_old, names), lookup(new, row_new, names))
    only_old = np.flatnonzero(match.partner < 0)
    only_new = np.flatnonzero(match.only_new)
    changed = match.rows[match.conflict]
    column = "doc_id" if key == "id" else "doc_hash"
    if len(changed) and not _surely_alike(old, new, column, changed, match.partner[changed], attempt):
        raise Collision
    examples = {
        "only_old": _ids(old, only_old),
        "only_new": _ids(new, only_new),
        "target_changed": _ids(old, changed),
    }
    kept = match.partner >= 0
    kept[changed] = False
    place = np.full(new.rows, -1, np.int32)
    place[match.partner[kept]] = np.flatnonzero(kept)
    return StreamPairs(
        place=place,
        kept=kept,
        key=key,
        only_old=len(only_old),
        only_new=len(only_new),
        target_changed=len(changed),
        examples={name: ids for name, ids in examples.items() if ids},
    )


def _surely_alike(
    old: StreamedRun, new: StreamedRun, column: str, old_rows: Rows, new_rows: Places, attempt: int
) -> bool:
    """Whether another fingerprint, too, says that these rows belong together: they are never read to see it."""
    (mine, _), (theirs, _) = (fingerprints(run, column, (attempt + 1) % ATTEMPTS) for run in (old, new))
    return bool((mine[old_rows] == theirs[new_rows]).all())


def lookup(run: StreamedRun, rows: NDArray[np.integer], names: list[str]) -> pd.DataFrame:
    """Some rows of a run in the order of the run, with those of the columns that it has; stops reading at the last."""
    names = [name for name in names if name in run.kinds]
    found, start, last = [], 0, int(rows.max())
    for batch in run.read(names):
        found.append(batch.iloc[rows[(rows >= start) & (rows < start + len(batch))] - start])
        start += len(batch)
        if start > last:
            break
    return pd.concat(found, ignore_index=True)


def fingerprints(run: StreamedRun, column: str, attempt: int = 0) -> tuple[NDArray[np.uint64], Flags]:
    """Fingerprints of a column's texts, and where it is null (the fingerprint is of no use there)."""
    found = np.empty(run.rows, np.uint64)
    null = np.zeros(run.rows, dtype=bool)
    start = 0
    for batch in run.read([column]):
        values = batch[column]
        part = slice(start, start + len(values))
        null[part] = values.isna().to_numpy()
        texts = values.astype(object).where(~null[part], "").to_numpy()
        found[part] = pd.util.hash_array(texts, hash_key=_SALTS[attempt].ljust(16)[:16], categorize=False)
        start += len(values)
    return found, null


def _failed(run: StreamedRun) -> Flags:
    if "error" not in run.kinds:
        return np.zeros(run.rows, dtype=bool)
    return np.concatenate([batch["error"].notna().to_numpy() for batch in run.read(["error"])])


def _match(
    old: StreamedRun, new: StreamedRun, column: str, failures: tuple[Flags, Flags], attempt: int
) -> _Match | None:
    """Match the rows by a column without nulls; None where a content hash is there twice."""
    (mine, _), (theirs, _) = fingerprints(old, column, attempt), fingerprints(new, column, attempt)
    if len(mine) == len(theirs) and np.array_equal(mine, theirs):
        if _repeats(np.sort(mine)):
            return _no_match(column)
        partner = np.arange(len(mine), dtype=np.int32)
        only_new = np.zeros(len(theirs), dtype=bool)
    else:
        order = np.argsort(theirs)
        ordered = theirs[order]
        del theirs
        if _repeats(ordered) or _repeats(np.sort(mine)):
            return _no_match(column)
        at = np.minimum(np.searchsorted(ordered, mine), len(ordered) - 1)
        partner = np.where(ordered[at] == mine, order[at], -1).astype(np.int32)
        del order, ordered, at
        only_new = np.ones(new.rows, dtype=bool)
        only_new[partner[partner >= 0]] = False
    del mine
    rows = np.flatnonzero(partner >= 0)
    return _Match(partner, only_new, rows, _conflict(old, new, rows, partner[rows], failures))


def _repeats(ordered: NDArray[np.uint64]) -> bool:
    return bool((ordered[1:] == ordered[:-1]).any())


def _no_match(column: str) -> _Match | None:
    if column == "doc_id":
        raise Collision  # ids are unique: two of them share a fingerprint
    return None


def _conflict(
    old: StreamedRun, new: StreamedRun, old_rows: NDArray[np.intp], new_rows: Places, failures: tuple[Flags, Flags]
) -> Flags:
    conflict = np.zeros(len(old_rows), dtype=bool)
    if not len(old_rows):
        return conflict
    failed = failures[0][old_rows] | failures[1][new_rows]
    for column in CONTENT:
        if column not in old.kinds or column not in new.kinds:
            continue
        before, null_before = _taken(old, column, old_rows)
        after, null_after = _taken(new, column, new_rows)
        if column == "doc_hash":
            kinds = _first_kind(old, old_rows, null_before), _first_kind(new, new_rows, null_after)
            if kinds[0] != kinds[1]:
                continue
        conflict |= contradicts(column, before != after, null_before, null_after, failed)
    return conflict


def _taken(run: StreamedRun, column: str, rows: NDArray[np.integer]) -> tuple[NDArray[np.uint64], Flags]:
    values, null = fingerprints(run, column)
    return values[rows], null[rows]


def _first_kind(run: StreamedRun, rows: NDArray[np.integer], null: Flags) -> str:
    known = np.flatnonzero(~null)[:1]
    return hash_kind(lookup(run, rows[known], ["doc_hash"])["doc_hash"].iloc[0]) if len(known) else ""


def _ids(run: StreamedRun, rows: NDArray[np.intp]) -> tuple[str, ...]:
    if not len(rows):
        return ()
    return tuple(str(value) for value in lookup(run, rows[:EXAMPLES], ["doc_id"])["doc_id"])
