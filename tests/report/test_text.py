from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compatcheck.report.text import left_out, safe_text, trim_middle


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("bell\x07 nul\x00 del\x7f", "bell\\x07 nul\\x00 del\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\u2066x\u2069\u200f\u061c", "\\u2066x\\u2069\\u200f\\u061c"),
        ("half \ud800", "half \\ud800"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("[/red] <b> {{ x }} | `", "[/red] <b> {{ x }} | `"),
        ("família 日本 👩‍👩‍👧 e\u0301", "família 日本 👩‍👩‍👧 e\u0301"),
        (3.5, "3.5"),
    ],
)
def test_safe_text_shows_what_would_act(text: object, shown: str) -> None:
    assert safe_text(text) == shown


def test_safe_text_keeps_line_feeds_when_asked() -> None:
    assert safe_text("a\r\nb\tc\rd\x0b", multiline=True) == "a\nb    c\\rd\\x0b"


@given(st.text(alphabet=st.characters(codec=None)))
def test_safe_text_can_always_be_encoded_and_holds_no_control(text: str) -> None:
    shown = safe_text(text)
    shown.encode("utf-8")
    assert not any(ord(c) < 32 or 0x7F <= ord(c) <= 0x9F or 0x202A <= ord(c) <= 0x202E for c in shown)


def test_trim_middle_counts_what_it_leaves_out() -> None:
    assert trim_middle("a" * 100 + "b" * 100, 20) == "a" * 10 + "… 180 characters left out …" + "b" * 10
    assert trim_middle("x" * 48, 20) == "x" * 48
    assert left_out(1) == "… 1 character left out …"
    assert left_out(12345) == "… 12,345 characters left out …"
