"""Folders that hold one task several times: what is not the same is not replaced by the newest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.errors import InputError
from tests.readers.foreign_samples import DATA, lighteval_tree


def log(folder: Path, hour: int, value: str, **arguments: Any) -> None:
    sample = {"epoch": 1, "input": "q", "target": "a", "output": {"completion": "x"}, "scores": {"m": {"value": value}}}
    samples = [sample | {"id": n} for n in range(3)]
    about = {"task": "mmlu", "model": "m", "dataset": {"samples": 3}, "config": {}, "task_args": arguments}
    folder.mkdir(exist_ok=True)
    file = folder / f"2026-11-28T{hour}-00-00+00-00_mmlu_x{hour}.json"
    file.write_text(json.dumps({"version": 2, "status": "success", "eval": about, "samples": samples}))


def test_inspect_one_task_with_several_arguments(tmp_path: Path) -> None:
    for side, value in (("old", "C"), ("new", "I")):
        log(tmp_path / side, 10, value, subject="law", shots=5)
        log(tmp_path / side, 11, "C", subject="art", shots=5)
    found = compatcheck.diff(tmp_path / "old", tmp_path / "new").comparisons
    flips = {c.task: c.quadrants["negative_flip"] for c in found}
    assert flips == {"mmlu:subject=art": 0, "mmlu:subject=law": 3}
    log(tmp_path / "rerun", 10, "I", subject="law")
    log(tmp_path / "rerun", 12, "C", subject="law")
    (alone,) = compatcheck.evaluate(tmp_path / "rerun").tasks
    assert (alone.task, alone.records["score:m"].tolist()) == ("mmlu", [1.0] * 3)


def test_lighteval_one_task_with_several_numbers_of_examples(tmp_path: Path) -> None:
    tree = lighteval_tree(tmp_path / "out", "old")
    file = next(tree.rglob("details_saying*"))
    shutil.copy(file, file.with_name(file.name.replace("|0_", "|5_")))
    assert [run.task for run in compatcheck.evaluate(tree).tasks] == ["choosing", "saying|0", "saying|5"]


def test_nemo_two_runs_of_one_benchmark(tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(DATA / "nemo_evaluator" / "old", tmp_path / "out" / name)
    with pytest.raises(InputError, match=r"several results of sums \(first and second\); name the folder of one run"):
        compatcheck.evaluate(tmp_path / "out")
