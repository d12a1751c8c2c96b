"""Texts become the tokens that llama.cpp makes of them: the ids below are its own (``/tokenize``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compatcheck.models.gguf import folder_of

TEXTS = {
    "smollm2": {
        " leading space": [2899, 1898],
        "trailing space ": [4861, 4966, 1898, 216],
        "tabs\t\tand\r\nCRLF": [100, 7366, 197, 197, 397, 201, 198, 9088, 60, 54],
        "I'm you're WE'LL don't": [57, 5248, 346, 2316, 26587, 23, 16421, 1326, 982],
        "1234567890 12,345.67": [33, 34, 35, 36, 37, 38, 39, 40, 41, 32, 216, 33, 34, 28, 35, 36, 37, 30, 38, 39],
        "x  2 = 10   20\n\n\n  def f(a):\n        return a+1  # 3.14": [
            104, 256, 34, 446, 216, 33, 32, 333, 34, 32, 1116, 3805, 753, 275, 24, 81, 727, 448, 1003, 253, 27, 33, 216,
            907, 216, 35, 30, 33, 36,
        ],
        "<|im_start|>user\nHi there<|im_end|>\n": [1, 4093, 198, 26843, 665, 2, 198],
    },
    "gemma3": {
        " leading space": [2, 5830, 2557],
        "trailing space ": [2, 136697, 2557, 236743],
        "tabs\t\tand\r\nCRLF": [2, 39218, 255969, 624, 251, 107, 6459, 43102],
        "I'm you're WE'LL don't": [
            2, 236777, 236789, 236757, 611, 236789, 500, 19716, 236789, 2182, 1537, 236789, 236745,
        ],
        "1234567890 12,345.67": [
            2, 236770, 236778, 236800, 236812, 236810, 236825, 236832, 236828, 236819, 236771, 236743, 236770, 236778,
            236764, 236800, 236812, 236810, 236761, 236825, 236832,
        ],
        "x  2 = 10   20\n\n\n  def f(a):\n        return a+1  # 3.14": [
            2, 236781, 138, 236778, 578, 236743, 236770, 236771, 139, 236778, 236771, 109, 138, 2063, 517, 236769,
            236746, 1473, 107, 144, 2060, 496, 236862, 236770, 138, 236865, 236743, 236800, 236761, 236770, 236812,
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", list(TEXTS))
def test_texts_are_split_as_by_llama_cpp(name: str, model: Callable[[str], Path]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder_of(model(name)))
    for text, tokens in TEXTS[name].items():
        assert tokenizer(text)["input_ids"] == tokens, text


def test_the_chat_template_is_that_of_the_file(smollm2: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder_of(smollm2))
    told = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert told == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
