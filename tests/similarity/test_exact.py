from __future__ import annotations

import pytest

from compatcheck import similarity


@pytest.mark.parametrize(
    ("prediction", "target", "score"),
    [
        ("18", "18", 1.0),
        (" 18\n", "18", 1.0),
        ("1,234", "1234", 1.0),
        ("1234", "1,234", 1.0),
        ("-2,085.50", "-2085.50", 1.0),
        ("1,234,567", "1234567", 1.0),
        ("18.0", "18", 0.0),
        ("12,34", "1234", 0.0),
        ("1,2345", "12345", 0.0),
        ("a,b", "ab", 0.0),
        ("Yes", "yes", 0.0),
        ("", "", 1.0),
        ("x", "", 0.0),
    ],
)
def test_exact_match(prediction: str, target: str, score: float) -> None:
    assert similarity.get("exact_match").score([prediction], [target]).tolist() == [score]


def test_any_of_several_references() -> None:
    scores = similarity.get("exact_match").score(["b", "c", "1,000"], [["a", "b"], ["a", "b"], ["x", "1000"]])
    assert scores.tolist() == [1.0, 0.0, 1.0]
