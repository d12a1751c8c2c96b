"""One small fix of the fixtures' piqa update, made once and shared by every process of the test run."""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from compatcheck.engines.progress import SilentProgress
from compatcheck.option_models import build
from compatcheck.options import Fix
from compatcheck_train.fix import estimate
from compatcheck_train.fix.estimate import Answering, Costs
from compatcheck_train.fix.request import FixRequest
from compatcheck_train.fix.run import Fixed, fix
from compatcheck_train.report import save

UNLABELLED = 16
LIMIT = 80


@dataclass(frozen=True)
class Made:
    """A finished fix, its report, what it said, the stages that its progress showed, and the bytes of OLD's and NEW's
    adapters from before."""

    out: Path
    fixed: Fixed
    report: dict[str, Any]
    said: tuple[str, ...]
    shown: tuple[str, ...]
    before: dict[str, bytes]


class Shown(SilentProgress):
    """Keeps what stages are called."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def start(self, label: str, total: float, done: float = 0) -> None:
        self.labels.append(label)


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fix that takes seconds is not measured first, but for the one that all share."""
    costs = Costs(Answering(0.0, 0.0), Answering(0.0, 0.0), 0.0, {}, {})
    monkeypatch.setattr(estimate, "measure", lambda *_: costs)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def request_of(fixtures: Path, root: Path, *, most: int = 50, **changes: Any) -> FixRequest:
    """A fix that takes seconds: two candidates, six steps."""
    settings: dict[str, Any] = {"max_steps": 6, "cache_folder": root / "cache", **changes.pop("settings", {})}
    old, new = (changes.pop(side, fixtures / "adapters" / f"piqa-{v}") for side, v in (("old", "v1"), ("new", "v2")))
    given: dict[str, Any] = {
        "task": "piqa", "data": fixtures / "data", "dev": "dev", "limit": LIMIT, "store": root / "store",
        "engine": "hf", "device": "cpu", "preset": "quick", "train_limit": 250, "trial_share": 0.2,
        "candidate": ("choice-ce+choice-ensemble", "choice-ce+muscle"), "set": settings,
    }  # fmt: skip
    return FixRequest(str(old), str(new), build(Fix, given | changes), most)


def _make(fixtures: Path, root: Path) -> Made:
    unlabelled = root / "production.jsonl"
    with gzip.open(fixtures / "data" / "piqa" / "production.jsonl.gz", "rt", encoding="utf-8") as file:
        unlabelled.write_text("".join(islice(file, UNLABELLED)), encoding="utf-8")
    request = request_of(fixtures, root, unlabelled=unlabelled, seeds=2)
    adapters = [Path(request.old), Path(request.new)]
    before = {f"{folder.name}/{name}": each for folder in adapters for name, each in contents(folder).items()}
    said: list[str] = []
    shown = Shown()
    fixed = fix(request, root / "out", say=said.append, progress=shown)
    report = save(fixed, root / "out", "compatcheck fix …")
    return Made(root / "out", fixed, json.loads(json.dumps(report)), tuple(said), tuple(shown.labels), before)


@pytest.fixture(scope="session")
def made(fixtures: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Made:
    """The processes of one test run share it: the first one makes it, the others wait and read it."""
    from filelock import FileLock

    if worker_id == "master":
        return _make(fixtures, tmp_path_factory.mktemp("fix"))
    root = tmp_path_factory.getbasetemp().parent / "fix"
    with FileLock(f"{root}.lock"):
        kept = root / "made.pickle"
        if not kept.is_file():
            root.mkdir(exist_ok=True)
            kept.write_bytes(pickle.dumps(_make(fixtures, root)))
        found: Made = pickle.loads(kept.read_bytes())
    return found
