"""Small helpers for text that several rooms share."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

_SEPARATED = re.compile(r"[-−+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
_NUMBER = re.compile(r"[-−+]?\d+(?:\.\d+)?", re.ASCII)
_VALUE = re.compile(r"(?P<number>-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d{1,9})?)|(?i:true|false)", re.ASCII)
_LONGEST = 40
"""Numbers with more zeros at either end are spelled with an exponent."""
_MINUS = re.compile(r"(?<!\w)−(?=[.,]?\d)")


def plain_number(text: str) -> str | None:
    """Return a number's text without thousands separators, or None where the text is not a number.

    Only well-formed groups count: ``"1,234"`` is a number, ``"12,34"`` is not. A typographic minus is a minus.
    """
    found = _NUMBER.fullmatch(text) or _SEPARATED.fullmatch(text)
    return found and plain_minus(text).replace(",", "")


def plain_minus(text: str) -> str:
    """A text with the minus of keyboards before numbers, where it has the typographic one (U+2212)."""
    return _MINUS.sub("-", text) if "−" in text else text


def value_text(text: str) -> str:
    """The one spelling of a text that is a number as programs write them, or a boolean; any other text as it is.

    ``5.0`` and ``5e0`` are ``5``, ``True`` is ``true``, a typographic minus is a plain one; ``05`` is no number. No
    digit is lost.
    """
    found = _VALUE.fullmatch(bare := text.strip().replace("−", "-"))
    if found is None:
        return text
    if found["number"] is None:
        return bare.lower()
    whole, _, exponent = bare.lower().partition("e")
    digits, _, decimals = whole.lstrip("-").partition(".")
    kept = (digits + decimals).lstrip("0").rstrip("0")
    ends = len((digits + decimals).rstrip("0")) - len(digits) - int(exponent or 0)  # decimals that are left
    if not kept:
        return "0"
    number = f"{'-' * whole.startswith('-')}{kept}"
    return f"{Decimal(f'{number}e{-ends}'):f}" if abs(ends) <= _LONGEST else f"{number}e{-ends}"


def composed(text: str) -> str:
    """A text as Unicode composes it: a letter with an accent is one sign, however it was written."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def significant(value: float, digits: int, sign: str = "") -> str:
    """A number with so many significant digits; a large one is written out, never as ``1.2e+03``."""
    text = f"{value:{sign},.{digits}g}"
    return f"{value:{sign},.0f}" if "e+" in text and abs(value) < 1e15 else text


def estimated(count: int) -> int:
    """An estimated number, to two significant digits: 20,000 for 19,051."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // step) * step


def aligned(rows: Sequence[tuple[str, ...]], kinds: str = "<<<") -> list[str]:
    """Rows as lines with columns under each other: texts (``<``), and figures (``>``), as those without a kind are."""
    columns = list(zip(*rows, strict=True))
    kinds = kinds.ljust(len(columns), ">")
    widths = [f"{kind}{max(map(len, column))}" for kind, column in zip(kinds, columns, strict=True)]
    return ["  ".join(map(format, row, widths)).rstrip() for row in rows]


def ends_of(text: str, most: int, cut: str = "\n") -> str:
    """A text of at most ``most`` characters as it is; of a longer one beginning and end, with ``cut`` between them."""
    return text if len(text) <= most else f"{text[: most // 2]}{cut}{text[-most // 2 :]}"


def text_hash(text: str) -> str:
    """Fingerprint of a text: the first 16 hexadecimal digits of the SHA-256 of its UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:16]


def clean_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON can spell (``"\\ud83d"``) and UTF-8 cannot hold, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
