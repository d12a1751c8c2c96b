"""How far two numbers may lie apart and still count as the same."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from compatcheck.errors import InputError

_SLACK = 1e-12  # of the larger number: 1.1 is within 0.1 of 1, whatever floats make of it
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(rf"(?<![\w.,])[-+−]?{_DIGITS}(?!\w|[.,]\d)", re.ASCII)
_COMPOUND = re.compile(r"\d+(?:[-/.:]\d+){2,}|\d+[/:]\d+", re.ASCII)
"""Dates, times, fractions, versions: their parts are no numbers."""
_UNITS = "$€£¥₹"
_WITH_UNIT = re.compile(rf"([-+−]?)([{_UNITS}]?) ?({_DIGITS}) ?([{_UNITS}%]?)", re.ASCII)


@dataclass(frozen=True)
class Tolerance:
    """``absolute``, or a share of the number that is right."""

    absolute: float = 0.0
    relative: float = 0.0

    def __bool__(self) -> bool:
        return self.absolute > 0 or self.relative > 0

    def __str__(self) -> str:
        return f"{100 * self.relative:g}%" if self.relative else f"{self.absolute:g}"

    def close(self, found: float, wanted: float) -> bool:
        """Whether ``found`` counts as ``wanted``."""
        if found == wanted or not self:
            return found == wanted
        try:
            reach = self.absolute + self.relative * abs(wanted) + _SLACK * max(abs(found), abs(wanted))
            return math.isfinite(reach) and abs(found - wanted) <= reach
        except OverflowError:  # a whole number beyond all floats
            return False


EXACTLY = Tolerance()


def tolerance(metric: str, value: float | str | None) -> Tolerance:
    """The setting ``number_tolerance``: a number of at least 0, or a share such as ``1%``.
    Raises InputError: neither.
    """
    text = str(0 if value is None else value).strip()
    try:
        size = float(text.removesuffix("%"))
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf or isinstance(value, bool):
        raise InputError(
            f"--metric-arg {metric}.number_tolerance={value}: must be a number of at least 0, or a share such as 1%"
        )
    return Tolerance(relative=size / 100) if text.endswith("%") else Tolerance(size)


def number_of(text: str) -> tuple[float, str] | None:
    """The number that a text is, with its currency or percent sign (``$1,200.05``), which is empty without one."""
    found = _WITH_UNIT.fullmatch(text.strip())
    return (_value(found[1] + found[3]), found[2] + found[4]) if found else None


def numbers_in(text: str) -> list[float]:
    """The numbers in running text, without those that are a part of a date, a time or a fraction."""
    return [_value(one) for one in _NUMBER.findall(_COMPOUND.sub("x", text))]


def _value(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-"))
