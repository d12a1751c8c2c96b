"""The response store: answers of models in one SQLite file, kept as they arrive, found again by content."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck.evaluation.store.keys import checksum, decode, encode

FILE = "responses-2.sqlite"
"""The number goes up with the schema and where answers of before must not be trusted."""
_BEFORE = ("responses-1.sqlite",)
"""Stores of earlier versions: their answers may come from models that were loaded wrongly."""
_APPLICATION, _SCHEMA_VERSION = 0x434D5043, 1
_SCHEMA = (
    """CREATE TABLE sources (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, task TEXT NOT NULL, reference TEXT NOT NULL, fingerprint TEXT NOT NULL,
    engine TEXT NOT NULL, identity TEXT NOT NULL, used INTEGER NOT NULL, UNIQUE (model, task))""",
    """CREATE TABLE answers (
    key BLOB NOT NULL PRIMARY KEY, source INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL,
    made INTEGER NOT NULL, checksum BLOB NOT NULL)""",
    "CREATE TABLE notes (source INTEGER NOT NULL, kind TEXT NOT NULL, note TEXT NOT NULL, UNIQUE (source, kind, note))",
)
_ADD_ANSWER = (
    "INSERT OR REPLACE INTO answers (source, key, kind, value, made, checksum) "
    "SELECT id, ?, ?, ?, ?, ? FROM sources WHERE model = ? AND task = ?"
)
_ADD_NOTE = "INSERT OR IGNORE INTO notes (source, kind, note) SELECT id, ?, ? FROM sources WHERE model = ? AND task = ?"
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH}
_BUSY_SECONDS, _SYNC_SECONDS, _KEYS_AT_ONCE = 60.0, 1.0, 500


@dataclass(frozen=True)
class Source:
    """What gave an answer, and for which task: entries are listed and pruned by it."""

    model: str
    """:func:`compatcheck.evaluation.store.keys.model_key` of content and engine."""
    task: str
    reference: str
    fingerprint: str
    engine: str
    identity: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)
    """As the engine says it once it is open."""


class Store:
    """One store in one folder, by one connection. Several processes may use it at the same time.

    Every answer is a commit of its own, so that a killed process loses none; the log is synced once a second, so that a
    power failure loses one second. Nothing that is wrong with the file ends a run: a damaged one is set aside under
    another name and a new one begun; where it cannot be written, answers are computed as if there were none. ``notes``
    say so in plain sentences."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.notes: list[str] = []
        self.written = 0
        """Answers handed in to be kept."""
        self.writable = True
        self._lock = threading.RLock()
        self._sync_at = 0.0
        self.connection = self._open()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self.connection is not None:
                self.connection.close()
            self.connection, self.writable = None, False

    def get(self, kind: str, keys: Iterable[bytes]) -> dict[bytes, Any]:
        """The answers that are there, by key. A row whose checksum does not fit counts as not there."""
        found: dict[bytes, Any] = {}
        spoilt = 0
        for key, value, check in self._rows("key, value, checksum", list(keys)):
            try:
                sound = isinstance(value, str) and check == checksum(key, value)
                if sound:
                    found[key] = decode(kind, value)
            except (ValueError, TypeError, RecursionError):
                sound = False
            spoilt += not sound
        if spoilt:
            self._note(f"{spoilt:,} stored answers are damaged and were not used; they are computed again.")
        return found

    def count(self, keys: Iterable[bytes]) -> int:
        """How many of the keys are there (their checksums are not looked at)."""
        return sum(1 for _ in self._rows("key", list(keys)))

    def _rows(self, columns: str, keys: list[bytes]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[start : start + _KEYS_AT_ONCE]
            marks = ", ".join("?" * len(part))
            yield from self._ask(f"SELECT {columns} FROM answers WHERE key IN ({marks})", part)

    def identity(self, source: Source) -> dict[str, Any] | None:
        """What the engine said of itself when it gave this model's answers."""
        query = "SELECT identity FROM sources WHERE model = ? AND identity != '{}' ORDER BY task != ?"
        for (text,) in self._ask(query, (source.model, source.task)):
            with contextlib.suppress(ValueError, TypeError):
                if isinstance(value := json.loads(text), dict):
                    return value
        return None

    def said(self, source: Source, kind: str) -> list[str]:
        """What the engine said about its answers of this kind."""
        rows = self._ask(
            "SELECT note FROM notes JOIN sources ON sources.id = notes.source "
            "WHERE model = ? AND task = ? AND kind = ? ORDER BY notes.rowid",
            (source.model, source.task, kind),
        )
        return [str(note) for (note,) in rows]

    def _ask(self, query: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return [] if self.connection is None else self.connection.execute(query, tuple(values)).fetchall()
            except (sqlite3.Error, UnicodeDecodeError) as error:
                self._failed(error)
                return []

    def put(self, source: Source, kind: str, key: bytes, answer: Any) -> bool:
        """Keep an answer. False for what is no proper answer and is not kept."""
        value = encode(kind, answer)
        if value is None:
            return False
        self.written += self.writable
        self._write(source, _ADD_ANSWER, key, kind, value, int(time.time()), checksum(key, value))
        return True

    def put_note(self, source: Source, kind: str, text: str) -> None:
        """Keep what the engine said about its answers of this kind."""
        self._write(source, _ADD_NOTE, kind, text)

    def touch(self, source: Source) -> None:
        """Remember that the source's answers were used now; without an identity in it the known one stays."""
        self._write(source, None)

    def sync(self) -> None:
        """Wait until everything is safe against a power failure."""
        if self.writable:
            self._ask("PRAGMA wal_checkpoint(PASSIVE)", ())

    def _write(self, source: Source, statement: str | None, *values: Any) -> None:
        """Commit one row of a source, and the source where it is new; again once what is damaged was set aside."""
        row = (*values, source.model, source.task)
        with self._lock:
            for last in (False, True):
                if self.connection is None or not self.writable:
                    return
                try:
                    now = time.monotonic()
                    due = now >= self._sync_at
                    self.connection.execute(f"PRAGMA synchronous = {'FULL' if due else 'NORMAL'}")
                    if statement is None or not self.connection.execute(statement, row).rowcount:
                        self._write_source(self.connection, source)
                        if statement is not None:
                            self.connection.execute(statement, row)
                    self._sync_at = now + _SYNC_SECONDS if due else self._sync_at
                    return
                except sqlite3.Error as error:
                    self._failed(error, give_up=last)

    @staticmethod
    def _write_source(connection: sqlite3.Connection, source: Source) -> None:
        identity = json.dumps(source.identity, default=str)
        values = (source.model, source.task, source.reference, source.fingerprint, source.engine, identity)
        connection.execute(
            "INSERT INTO sources (model, task, reference, fingerprint, engine, identity, used) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (model, task) DO UPDATE SET reference = excluded.reference, "
            "used = max(used, excluded.used)" + (", identity = excluded.identity" if identity != "{}" else ""),
            (*values, int(time.time())),
        )

    def _failed(self, error: Exception, give_up: bool = False) -> None:
        """Go on with a new store where this one is damaged, else without storing."""
        if is_damage(error) and not give_up:
            if self.connection is not None:
                self.connection.close()
            self.connection = self._open(error)
            return
        self.writable = False
        self._note(f"From here on answers are not kept: the response store {self.path} fails ({error}).")

    def _open(self, met: Exception | None = None) -> sqlite3.Connection | None:
        """A connection to a sound store; a damaged one is set aside, unless another process did so already.

        None where there is no way to read one. ``met`` is the damage that was met while working."""
        try:
            with _alone(self.path.parent):
                for old in (self.path.with_name(name) for name in _BEFORE):
                    if old.exists():
                        self._note(
                            "Answers that an earlier version stored are not used, as some models were loaded wrongly "
                            f"then: they were set aside as {set_aside(old, 'outdated').name} (`compatcheck cache "
                            "clear` removes them)."
                        )
                try:
                    connection = connect(self.path)
                    if met is None or connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok":
                        return connection
                    connection.close()
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    if not is_damage(error):
                        raise
                    met = met or error
                self._note(
                    f"The response store {self.path} is damaged ({met}): it was set aside as "
                    f"{set_aside(self.path).name} and a new one begun."
                )
                return connect(self.path)
        except (sqlite3.Error, OSError) as error:
            self.writable = False
            try:
                connection = connect_to_read(self.path)
            except (sqlite3.Error, OSError, UnicodeDecodeError):
                self._note(f"Answers are not kept: the response store {self.path} cannot be opened ({error}).")
                return None
            self._note(f"New answers are not kept: the response store {self.path} cannot be written ({error}).")
            return connection

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


class _WrongSchema(sqlite3.DatabaseError):
    """The file is a database, but not one of ours."""


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file's content is wrong, rather than that it cannot be reached or written now."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    wrong = isinstance(error, _WrongSchema | UnicodeDecodeError)
    return wrong or code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in _DAMAGE


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
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
    """A connection that writes, with a write-ahead log: made if missing, readable by its owner alone. Raises
    sqlite3.Error: it cannot be opened or is damaged; see :func:`is_damage`; OSError: it cannot be made."""
    # Only a file that is not there yet: to open and close one that is would drop the locks that SQLite has on it here.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty:
            _check(connection)  # before anything in it is changed
        elif path.stat().st_size == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for setting in ("journal_mode = WAL", "synchronous = FULL", "fullfsync = ON"):  # fullfsync: macOS
            connection.execute(f"PRAGMA {setting}")
        if empty:
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_SCHEMA_VERSION}; "
                f"{'; '.join(_SCHEMA)}; COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection for a store that cannot be written, as on a read-only disk. Raises sqlite3.Error: it cannot be
    opened or is damaged."""
    log = path.with_name(path.name + "-wal")
    # Without its log a store is whole only if everything was taken over from there.
    whole = "&immutable=1" if not log.exists() or log.stat().st_size == 0 else ""
    where = f"{path.absolute().as_uri()}?mode=ro{whole}"
    connection = sqlite3.connect(where, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
    try:
        _check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    """Raise for a database that is not one of ours, or whose tables are others."""
    marks = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if marks != [_APPLICATION, _SCHEMA_VERSION]:
        raise _WrongSchema("it was not made by this program")
    tables = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")
    if {_words(sql) for (sql,) in tables} != set(map(_words, _SCHEMA)):
        raise _WrongSchema("its tables are others")
    connection.execute("SELECT key, checksum FROM answers LIMIT 1").fetchone()


def _words(sql: str) -> str:
    return "".join(str(sql).split())


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Give a store another name, with its log; returns the new name. The old name is free afterwards."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target, number = path.with_name(f"{path.stem}.{why}-{stamp}{path.suffix}"), 2
    while target.exists():
        target, number = path.with_name(f"{path.stem}.{why}-{stamp}-{number}{path.suffix}"), number + 1
    path.replace(target)
    for ending in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(target.with_name(target.name + ending))
    return target


def set_aside_files(folder: Path) -> list[Path]:
    """Stores that :func:`set_aside` named here, with their logs; what merely looks alike is somebody's own."""
    names = re.compile(r"responses-\d+\.(damaged|outdated)-\d{8}-\d{6}(-\d+)?\.sqlite(-wal|-shm)?")
    found = folder.glob("responses-*.sqlite*")
    return sorted(path for path in found if names.fullmatch(path.name) and path.is_file() and not path.is_symlink())
