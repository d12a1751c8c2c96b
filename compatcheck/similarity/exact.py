"""Exact match: the prediction is the target, letter by letter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compatcheck.similarity.base import References, Scorer, scorer
from compatcheck.text import plain_number


def same_text(prediction: str, target: str) -> bool:
    """Whether two texts are equal but for white space at the ends and, in numbers, thousands separators."""
    prediction, target = prediction.strip(), target.strip()
    if prediction == target:
        return True
    if "," not in prediction and "," not in target:
        return False
    number = plain_number(prediction)
    return number is not None and number == plain_number(target)


def _exact_match(predictions: list[str], targets: list[References]) -> NDArray[np.float64]:
    pairs = zip(predictions, targets, strict=True)
    return np.fromiter(
        (
            (text == right or same_text(text, right))
            if isinstance(right, str)
            else any(same_text(text, one) for one in right)
            for text, right in pairs
        ),
        dtype=np.float64,
        count=len(predictions),
    )


@scorer("exact_match")
def exact_match(name: str) -> Scorer:
    """1 where prediction and target are the same text, else 0.

    Case counts. White space at both ends does not, nor do thousands separators where both are numbers:
    ``"1,234"`` matches ``"1234"``. Numbers are compared as written: ``"18.0"`` does not match ``"18"``.
    """
    return Scorer(name, "discrete", "exact_match|strip|thousands-separators:ignored", _exact_match)
