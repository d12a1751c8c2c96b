"""BLEU and chrF of single sentences, as sacreBLEU computes them, on a scale from 0 to 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compatcheck.similarity.base import References, Scorer, scorer, several
from compatcheck.version import installed

_SETTINGS = {
    "bleu": "bleu|sentence|effective-order|smooth:exp|tok:13a",
    "chrf": "chrf|sentence|char_order:6|word_order:0|beta:2",
}


@scorer("bleu", "chrf")
def sacre(name: str) -> Scorer:
    """sacreBLEU's value of a sentence divided by 100: BLEU with effective order, or chrF2 (characters up to 6-grams).

    Several references are all given to BLEU, which is defined over a set of them; of chrF the best counts.
    """

    def score(predictions: list[str], targets: list[References]) -> NDArray[np.float64]:
        from sacrebleu.metrics import BLEU, CHRF

        metric = BLEU(effective_order=True) if name == "bleu" else CHRF()
        pairs = zip(predictions, targets, strict=True)
        return np.array([metric.sentence_score(text, several(right)).score / 100 for text, right in pairs], dtype=float)

    return Scorer(name, "smooth", f"{_SETTINGS[name]}|scale:0-1|sacrebleu {installed('sacrebleu')}", score)
