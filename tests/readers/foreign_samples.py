"""Outputs of other tools for the tests: those in ``data/`` as they are, the others written here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
LIGHTEVAL_TIME = "2026-11-20T20-16-03.934970"


def lighteval_tree(folder: Path, side: str, model: str = "dummy", time: str = LIGHTEVAL_TIME) -> Path:
    """A tree as lighteval writes it with ``--save-details``."""
    inner = folder / "details" / model / time
    inner.mkdir(parents=True)
    for task in ("choosing", "saying"):
        shutil.copy(DATA / "lighteval" / f"{task}.{side}.parquet", inner / f"details_{task}|0_{time}.parquet")
    return folder


def inspect_log(side: str, task: str) -> Path:
    (path,) = (DATA / "inspect" / side).glob(f"*_{task}_*")
    return path


ALPACA = [
    {"dataset": "own", "instruction": "Name a colour.", "output": "Red.", "generator": "m1"},
    {"dataset": "own", "instruction": "Name a fruit.", "output": "Plum.", "generator": "m1"},
    {"dataset": "own", "instruction": "Name a bird.", "output": "", "generator": "m1"},
]
ANNOTATIONS = [
    {
        "instruction": row["instruction"],
        "output_1": "It.",
        "generator_1": "base",
        "output_2": row["output"],
        "generator_2": "m1",
        "annotator": "judge",
        "preference": preference,
    }
    for row, preference in zip(ALPACA, (2.0, 1.5, 1.0), strict=True)
]


def helm_state(number: int, said: str | None = "4", right: str = "4", trial: int = 0) -> dict[str, Any]:
    """One of HELM's request states; no answer stands for a request that failed."""
    done = {"success": True, "embedding": [], "completions": [{"text": said, "logprob": -1.0, "tokens": []}]}
    failed = {"success": False, "embedding": [], "completions": [], "error": "the server said no"}
    return {
        "instance": {
            "input": {"text": f"Question {number}"},
            "references": [{"output": {"text": right}, "tags": ["correct"]}, {"output": {"text": "x"}, "tags": []}],
            "split": "test",
            "id": f"id{number}",
        },
        "train_trial_index": trial,
        "request": {"model": "own/m", "prompt": f"Question {number}"},
        "result": (failed if said is None else done) | {"cached": False},
        "num_train_instances": 0,
        "prompt_truncated": False,
    }


def helm_stats(number: int, score: float, trial: int = 0) -> dict[str, Any]:
    def stat(name: str, value: float) -> dict[str, Any]:
        return {"name": {"name": name, "split": "test"}, "count": 1, "sum": value, "mean": value}

    return {
        "instance_id": f"id{number}",
        "train_trial_index": trial,
        "stats": [stat("exact_match", score), stat("num_prompt_tokens", 7 + number)],
    }


def helm_run(folder: Path, states: list[dict[str, Any]], stats: list[dict[str, Any]] | None) -> Path:
    folder.mkdir(parents=True)
    state = {"adapter_spec": {"max_train_instances": 5, "model": "own/m"}, "request_states": states}
    (folder / "scenario_state.json").write_text(json.dumps(state))
    if stats is not None:
        (folder / "per_instance_stats.json").write_text(json.dumps(stats))
    return folder


HELM_STATES = [helm_state(1), helm_state(2, "5"), helm_state(3, None)]
HELM_STATS = [helm_stats(1, 1), helm_stats(2, 0)]
