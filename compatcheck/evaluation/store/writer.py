"""Answers go to the store in a thread of their own: the engine never waits for the disk, the disk is never behind.

What arrives while one commit is being synced makes up the next one, so commits are as frequent as the disk allows and
a killed process loses the answers of the last few milliseconds.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_MOST_AT_ONCE = 5_000


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


@dataclass(frozen=True)
class Answer:
    """One row to be written."""

    source: Source
    kind: str
    key: bytes
    value: str
    checksum: bytes


@dataclass(frozen=True)
class Note:
    """What the engine said about how it came to its answers of this kind."""

    source: Source
    kind: str
    text: str


@dataclass(frozen=True)
class Used:
    """The source's answers, or some of them, were asked for."""

    source: Source


Item = Answer | Note | Used


def write(connection: sqlite3.Connection, items: list[Item]) -> None:
    """Write all of them, or none.

    Raises:
        sqlite3.Error: as it comes.
    """
    now = int(time.time())
    numbers: dict[Source, int] = {}
    connection.execute("BEGIN IMMEDIATE")
    try:
        for item in items:
            if item.source not in numbers:
                numbers[item.source] = _number(connection, item.source, now)
        connection.executemany(
            "INSERT OR REPLACE INTO answers (key, source, kind, value, made, checksum) VALUES (?, ?, ?, ?, ?, ?)",
            [(i.key, numbers[i.source], i.kind, i.value, now, i.checksum) for i in items if isinstance(i, Answer)],
        )
        connection.executemany(
            "INSERT OR IGNORE INTO notes (source, kind, note) VALUES (?, ?, ?)",
            [(numbers[i.source], i.kind, i.text) for i in items if isinstance(i, Note)],
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _number(connection: sqlite3.Connection, source: Source, now: int) -> int:
    identity = json.dumps(source.identity, default=str)
    known = "identity = excluded.identity, " if source.identity else ""
    connection.execute(
        "INSERT INTO sources (model, task, reference, fingerprint, engine, identity, used) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) "
        f"ON CONFLICT (model, task) DO UPDATE SET {known}"
        "reference = excluded.reference, used = excluded.used",
        (source.model, source.task, source.reference, source.fingerprint, source.engine, identity, now),
    )
    found = connection.execute("SELECT id FROM sources WHERE model = ? AND task = ?", (source.model, source.task))
    return int(found.fetchone()[0])


class Writer:
    """Writes items in the order in which they come; ``failed`` is asked what to do with those that cannot be written.

    ``failed(error)`` gives a new connection to try again with, or None to give up for good.
    """

    def __init__(
        self, connection: sqlite3.Connection, failed: Callable[[sqlite3.Error], sqlite3.Connection | None]
    ) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._failed = failed
        self._items: queue.SimpleQueue[Item | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="response store", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        self._items.put(item)

    def flush(self) -> None:
        """Wait until everything put before is on the disk, or was given up."""
        done = threading.Event()
        self._items.put(done)
        while not done.wait(1.0):
            if not self._thread.is_alive():
                return

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._items.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            batch: list[Item] = []
            waiting: list[threading.Event] = []
            entry = self._items.get()
            while True:
                if entry is None:
                    closing = True
                elif isinstance(entry, threading.Event):
                    waiting.append(entry)
                else:
                    batch.append(entry)
                if closing or len(batch) >= _MOST_AT_ONCE:
                    break
                try:
                    entry = self._items.get_nowait()
                except queue.Empty:
                    break
            self._write(batch)
            for event in waiting:
                event.set()
        if self._connection is not None:
            self._connection.close()

    def _write(self, batch: list[Item]) -> None:
        while batch and self._connection is not None:
            try:
                write(self._connection, batch)
                return
            except sqlite3.Error as error:
                self._connection.close()
                self._connection = self._failed(error)
