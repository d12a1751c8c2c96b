"""The store as a file: opened, checked, and set aside when it is damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

FILE = "responses-2.sqlite"
"""The number goes up with the schema and where answers of before must not be trusted."""
_BEFORE = ("responses-1.sqlite",)
"""Stores of earlier versions: their answers may come from models that were loaded wrongly."""
APPLICATION = 0x434D5043
SCHEMA_VERSION = 1
BUSY_SECONDS = 60.0
_TABLES = {
    "sources": ("id", "model", "task", "reference", "fingerprint", "engine", "identity", "used"),
    "answers": ("key", "source", "kind", "value", "made", "checksum"),
    "notes": ("source", "kind", "note"),
}
_SCHEMA = """
CREATE TABLE sources (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, task TEXT NOT NULL, reference TEXT NOT NULL, fingerprint TEXT NOT NULL,
    engine TEXT NOT NULL, identity TEXT NOT NULL, used INTEGER NOT NULL, UNIQUE (model, task));
CREATE TABLE answers (
    key BLOB NOT NULL PRIMARY KEY, source INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL,
    made INTEGER NOT NULL, checksum BLOB NOT NULL);
CREATE TABLE notes (source INTEGER NOT NULL, kind TEXT NOT NULL, note TEXT NOT NULL, UNIQUE (source, kind, note));
"""
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH}
_SHORT_READ = sqlite3.SQLITE_IOERR_SHORT_READ


class WrongSchema(sqlite3.DatabaseError):
    """The file is a database, but not one of ours."""


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file's content is wrong, rather than that it cannot be reached or written now."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, WrongSchema | UnicodeDecodeError) or code == _SHORT_READ:
        return True
    return code is not None and code & 0xFF in _DAMAGE


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time: a store is made, checked and set aside under this lock, which dies with its process."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: SQLite's own protect the content
        yield
        return
    number = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def connect(path: Path) -> sqlite3.Connection:
    """A connection that writes: made if missing, readable by its owner alone, safe against power loss.

    Write-ahead log: readers and a writer do not hinder each other. ``synchronous = FULL`` syncs the log at every commit
    (NORMAL would lose what was committed since the last checkpoint when power fails), and ``fullfsync`` makes that hold
    on macOS. Commits are grouped, so a sync is paid per batch and not per answer.

    Raises:
        sqlite3.Error: it cannot be opened or is damaged; see :func:`is_damage`.
        OSError: it cannot be made.
    """
    # Only a file that is not there yet: to open and close one that is would drop the locks that SQLite has on it here.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    connection = _open(path.as_posix())
    try:
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty:
            check(connection)  # before anything in it is changed
        elif path.stat().st_size == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        if empty:
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA_VERSION}; "
                f"{_SCHEMA} COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection for a store that cannot be written, as on a read-only disk.

    Raises:
        sqlite3.Error: it cannot be opened or is damaged.
    """
    log = path.with_name(path.name + "-wal")
    # Without its log a store is whole only if everything was taken over from there.
    whole = "&immutable=1" if not log.exists() or log.stat().st_size == 0 else ""
    connection = _open(f"{path.resolve().as_uri()}?mode=ro{whole}", uri=True)
    try:
        check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(where: str, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(where, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri)


def check(connection: sqlite3.Connection) -> None:
    """Raise for a database that is not one of ours, or whose tables are others."""
    marks = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if marks != [APPLICATION, SCHEMA_VERSION]:
        raise WrongSchema("it was not made by this program")
    for table, columns in _TABLES.items():
        if {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} != set(columns):
            raise WrongSchema(f"its table {table} is another one")
    connection.execute("SELECT key, checksum FROM answers LIMIT 1").fetchone()


def outdated(folder: Path) -> list[Path]:
    """Stores of earlier versions that lie here under their own names."""
    return [folder / name for name in _BEFORE if (folder / name).exists()]


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Give a store another name, with its log; returns the new name. The old name is free afterwards."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = path.with_name(f"{path.stem}.{why}-{stamp}{path.suffix}")
    number = 2
    while target.exists():
        target = path.with_name(f"{path.stem}.{why}-{stamp}-{number}{path.suffix}")
        number += 1
    path.replace(target)
    for ending in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(target.with_name(target.name + ending))
    return target


def set_aside_files(folder: Path) -> list[Path]:
    """Stores that were set aside here, with their logs."""
    return sorted(path for why in ("damaged", "outdated") for path in folder.glob(f"responses-*.{why}-*.sqlite*"))
