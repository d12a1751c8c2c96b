"""Numbers and dates in answers: which one a text stands for, and how two of them stand to each other."""

from __future__ import annotations

import math
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)])[-−–+]\s?)?(?P<currency>[$€£¥])?\s?(?P<minus>-)?"
    r"(?P<digits>\d{1,3}(?:[,\u00a0 ']\d{3})+(?:\.\d+)?(?!\d)|\d+(?:[.,]\d+)?|\.\d+)"
    r"(?P<power>\s?(?:[eE]|[x×*]\s?10\^)[-+−]?\d+)?(?:\s?/\s?(?P<below>\d+)(?!\s?/|\d))?"
    r"\s?(?P<unit>%|°?[A-Za-zµ°]+(?:[²³]|\b))?"
)
_MARKED = re.compile(
    r"(?:####|\\boxed\{|answer(?: is|:|=)?|result(?: is|:|=)?|total(?: is|:|=)?|=)\s*[^\d\n]{0,12}$", re.IGNORECASE
)
_UNITS = """
mm cm dm m km in inch inches ft feet foot yd yards mi mile miles mg g gram grams kg lb lbs oz t ton tons ml cl l liter
liters litre litres s sec second seconds min minute minutes h hr hour hours day days week weeks month months year years
% usd eur gbp dollar dollars euro euros pound pounds cent cents yen °c °f c f celsius fahrenheit kelvin degrees radians
km/h kmh mph meter meters metre metres kilometer kilometers kilogram kilograms million billion thousand percent j kj w
kw kwh v a hz khz mhz ghz kb mb gb tb bytes bits
"""
_KNOWN = frozenset(_UNITS.split())
_ALIKE = {
    "$": "usd", "dollar": "usd", "dollars": "usd", "€": "eur", "euro": "eur", "euros": "eur", "£": "gbp",
    "pounds": "lb", "lbs": "lb", "pound": "lb", "percent": "%", "¥": "yen", "meters": "m", "meter": "m", "metre": "m",
    "metres": "m", "kilometers": "km", "kilometer": "km", "miles": "mi", "mile": "mi", "hours": "h", "hour": "h",
    "hr": "h", "minutes": "min", "minute": "min", "seconds": "s", "second": "s", "sec": "s", "kilograms": "kg",
    "kilogram": "kg", "grams": "g", "gram": "g", "days": "day", "weeks": "week", "months": "month", "years": "year",
    "inches": "in", "inch": "in", "feet": "ft", "foot": "ft", "cents": "cent", "liters": "l", "liter": "l",
    "litres": "l", "litre": "l",
}  # fmt: skip
_FACTORS = (2, 12, 24, 60, 3600, 1024)
"""Besides the powers of ten: doubled or halved, dozens, hours, minutes, seconds, bytes."""
_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty
"""
_SPELLED = {word: value for value, word in enumerate(_WORDS.split())}
_SPELLED |= {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTH = {name: place for place, name in enumerate(_MONTHS.split(), 1)}
_DATES = (
    re.compile(r"\b(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})\b"),
    re.compile(r"\b(?P<n>[a-z]{3,9})\.?\s+(?P<d>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<y>\d{4})\b", re.I),
    re.compile(r"\b(?P<d>\d{1,2})(?:st|nd|rd|th|\.)?\s+(?:of\s+)?(?P<n>[a-z]{3,9})\.?,?\s+(?P<y>\d{4})\b", re.I),
    re.compile(r"\b(?P<d>\d{1,2})[-/.](?P<m>\d{1,2})[-/.](?P<y>\d{4})\b"),
)


class Number(NamedTuple):
    """A value and the unit beside it, empty where there is none."""

    value: float
    unit: str = ""


def unaccented(text: str) -> str:
    """Without accents, compatible characters alike: ``é`` is ``e``, ``²`` is ``2``."""
    if text.isascii():
        return text
    return "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))


def _read(found: re.Match[str]) -> Number:
    digits = found["digits"]
    if re.fullmatch(r"\d+,\d+", digits) and not re.fullmatch(r"\d{1,3}(?:,\d{3})+", digits):
        digits = digits.replace(",", ".")  # a decimal comma
    value = float(re.sub(r"[,\u00a0 ']", "", digits))
    if found["power"]:
        exponent = int(re.sub(r"^\s?(?:[eE]|[x×*]\s?10\^)", "", found["power"]).replace("−", "-"))
        value = value * 10.0**exponent if abs(exponent) < 300 else value
    if found["below"] and float(found["below"]):
        value /= float(found["below"])
    if (found["sign"] or "").strip() in ("-", "−", "–") or found["minus"]:
        value = -value
    unit = (found["unit"] or "").casefold()
    unit = unit if unit in _KNOWN else ""
    unit = unit or found["currency"] or ""
    return Number(value, _ALIKE.get(unit, unit))


@lru_cache(maxsize=2048)
def only(text: str) -> Number | None:
    """The number that a short text stands for: its only one, with hardly any words; None else."""
    text = text.strip()
    if len(text) > 80 or date(text) is not None:
        return None
    found = list(_NUMBER.finditer(text))
    if not found:
        word = text.casefold().strip(" .")
        return Number(float(_SPELLED[word])) if word in _SPELLED else None
    words = re.findall(r"[^\W\d_]{2,}", text)
    return _read(found[0]) if len(found) == 1 and len(words) <= 3 else None


@lru_cache(maxsize=2048)
def answer(text: str) -> Number | None:
    """The number that a text gives as its answer: the only one, the last after a mark of an answer, or the last."""
    found = list(_NUMBER.finditer(text))
    if not found:
        return only(text)
    marked = [each for each in found if _MARKED.search(text[max(0, each.start() - 40) : each.start()])]
    return _read((marked or found)[-1])


def equal(one: Number, other: Number) -> bool:
    """The same value, in units that do not contradict each other; ``50 %`` is ``0.5``, too."""
    if one.unit and other.unit and one.unit != other.unit:
        return False
    if _close(one.value, other.value):
        return True
    percent = {"%"} & {one.unit, other.unit}
    a, b = (each.value / 100 if each.unit == "%" else each.value for each in (one, other))
    return bool(percent) and _close(a, b)


def scaled(expected: Number, given: Number) -> bool:
    """Whether a number is off by its sign, its unit, a power of ten or another usual factor."""
    a, b = expected.value, given.value
    if _close(a, b):
        return True  # equal() said no: the units differ
    if not a or not b:
        return False
    if _close(a, -b):
        return True
    ratio = max(abs(a), abs(b)) / min(abs(a), abs(b))
    if not math.isfinite(ratio):
        return False  # a number of hundreds of digits
    power = round(math.log10(ratio))
    return (power >= 1 and _close(ratio, 10.0**power)) or any(_close(ratio, factor) for factor in _FACTORS)


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)


def date(text: str) -> tuple[int, int, int] | None:
    """The date that a short text holds as year, month and day; None where there is none, or several readings."""
    if len(text) > 120:
        return None
    for pattern in _DATES:
        if (found := pattern.search(text)) is None:
            continue
        parts = found.groupdict()
        month = int(parts["m"]) if parts.get("m") else _MONTH.get(parts["n"][:3].casefold(), 0)
        day = int(parts["d"])
        if month > 12 >= day:
            month, day = day, month
        if 1 <= month <= 12 and 1 <= day <= 31:
            return int(parts["y"]), month, day
    return None
