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
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compatcheck.compare.intervals import Floats
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.special import betainc, betaincc, betaln
from compatcheck.errors import InputError

MIXTURE = 0.5
"""First parameter of the mixture Beta(a, a(1 − b)/b), whose mean is the budget b. Of 0.25, 0.5, 1, 1.5 and 2 (and of
mixtures that are the same for every budget) it settles rates far from the budget first and loses little beside it."""
BETS = 40
"""Bets of the mixture, evenly spaced on a logarithmic scale up to the largest one that cannot lose more than all."""
LEAST_BET = 0.001  # the smallest bet as a part of the largest
_PARTS = np.geomspace(LEAST_BET, 1 - 1e-12, BETS)
_LOG_WEIGHTS = np.log(np.sqrt(_PARTS) / np.sqrt(_PARTS).sum())
"""Large bets weigh more: they are what settles a budget that is kept by far, and that early. Measured against equal
weights and against bets that follow the values seen so far, this needed the fewest instances in nearly every case."""


class Evidence(NamedTuple):
    """Logarithms of the test martingales: against "at most the threshold" and against "at least the threshold"."""

    above: float
    below: float


class RateEvidence:
    """Evidence on the probability of an event against ``threshold``."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.count, self.of = 0, 0

    def add(self, count: int, of: int) -> None:
        """Take ``count`` events in further ``of`` instances."""
        self.count += count
        self.of += of

    def value(self) -> float | None:
        """The rate so far; None before the first instance."""
        return self.count / self.of if self.of else None

    def evidence(self) -> Evidence:
        above, below = log_evidence(self.count, self.of, self.threshold)
        return Evidence(float(above), float(below))

    def bounds(self, alpha: float) -> tuple[float, float]:
        """One-sided bounds, each at level 1 − ``alpha`` at all times together."""
        if not self.of:
            return 0.0, 1.0

        def shown(side: int) -> Callable[[float], bool]:
            return lambda b: float(log_evidence(self.count, self.of, b)[side]) >= -math.log(alpha)

        rate = self.count / self.of
        return _edge(shown(0), 0.0, rate), _edge(shown(1), 1.0, rate)


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
        self._at = (threshold - low) / (high - low)  # the threshold in 0 to 1
        self._values: list[Floats] = []
        self._total, self._number = 0.0, 0
        self._above, self._below = np.zeros(BETS), np.zeros(BETS)

    def add(self, values: Floats) -> None:
        """Take further values, shape (any,), in the units of the range. Raises ValueError: one is outside it."""
        scaled = (np.asarray(values, dtype=np.float64) - self._low) / self._span
        if len(scaled) and (scaled.min() < -1e-9 or scaled.max() > 1 + 1e-9 or np.isnan(scaled).any()):
            raise ValueError(f"a value outside {self._low:g} to {self._low + self._span:g}")
        scaled = scaled.clip(0, 1)
        self._values.append(scaled)
        self._total += float(scaled.sum())
        self._number += len(scaled)
        if 0 < self._at < 1:
            self._above += _log_capital(scaled, self._at)
            self._below += _log_capital(1 - scaled, 1 - self._at)

    def value(self) -> float | None:
        """The mean so far; None before the first value."""
        return self._low + self._span * self._total / self._number if self._number else None

    def evidence(self) -> Evidence:
        if not self._number:
            return Evidence(0.0, 0.0)
        if self._at <= 0:
            return Evidence(math.inf if self._at < 0 or self._total > 0 else 0.0, -math.inf)
        if self._at >= 1:
            return Evidence(-math.inf, math.inf if self._at > 1 or self._total < self._number else 0.0)
        return Evidence(_mixed(self._above), _mixed(self._below))

    def bounds(self, alpha: float) -> tuple[float, float]:
        """One-sided bounds, each at level 1 − ``alpha`` at all times together."""
        if not self._number:
            return self._low, self._low + self._span
        values, times = np.unique(np.concatenate(self._values), return_counts=True)
        mean = self._total / self._number

        def shown(found: Floats) -> Callable[[float], bool]:
            return lambda edge: 0 < edge < 1 and _mixed(_log_capital(found, edge, times)) >= -math.log(alpha)

        lower, upper = _edge(shown(values), 0.0, mean), 1 - _edge(shown(1 - values), 0.0, 1 - mean)
        return self._low + self._span * lower, self._low + self._span * upper


def _log_capital(values: Floats, edge: float, times: NDArray[np.integer] | None = None) -> Floats:
    """Logarithm of the capital of every bet that the mean of values in [0, 1] exceeds ``edge``; shape (BETS,)."""
    grown = np.log1p((values[:, None] - edge) * (_PARTS[None, :] / edge))
    total: Floats = (grown if times is None else grown * times[:, None]).sum(axis=0)
    return total


def _mixed(capital: Floats) -> float:
    return float(np.logaddexp.reduce(capital + _LOG_WEIGHTS))


def _edge(shown: Callable[[float], bool], far: float, near: float) -> float:
    """The threshold nearest to ``near`` that is shown to be wrong; ``far``, the end of the range, where none is."""
    for _ in range(40):
        middle = (far + near) / 2
        far, near = (middle, near) if shown(middle) else (far, middle)
        if abs(far - near) < 1e-6:
            break
    return far


_RANGES = {"bertscore": (-1.0, 1.0)} | dict.fromkeys(
    ("acc", "acc_norm", "acc_mutual_info", "exact_match", "contains", "em", "f1", "judge", "rouge1", "rouge2",
     "rougeL", "rougeLsum", "bleu", "chrf"), (0.0, 1.0),
)  # fmt: skip
"""Between which values the scores of an instance lie, for metrics where that is known; 0 to 1 for others."""


class FigureEvidence:
    """Evidence on the figure ``key`` of a comparison by ``metric`` against ``threshold``, gathered step by step.

    ``assumed`` says what was taken for granted of the scores.
    Raises InputError: there is no bound of this figure that holds at every look."""

    def __init__(self, key: str, threshold: float, metric: str) -> None:
        self.key, self.threshold, self.assumed = key, threshold, ""
        self.gathered: RateEvidence | MeanEvidence
        if key in _RATES:
            self.gathered = RateEvidence(threshold)
        elif key in _MEANS:
            low, high = _RANGES.get(metric, (0.0, 1.0))
            ends = {"net": (-1.0, 1.0), "mean_difference": (low - high, high - low), "score_new": (low, high),
                    "similarity": (low, high)}  # fmt: skip
            self.gathered = MeanEvidence(threshold, *ends.get(key, (0.0, high - low)))
            if key != "net" and metric not in _RANGES:
                self.assumed = f"{metric}: its scores are taken to lie in 0 to 1"
        else:
            raise InputError(
                f"--until-decided: no bound of {key} holds at every look; set a budget on "
                f"{', '.join([*_RATES, *_MEANS])}, or evaluate a fixed number of instances"
            )

    def add(self, found: Sorted) -> None:
        """Take the scored pairs of a further step.
        Raises InputError: a score outside the metric's range, or no predictions where the figure is about them."""
        found = found.take(found.scored)
        if isinstance(self.gathered, RateEvidence):
            share = found.rate(self.key)
            if share is None:
                raise InputError("--until-decided: a budget on how answers change needs predictions on both sides")
            hits, of = share
            self.gathered.add(int(np.count_nonzero(of & hits)), int(np.count_nonzero(of)))
            return
        try:
            self.gathered.add(_MEANS[self.key](found))
        except ValueError as error:
            raise InputError(
                f"--until-decided: {found.metric.name} has {error}: a bound of its mean that holds at every look "
                "has to know where scores lie; set a budget on nfr, or make it discrete with --correct-at"
            ) from None


_RATES = (
    "nfr", "pfr", "nfr_mc", "inconsistency", "both_correct_changed", "agreement", "accuracy_new", "nfi", "btc",
    "changed", "noticed", "preferred_new", "preferred_old",
)  # fmt: skip
"""Rates that can be judged. Pairs of which one is taken come in an order of their own, so the bound of a rate over a
part of them holds as that of a rate over all of them does."""
_MEANS: Mapping[str, Callable[[Sorted], Floats]] = {
    "net": lambda f: f.are("positive_flip").astype(np.float64) - f.are("negative_flip"),
    "mean_difference": lambda f: f.gain,
    "score_new": lambda f: f.new,
    "similarity": lambda f: f.new,
    "mean_gain": lambda f: f.gain[f.are("positive_flip")],
    "mean_regression": lambda f: -f.gain[f.are("negative_flip")],
}
