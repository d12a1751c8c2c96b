from __future__ import annotations

import numpy as np
import pytest

from compatcheck import similarity
from compatcheck.errors import InputError
from compatcheck.similarity import exact


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
        ("cafe\u0301", "caf\u00e9", 1.0),
        ("cafe", "caf\u00e9", 0.0),
        ("\u1112\u1161\u11ab", "\ud55c", 1.0),
        ("−5", "-5", 1.0),
        ("-1234.5", "−1,234.5", 1.0),
        ("−5", "5", 0.0),
        ("−x", "-x", 0.0),
        ("3−5", "3-5", 0.0),
        ("–5", "-5", 0.0),
    ],
)
def test_exact_match(prediction: str, target: str, score: float) -> None:
    assert similarity.get("exact_match").score([prediction], [target]).tolist() == [score]


def test_any_of_several_references() -> None:
    scores = similarity.get("exact_match").score(["b", "c", "1,000"], [["a", "b"], ["a", "b"], ["x", "1000"]])
    assert scores.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("prediction", "target", "options", "score"),
    [
        ("[Yes]", "yes", {}, 0.0),
        ("Yes", "yes", {"ignore_case": True}, 1.0),
        ("Yes", "yes", {"ignore_case": False}, 0.0),
        ("[Yes]", "yes", {"ignore_case": True}, 0.0),
        ("[Yes]", "yes", {"ignore_case": True, "ignore_punctuation": True}, 1.0),
        ("Paris.", "Paris", {"ignore_punctuation": True}, 1.0),
        ("STRASSE", "straße", {"ignore_case": True}, 1.0),
        ("well - done", "well done", {"ignore_punctuation": True}, 1.0),
        ("-5", "5", {"ignore_punctuation": True}, 0.0),
        ("−5.", "-5", {"ignore_punctuation": True}, 1.0),
        ("−5", "5", {"ignore_punctuation": True}, 0.0),
        ("1.5", "15", {"ignore_punctuation": True}, 0.0),
        ("10:30", "1030", {"ignore_punctuation": True}, 0.0),
        ("$1,234.", "1234", {"ignore_punctuation": True}, 1.0),
        ("“Paris”", "Paris", {"ignore_punctuation": True}, 1.0),
        ("Paris\u200b", "Paris", {"ignore_punctuation": True}, 1.0),
        ("+", "-", {"ignore_punctuation": True}, 0.0),
        ("?", "!", {"ignore_punctuation": True}, 0.0),
        ("...", "", {"ignore_punctuation": True}, 0.0),
        ("👍", "👎", {"ignore_punctuation": True}, 0.0),
        ("👍!", "👍", {"ignore_punctuation": True}, 1.0),
        ("a < b", "a > b", {"ignore_punctuation": True}, 0.0),
        ("का", "की", {"ignore_punctuation": True}, 0.0),
        ("की।", "की", {"ignore_punctuation": True}, 1.0),
        ("ที่", "ที", {"ignore_punctuation": True}, 0.0),
    ],
)
def test_less_strict(prediction: str, target: str, options: dict[str, bool], score: float) -> None:
    assert similarity.get("exact_match", **options).score([prediction], [target]).tolist() == [score]


@pytest.mark.parametrize(
    ("prediction", "target", "score"),
    [
        ("The capital is Paris.", "Paris", 1.0),
        ("Paris", "Paris", 1.0),
        ("Parisian", "Paris", 0.0),
        ("It is 120", "12", 0.0),
        ("It is 12.", "12", 1.0),
        ("It is 12.5", "12", 0.0),
        ("It is -12", "12", 0.0),
        ("-12", "12", 0.0),
        ("It is -12", "-12", 1.0),
        ("from 7-12 on", "12", 1.0),
        ("3.12", "12", 0.0),
        ("anything", "", 0.0),
        ("", "", 1.0),
        ("paris", "Paris", 0.0),
        ("print(x) is it", "print(x)", 1.0),
        ("日本の首都は東京です", "東京", 1.0),
        ("答案是12個", "12", 1.0),
        ("答案是120個", "12", 0.0),
        ("수도는 서울입니다", "서울", 1.0),
        ("It is 1,234.", "1234", 1.0),
        ("It is 1234.", "1,234", 1.0),
        ("It is 11,234.", "1234", 0.0),
        ("It is 1,234,5.", "1234", 0.0),
        ("a cafe\u0301 here", "cafe", 0.0),
        ("a cafe\u0301 here", "caf\u00e9", 1.0),
        ("वह का है", "क", 0.0),
        ("कीमत", "की", 0.0),
        ("कीमत", "मत", 0.0),
        ("यह की है", "की", 1.0),
        ("ที่", "ที", 0.0),
        ("อยู่ที่นี่", "ที่", 1.0),
        ("so 👨\u200d👩\u200d👧", "👨", 0.0),
        ("so ❤\ufe0f!", "❤", 1.0),
    ],
)
def test_contains(prediction: str, target: str, score: float) -> None:
    assert similarity.get("contains").score([prediction], [target]).tolist() == [score]


def test_contains_takes_the_same_options() -> None:
    assert similarity.get("contains", ignore_case=True).score(["so: PARIS"], ["Paris"]).tolist() == [1.0]
    assert similarity.get("contains", ignore_case=True).signature.endswith("|case:ignored")


@pytest.mark.parametrize("options", [{"ignore_case": "yes"}, {"ignore_cse": True}, {"use_stemmer": True}])
def test_options_that_cannot_be_meant(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="--metric-arg exact_match"):
        similarity.get("exact_match", **options)


def test_other_readings() -> None:
    nan = float("nan")
    scores = np.array([1.0, 0.0, 0.0, 0.0, 0.0, nan, 0.0])
    predictions = ["Yes", "Yes", "[no]", "[No]", "perhaps", "yes", None]
    found = exact.other_readings(scores, predictions, ["Yes", "yes", "no", "no", "no", "yes", "no"], {})
    assert {way: np.flatnonzero(one == 1).tolist() for way, one in found.items()} == {
        ("ignore_case",): [0, 1],
        ("ignore_punctuation",): [0, 2],
        ("ignore_case", "ignore_punctuation"): [0, 1, 2, 3],
    }
    scores[1] = 1.0
    settled = exact.other_readings(
        scores, predictions, ["Yes", "yes", "no", "no", "no", "yes", "no"], {"ignore_case": True}
    )
    assert {way: np.flatnonzero(one == 1).tolist() for way, one in settled.items()} == {
        ("ignore_punctuation",): [0, 1, 2, 3]
    }
    white = exact.other_readings(np.zeros(2), [" Paris", "paris"], ["Paris", '["Rom", "Paris"]'], {})
    assert {way: one.tolist() for way, one in white.items()} == {
        ("strip",): [1.0, 0.0], ("ignore_case",): [0.0, 1.0], ("ignore_case", "ignore_punctuation"): [0.0, 1.0],
    }  # fmt: skip


def test_no_option_is_named_for_a_number_that_is_written_otherwise() -> None:
    found = exact.other_readings(np.zeros(3), ["1,234", "cafe\u0301", " Paris"], ["1234", "caf\u00e9", "Paris"], {})
    assert {way: one.tolist() for way, one in found.items()} == {("strip",): [0.0, 0.0, 1.0]}
