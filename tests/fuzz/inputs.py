"""All inputs, by number: the same number is always the same input."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from compatcheck.tasks.index import load_index
from tests.engines.endpoint.servers import Server
from tests.fuzz import kept, recorded, served
from tests.fuzz.watch import Input, empty

SEED = int(os.environ.get("COMPATCHECK_FUZZ_SEED", "14"))


@dataclass(frozen=True)
class Whole:
    """What inputs are damaged copies of, made once."""

    kept: Path
    served: Path
    server: Server
    index: Path
    """lm-eval's tasks by name, which takes half a minute to make."""


def build(folder: Path, server: Server) -> Whole:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATCHECK_CACHE", str(folder / "cache"))
        load_index()
        made = (kept.build(folder / "kept"), served.build(folder / "served"))
    return Whole(*made, server, next((folder / "cache").rglob("*.json")))


KINDS: dict[str, tuple[int, Callable[[random.Random, Path, Whole], Input]]] = {
    "rows": (40, lambda rng, box, whole: recorded.rows(rng, box)),
    "reports": (15, lambda rng, box, whole: kept.reports(rng, box, whole.kept)),
    "runs": (9, lambda rng, box, whole: kept.runs(rng, box, whole.kept)),
    "baselines": (5, lambda rng, box, whole: kept.baselines(rng, box, whole.kept)),
    "settings": (8, lambda rng, box, whole: kept.settings(rng, box, whole.kept)),
    "words": (10, lambda rng, box, whole: served.words(rng, box)),
    "answers": (6, lambda rng, box, whole: served.answers(rng, box, whole.served, whole.server)),
    "tasks": (6, lambda rng, box, whole: served.tasks(rng, box, whole.served, whole.server)),
    "stores": (2, lambda rng, box, whole: served.stores(rng, box, whole.served, whole.server)),
    "bombs": (0, lambda rng, box, whole: recorded.bombs(rng, box)),
}
"""How often each kind comes, and how one is made."""
BOMB_EVERY = 250
"""Inputs that are small and large inside take seconds each."""


def make(number: int, folder: Path, whole: Whole, kind: str | None = None) -> Input:
    """The input of a number, of a kind where one is given, in a folder that is emptied first."""
    rng = random.Random(f"{SEED}|{number}|{kind}")
    drawn = rng.choices(list(KINDS), [often for often, _ in KINDS.values()])[0]
    chosen = kind or ("bombs" if number % BOMB_EVERY == BOMB_EVERY - 1 else drawn)
    index = empty(folder) / "cache" / whole.index.parent.name / whole.index.name
    index.parent.mkdir(parents=True)
    os.link(whole.index, index)
    return KINDS[chosen][1](rng, folder, whole)
