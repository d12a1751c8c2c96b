"""How the reasons of judgements write figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def writer(percent: bool, threshold: float, others: Iterable[float]) -> Callable[[float], str]:
    """A way to write figures: three digits, and more where a figure would read like the budget without being it."""
    scale, unit = (100, " %") if percent else (1, "")

    def at(digits: int) -> Callable[[float], str]:
        return lambda value: f"{'−' if value < 0 else ''}{scale * abs(value):.{digits}g}{unit}"

    for digits in range(3, 9):
        write = at(digits)
        if all(write(value) != write(threshold) for value in others if value != threshold):
            return write
    return at(9)


def rows(count: int, of: int) -> str:
    """``3 of 400 rows``."""
    return f"{count:,} of {of:,} rows"


def percent(share: float) -> str:
    """``35 %``, two digits that count."""
    return f"{100 * share:.3g} %"
