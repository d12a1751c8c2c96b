"""ROUGE equals rouge-score's own figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from compatcheck import similarity
from compatcheck.similarity.rouge import lcs_length

PREDICTIONS = [
    "Amanda baked cookies and will bring Jerry some tomorrow.",
    "Olivia and Oliver are voting for liberals in this election.",
    "",
    "...",
    "the the the cat sat on on the mat",
    "Größe 12,5 ≠ größe 12.5",
]
TARGETS = [
    "Amanda baked cookies and will bring some to Jerry tomorrow.",
    "Olivia and Olivier are voting for the liberals.",
    "not empty",
    "!!!",
    "the cat was sitting on the mat",
    "groesse 12 5",
]


@pytest.mark.parametrize("stem", [False, True])
@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_equals_the_library(name: str, stem: bool) -> None:
    library = rouge_scorer.RougeScorer([name], use_stemmer=stem)
    expected = [library.score(t, p)[name].fmeasure for p, t in zip(PREDICTIONS, TARGETS, strict=True)]
    scorer = similarity.get(name, use_stemmer=stem)
    assert scorer.score(PREDICTIONS, TARGETS).tolist() == expected
    assert f"stemmer:{'yes' if stem else 'no'}" in scorer.signature


def test_golden_rouge1() -> None:
    # 5 of 6 predicted words and 5 of 7 target words are shared: 2·(5/6)(5/7) / (5/6 + 5/7) = 10/13.
    score = similarity.get("rouge1").score(["a cat sat on the mat"], ["the big cat sat on my mat"])
    assert score[0] == pytest.approx(10 / 13)


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_best_of_several_references_equals_score_multi(name: str) -> None:
    references = ["a dog barked", "the cat sat on the mat", "cats sit"]
    expected = rouge_scorer.RougeScorer([name]).score_multi(references, "the cat is on the mat")[name].fmeasure
    assert similarity.get(name).score(["the cat is on the mat"], [references])[0] == expected


def plain_lcs(first: list[str], second: list[str]) -> int:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


words = st.lists(st.sampled_from("abcde"), max_size=90)


@given(words, words)
def test_lcs_length_equals_the_table(first: list[str], second: list[str]) -> None:
    assert lcs_length(first, second) == plain_lcs(first, second)
