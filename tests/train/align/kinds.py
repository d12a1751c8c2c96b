"""Tokenizers of several families: the fixtures' and small ones trained here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[3] / "fixtures"
TEXTS = [
    "The quick brown fox jumps over the lazy dog. It was 4,096 metres away!",
    "Anna: are you coming at 10:30? Ben: yes, I'm on my way\nAnna: bring 250 dollars",
    "Straße, naïve café, Ünïcödé; 日本語のテキスト, Привет мир, مرحبا 🙂👍🏽",
    "def f(x):\n    return x ** 2  # two spaces and\ttabs",
] * 5


def _fast(core: Any, **special: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **special)


def fixture_bpe() -> Any:
    return _fixture("base-v1")


def fixture_unigram() -> Any:
    return _fixture("base-v3")


def _fixture(name: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FIXTURES / "models" / name)


def byte_level() -> Any:
    """GPT-2's kind, a start token in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<bos>", "<eos>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return _fast(core, bos_token="<bos>", eos_token="<eos>")


def byte_level_nfc() -> Any:
    """Byte-level with a normal form and a space put in front, as some have."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=330, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False),
    )
    return _fast(core, eos_token="<eos>")


def unigram() -> Any:
    """SentencePiece's kind without byte fallback: unknown characters are unknown, the normal form is NFKC."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
        ),
    )
    return _fast(core, unk_token="<unk>", eos_token="</s>")


def word_piece() -> Any:
    """BERT's kind: lower case, accents and spaces lost."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    core.train_from_iterator(
        TEXTS,
        trainers.WordPieceTrainer(vocab_size=250, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False),
    )
    return _fast(core, unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]")


KINDS: dict[str, Callable[[], Any]] = {
    "fixture-bpe": fixture_bpe,
    "fixture-unigram": fixture_unigram,
    "byte-level": byte_level,
    "byte-level-nfc": byte_level_nfc,
    "unigram": unigram,
    "word-piece": word_piece,
}
LOSSLESS = ("fixture-bpe", "fixture-unigram", "byte-level")


@cache
def tokenizer(kind: str) -> Any:
    """One tokenizer of a kind, made once."""
    return KINDS[kind]()
