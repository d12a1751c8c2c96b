"""Tiny models with random weights, and examples of few words, for tests that train."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compatcheck_train.examples import Example, Examples

WORDS = [
    "red",
    "green",
    "blue",
    "cat",
    "dog",
    "bird",
    "runs",
    "sleeps",
    "eats",
    "one",
    "two",
    "three",
    "big",
    "small",
    "the",
    "a",
]


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"</s>": 0, "<unk>": 1, **{word: n + 2 for n, word in enumerate(WORDS)}}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>")


def save_model(folder: Path, hidden: int, seed: int, vocabulary: int = 18) -> Path:
    """A Llama with random weights and a tokenizer of words."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=0,
        tie_word_embeddings=False, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _save_adapter(folder: Path, base: Path, seed: int, **config: Any) -> Path:
    """A LoRA adapter whose update is not zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **config}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    written = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(written | {"base_model_name_or_path": str(base)}))
    return folder


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """OLD and NEW: adapters on bases of different width, one tokenizer; and the bases."""
    root = tmp_path_factory.mktemp("pair")
    old_base, new_base = save_model(root / "base-1", 16, 1), save_model(root / "base-2", 24, 2)
    return {
        "old": str(_save_adapter(root / "old", old_base, 3)),
        "new": str(_save_adapter(root / "new", new_base, 4, lora_dropout=0.3)),
        "old_base": str(old_base),
        "new_base": str(new_base),
    }


def _sentence(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))


def _make_examples(kind: str, train: int = 12, validation: int = 5, unlabelled: int = 0) -> Examples:
    """Random sentences as examples of a choice or a text task."""
    rng = random.Random(5)

    def one(number: int, labelled: bool = True) -> Example:
        context = _sentence(rng, 2, 6)
        choices = 3 if kind == "choice" else 1
        pairs = tuple((context, " " + _sentence(rng, 1, 4)) for _ in range(choices))
        chosen = (
            (" " + _sentence(rng, 1, 3), " " + _sentence(rng, 1, 3)) if kind == "text" and number % 3 == 0 else None
        )
        return Example(str(number), pairs, rng.randrange(choices) if labelled else None, *(chosen or ()))

    made = [one(number) for number in range(train + validation)]
    return Examples(
        "words", kind, tuple(made[:train]), tuple(made[train:]), tuple(one(100 + n, False) for n in range(unlabelled))
    )


@pytest.fixture(scope="session")
def save_adapter() -> Callable[..., Path]:
    return _save_adapter


@pytest.fixture(scope="session")
def make_examples() -> Callable[..., Examples]:
    return _make_examples


@pytest.fixture(scope="session")
def choice_examples() -> Examples:
    return _make_examples("choice")


@pytest.fixture(scope="session")
def text_examples() -> Examples:
    return _make_examples("text")
