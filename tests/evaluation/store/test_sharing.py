"""One store and several processes: locked, written by two, and left by one that was killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from compatcheck.evaluation.store import database, upkeep
from compatcheck.evaluation.store.database import Store
from tests.evaluation.store.conftest import source
from tests.evaluation.store.test_database import KIND, fill, is_right, key, overwrite_header, read


def test_a_store_that_another_program_keeps_locked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, 2)
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    other = sqlite3.connect(folder / database.FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Store(folder) as store:
        store.put(source(), KIND, key(5), "paid for")
        assert len(store.get(KIND, [key(0), key(1)])) == 2
        (note,) = store.notes
    assert note.startswith("From here on answers are not kept")
    other.close()
    assert len(read(folder, 6)[0]) == 2


def test_a_clock_that_was_set_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used after the clock was set back is not taken for older than it is, and pruning goes on."""
    monkeypatch.setattr(database.time, "time", lambda: 2_000_000_000.0)
    fill(folder, 3)
    monkeypatch.setattr(database.time, "time", lambda: 1_000_000_000.0)
    with Store(folder) as store:
        store.touch(source())
        store.put(source(), KIND, key(3), "x")
        assert store.notes == []
    assert upkeep.overview(folder).entries[0].used == 2_000_000_000
    assert upkeep.prune(folder, older_than=0).answers == 0


WRITE = """
import sys
from pathlib import Path
from compatcheck.evaluation.store.database import Store
from tests.evaluation.store.conftest import source
first, count = int(sys.argv[2]), int(sys.argv[3])
with Store(Path(sys.argv[1])) as store:
    for number in range(first, first + count):
        key = number.to_bytes(20, 'big')
        store.put(source(task=f'task {first}'), 'generate_until', key, f'answer {number} ' + 'x' * 200)
        if number % 7 == 0:
            store.sync()
            assert store.get('generate_until', [key])
    store.sync()
    assert store.notes == [], store.notes
"""


def test_two_processes_write_at_the_same_time(folder: Path) -> None:
    ranges = [(0, 300), (200, 300), (600, 300)]  # two of them write the same hundred
    running = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(folder), str(first), str(count)], stderr=subprocess.PIPE)
        for first, count in ranges
    ]
    for process in running:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
    found, notes = read(folder, 1000)
    assert sorted(int.from_bytes(k, "big") for k in found) == [*range(500), *range(600, 900)]
    assert is_right(found)
    assert notes == []


def test_two_processes_meet_the_same_damage(folder: Path) -> None:
    fill(folder)
    overwrite_header(folder / database.FILE)
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                WRITE.replace("assert store.notes == [], store.notes", ""),
                str(folder),
                first,
                "50",
            ],
            stderr=subprocess.PIPE,
        )
        for first in ("1000", "2000", "3000")
    ]
    for process in running:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
    assert len(database.set_aside_files(folder)) == 1, "the new one was not set aside by the slower of them"
    found, _ = read(folder, 4000)
    assert len(found) == 150


def test_a_killed_writer_leaves_a_sound_store(folder: Path) -> None:
    endless = WRITE.replace("int(sys.argv[3])", "10**9").replace(
        "            store.sync()\n", "            print(number, flush=True)\n", 1
    )
    for round_ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", endless, str(folder), str(round_ * 1_000_000), "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(40 + 13 * round_):
            process.stdout.readline()
        process.kill()  # while it writes
        process.communicate()
        with Store(folder) as store:
            found = store.get(KIND, [key(round_ * 1_000_000 + n) for n in range(10_000)])
            assert len(found) >= 7 * (38 + 13 * round_), "what was looked for before the kill is there"
            assert is_right(found)
            assert store.notes == []
    connection = sqlite3.connect(folder / database.FILE)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
