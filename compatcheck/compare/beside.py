"""Beside quality: means and shares of :mod:`compatcheck.compare.answers`, paired, with intervals and bounds.

How much larger NEW's mean is than OLD's is judged by the ratio of means: its bound is where the bound of the mean of
NEW − ratio · OLD crosses zero (Fieller 1954), which is that of a smooth score (:mod:`compatcheck.compare.means`) with
the largest difference seen as the worst one. What is rarer than the sample can show is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np

from compatcheck.compare.answers import UNITS, WHY, How, Values, values
from compatcheck.compare.intervals import LARGE, Flags, difference, mean_bounds, normal, rate
from compatcheck.compare.means import mean_below
from compatcheck.compare.pairing import Pairs
from compatcheck.compare.result import Beside, Estimate
from compatcheck.compare.roots import crossing
from compatcheck.records import TaskRun

_COUNTED = ("output_tokens", "latency", "latency_first", "cost")
"""Figures that are shown by themselves where they were measured and are not the same on both sides."""
_MOST = 1e6  # a ratio beyond it is none
NO_PAIR = "no pair has it on both sides"
_NO_RATIO = "OLD's mean is 0"


class Besides:
    """Takes the pairs of one comparison, part by part."""

    def __init__(self, how: How | None, names: Collection[str], texts: bool = True) -> None:
        """``names``: the columns of both sides; without ``how`` nothing is counted. ``texts`` as in ``How.wanted``."""
        self._how = how
        self._tallies = {name: _Tally() for name in (how.wanted(names, texts) if how is not None else ())}

    def add(self, old: TaskRun, new: TaskRun, pairs: Pairs, scored: Flags) -> None:
        """Take note of the scored pairs of a part."""
        for name, tally in self._tallies.items():
            assert self._how is not None
            tally.add(
                values(name, old, pairs.old, "old", self._how), values(name, new, pairs.new, "new", self._how), scored
            )

    def figures(self, drawing: Mapping[str, Any]) -> dict[str, Beside]:
        """What there is to be shown, by name; ``drawing`` are confidence, resamples and seed."""
        if self._how is None:
            return {}
        asked = set(self._how.asked)
        differ = any(self._tallies[name].differs for name in _COUNTED if name in self._tallies)
        shown = [
            name for name in UNITS if name in asked or (differ and name in self._tallies and self._tallies[name].known)
        ]
        return {name: _figure(name, self._tallies[name], self._how.units[name], **drawing) for name in shown}


class _Tally:
    """One figure of the pairs of which both sides know it; beyond :data:`LARGE` of them their sums alone."""

    def __init__(self) -> None:
        self.known = self.differs = False
        self.lacking = {"old": True, "new": True}
        self.n = 0
        self._parts: list[tuple[Values, Values]] = []
        self.sums = np.zeros(5)  # of old, new, old², new², old · new
        self.both = 0

    def add(self, old: Values | None, new: Values | None, scored: Flags) -> None:
        for side, found in (("old", old), ("new", new)):
            if found is not None:
                self.lacking[side], self.known = False, True
        if old is None or new is None:
            self.differs = self.differs or (old is None) != (new is None)
            return
        kept = scored & np.isfinite(old) & np.isfinite(new)
        old, new = old[kept], new[kept]
        self.differs = self.differs or bool((old != new).any())
        self.n += len(old)
        self.sums += [old.sum(), new.sum(), old @ old, new @ new, old @ new]
        self._parts = [*self._parts, (old, new)] if self.n <= LARGE else []

    def pairs(self) -> tuple[Values, Values] | None:
        """All pairs, in an order of their own; None where they are too many to hold."""
        if self.n > LARGE:
            return None
        old, new = (np.concatenate(each) for each in zip(*self._parts, strict=True))
        order = np.lexsort((new, old))
        return old[order], new[order]


def _figure(name: str, tally: _Tally, unit: str, *, confidence: float, resamples: int, seed: int) -> Beside:
    if tally.n == 0:
        sides = [side.upper() for side, lacks in tally.lacking.items() if lacks]
        why = f"{' and '.join(sides)}: {WHY[name]}" if sides else NO_PAIR
        nothing = Estimate(None, of=0, why=why)
        return Beside(unit, 0, nothing, nothing, nothing, None if unit == "share" else nothing)
    if unit == "share":
        return _shares(tally, confidence)
    held = tally.pairs()
    n, (old, new, old2, new2, product) = tally.n, tally.sums
    if held is None:
        moments = ((old, old2), (new, new2), (new - old, new2 - 2 * product + old2))
        estimates = [_of_sums(total, squares, n, confidence) for total, squares in moments]
    else:
        rng = np.random.default_rng([seed, 2])
        estimates = [_of_values(each, confidence, resamples, rng) for each in (*held, held[1] - held[0])]
    of_old, of_new, change = estimates
    return Beside(unit, n, of_old, of_new, change, _ratio(tally, held, confidence))


def _of_values(values: Values, confidence: float, resamples: int, rng: np.random.Generator) -> Estimate:
    n, bounds = len(values), mean_bounds(values, confidence, resamples, rng)
    low, high, lower, upper = (None,) * 4 if bounds is None else bounds
    return Estimate(float(values.mean()), low, high, n, n, lower, upper)


def _of_sums(total: float, squares: float, n: int, confidence: float) -> Estimate:
    mean = total / n
    spread = max(0.0, squares / n - mean**2)
    return Estimate(mean, *normal(mean, math.sqrt(spread / n), confidence)[:2], n, n)


def _shares(tally: _Tally, confidence: float) -> Beside:
    old, new, both = (round(float(tally.sums[place])) for place in (0, 1, 4))
    counts = (both, new - both, old - both, tally.n - old - new + both)
    low, high, lower, upper = difference(counts, confidence)
    change = Estimate((new - old) / tally.n, low, high, new - old, tally.n, lower, upper)
    return Beside("share", tally.n, rate(old, tally.n, confidence), rate(new, tally.n, confidence), change)


def _ratio(tally: _Tally, held: tuple[Values, Values] | None, confidence: float) -> Estimate:
    """By how much NEW's mean is above OLD's, as a share of OLD's."""
    n, old, new = tally.n, float(tally.sums[0]), float(tally.sums[1])
    if old == 0:
        return Estimate(None, of=n, why=_NO_RATIO)
    if n < 2:
        return Estimate(new / old - 1, None, None, n, n)
    at = partial(_bounds_of_sums, n, tuple(tally.sums)) if held is None else partial(ratio_bounds, *held)
    low, high = at((1 + confidence) / 2)
    if math.isinf(high):
        return Estimate(None, of=n, why="OLD's values are too often 0 to say by how much NEW's are larger")
    return Estimate(new / old - 1, low, high, n, n, *at(confidence), one_sided=at)


def ratio_bounds(old: Values, new: Values, confidence: float) -> tuple[float, float]:
    """Lower and upper one-sided bound of (mean of ``new`` / mean of ``old``) − 1, each at ``confidence``.

    One that the search finds at the ratio itself, to its tolerance, is that: where all pairs have one ratio."""
    error, value = 1 - confidence, float(new.sum() / old.sum())
    times = np.ones(len(old) + 1)

    def above(ratio: float, sign: int) -> float:
        """Probability that the mean of sign · (new − ratio · old) is below zero."""
        steps = np.sort(sign * (new - ratio * old))
        return mean_below(np.concatenate([steps[:1], steps]), times, 0.0) - error

    lower, upper = 0.0, math.inf
    if value > 0 and above(0.0, 1) < 0:
        lower = crossing(lambda ratio: above(ratio, 1), 0.0, value, 1e-9 * value) if above(value, 1) > 0 else value
    far = max(2 * value, 1e-12)
    while far < _MOST and above(far, -1) > 0:
        far *= 2
    if far < _MOST:
        upper = crossing(lambda ratio: above(ratio, -1), value, far, 1e-9 * far) if above(value, -1) > 0 else value
    lower, upper = (value if abs(bound - value) <= 4e-9 * value else bound for bound in (lower, upper))
    return lower - 1, upper - 1


def _bounds_of_sums(n: int, sums: tuple[float, ...], confidence: float) -> tuple[float, float]:
    """The same of many pairs, by the normal approximation."""
    old, new, old2, new2, product = sums
    ratio = new / old
    spread = max(0.0, (new2 - 2 * ratio * product + ratio**2 * old2) / n)
    bounds = normal(ratio - 1, math.sqrt(spread / n) / (old / n), confidence)
    return bounds[2], bounds[3]
