"""The store by itself: what it gives back, and what it does when its files are not as they should be."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compatcheck.errors import InputError
from compatcheck.evaluation.store import database, locate, open_store
from compatcheck.evaluation.store.database import Store
from compatcheck.evaluation.store.keys import KEY_BYTES
from tests.evaluation.store.conftest import source

KIND = "generate_until"


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def fill(folder: Path, count: int = 500) -> None:
    with Store(folder) as store:
        for number in range(count):
            store.put(source(), KIND, key(number), f"answer {number} " + "x" * 200)
        assert store.notes == []


def read(folder: Path, count: int = 500) -> tuple[dict[bytes, str], list[str]]:
    with Store(folder) as store:
        return store.get(KIND, [key(n) for n in range(count)]), store.notes


def is_right(found: dict[bytes, str]) -> bool:
    return all(text == f"answer {int.from_bytes(k, 'big')} " + "x" * 200 for k, text in found.items())


def test_what_is_put_is_found_by_this_process_and_the_next(folder: Path) -> None:
    with Store(folder) as store:
        assert store.put(source(), "loglikelihood", key(1), (-1.5, True))
        assert not store.put(source(), "loglikelihood", key(2), (float("nan"), True))
        assert store.get("loglikelihood", [key(1), key(2)]) == {key(1): (-1.5, True)}
        assert (store.written, store.count([key(1), key(2)])) == (1, 1)
    with Store(folder) as store:
        assert store.get("loglikelihood", [key(1)]) == {key(1): (-1.5, True)}
        assert store.notes == []


def test_only_the_owner_reads_it(folder: Path) -> None:
    fill(folder)
    with Store(folder) as store:
        store.put(source(), KIND, key(1), "secret")
        store.sync()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes) >= {database.FILE, f"{database.FILE}-wal", f"{database.FILE}-shm"}
    assert set(modes.values()) == {0o600}
    (folder / database.FILE).chmod(0o644)
    assert len(read(folder)[0]) == 500
    assert stat.S_IMODE((folder / database.FILE).stat().st_mode) == 0o600


def test_what_was_committed_is_on_the_disk(folder: Path) -> None:
    fill(folder, 1)
    connection = database.connect(folder / database.FILE)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # incremental: pruning gives room back
    connection.close()


def test_identity_and_notes_are_kept_with_the_answers(folder: Path) -> None:
    opened = source()
    with Store(folder) as store:
        store.put_note(opened, "", "Weights are in float32.")
        store.put_note(opened, KIND, "Generation took another path.")
        store.put(opened, KIND, key(1), "a")
        store.touch(source())
        store.sync()
        assert store.identity(source()) == {"engine": "planned"}
        assert store.identity(source(task="another")) == {"engine": "planned"}, "the same model on another task"
        assert store.identity(source(model="bb" * 20)) is None
        assert store.said(source(), "") == ["Weights are in float32."]
        assert store.said(source(), KIND) == ["Generation took another path."]
        assert store.said(source(), "loglikelihood") == []


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)


def overwrite_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xde\xad\xbe\xef" * 64)


def replace_by_text(path: Path) -> None:
    path.write_text("this is no database\n" * 1000)


def overwrite_pages(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def make_another_database(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE answers (key, value)")
    connection.close()


def change_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def drop_a_column(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE answers DROP COLUMN made")
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        overwrite_header,
        replace_by_text,
        overwrite_pages,
        make_another_database,
        change_version,
        drop_a_column,
    ],
)
def test_a_damaged_store_is_set_aside_and_said(folder: Path, damage: Callable[[Path], None]) -> None:
    fill(folder)
    path = folder / database.FILE
    damage(path)
    content = path.read_bytes()
    with Store(folder) as store:
        found = store.get(KIND, [key(n) for n in range(500)])
        store.put(source(), KIND, key(1000), "new")
        notes = store.notes
    assert is_right(found)
    assert len(found) < 500
    assert len(notes) == 1
    (aside,) = database.set_aside_files(folder)
    assert aside.name in notes[0]
    assert "set aside" in notes[0]
    if damage not in (truncate, overwrite_pages):  # these are met while reading, when SQLite may have touched a page
        assert aside.read_bytes() == content, "kept as it was"
    assert read(folder) == ({}, []), "the new one is sound and empty"
    with Store(folder) as store:
        assert store.get(KIND, [key(1000)]) == {key(1000): "new"}


def test_a_row_whose_checksum_does_not_fit_is_not_used(folder: Path) -> None:
    fill(folder, 10)
    connection = sqlite3.connect(folder / database.FILE)
    connection.execute("UPDATE answers SET value = '\"another\"' WHERE key = ?", (key(3),))
    connection.execute("UPDATE answers SET checksum = x'00' WHERE key = ?", (key(4),))
    connection.execute("UPDATE answers SET value = 5 WHERE key = ?", (key(5),))
    connection.execute(
        "UPDATE answers SET (value, checksum) = (SELECT value, checksum FROM answers WHERE key = ?) WHERE key = ?",
        (key(7), key(6)),
    )
    connection.commit()
    connection.close()
    found, notes = read(folder, 10)
    assert sorted(int.from_bytes(k, "big") for k in found) == [0, 1, 2, 7, 8, 9]
    assert is_right(found)
    assert notes == ["4 stored answers are damaged and were not used; they are computed again."]


def test_single_wrong_bytes_anywhere_never_give_a_wrong_answer(folder: Path) -> None:
    fill(folder, 60)
    path = folder / database.FILE
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 397):
        for old in folder.glob(f"{database.FILE}*"):
            old.unlink()
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
        found, _ = read(folder, 60)
        assert is_right(found), place


def test_damage_met_while_writing(folder: Path) -> None:
    fill(folder)
    with Store(folder) as store:
        store.put(source(), KIND, key(1000), "first")
        store.sync()
        other = sqlite3.connect(folder / database.FILE, isolation_level=None)
        other.execute("PRAGMA writable_schema = ON")
        other.execute("DROP TABLE answers")
        other.close()
        for number in range(1001, 1010):
            store.put(source(), KIND, key(number), "later")
        store.sync()
        found = store.get(KIND, [key(n) for n in range(1000, 1010)])
    assert set(found.values()) == {"later"}
    assert len(found) == 9, "what could not be written to the damaged one is in the new one"
    assert len(store.notes) == 1


def test_a_disk_that_is_full(folder: Path) -> None:
    """SQLite itself says so: the file may not grow beyond the pages that it has."""
    script = f"""
import resource
from pathlib import Path
from compatcheck.evaluation.store.database import Store
from tests.evaluation.store.conftest import source
with Store(Path({str(folder)!r})) as store:
    store.put(source(), 'generate_until', bytes(20), 'kept')
    store.sync()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    for number in range(1, 400):
        store.put(source(), 'generate_until', number.to_bytes(20, 'big'), 'x' * 5000)
        if number % 20 == 0:
            store.sync()
    store.sync()
    assert store.get('generate_until', [bytes(20)]) == {{bytes(20): 'kept'}}
    print(*store.notes, sep='\\n')
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (note,) = done.stdout.strip().splitlines()
    assert note.startswith("From here on answers are not kept: the response store")
    found, notes = read(folder, 400)
    assert 1 <= len(found) < 400
    assert notes == []


def test_a_full_database_is_no_damage(folder: Path) -> None:
    fill(folder)
    with Store(folder) as store:
        store.put(source(), KIND, key(600), "kept")
        store.sync()
        connection = store.connection
        assert connection is not None
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
        store.put(source(), KIND, key(601), "x" * 100_000)
        store.sync()
        assert "database or disk is full" in store.notes[0]
        assert store.get(KIND, [key(600)]) == {key(600): "kept"}
    assert database.set_aside_files(folder) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that may be mounted for reading alone")
def test_a_store_that_may_only_be_read(folder: Path, tmp_path: Path) -> None:
    """A read-only mount, in a namespace of its own."""
    fill(folder)
    script = f"""
from pathlib import Path
from compatcheck.evaluation.store.database import Store
with Store(Path({str(folder)!r})) as store:
    from tests.evaluation.store.conftest import source
    found = store.get('generate_until', [n.to_bytes(20, 'big') for n in range(500)])
    store.put(source(), 'generate_until', bytes(20), 'x')
    store.sync()
    print(len(found))
    print(*store.notes)
"""
    command = ["unshare", "--mount", "sh", "-c"]
    inside = f'mount --bind -o ro "$1" "$1" && mount -o remount,bind,ro "$1" && exec "{sys.executable}" -c "$2"'
    done = subprocess.run([*command, inside, "sh", str(folder), script], capture_output=True, text=True)
    if done.returncode != 0 and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no mount may be made here: {done.stderr.strip()[:80]}")
    assert done.returncode == 0, done.stderr
    count, note = done.stdout.splitlines()
    assert count == "500"
    assert note.startswith("New answers are not kept: the response store")


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match=r"--store .*file: is a file; name a folder, or say --no-store"):
        open_store(file)
    with pytest.raises(InputError, match="cannot be made a folder"):
        open_store(file / "below")
    (tmp_path / database.FILE).mkdir()
    with Store(tmp_path) as store:
        assert store.get(KIND, [key(1)]) == {}
        store.put(source(), KIND, key(1), "x")
        assert len(store.notes) == 1
        assert store.notes[0].startswith("Answers are not kept")


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATCHECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COMPATCHECK_STORE")
    assert locate() == tmp_path / "cache" / "responses"
    assert locate(True) == locate()
    assert locate(False) is None
    assert locate(tmp_path / "mine") == tmp_path / "mine"
    monkeypatch.setenv("COMPATCHECK_STORE", str(tmp_path / "theirs"))
    assert locate() == tmp_path / "theirs"
    assert locate(tmp_path / "mine") == tmp_path / "mine"
    monkeypatch.setenv("COMPATCHECK_STORE", "off")
    assert locate() is None
    with open_store() as store:
        assert store is None


def test_a_store_of_the_last_version_is_read(folder: Path) -> None:
    """Its tables as they were written then, white space included, and an answer with half a surrogate pair in it."""
    connection = sqlite3.connect(folder / database.FILE)
    connection.executescript("""
PRAGMA application_id = 1129140291; PRAGMA user_version = 1;
CREATE TABLE sources (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, task TEXT NOT NULL, reference TEXT NOT NULL, fingerprint TEXT NOT NULL,
    engine TEXT NOT NULL, identity TEXT NOT NULL, used INTEGER NOT NULL, UNIQUE (model, task));
CREATE TABLE answers (
    key BLOB NOT NULL PRIMARY KEY, source INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL,
    made INTEGER NOT NULL, checksum BLOB NOT NULL);
CREATE TABLE notes (source INTEGER NOT NULL, kind TEXT NOT NULL, note TEXT NOT NULL, UNIQUE (source, kind, note));
""")
    text = '"half: \\ud800"'
    check = hashlib.blake2b(key(1) + text.encode(), digest_size=8).digest()
    connection.execute("INSERT INTO answers VALUES (?, 1, ?, ?, 0, ?)", (key(1), KIND, text, check))
    connection.commit()
    connection.close()
    with Store(folder) as store:
        assert store.get(KIND, [key(1)]) == {key(1): "half: \ufffd"}
        assert store.notes == []
