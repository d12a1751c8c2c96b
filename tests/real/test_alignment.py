"""Two real tokenizers, byte-level BPE and SentencePiece with a start token, meet in the text that both stand for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from compatcheck.models.gguf import folder_of
from compatcheck_train.align.spans import chunks, spans
from compatcheck_train.align.vocabulary import Vocabulary

PARTS = (
    "Question: How do I dry flowers?\nAnswer: Hang them upside down, 2-3 weeks, at 12,345.67 °C.",
    "x  2 = 10   20\n\n\n  def f(a):\r\n\t\treturn a+1",
    "日本語のテキスト, été, 🎉\u200d♀\ufe0f, ﬁ, e\u0301",
    "<|im_start|>user\nHi<|im_end|>\n<bos><start_of_turn>",
)


@pytest.mark.parametrize("names", list(itertools.permutations(("smollm2", "gemma3"))))
def test_every_token_has_its_counterpart(names: tuple[str, str], model: Callable[[str], Path]) -> None:
    from transformers import AutoTokenizer

    student, teacher = (AutoTokenizer.from_pretrained(folder_of(model(name))) for name in names)
    here, there = Vocabulary(student), Vocabulary(teacher)
    for text in PARTS:
        mine, theirs = student.encode(text), teacher.encode(text)
        own, other = spans(here, text, mine), spans(there, text, theirs)
        found = chunks(own, other)
        assert found.comparable.all(), text
        assert (found.student[0], found.student[-1]) == (own.lead, len(mine))
        assert (found.teacher[0], found.teacher[-1]) == (other.lead, len(theirs))
        assert own.lead == (names[0] == "gemma3")
        assert own.ends[-1] == len(text.encode())
        assert len(found) > len(mine) / 3, text
