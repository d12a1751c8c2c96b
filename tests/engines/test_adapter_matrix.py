"""Adapters of every kind against their base, a plain LoRA and another of their kind: both sides are scored as
transformers and PEFT score each of them alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compatcheck.errors import InputError
from tests.engines.adapters import KINDS, plain, save_adapter, save_base, save_task, scored


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


@pytest.mark.parametrize("beside", ["base", "lora", "its own kind"])
def test_lora_on_the_parameters_of_experts(beside: str, tmp_path: Path, task: tuple[Path, Path]) -> None:
    base = save_base(tmp_path / "base", experts=True)
    experts: dict[str, Any] = {"target_modules": [], "target_parameters": ["mlp.experts.down_proj"]}
    adapter = save_adapter(base, tmp_path / "experts", **experts)
    other, settings = {
        "base": (base, None),
        "lora": (tmp_path / "lora", {}),
        "its own kind": (tmp_path / "e2", experts),
    }[beside]
    if settings is not None:
        save_adapter(base, other, seed=3, **settings)
    found = scored([other, adapter], task)
    truth = (plain(base, None if other == base else other, task[1]), plain(base, adapter, task[1]))
    for values, expected in zip(found, truth, strict=True):
        for ours, theirs in zip(values, expected, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("generates", [False, True], ids=["choices", "texts"])
def test_a_model_that_computes_no_numbers_is_not_scored(generates: bool, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", nan=True)
    with pytest.raises(
        InputError, match=r"base: .*not finite \(NaN or infinity, hf, float32\) for \d+ of 12 documents"
    ):
        scored([base], save_task(tmp_path / "task", generates=generates))
