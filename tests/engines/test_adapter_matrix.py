"""Adapters of every kind against their base, a plain LoRA and another of their kind: both sides are scored as
transformers and PEFT score each of them alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compatcheck.references import resolve
from compatcheck.runs.evaluate import EngineOptions, evaluate_jobs
from compatcheck.runs.jobs import Job
from compatcheck.tasks.load import TaskOptions, load_tasks
from tests.engines.adapters import KINDS, plain, save_adapter, save_base, save_task

PEFT_ITSELF_FAILS: dict[tuple[str, bool], str] = {}
"""Kinds that PEFT alone does not load on a base, by (kind, tied)."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    root = tmp_path_factory.mktemp("kinds")

    def folder(kind: str | None, tied: bool, seed: int = 1) -> Path:
        base = root / f"base-{tied}"
        if not base.exists():
            save_base(base, tied=tied)
        if kind is None:
            return base
        target = root / f"{kind}-{tied}-{seed}"
        if not target.exists():
            save_adapter(base, target, seed=seed, **KINDS[kind])
        return target

    return folder


@pytest.fixture(scope="module")
def truth(made: Callable[..., Path], task: tuple[Path, Path]) -> Callable[..., list[list[float]]]:
    known: dict[Any, list[list[float]]] = {}

    def found(kind: str | None, tied: bool, seed: int) -> list[list[float]]:
        if (kind, tied, seed) not in known:
            adapter = made(kind, tied, seed) if kind else None
            rows = KINDS[kind].get("rows") if kind else None
            known[kind, tied, seed] = plain(made(None, tied), adapter, task[1], rows=rows)
        return known[kind, tied, seed]

    return found


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_task(tmp_path_factory.mktemp("task"))


def scored(sides: list[Path], task: tuple[Path, Path], **options: Any) -> list[list[list[float]]]:
    """Log-likelihoods of each side, evaluated together as `diff` does."""
    (loaded,) = load_tasks([str(task[0])], TaskOptions(data=task[1]))
    jobs = [Job(f"side {n}", resolve(str(folder)), loaded) for n, folder in enumerate(sides)]
    done = {one.job.side: one for one in evaluate_jobs(jobs, EngineOptions(engine="hf", **options))}
    return [[list(values) for values in done[job.side].runs[0].records["loglikelihoods"]] for job in jobs]


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("beside", ["base", "lora", "its own kind"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_both_sides_are_what_plain_peft_makes_of_them(
    kind: str, beside: str, tied: bool, made: Callable[..., Path], truth: Callable[..., Any], task: tuple[Path, Path]
) -> None:
    other: tuple[str | None, int] = {"base": (None, 0), "lora": ("lora", 5), "its own kind": (kind, 2)}[beside]  # type: ignore[assignment]
    sides = [made(other[0], tied, other[1]), made(kind, tied)]
    found = scored(sides, task)
    both = (truth(other[0], tied, other[1]), truth(kind, tied, 1))
    for side, values, expected in zip(("other", kind), found, both, strict=True):
        for ours, theirs in zip(values, expected, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4), side


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lora"])
def test_every_kind_changes_answers_here(kind: str, tied: bool, truth: Callable[..., Any]) -> None:
    """Without which the comparison above would show nothing."""
    alone, adapted = truth(None, tied, 0), truth(kind, tied, 1)
    assert max(abs(a - b) for x, y in zip(alone, adapted, strict=True) for a, b in zip(x, y, strict=True)) > 0.05
