"""Evidence about a budget that holds at every look: however often one looks, and whenever one stops.

A test martingale starts at 1 and, where the budget's hypothesis is true, ever reaches 1/α with a probability of at
most α (Ville 1939). So a budget may be judged after every step, and the evaluation may stop as soon as it is decided.

* Rates: the likelihood ratio of a beta mixture against the budget, cut off at the budget so that it tests one side
  (Robbins 1970; Howard et al. 2021, Annals of Statistics 49:1055, the one-sided beta-binomial mixture).
* Means of bounded values: capital of a bettor against the budget, averaged over a grid of bets (Waudby-Smith & Ramdas
  2024, JRSS-B 86:1; mixtures of bets as in Orabona & Jun 2024). The order of the values plays no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincc, betaln

from compatcheck.compare.intervals import Floats

MIXTURE = 0.5
"""First parameter of the mixture Beta(a, a(1 − b)/b), whose mean is the budget b. Of 0.25, 0.5, 1, 1.5 and 2 (and of
mixtures that are the same for every budget) it settles rates far from the budget first and loses little beside it."""
BETS = 40
"""Bets of the mixture, evenly spaced on a logarithmic scale up to the largest one that cannot lose more than all."""
LEAST_BET = 0.001
"""The smallest bet as a part of the largest."""


class Evidence(NamedTuple):
    """Logarithms of the test martingales: against "at most the threshold" and against "at least the threshold"."""

    above: float
    below: float


class Gatherer(Protocol):
    """What gathers evidence on one figure as instances come in."""

    def value(self) -> float | None:
        """The figure so far; None before the first instance."""

    def evidence(self) -> Evidence:
        """The evidence against both hypotheses about the threshold."""

    def bounds(self, alpha: float) -> tuple[float, float]:
        """One-sided bounds, each at level 1 − ``alpha`` at all times together."""


class RateEvidence:
    """Evidence on the probability of an event against ``threshold``."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.count = 0
        self.of = 0

    def add(self, count: int, of: int) -> None:
        """Take ``count`` events in further ``of`` instances."""
        self.count += count
        self.of += of

    def value(self) -> float | None:
        return self.count / self.of if self.of else None

    def evidence(self) -> Evidence:
        above, below = log_evidence(self.count, self.of, self.threshold)
        return Evidence(float(above), float(below))

    def bounds(self, alpha: float) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        need = -math.log(alpha)
        rate = self.count / self.of
        lower = _edge(lambda b: float(log_evidence(self.count, self.of, b)[0]) >= need, 0.0, rate)
        upper = _edge(lambda b: float(log_evidence(self.count, self.of, b)[1]) >= need, 1.0, rate)
        return lower, upper


def log_evidence(count: int | Floats, of: int | Floats, threshold: float) -> tuple[Floats, Floats]:
    """Logarithms of the martingales for ``count`` events in ``of``: against p ≤ threshold and against p ≥ threshold.

    ∫ q^k (1 − q)^(n − k) dB(q) / (b^k (1 − b)^(n − k)) with B the beta mixture above b, and below b. At a threshold of
    0 a single event disproves "at most 0", and at 1 a single one that is missing disproves "at least 1".
    """
    k, n = np.asarray(count, dtype=np.float64), np.asarray(of, dtype=np.float64)
    never = np.full(np.broadcast(k, n).shape, -np.inf)
    if threshold <= 0:
        return np.where(k > 0, np.inf, 0.0), never
    if threshold >= 1:
        return never, np.where(k < n, np.inf, 0.0)
    first, second = MIXTURE, MIXTURE * (1 - threshold) / threshold
    ratio = betaln(first + k, second + n - k) - betaln(first, second) - k * math.log(threshold)
    ratio = ratio - (n - k) * math.log1p(-threshold)
    with np.errstate(divide="ignore"):  # nothing of the mixture is left on that side: no evidence at all
        above = np.log(betaincc(first + k, second + n - k, threshold) / betaincc(first, second, threshold))
        below = np.log(betainc(first + k, second + n - k, threshold) / betainc(first, second, threshold))
    return ratio + above, ratio + below


class MeanEvidence:
    """Evidence on the mean of values that lie in ``low`` to ``high`` against ``threshold``."""

    def __init__(self, threshold: float, low: float, high: float) -> None:
        if not low < high:
            raise ValueError(f"values from {low} to {high}: the range is empty")
        self.threshold = threshold
        self._low, self._span = low, high - low
        self._values: list[Floats] = []
        self._total = 0.0
        self._number = 0
        self._above = np.zeros(BETS)
        self._below = np.zeros(BETS)

    def add(self, values: Floats) -> None:
        """Take further values; shape (any,), in the units of the range.

        Raises:
            ValueError: a value outside the range.
        """
        scaled = (np.asarray(values, dtype=np.float64) - self._low) / self._span
        if len(scaled) and (scaled.min() < -1e-9 or scaled.max() > 1 + 1e-9 or np.isnan(scaled).any()):
            raise ValueError(f"a value outside {self._low:g} to {self._low + self._span:g}")
        scaled = scaled.clip(0, 1)
        self._values.append(scaled)
        self._total += float(scaled.sum())
        self._number += len(scaled)
        edge = self._scaled(self.threshold)
        if 0 < edge < 1:
            self._above += _log_capital(scaled, edge)
            self._below += _log_capital(1 - scaled, 1 - edge)

    def value(self) -> float | None:
        return self._low + self._span * self._total / self._number if self._number else None

    def evidence(self) -> Evidence:
        edge = self._scaled(self.threshold)
        if edge <= 0:
            return Evidence(math.inf if edge < 0 or self._total > 0 else 0.0, -math.inf)
        if edge >= 1:
            return Evidence(-math.inf, math.inf if edge > 1 or self._total < self._number else 0.0)
        return Evidence(_mixed(self._above), _mixed(self._below))

    def bounds(self, alpha: float) -> tuple[float, float]:
        if not self._number:
            return self._low, self._low + self._span
        need = -math.log(alpha)
        values, times = np.unique(np.concatenate(self._values), return_counts=True)
        mean = self._total / self._number

        def shown(found: Floats, edge: float) -> bool:
            return 0 < edge < 1 and _mixed(_log_capital(found, edge, times)) >= need

        lower = _edge(lambda edge: shown(values, edge), 0.0, mean)
        upper = 1 - _edge(lambda edge: shown(1 - values, edge), 0.0, 1 - mean)
        return self._low + self._span * lower, self._low + self._span * upper

    def _scaled(self, value: float) -> float:
        return (value - self._low) / self._span


_PARTS = np.geomspace(LEAST_BET, 1 - 1e-12, BETS)
_LOG_WEIGHTS = np.log(np.sqrt(_PARTS) / np.sqrt(_PARTS).sum())
"""Large bets weigh more: they are what settles a budget that is kept by far, and that early. Measured against equal
weights and against bets that follow the values seen so far, this needed the fewest instances in nearly every case."""


def _log_capital(values: Floats, edge: float, times: NDArray[np.integer] | None = None) -> Floats:
    """Logarithm of the capital of every bet that the mean of values in [0, 1] exceeds ``edge``; shape (BETS,)."""
    bets = _PARTS[None, :] / edge
    grown = np.log1p((values[:, None] - edge) * bets)
    counted = grown if times is None else grown * times[:, None]
    total: Floats = counted.sum(axis=0)
    return total


def _mixed(capital: Floats) -> float:
    return float(np.logaddexp.reduce(capital + _LOG_WEIGHTS))


def _edge(shown: Callable[[float], bool], far: float, near: float) -> float:
    """The threshold nearest to ``near`` that is shown to be wrong; ``far``, the end of the range, where none is."""
    for _ in range(40):
        middle = (far + near) / 2
        if shown(middle):
            far = middle
        else:
            near = middle
        if abs(far - near) < 1e-6:
            break
    return far
