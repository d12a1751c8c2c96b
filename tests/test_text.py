from __future__ import annotations

import hashlib

import pytest

from compatcheck.text import clean_surrogates, estimated, plain_number, text_hash


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234", "1234"),
        ("-1,234.5", "-1234.5"),
        ("+12", "+12"),
        ("0.50", "0.50"),
        ("12,34", None),
        ("1234,567", None),
        ("1,234,", None),
        (".5", None),
        ("", None),
        ("１２", None),
    ],
)
def test_plain_number(text: str, number: str | None) -> None:
    assert plain_number(text) == number


def test_an_estimated_number_has_two_digits_and_is_never_less() -> None:
    assert [estimated(n) for n in (7, 99, 100, 101, 19_051, 99_900)] == [7, 99, 100, 110, 20_000, 100_000]


def test_text_hash_is_the_start_of_sha256() -> None:
    assert text_hash("é") == hashlib.sha256("é".encode()).hexdigest()[:16]
    assert len(text_hash("\ud83d")) == 16


def test_clean_surrogates() -> None:
    assert clean_surrogates("a\ud83d b") == "a\ufffd b"
    assert clean_surrogates("\U0001f600") == "\U0001f600"
