"""Blessed baselines: runs kept under a name, with the history of what was blessed.

A baseline is a folder with ``history.jsonl``, one line per blessed run, oldest first, and one folder per kept run. As
OLD or NEW ``@main`` is the newest run of ``main`` and ``@main~1`` the one before it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.paths import user_path
from compatcheck.records import Blessed, BlessedScore
from compatcheck.schema import from_json

FOLDER = Path(".compatcheck", "baselines")
"""Where baselines lie in a project; the environment variable ``COMPATCHECK_BASELINES`` names another folder."""
ENVIRONMENT = "COMPATCHECK_BASELINES"
HISTORY = "history.jsonl"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_REFERENCE = re.compile(r"@(?P<name>[^~]*)(~(?P<back>\d+))?\Z")


def root() -> Path:
    """The folder of baselines: the variable's, the nearest ``.compatcheck/baselines`` upwards, or the project's own.

    The search ends at the root of the repository, which is also where a folder that does not exist yet belongs; outside
    a repository that is the current folder.
    """
    named = os.environ.get(ENVIRONMENT)
    if named:
        return user_path(named)
    here = Path.cwd().resolve()
    for each in (here, *here.parents):
        if (each / FOLDER).is_dir() or (each / ".git").exists():
            return each / FOLDER
    return here / FOLDER


def check_name(name: str) -> str:
    """The name without a leading ``@``. Raises InputError: it cannot name a folder."""
    plain = name.removeprefix("@")
    if not _NAME.match(plain):
        raise InputError(f"baseline {name!r}: letters, digits, '.', '-' and '_' make a name, such as main or v1.2")
    return plain


def names(folder: Path | None = None) -> list[str]:
    """The baselines that there are."""
    return sorted(path.parent.name for path in (folder or root()).glob(f"*/{HISTORY}"))


def history(name: str, folder: Path | None = None) -> list[Blessed]:
    """What was blessed under a name, oldest first; empty where nothing was.
    Raises InputError: a damaged history; the message names the line.
    """
    path = (folder or root()) / check_name(name) / HISTORY
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                entry = from_json(Blessed, json.loads(line), f"{where}: the entry")
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: not an entry of a history ({error}); correct or remove the line") from None
            if not _NAME.match(entry.run):
                raise InputError(f"{where}: the entry's run {entry.run[:60]!r} names no folder beside it")
            entries.append(entry)
    return entries


def locate(text: str) -> Path:
    """The kept run that ``@name`` or ``@name~1`` stands for.
    Raises InputError: no such baseline, or it does not go back so far, or its folder is gone.
    """
    name, entries = _up_to(text)
    run = root() / name / entries[-1].run
    if not run.is_dir():
        raise InputError(f"{text}: {run} is gone; bless a run again")
    return run


def up_to(text: str) -> list[tuple[str, Blessed]]:
    """What was blessed up to the run that ``@name`` or ``@name~1`` stands for, oldest first, each with its reference.
    Raises InputError: as :func:`locate`.
    """
    locate(text)
    name, entries = _up_to(text)
    last = len(history(name)) - 1
    return [(f"@{name}" + (f"~{last - place}" if place < last else ""), entry) for place, entry in enumerate(entries)]


def _up_to(text: str) -> tuple[str, list[Blessed]]:
    read = _REFERENCE.match(text)
    if read is None:
        raise InputError(f"{text}: a baseline reads @name, or @name~1 for the run blessed before")
    name, back = check_name(read["name"]), int(read["back"] or 0)
    folder = root()
    entries = history(name, folder)
    if not entries:
        known = names(folder)
        there = f"there are {', '.join('@' + each for each in known)}" if known else "none is blessed yet"
        raise InputError(
            f"{text}: no baseline of that name in {folder}{did_you_mean(name, known)}; {there} "
            "(`compatcheck bless NEW --as NAME` makes one)"
        )
    if back >= len(entries):
        raise InputError(f"{text}: only {len(entries)} run{'s were' if len(entries) > 1 else ' was'} blessed as {name}")
    return name, entries[: len(entries) - back]


def figures_of(score: Any) -> BlessedScore:
    """What a history keeps of a :class:`compatcheck.compare.scores.Score`."""
    mean, metric = score.mean, score.metric
    return BlessedScore(score.task, score.filter, metric.name, mean.value, mean.low, mean.high, score.n, metric.kind)


def new_folder(name: str, fingerprint: str, folder: Path) -> Path:
    """A folder for a run of a baseline that does not exist yet, named by time and content."""
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{fingerprint.rpartition(':')[2][:12] or 'run'}"
    names = (stem, *(f"{stem}-{count}" for count in range(2, 1000)))
    return next(folder / name / each for each in names if not (folder / name / each).exists())


def add(name: str, entry: Blessed, folder: Path | None = None) -> None:
    """Add a line to a history. The run it names has been kept before."""
    path = (folder or root()) / check_name(name) / HISTORY
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(asdict(entry), ensure_ascii=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
