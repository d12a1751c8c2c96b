"""Training across tokenizers, on tiny models: words in OLD, bytes in NEW."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compatcheck.errors import InputError
from compatcheck_train import TrainSettings
from compatcheck_train.examples import Examples
from compatcheck_train.training.run import Trained, train
from tests.train.align.kinds import tokenizer
from tests.train.conftest import save_model


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, save_adapter: Callable[..., Path]) -> str:
    """An adapter on a base with a byte-level tokenizer that has a start token."""
    root = tmp_path_factory.mktemp("other")
    base = save_model(root / "base", 16, 7, vocabulary=len(tokenizer("byte-level")) + 3)
    tokenizer("byte-level").save_pretrained(base)
    return str(save_adapter(root / "adapter", base, 8))


def run(old: str, new: str, examples: Examples, out: Path, **changes: object) -> tuple[Trained, list[str]]:
    said: list[str] = []
    usual = {"epochs": 3, "gradient_accumulation": 1, "learning_rate": 3e-3, "warmup_steps": 0, "batch_size": 4}
    settings = TrainSettings(**{**usual, "device": "cpu", "cache_folder": out / "cache", **changes})
    return train(old, new, examples, settings, out / "run", say=said.append), said


@pytest.mark.parametrize(
    ("strategy", "alignment"),
    [
        ("muscle", "alm"),
        ("muscle", "projected"),
        ("old-correct", "projected"),
        ("sequence-likelihood", "alm"),
        ("pct", "alm"),
    ],
)
def test_token_strategies_train(
    strategy: str, alignment: str, pair: dict[str, str], other: str, text_examples: Examples, tmp_path: Path
) -> None:
    done, said = run(pair["old"], other, text_examples, tmp_path, strategy=strategy, alignment=alignment)
    assert done.steps == 9
    assert any(f"through {alignment} alignment" in line for line in said)
    assert any("of the weight of the old model found its counterpart" in line for line in done.notes)
    assert all(abs(epoch["validation_loss"]) < 1e4 for epoch in done.history)


@pytest.mark.parametrize("alignment", ["alm", "projected"])
@pytest.mark.parametrize("turned", [False, True])
def test_following_the_old_model_comes_nearer_to_it(
    alignment: str, turned: bool, pair: dict[str, str], other: str, text_examples: Examples, tmp_path: Path
) -> None:
    sides = (other, pair["new"]) if turned else (pair["old"], other)
    more = {"epochs": 10, "learning_rate": 2e-2}
    done, _ = run(*sides, text_examples, tmp_path, strategy="old-only", alignment=alignment, **more)
    losses = [epoch["validation_loss"] for epoch in done.history]
    assert 0 < min(losses) < 0.9 * losses[0]


def test_a_cached_old_model_gives_what_one_online_gives(
    pair: dict[str, str], other: str, text_examples: Examples, tmp_path: Path
) -> None:
    runs = [
        run(pair["old"], other, text_examples, tmp_path / teacher, strategy="muscle", teacher=teacher)[0]
        for teacher in ("cache", "online")
    ]
    assert runs[0].history == runs[1].history
    weights = [(done.folder / "adapter_model.safetensors").read_bytes() for done in runs]
    assert weights[0] == weights[1]


def test_strategies_over_choices_need_no_alignment(
    pair: dict[str, str], other: str, choice_examples: Examples, tmp_path: Path
) -> None:
    done, said = run(pair["old"], other, choice_examples, tmp_path, strategy="choice-ensemble")
    assert done.steps == 9
    assert not any("alignment" in line for line in said)


def test_mixtures_of_both_distributions_are_refused(
    pair: dict[str, str], other: str, text_examples: Examples, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"strategy ensemble mixes both distributions token by token; take one of: .*muscle"
    ):
        run(pair["old"], other, text_examples, tmp_path, strategy="ensemble")
