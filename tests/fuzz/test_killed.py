"""Killed at any moment, a full disk, a folder that cannot be written: what was there stays, the next call ends alike.

Ten kills over all commands run with the other tests, ``COMPATCHECK_KILLS=100`` for more. ``fix`` has its own, in
``tests/train``, and the response store in ``tests/evaluation/store``.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.engines.endpoint.servers import Server, serving
from tests.fuzz import served
from tests.fuzz.killed import End, Fate, start, tree
from tests.fuzz.recorded import plain_rows
from tests.fuzz.served import Rubbish

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and limits as Linux has them")
COMMANDS: dict[str, list[list[str]]] = {
    "diff": [
        ["diff", "a.jsonl", "b.jsonl", "--out", "out", "--format", "html", "--format", "junit"],
        ["diff", "a.jsonl", "c.jsonl", "--out", "out", "--format", "html", "--format", "junit"],
    ],
    "streamed": [["diff", "a.jsonl", f"{side}.jsonl", "--out", "out", "--stream"] for side in "bc"],
    "run": [["run", f"{side}.jsonl", "--out", "out"] for side in "bc"],
    "report": [["report", f"kept-{side}", "--out", "out", "--format", "html", "--format", "markdown"] for side in "bc"],
    "export": [["export", f"{side}.jsonl", "--to", "jsonl", "--out", "out.jsonl"] for side in "bc"],
    "export-lm-eval": [
        ["export", "b.jsonl", "--to", "parquet", "--out", "out.parquet"],
        ["export", "c.jsonl", "--to", "lm-eval", "--out", "out"],
    ],
}
"""What was there before, and what is killed while it takes its place."""
KILLS = max(1, int(os.environ.get("COMPATCHECK_KILLS", "10")) // (len(COMMANDS) + 2))
"""Of each command, blessing and a run on a server besides."""
SHOWS = {"diff": ["report", "out"], "streamed": ["report", "out"], "report": ["report", "out"], "run": ["run", "out"]}
"""Commands that read what lies there; of a mixture of old and new they would show neither."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begun") / "box"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        rows = plain_rows(40, seed)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if name != "a":
            done(start(["diff", "a.jsonl", f"{name}.jsonl", "--out", f"kept-{name}"], folder))
    return folder


def done(end: End) -> End:
    assert end.code == 0, end
    return end


def plain(folder: Path) -> dict[str, bytes]:
    """The files, without what says when they were made, and without the inputs."""
    times = re.compile(rb'("(?:started|seconds|date|time)": )[^,\n]*')
    files = {name: content for name, content in tree(folder).items() if name.startswith("out")}
    return {re.sub(r"\d{4}-[-\dT.]+\d", "-", name): times.sub(rb"\1-", content) for name, content in files.items()}


def without_seconds(folder: Path) -> dict[str, bytes]:
    """The files of a kept run, without how long the answers of a server took."""
    import pandas as pd

    files = plain(folder)
    records = pd.read_parquet(folder / "out" / "records.parquet")
    files["out/records.parquet"] = records.drop(columns="latency").to_json().encode()
    files["out/manifest.json"] = re.sub(rb'("sha256": )[^,\n]*', rb"\1-", files["out/manifest.json"])
    return files


def shown(command: str, folder: Path) -> str:
    if command not in SHOWS:
        return ""
    other = [*SHOWS[command], "--out", "shown"] if command == "run" else SHOWS[command]
    end = start(other, folder)
    shutil.rmtree(folder / "shown", ignore_errors=True)
    return f"{end.code} {end.said}{end.errors}"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_any_moment(command: str, begun: Path, tmp_path: Path) -> None:
    older, newer = COMMANDS[command]
    before, after, box = tmp_path / "before", tmp_path / "after", tmp_path / "box"
    shutil.copytree(begun, before)
    done(start(older, before))
    shutil.copytree(before, after)
    events = done(start(newer, after)).events
    wanted, sights = plain(after), {shown(command, before), shown(command, after)}
    assert plain(before) != wanted and len(sights) == (2 if command in SHOWS else 1)
    rng = random.Random(command)
    for _ in range(KILLS):
        shutil.rmtree(box, ignore_errors=True)
        shutil.copytree(before, box)
        event = rng.randrange(1, events + 1)
        assert start(newer, box, Fate(event)).code == -9
        sight = shown(command, box)
        assert sight in sights, f"killed at {event} of {events}: {sight}"
        if command != "export-lm-eval" or plain(box) != wanted:  # which refuses a folder that is full already
            done(start(newer, box))
        ended = plain(box)
        assert sorted(ended) == sorted(wanted), f"killed at {event} of {events}"
        assert ended == wanted, f"killed at {event} of {events}"


@pytest.mark.slow
def test_killed_while_blessing(begun: Path, tmp_path: Path) -> None:
    """The baseline is the run before or the new one, whole; blessing again makes it the new one."""
    before, box = tmp_path / "before", tmp_path / "box"
    shutil.copytree(begun, before)
    done(start(["bless", "b.jsonl", "--as", "main"], before))
    shutil.copytree(before, box)
    events = done(start(["bless", "c.jsonl", "--as", "main"], box)).events
    wanted = start(["diff", "@main", "a.jsonl", "--quiet"], box).said
    sights = {start(["diff", "@main", "a.jsonl", "--quiet"], before).said, wanted}
    assert len(sights) == 2
    rng = random.Random("bless")
    for _ in range(KILLS):
        shutil.rmtree(box)
        shutil.copytree(before, box)
        event = rng.randrange(1, events + 1)
        assert start(["bless", "c.jsonl", "--as", "main"], box, Fate(event)).code == -9
        assert done(start(["diff", "@main", "a.jsonl", "--quiet"], box)).said in sights, event
        done(start(["bless", "c.jsonl", "--as", "main"], box))
        assert done(start(["diff", "@main", "a.jsonl", "--quiet"], box)).said == wanted, event
        assert done(start(["diff", "@main~1", "a.jsonl", "--quiet"], box)).said in sights, event
        history = (box / ".compatcheck" / "baselines" / "main" / "history.jsonl").read_text().splitlines()
        kept = {path.name for path in (box / ".compatcheck" / "baselines" / "main").iterdir() if path.is_dir()}
        assert {json.loads(line)["run"] for line in history} <= kept
        assert not [name for name in kept if name.startswith(".")], f"killed at {event} of {events}"


@pytest.fixture
def server() -> object:
    with serving(Rubbish) as server:
        Rubbish.damaged = 0.0
        yield server


@pytest.mark.slow
def test_killed_while_a_server_answers(server: Server, tmp_path: Path) -> None:
    """No answer is asked for again that had been stored, and the run is the same."""
    box, whole = tmp_path / "box", served.build(tmp_path / "served")
    given = ["--task", str(whole / "tinygen.yaml"), "--data", str(whole / "data"), *served.FAST, "--batch-size", "1"]
    run = ["run", f"{server.url}#m", *given, "--out", "out"]
    box.mkdir()
    events = done(start(run, box)).events
    wanted = without_seconds(box)
    asked = sum(path.endswith("completions") for path, _ in server.asked)
    rng = random.Random("server")
    for _ in range(KILLS):
        for path in tmp_path.glob("box*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        box.mkdir()
        server.asked.clear()
        assert start(run, box, Fate(rng.randrange(1, events + 1))).code == -9
        done(start(run, box))
        assert without_seconds(box) == wanted
        assert sum(path.endswith("completions") for path, _ in server.asked) <= asked + 1, "one was on its way"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(command: str, begun: Path, tmp_path: Path) -> None:
    """Files end at some size, as they do where there is no room: one line, exit code 2, and what was there stays."""
    older, newer = COMMANDS[command]
    before, box = tmp_path / "before", tmp_path / "box"
    shutil.copytree(begun, before)
    done(start(older, before))
    rng, met = random.Random(command), 0
    for most in [0, 1, 600, *(rng.randrange(20_000) for _ in range(5))]:
        shutil.rmtree(box, ignore_errors=True)
        shutil.copytree(before, box)
        end = start(newer, box, Fate(most_bytes=most))
        if end.code == 0:
            continue
        met += 1
        assert end.code == 2 and end.errors.startswith("error: ") and end.errors.count("\n") == 1, end
        assert plain(box) == plain(before), f"at most {most} bytes"
    assert met >= 3


@pytest.mark.parametrize("command", [*COMMANDS, "bless"])
def test_a_folder_that_cannot_be_written(command: str, begun: Path, tmp_path: Path) -> None:
    _, newer = COMMANDS.get(command, [[], ["bless", "b.jsonl"]])
    box = tmp_path / "box"
    shutil.copytree(begun, box)
    here = box
    while here != here.parent and here.stat().st_uid == os.getuid():  # pytest makes them for this user alone
        here.chmod(here.stat().st_mode | 0o055)
        here = here.parent
    box.chmod(0o555)
    try:
        end = start(newer, box, Fate(ordinary=True))
    finally:
        box.chmod(0o755)
    assert end.code == 2 and end.errors.startswith("error: ") and end.errors.count("\n") == 1, end
    assert plain(box) == plain(begun) and not (box / ".compatcheck").exists()


def test_a_clock_that_was_set_back(begun: Path, tmp_path: Path) -> None:
    """The newest baseline is the one that was blessed last, whatever the clock said then."""
    box = tmp_path / "box"
    shutil.copytree(begun, box)
    done(start(["bless", "b.jsonl"], box))
    history = box / ".compatcheck" / "baselines" / "main" / "history.jsonl"
    entry = json.loads(history.read_text())
    later = re.sub(r"^\d{4}", "2099", entry["run"])
    assert later != entry["run"]
    (history.parent / entry["run"]).rename(history.parent / later)
    history.write_text(json.dumps({**entry, "run": later, "time": f"2099{entry['time'][4:]}"}) + "\n")
    older = done(start(["diff", "@main", "a.jsonl", "--quiet"], box)).said
    done(start(["bless", "c.jsonl"], box))
    newer = done(start(["diff", "@main", "a.jsonl", "--quiet"], box)).said
    assert newer == done(start(["diff", "c.jsonl", "a.jsonl", "--quiet"], box)).said != older
    assert done(start(["diff", "@main~1", "a.jsonl", "--quiet"], box)).said == older
    assert "2099" in done(start(["bless", "--history"], box)).said
