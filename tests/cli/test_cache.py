from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from compatcheck.cli import cache
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from compatcheck.evaluation.store import database
from compatcheck.evaluation.store.database import Source, Store

DAY = 86_400


def fill(folder: Path, reference: str, task: str, answers: int, days_ago: float = 0.0) -> None:
    folder.mkdir(exist_ok=True)
    source = Source(f"{abs(hash((reference, task))):040x}"[:40], task, reference, "sha256:0", "hf", {"engine": "hf"})
    with Store(folder) as store:
        for number in range(answers):
            key = f"{reference}|{task}|{number}".encode().ljust(20)[:60]
            store.put(source, "generate_until", key, "x" * 198)
    connection = sqlite3.connect(folder / database.FILE)
    then = int(time.time() - days_ago * DAY)
    connection.execute("UPDATE sources SET used = ? WHERE reference = ? AND task = ?", (then, reference, task))
    connection.execute(
        "UPDATE answers SET made = ? WHERE source = (SELECT id FROM sources WHERE reference = ? AND task = ?)",
        (then, reference, task),
    )
    connection.commit()
    connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    fill(folder, "models/old", "piqa", 200, days_ago=40)
    fill(folder, "models/old", "samsum", 300, days_ago=10)
    fill(folder, "models/\x1b[31mnew", "piqa", 500)
    return folder


def in_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["cache", *arguments, "--format", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_info_says_where_how_large_and_what(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = in_json(["info", "--store", str(folder)], capsys)
    assert found["path"] == str(folder / database.FILE)
    assert found["bytes"] == sum(path.stat().st_size for path in folder.glob(f"{database.FILE}*")) > 1000 * 200
    assert (found["answers"], found["set_aside"]) == (1000, [])
    assert [(e["model"], e["task"], e["answers"], e["bytes"]) for e in found["entries"]] == [
        ("models/\x1b[31mnew", "piqa", 500, 100_000),
        ("models/old", "piqa", 200, 40_000),
        ("models/old", "samsum", 300, 60_000),
    ]
    old = found["entries"][1]
    assert old["oldest"] == old["newest"] == old["used"] == pytest.approx(time.time() - 40 * DAY, abs=100)
    assert run(["cache", "info", "--store", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "1,000 answers" in shown
    assert "100.0 KB" in shown
    assert "models/\\x1b[31mnew" in shown
    assert "\x1b" not in shown


def test_info_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_json(["info", "--store", str(tmp_path)], capsys)["answers"] == 0
    assert list(tmp_path.iterdir()) == []
    assert run(["cache", "info", "--store", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_prune_by_age_goes_by_last_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    removed = in_json(["prune", "--older-than", "30d", "--store", str(folder)], capsys)
    assert removed["answers"] == 200
    left = in_json(["info", "--store", str(folder)], capsys)["entries"]
    assert [(e["model"], e["task"]) for e in left] == [("models/\x1b[31mnew", "piqa"), ("models/old", "samsum")]


def test_prune_by_size_takes_the_least_recently_used_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    removed = in_json(["prune", "--max-size", "200KB", "--store", str(folder)], capsys)
    assert removed["bytes_after"] <= 200_000 < removed["bytes_before"]
    entries = in_json(["info", "--store", str(folder)], capsys)["entries"]
    left = {(e["model"], e["task"]): e["answers"] for e in entries}
    assert ("models/old", "piqa") not in left
    assert left["models/\x1b[31mnew", "piqa"] == 500
    assert 1000 - removed["answers"] == sum(left.values()) > 500
    assert in_json(["prune", "--max-size", "1GB", "--store", str(folder)], capsys)["answers"] == 0


def test_clear_takes_everything_and_gives_the_room_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(folder):  # another process may be using it
        removed = in_json(["clear", "--store", str(folder)], capsys)
    assert removed["answers"] == 1000
    assert removed["bytes_after"] < 70_000 < 200_000 < removed["bytes_before"]
    assert in_json(["info", "--store", str(folder)], capsys)["entries"] == []
    connection = sqlite3.connect(folder / database.FILE)
    assert [connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("sources", "notes")] == [0, 0]
    connection.close()


def test_a_damaged_store_is_shown_and_cleared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / database.FILE).write_bytes(b"damaged" * 1000)
    assert run(["cache", "info", "--store", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "0 answers" in captured.out
    assert "set aside as damaged: responses-2.damaged-" in captured.out
    assert "is damaged" in captured.err
    assert len(database.set_aside_files(folder)) == 1
    assert run(["cache", "prune", "--older-than", "1d", "--store", str(folder)]) == 0
    assert len(database.set_aside_files(folder)) == 1
    assert run(["cache", "clear", "--store", str(folder)]) == 0
    assert "1 files set aside" in capsys.readouterr().out
    assert database.set_aside_files(folder) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "say --older-than AGE (30d), --max-size SIZE (2GB), or both"),
        (["prune", "--older-than", "30"], "--older-than 30: give a number and a unit"),
        (["prune", "--max-size", "lots"], "--max-size lots: give a number and a unit"),
        (["info", "--format", "html"], "--format html: unknown format; known: terminal, json"),
    ],
)
def test_errors_name_the_option(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_units() -> None:
    assert [cache.parse_age(text) for text in ("90m", "12h", "30d", "1.5w")] == [5400, 43_200, 2_592_000, 907_200]
    assert [cache.parse_size(text) for text in ("500MB", "1.5 gb", "2G", "1000", "10B")] == [
        500_000_000, 1_500_000_000, 2_000_000_000, 1000, 10,
    ]  # fmt: skip
    assert [cache.shown_size(count) for count in (999, 1_500, 2_500_000_000)] == ["999 B", "1.5 KB", "2.5 GB"]
    with pytest.raises(InputError):
        cache.parse_size("5 apples")


def test_no_store_at_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COMPATCHECK_STORE", "off")
    assert run(["cache", "info"]) == 2
    assert "no store is kept" in capsys.readouterr().err
    assert run(["cache"]) == 2
    assert "error" not in capsys.readouterr().err


def test_clear_leaves_names_that_merely_look_alike(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aside = folder / "responses-2.damaged-20260101-120000.sqlite"
    aside.write_bytes(b"x")
    mine = [folder / "responses-2.damaged-mine.sqlite", folder / "responses-old.outdated-20260101-120000.sqlite.txt"]
    for path in mine:
        path.write_bytes(b"kept")
    (folder / "responses-2.damaged-20260101-120001.sqlite").mkdir()
    (folder / "responses-2.damaged-20260101-120002.sqlite").symlink_to(mine[0])
    assert run(["cache", "clear", "--store", str(folder)]) == 0
    assert "1 files set aside" in capsys.readouterr().out
    assert not aside.exists()
    assert [path.read_bytes() for path in mine] == [b"kept", b"kept"]
