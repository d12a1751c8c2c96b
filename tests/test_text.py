from __future__ import annotations

import hashlib

import pytest

from compatcheck.text import clean_surrogates, plain_number, text_hash


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


def test_text_hash_is_the_start_of_sha256() -> None:
    assert text_hash("é") == hashlib.sha256("é".encode()).hexdigest()[:16]
    assert len(text_hash("\ud83d")) == 16


def test_clean_surrogates() -> None:
    assert clean_surrogates("a\ud83d b") == "a\ufffd b"
    assert clean_surrogates("\U0001f600") == "\U0001f600"
