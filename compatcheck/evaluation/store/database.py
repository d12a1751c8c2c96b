"""The response store: answers of models, kept as they arrive, found again by content."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from compatcheck.evaluation.store import files
from compatcheck.evaluation.store.keys import checksum, decode, encode
from compatcheck.evaluation.store.writer import Answer, Note, Source, Used, Writer

_KEYS_AT_ONCE = 500
_REPAIRS = 3


class Store:
    """One store in one folder. Several processes may use it at the same time.

    Nothing that is wrong with it ends a run: a damaged file is set aside under another name and a new one begun; where
    it cannot be written, answers are computed as if there were none. ``notes`` say so in plain sentences.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / files.FILE
        self.notes: list[str] = []
        self.written = 0
        """Answers handed in to be kept."""
        self._lock = threading.RLock()
        self._repairs = 0
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._writable = True
        self._reader = self._connect()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading

    def get(self, kind: str, keys: Iterable[bytes]) -> dict[bytes, Any]:
        """The answers that are there, by key. A row whose checksum does not fit counts as not there."""
        wanted = list(keys)
        found: dict[bytes, Any] = {}
        spoilt = 0
        for key, value, check in self._rows("key, value, checksum", wanted):
            try:
                sound = isinstance(value, str) and check == checksum(key, value)
                if sound:
                    found[key] = decode(kind, value)
            except (ValueError, TypeError):
                sound = False
            spoilt += not sound
        if spoilt:
            self._note(f"{spoilt:,} stored answers are damaged and were not used; they are computed again.")
        return found

    def count(self, keys: Iterable[bytes]) -> int:
        """How many of the keys are there (their checksums are not looked at)."""
        return sum(1 for _ in self._rows("key", list(keys)))

    def _rows(self, columns: str, keys: list[bytes]) -> list[tuple[Any, ...]]:
        self.flush()
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[start : start + _KEYS_AT_ONCE]
            marks = ", ".join("?" * len(part))
            rows += self._ask(f"SELECT {columns} FROM answers WHERE key IN ({marks})", part)
        return rows

    def identity(self, source: Source) -> dict[str, Any] | None:
        """What the engine said of itself when it gave this model's answers."""
        rows = self._ask(
            "SELECT identity FROM sources WHERE model = ? AND identity != '{}' ORDER BY task != ?",
            (source.model, source.task),
        )
        for (text,) in rows:
            with contextlib.suppress(ValueError, TypeError):
                value = json.loads(text)
                if isinstance(value, dict):
                    return value
        return None

    def said(self, source: Source, kind: str) -> list[str]:
        """Notes of the engine on answers of this kind."""
        rows = self._ask(
            "SELECT note FROM notes JOIN sources ON sources.id = notes.source "
            "WHERE model = ? AND task = ? AND kind = ? ORDER BY notes.rowid",
            (source.model, source.task, kind),
        )
        return [str(note) for (note,) in rows]

    def _ask(self, query: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._reader is None:
                return []
            try:
                return self._reader.execute(query, tuple(values)).fetchall()
            except (sqlite3.Error, UnicodeDecodeError) as error:
                met = error
        self._end_writer()  # not under the lock, which it may need to come to its end
        with self._lock:
            self._reader.close()
            self._reader = self._after(met)
        return []

    # Writing

    def put(self, source: Source, kind: str, key: bytes, answer: Any) -> bool:
        """Keep an answer; it is on the disk a moment later. False for what is no proper answer and is not kept."""
        value = encode(kind, answer)
        if value is None:
            return False
        self.written += self._writable
        self._hand_in(Answer(source, kind, key, value, checksum(key, value)))
        return True

    def put_note(self, source: Source, kind: str, text: str) -> None:
        """Keep what the engine said about its answers of this kind."""
        self._hand_in(Note(source, kind, text))

    def touch(self, source: Source) -> None:
        """Remember that the source's answers were used now."""
        self._hand_in(Used(replace(source, identity={})))  # what the engine said of itself stays

    def _hand_in(self, item: Answer | Note | Used) -> None:
        if not self._writable:
            return
        if self._writer is None:
            connection = self._connect()
            if connection is None or not self._writable:
                return
            self._writer = Writer(connection, self._writer_failed)
        self._writer.put(item)

    def flush(self) -> None:
        """Wait until everything handed in is on the disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write what is left and close the files."""
        self._end_writer()
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        self._writable = False

    def _end_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # What may go wrong

    def _connect(self) -> sqlite3.Connection | None:
        """A connection to a sound store; sets a damaged one aside. None where there is no way to read one."""
        with self._lock:
            try:
                with files.alone(self.path.parent):
                    for old in files.outdated(self.path.parent):
                        aside = files.set_aside(old, "outdated")
                        self._note(
                            "Answers that an earlier version stored are not used, as some models were loaded wrongly "
                            f"then: they were set aside as {aside.name} (`compatcheck cache clear` removes them)."
                        )
                    try:
                        return files.connect(self.path)
                    except (sqlite3.Error, UnicodeDecodeError) as error:
                        if not files.is_damage(error):
                            raise
                        aside = files.set_aside(self.path)
                        self._note(
                            f"The response store {self.path} is damaged ({error}): it was set aside as {aside.name} "
                            "and a new one begun."
                        )
                        return files.connect(self.path)
            except (sqlite3.Error, OSError) as error:
                return self._read_only(error)

    def _read_only(self, error: Exception) -> sqlite3.Connection | None:
        self._writable = False
        try:
            connection = files.connect_to_read(self.path)
        except (sqlite3.Error, OSError, UnicodeDecodeError):
            self._note(f"Answers are not kept: the response store {self.path} cannot be opened ({error}).")
            return None
        self._note(f"New answers are not kept: the response store {self.path} cannot be written ({error}).")
        return connection

    def _after(self, error: Exception) -> sqlite3.Connection | None:
        """A connection to go on with after an error, or None: the run goes on without storing."""
        with self._lock:
            if files.is_damage(error) and self._repairs < _REPAIRS:
                self._repairs += 1
                return self._replace(error)
            self._writable = False
            self._note(f"From here on answers are not kept: the response store {self.path} fails ({error}).")
            return None

    def _writer_failed(self, error: Exception) -> sqlite3.Connection | None:
        connection = self._after(error)
        with self._lock:
            if connection is not None and self._reader is not None:  # it may still have the file that was set aside
                self._reader.close()
                self._reader = self._connect()
        return connection

    def _replace(self, error: Exception) -> sqlite3.Connection | None:
        """Damage was met while working: set the file aside, unless another process did so already."""
        try:
            with files.alone(self.path.parent):
                try:
                    connection = files.connect(self.path)
                    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok":
                        return connection
                    connection.close()
                except (sqlite3.Error, UnicodeDecodeError) as found:
                    if not files.is_damage(found):
                        raise
                aside = files.set_aside(self.path)
                self._note(
                    f"The response store {self.path} is damaged ({error}): it was set aside as {aside.name} and a new "
                    "one begun."
                )
                return files.connect(self.path)
        except (sqlite3.Error, OSError) as found:
            return self._read_only(found)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
