"""ROUGE-1, ROUGE-2 and ROUGE-L: f-measure of the shared words, as rouge-score computes it."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compatcheck.similarity.base import References, Scorer, scorer, several
from compatcheck.version import installed


def lcs_length(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence of two word lists.

    Bit-parallel (Hyyrö 2004): one row of the usual table is one integer, so long texts cost little.
    """
    if not first or not second:
        return 0
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | (1 << i)
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        matched = row & places.get(word, 0)
        if matched:
            row = ((row + matched) | (row - matched)) & full
    return len(first) - row.bit_count()


@scorer("rouge1", "rouge2", "rougeL")
def rouge(name: str, use_stemmer: bool = False) -> Scorer:
    """F-measure of shared words (rouge1), word pairs (rouge2) or the longest common subsequence (rougeL).

    Words are rouge-score's: lower case, letters and digits of ASCII. Without stemming unless asked, as in
    rouge-score and Hugging Face evaluate. Of several references the one with the best f-measure counts.
    """

    def score(predictions: list[str], targets: list[References]) -> NDArray[np.float64]:
        from rouge_score import rouge_scorer, tokenizers

        # A target is met once per side and per metric, and stemming is slow.
        tokenize = lru_cache(maxsize=65_536)(tokenizers.DefaultTokenizer(use_stemmer).tokenize)
        library: Any = rouge_scorer.RougeScorer([name], tokenizer=SimpleNamespace(tokenize=tokenize))

        def one(prediction: str, target: str) -> float:
            if name != "rougeL":
                return float(library.score(target, prediction)[name].fmeasure)
            right, given = tokenize(target), tokenize(prediction)
            shared = lcs_length(right, given)
            precision, recall = (shared / len(given), shared / len(right)) if shared else (0.0, 0.0)
            return 2 * precision * recall / (precision + recall) if shared else 0.0

        pairs = zip(predictions, targets, strict=True)
        return np.array([max(one(text, each) for each in several(right)) for text, right in pairs], dtype=float)

    stemming = "yes" if use_stemmer else "no"
    return Scorer(name, "smooth", f"{name}|fmeasure|stemmer:{stemming}|rouge-score {installed('rouge-score')}", score)
