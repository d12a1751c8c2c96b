"""What is said of two models that were not run alike, and that nothing is where they were."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from compatcheck.compare.comparability import remarks
from compatcheck.records import Manifest, Run, TaskRun

ENGINE = {"dtype": "float32", "max_length": 2048, "tokenizer": {"tokens": 400, "begin": "<s>", "end": "</s>"}}
SETTINGS = {"prompt": "x", "chat_template": "ab12", "generation": {"max_gen_toks": 4}}


def run(engine: dict[str, Any] | None = None, settings: dict[str, Any] | None = None) -> Run:
    task = TaskRun("sums", "none", (), pd.DataFrame(), SETTINGS | (settings or {}))
    return Run(Manifest("x", "sha256:0", "model", engine=ENGINE | (engine or {})), (task,))


def test_alike_or_unknown_nothing_is_said() -> None:
    assert remarks(run(), run()) == []
    empty = Run(Manifest("x.jsonl", "sha256:0", "recorded"), (TaskRun("sums", "none", (), pd.DataFrame()),))
    assert remarks(empty, empty) == []
    assert remarks(run(), empty) == []
    assert remarks(run({"dtype": "auto"}), run()) == []


@pytest.mark.parametrize(
    ("engine", "settings", "said"),
    [
        ({}, {"chat_template": None}, "the prompts of OLD alone are put into a chat template"),
        ({}, {"chat_template": "cd34"}, "each model has a chat template of its own, so the prompts differ in it"),
        ({"dtype": "bfloat16"}, {}, "OLD was computed in float32 and NEW in bfloat16: near ties flip by rounding"),
        ({"max_length": 512}, {}, "OLD reads at most 2,048 tokens and NEW 512: what is longer is cut or fails"),
        ({"tokenizer": {"tokens": 9000, "begin": "<b>"}}, {}, "OLD knows 400 tokens and NEW 9,000: a limit of tokens"),
        (
            {"tokenizer": {"tokens": 400, "end": "</s>"}}, {},
            "special tokens of OLD and NEW differ (begin: <s> and none)",
        ),
    ],
)  # fmt: skip
def test_each_is_said_alone(engine: dict[str, Any], settings: dict[str, Any], said: str) -> None:
    (found,) = remarks(run(), run(engine, settings))
    assert found.startswith(said)
