"""Settings of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compatcheck.errors import InputError
from compatcheck_train import TrainSettings, preset
from compatcheck_train.loss import strategies

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_papers_hyper_parameters_are_the_defaults() -> None:
    s = preset("paper")
    assert s == TrainSettings()
    assert (s.lora_rank, s.lora_alpha, s.learning_rate, s.epochs) == (128, 256, 1e-4, 10)
    assert (s.gradient_accumulation, s.warmup_steps, s.weight_decay, s.temperature) == (8, 500, 0.0, 2.0)
    assert (s.strategy, s.weight_of_context) == ("muscle", 1.0)


def test_texts_become_what_they_mean() -> None:
    """YAML reads 1e-4 as a text."""
    s = preset("quick", learning_rate="1e-4", cache_folder="teachers", ce_weight="2e-1")
    assert (s.learning_rate, s.cache_folder, s.ce_weight) == (1e-4, Path("teachers"), 0.2)


def test_weight_of_context() -> None:
    assert TrainSettings(tokens="answer").weight_of_context == 0.0
    assert TrainSettings(tokens="answer", context_weight=0.3).weight_of_context == 0.3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"tokens": "answers"}, r"tokens 'answers': must be one of all, answer \(did you mean 'answer'\?\)"),
        ({"temperature": 0}, "temperature 0: must be above 0"),
        ({"learning_rate": "fast"}, "learning_rate 'fast': must be a number"),
        ({"max_steps": 2.5}, "max_steps 2.5: must be a whole number"),
        ({"bf16": "maybe"}, "bf16 'maybe': must be true or false"),
        ({"epochs": True}, "epochs True: must be a whole number"),
        ({"epochs": None}, "epochs None: must be a whole number"),
        ({"temperature": float("nan")}, "temperature nan: must be above 0"),
        ({"epochs": 0}, "epochs 0: must be at least 1"),
        ({"max_steps": 0}, "max_steps 0: must be at least 1, or left out"),
        ({"ce_weight": 1.5}, "ce_weight 1.5: must be between 0 and 1"),
        ({"context_weight": -1.0}, "context_weight -1.0: must be 0 or more"),
        ({"report_to": ("mlflow",)}, "report_to 'mlflow': must be one of tensorboard, wandb, trackio"),
        ({"learning_rat": 1}, r"learning_rat: no such training setting \(did you mean 'learning_rate'\?\)"),
    ],
)
def test_bad_settings_are_one_clear_line(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        preset("quick", **bad)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match=r"--preset quik: must be one of paper, quick \(did you mean 'quick'\?\)"):
        preset("quik")


def test_the_docs_hold_the_table_of_strategies() -> None:
    text = (DOCS / "fix.md").read_text(encoding="utf-8")
    shown = text.split("<!-- strategies -->\n")[1].split("<!-- /strategies -->")[0]
    assert shown == strategies.table()
