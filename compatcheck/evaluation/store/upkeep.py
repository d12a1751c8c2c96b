"""What lies in the store, and how it is made smaller."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from compatcheck.errors import InputError
from compatcheck.evaluation.store.database import FILE, Store, set_aside_files


@dataclass(frozen=True)
class Entry:
    """The answers of one model (as it was called last) under one engine to one task, and when they were last ``used``.

    Times are seconds since 1970, sizes are of the texts."""

    model: str
    fingerprint: str
    engine: str
    task: str
    answers: int
    bytes: int
    oldest: int
    newest: int
    used: int


@dataclass(frozen=True)
class Overview:
    """A store as it is. ``bytes`` is what its files take on the disk, those that were set aside included."""

    path: Path
    bytes: int
    set_aside: tuple[Path, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    @property
    def answers(self) -> int:
        return sum(entry.answers for entry in self.entries)


@dataclass(frozen=True)
class Removed:
    """What was taken away, and the size on the disk before and after."""

    answers: int
    files: int
    bytes_before: int
    bytes_after: int
    notes: tuple[str, ...] = ()


def overview(folder: Path) -> Overview:
    """What the store in this folder holds; nothing is made where there is none. A damaged one is set aside. Raises
    InputError: it cannot be read."""
    entries: list[Entry] = []
    notes: tuple[str, ...] = ()
    if (folder / FILE).exists():
        with _opened(folder, write=False) as (connection, notes):
            rows = connection.execute(
                "SELECT reference, fingerprint, engine, task, count(key), coalesce(sum(length(value)), 0), "
                "coalesce(min(made), used), coalesce(max(made), used), used "
                "FROM sources LEFT JOIN answers ON answers.source = sources.id GROUP BY sources.id "
                "ORDER BY reference, task, used DESC"
            )
            entries = [Entry(*row) for row in rows if row[4]]
    aside = tuple(path for path in set_aside_files(folder) if path.suffix == Path(FILE).suffix)
    return Overview(folder / FILE, _size(folder), aside, tuple(entries), notes)


def clear(folder: Path) -> Removed:
    """Take away every answer, and the files that were set aside. Other processes may go on using the store. Raises
    InputError: it cannot be written."""
    return _remove(folder, lambda connection: _delete(connection, "1"), lambda path: True)


def prune(folder: Path, older_than: float | None = None, max_bytes: int | None = None) -> Removed:
    """Take away what was not used for ``older_than`` seconds, then the least recently used down to ``max_bytes``.
    Raises InputError: it cannot be written."""
    limit = time.time() - older_than if older_than is not None else None

    def work(connection: sqlite3.Connection) -> int:
        removed = 0
        if limit is not None:
            removed += _delete(connection, "source IN (SELECT id FROM sources WHERE used < ?)", int(limit))
        while max_bytes is not None and (used := _bytes_in_use(connection)) > max_bytes:
            count = int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
            if count == 0:
                break
            removed += _delete(
                connection,
                "key IN (SELECT key FROM answers JOIN sources ON sources.id = source "
                "ORDER BY used, answers.rowid LIMIT ?)",
                math.ceil(count * (used - max_bytes) / used),
            )
        return removed

    return _remove(folder, work, lambda path: limit is not None and path.stat().st_mtime < limit)


def _bytes_in_use(connection: sqlite3.Connection) -> int:
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * size


def _delete(connection: sqlite3.Connection, which: str, *values: int) -> int:
    connection.execute("BEGIN IMMEDIATE")
    removed = connection.execute(f"DELETE FROM answers WHERE {which}", values).rowcount
    connection.execute("DELETE FROM sources WHERE id NOT IN (SELECT source FROM answers)")
    connection.execute("DELETE FROM notes WHERE source NOT IN (SELECT id FROM sources)")
    connection.execute("COMMIT")
    return int(removed)


def _remove(folder: Path, work: Callable[[sqlite3.Connection], int], is_spent: Callable[[Path], bool]) -> Removed:
    before, answers = _size(folder), 0
    notes: tuple[str, ...] = ()
    if (folder / FILE).exists():
        with _opened(folder, write=True) as (connection, notes):
            answers = work(connection)
            connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")
    spent = [path for path in set_aside_files(folder) if is_spent(path)]
    for path in spent:
        path.unlink(missing_ok=True)
    return Removed(answers, len(spent), before, _size(folder), notes)


@contextlib.contextmanager
def _opened(folder: Path, write: bool) -> Iterator[tuple[sqlite3.Connection, tuple[str, ...]]]:
    """A connection to a sound store, and what had to be done to get one."""
    try:
        with Store(folder) as store:
            if store.connection is None or (write and not store.writable):
                raise InputError(store.notes[-1])
            yield store.connection, tuple(store.notes)
    except (sqlite3.Error, OSError) as error:
        raise InputError(f"{folder / FILE}: the response store cannot be used ({error})") from None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in [*folder.glob(f"{FILE}*"), *set_aside_files(folder)] if path.exists())
