from __future__ import annotations

from copy import deepcopy

import pytest

from compatcheck_train.align import same_tokenizer
from tests.train.align.kinds import KINDS, fixture_bpe, tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_is_the_same_as_itself(kind: str) -> None:
    found = same_tokenizer(tokenizer(kind), deepcopy(tokenizer(kind)))
    assert found
    assert found.shared == len(tokenizer(kind))


def test_added_tokens_behind_the_common_ones_count_as_the_same() -> None:
    more = fixture_bpe()
    more.add_special_tokens({"additional_special_tokens": ["<|call|>", "<|end|>"]})
    found = same_tokenizer(tokenizer("fixture-bpe"), more)
    assert found
    assert found.shared == 2048
    assert same_tokenizer(more, tokenizer("fixture-bpe")).shared == 2048


def test_other_vocabularies_differ() -> None:
    found = same_tokenizer(tokenizer("fixture-bpe"), tokenizer("fixture-unigram"))
    assert not found
    assert found.why == "token 0 is '</s>' in the old and '<unk>' in the new"


def test_the_same_vocabulary_split_in_another_way_differs() -> None:
    from tokenizers import pre_tokenizers

    other = fixture_bpe()
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    found = same_tokenizer(tokenizer("fixture-bpe"), other)
    assert not found
    assert found.why == "the same vocabulary, but another way of splitting"


def test_a_start_token_that_only_one_has_differs() -> None:
    from tokenizers import processors

    other = fixture_bpe()
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", 0)]
    )
    assert same_tokenizer(tokenizer("fixture-bpe"), other).why == "the same vocabulary, but other start and end tokens"
