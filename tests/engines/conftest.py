"""Tiny random models of several architectures, each a folder with a tokenizer: made once for all tests here."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WORDS = ["red", "green", "blue", "bird", "house", "river", "sings", "runs", "falls", "over", "under", "the", "a", "and"]


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def _save_tokenizer(folder: Path) -> int:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    rng = random.Random(0)
    tokenizer.train_from_iterator([sentence(rng, 30) + ".\n\n" for _ in range(50)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    return len(fast)


def _make(folder: Path, kind: str) -> None:
    import torch
    import transformers as t

    folder.mkdir()
    vocabulary = _save_tokenizer(folder)
    common: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 2, "bos_token_id": 0, "eos_token_id": 1,
        "pad_token_id": 1, "initializer_range": 0.25, "tie_word_embeddings": False,
    }  # fmt: skip
    heads: dict[str, Any] = {
        "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 192,
    }  # fmt: skip
    torch.manual_seed(7)
    if kind == "llama":
        model = t.LlamaForCausalLM(t.LlamaConfig(**common, **heads))
    elif kind == "qwen2":
        model = t.Qwen2ForCausalLM(t.Qwen2Config(**common | {"tie_word_embeddings": True}, **heads))
    elif kind == "mistral":
        model = t.MistralForCausalLM(t.MistralConfig(**common, **heads, sliding_window=40))
    elif kind == "gpt2":
        config = t.GPT2Config(
            vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=4, n_positions=192, bos_token_id=0, eos_token_id=1,
            initializer_range=0.25, attn_pdrop=0.1, resid_pdrop=0.1, embd_pdrop=0.1,
        )  # fmt: skip
        model = t.GPT2LMHeadModel(config)
    elif kind == "granite":  # scales its logits: hidden states and the output layer alone do not make them
        model = t.GraniteForCausalLM(t.GraniteConfig(**common, **heads, logits_scaling=3.0, attention_multiplier=0.4))
    elif kind == "gemma2":  # caps its attention scores
        model = t.Gemma2ForCausalLM(t.Gemma2Config(**common | {"tie_word_embeddings": True}, **heads, head_dim=8))
    elif kind == "mamba":
        config = t.MambaConfig(**common, state_size=4, num_heads=4)
        model = t.MambaForCausalLM(config)
    elif kind == "bloom":  # position biases, an older implementation
        model = t.BloomForCausalLM(t.BloomConfig(**common, n_head=4))
    else:
        raise AssertionError(kind)
    model.save_pretrained(folder)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Models this small gain nothing from a second thread, and tests run side by side."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny random model of some architecture."""
    root = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> Path:
        if not (root / kind).exists():
            _make(root / kind, kind)
        return root / kind

    return folder


@pytest.fixture(scope="session")
def adapter_folders(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two LoRA adapters, 'old' and 'new', that change the tiny Llama's outputs a good deal."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    root = tmp_path_factory.mktemp("adapters")
    found = {}
    for seed, name in enumerate(("old", "new")):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
        adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        for parameter_name, parameter in adapted.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.2)
        adapted.save_pretrained(root / name)
        found[name] = root / name
    return found


@pytest.fixture(scope="session")
def lm_eval_hf(model_folder: Callable[[str], Path]) -> Iterator[Callable[..., Any]]:
    """lm-eval's own hf backend on a tiny model, one document at a time so that nothing depends on padding."""
    from lm_eval.models.huggingface import HFLM

    opened: dict[Any, Any] = {}

    def open_(kind: str, **options: Any) -> Any:
        name = (kind, tuple(sorted((key, str(value)) for key, value in options.items())))
        if name not in opened:
            opened[name] = HFLM(
                pretrained=str(model_folder(kind)), device="cpu", dtype="float32", batch_size=1, **options
            )
        return opened[name]

    yield open_


def choices(pairs: list[tuple[str, list[str]]]) -> list[Any]:
    """Requests for log-likelihoods: (context, continuations) of each document."""
    from lm_eval.api.instance import Instance

    return [
        Instance("loglikelihood", {}, (context, continuation), number, ("task", document, 1))
        for document, (context, continuations) in enumerate(pairs)
        for number, continuation in enumerate(continuations)
    ]


def prompts(given: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Requests for text: (prompt, generation arguments) of each document."""
    from lm_eval.api.instance import Instance

    return [
        Instance("generate_until", {}, (context, arguments), 0, ("task", document, 1))
        for document, (context, arguments) in enumerate(given)
    ]
