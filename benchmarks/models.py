"""Random models with a real tokenizer, for benchmarks: speed does not depend on what the weights have learned."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = 20_000


def words(seed: int = 0, count: int = WORDS) -> list[str]:
    """Made-up lower-case words, all different."""
    rng = random.Random(seed)
    syllables = [c + v for c in "bcdfghjklmnprstvwz" for v in "aeiou"]
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choices(syllables, k=rng.choice((1, 2, 2, 3, 3, 4))))] = None
    return list(found)


def text(rng: random.Random, vocabulary: list[str], length: int) -> str:
    """``length`` words, common ones first as in real text."""
    return " ".join(vocabulary[min(int(rng.paretovariate(0.7)) - 1, len(vocabulary) - 1)] for _ in range(length))


def save_tokenizer(folder: Path, size: int = 16_000) -> int:
    """Train a byte-level BPE on made-up text and save it; returns its vocabulary size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng, vocabulary = random.Random(1), words()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    lines = [" ".join(vocabulary[i : i + 20]) for i in range(0, len(vocabulary), 20)]
    lines += [text(rng, vocabulary, 200) + ".\n" for _ in range(500)]
    tokenizer.train_from_iterator(lines, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    return len(fast)


def save_llama(folder: Path, seed: int = 0) -> int:
    """A random 42-million-parameter Llama with a 16,000-token vocabulary; returns its number of parameters."""
    sizes = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "max_position_embeddings": 4096}
    return _save(folder, seed, 16_000, num_attention_heads=8, num_key_value_heads=8, **sizes)


def save_tiny_llama(folder: Path, seed: int = 0) -> int:
    """A random Llama so small that what is measured with it is everything but the model."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "max_position_embeddings": 512}
    return _save(folder, seed, 1_000, num_attention_heads=2, num_key_value_heads=2, **sizes)


def _save(folder: Path, seed: int, words: int, **sizes: int) -> int:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokens = {"vocab_size": save_tokenizer(folder, words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**tokens, **sizes, tie_word_embeddings=False))
    model.save_pretrained(folder)
    return int(model.num_parameters())
