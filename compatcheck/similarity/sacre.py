"""BLEU and chrF of single sentences, as sacreBLEU computes them, on a scale from 0 to 1."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from compatcheck.similarity.base import References, Scorer, scorer, several


@scorer("bleu")
def bleu(name: str) -> Scorer:
    """Sentence BLEU with effective order, sacreBLEU's value divided by 100.

    Several references are all given to BLEU, which is defined over a set of them.
    """

    def score(predictions: list[str], targets: list[References]) -> NDArray[np.float64]:
        from sacrebleu.metrics import BLEU

        metric = BLEU(effective_order=True)
        return np.array(
            [
                metric.sentence_score(p, several(right)).score / 100
                for p, right in zip(predictions, targets, strict=True)
            ],
            dtype=np.float64,
        )

    signature = f"bleu|sentence|effective-order|smooth:exp|tok:13a|scale:0-1|sacrebleu {version('sacrebleu')}"
    return Scorer(name, "smooth", signature, score)


@scorer("chrf")
def chrf(name: str) -> Scorer:
    """Sentence chrF2 (characters up to 6-grams), sacreBLEU's value divided by 100; the best reference counts."""

    def score(predictions: list[str], targets: list[References]) -> NDArray[np.float64]:
        from sacrebleu.metrics import CHRF

        metric = CHRF()
        return np.array(
            [
                metric.sentence_score(p, several(right)).score / 100
                for p, right in zip(predictions, targets, strict=True)
            ],
            dtype=np.float64,
        )

    signature = f"chrf|sentence|char_order:6|word_order:0|beta:2|scale:0-1|sacrebleu {version('sacrebleu')}"
    return Scorer(name, "smooth", signature, score)
