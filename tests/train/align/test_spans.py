from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compatcheck.errors import InputError
from compatcheck_train.align.spans import Spans, spans
from compatcheck_train.align.vocabulary import Vocabulary
from tests.train.align.kinds import KINDS, LOSSLESS, tokenizer

WORDS = st.sampled_from(
    [
        "The",
        " fox",
        "\n",
        "  ",
        "407",
        " 12.50",
        "é",
        "e\u0301",
        "ﬁ",
        "日本",
        "🙂",
        "👩‍👧",
        "▁",
        "</s>",
        "<0x41>",
        "ß",
        "\t",
        "\x00",
    ]
)
TEXT = st.one_of(st.text(max_size=30), st.lists(WORDS, max_size=8).map("".join))


def starts_of(found: Spans) -> np.ndarray:
    """Where each token starts, in bytes of the text."""
    return np.concatenate([[found.begin], found.ends[:-1]])[: len(found.ends)]


def surface(kind: str, text: str) -> tuple[Vocabulary, list[int]]:
    vocabulary = Vocabulary(tokenizer(kind))
    return vocabulary, list(tokenizer(kind)(text)["input_ids"])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXT)
@example(text="")
@example(text=" a")
@example(text="e\u0301  x")
@example(text="</s>a</s>")
@example(text="<bos>a")
def test_spans_tile_the_text_and_exact_ones_hold_its_bytes(kind: str, text: str) -> None:
    vocabulary, ids = surface(kind, text)
    found, data = spans(vocabulary, text, ids), text.encode()
    assert len(found.ends) == len(found.exact) == len(found.closed) == len(ids)
    assert found.begin == 0
    inner = slice(found.lead, len(ids) - found.eos)
    starts, ends = starts_of(found)[inner], found.ends[inner]
    assert (np.diff(found.ends) >= 0).all()
    if len(ends):
        assert starts[0] == 0
        assert ends[-1] == len(data)
        assert (starts[1:] == ends[:-1]).all()
        assert found.closed[inner][-1]
    for number, a, b, exact in zip(ids[inner], starts, ends, found.exact[inner], strict=True):
        if exact:
            made = vocabulary.bytes_of(number)
            assert data[a:b] in (made, made.removeprefix(b" "), b" " + made)
    if kind in LOSSLESS and "▁" not in text:
        assert found.exact.all()
        assert found.closed.all()
        joined = b"".join(data[a:b] for a, b in zip(starts, ends, strict=True))
        assert joined == data


def test_a_character_of_several_bytes_is_split_between_its_tokens() -> None:
    vocabulary, ids = surface("byte-level", "🙈")
    assert ids[0] == vocabulary.bos
    assert [vocabulary.bytes_of(number) for number in ids[1:]] == [b"\xf0\x9f", b"\x99", b"\x88"]
    assert spans(vocabulary, "🙈", ids).ends.tolist() == [0, 2, 3, 4]
    vocabulary, ids = surface("fixture-unigram", "a🙈")
    assert tokenizer("fixture-unigram").convert_ids_to_tokens(ids) == [
        "<s>",
        "▁a",
        *["<0xF0>", "<0x9F>", "<0x99>", "<0x88>"],
    ]
    assert spans(vocabulary, "a🙈", ids).ends.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_space_put_in_front_covers_nothing() -> None:
    for text, tokens, ends in (
        ("é", ["<s>", "▁", "<0xC3>", "<0xA9>"], [0, 0, 1, 2]),
        (" é", ["<s>", "▁", "▁", "<0xC3>", "<0xA9>"], [0, 0, 1, 2, 3]),
        ("the", ["<s>", "▁the"], [0, 3]),
    ):
        vocabulary, ids = surface("fixture-unigram", text)
        assert tokenizer("fixture-unigram").convert_ids_to_tokens(ids) == tokens
        assert spans(vocabulary, text, ids).ends.tolist() == ends


def test_changed_text_is_not_exact_and_its_neighbours_are() -> None:
    vocabulary, ids = surface("word-piece", "the Dog jumps")
    found = spans(vocabulary, "the Dog jumps", ids)
    words = {}
    for number, a, b, exact in zip(ids, starts_of(found), found.ends, found.exact, strict=True):
        words.setdefault(bool(exact), []).append(("the Dog jumps"[a:b], vocabulary.bytes_of(number).decode()))
    assert "".join(text for text, _ in words[False]) == " Dog"
    assert "".join(text for text, _ in words[True]) == "the jumps"


def test_unknown_characters_are_not_exact() -> None:
    vocabulary, ids = surface("unigram", "fox 中 fox")
    found = spans(vocabulary, "fox 中 fox", ids)
    unknown = [vocabulary.unknown(number) for number in ids]
    assert sum(unknown) == 1
    assert not found.exact[np.flatnonzero(unknown)].any()
    assert found.exact[0]
    assert found.exact[-1]


def test_end_token_and_cut_sequences() -> None:
    vocabulary, ids = surface("fixture-bpe", "Anna has 12 pens")
    found = spans(vocabulary, "Anna has 12 pens", [*ids, vocabulary.eos])
    assert found.eos
    assert found.ends[-1] == 16
    cut = spans(vocabulary, "Anna has 12 pens", [*ids[1:], vocabulary.eos])
    assert cut.begin == spans(vocabulary, "Anna has 12 pens", ids).ends[0]
    assert cut.ends.tolist() == found.ends[1:].tolist()
    text = "an end </s>"
    vocabulary, ids = surface("fixture-bpe", text)
    assert ids[-1] == vocabulary.eos
    assert not spans(vocabulary, text, ids).eos
    assert spans(vocabulary, text, [*ids, vocabulary.eos]).eos


def test_ids_that_do_not_encode_the_text_are_matched_from_both_ends() -> None:
    vocabulary, ids = surface("fixture-bpe", "Anna has 12 pens today")
    wrong = [*ids[:2], ids[0], *ids[3:]]
    found = spans(vocabulary, "Anna has 12 pens today", wrong)
    right = spans(vocabulary, "Anna has 12 pens today", ids)
    assert found.ends.tolist() == right.ends.tolist()
    assert found.exact.tolist() == [number != 2 for number in range(len(ids))]


def test_slow_tokenizers_are_refused() -> None:
    class Slow:
        name_or_path = "old/model"

    with pytest.raises(InputError, match="old/model: the tokenizer is not a fast one"):
        Vocabulary(Slow())
