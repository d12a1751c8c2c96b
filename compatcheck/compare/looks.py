"""Evidence on one figure of a comparison, gathered look by look as further pairs come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from compatcheck.compare.intervals import Flags, Floats
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.sequential import Evidence, MeanEvidence, RateEvidence
from compatcheck.errors import InputError

Range = tuple[float, float]

_KNOWN = (
    "acc", "acc_norm", "acc_mutual_info", "exact_match", "contains", "em", "f1", "judge", "rouge1", "rouge2", "rougeL",
    "rougeLsum", "bleu", "chrf",
)  # fmt: skip
_RANGES: Mapping[str, Range] = {**dict.fromkeys(_KNOWN, (0.0, 1.0)), "bertscore": (-1.0, 1.0)}
"""Between which values the scores of an instance lie, for metrics where that is known."""


class _Counted(NamedTuple):
    """Which pairs a rate is taken of, and which of them count; both of shape (pairs,)."""

    of: Flags
    hits: Flags


def score_range(metric: str) -> Range:
    """The least and the greatest score of an instance by this metric; 0 and 1 where nothing better is known."""
    return _RANGES.get(metric, (0.0, 1.0))


class FigureEvidence:
    """Evidence on the figure ``key`` of a comparison by ``metric`` against ``threshold``."""

    def __init__(self, key: str, threshold: float, metric: str) -> None:
        """Raises:
        InputError: there is no bound of this figure that holds at every look.
        """
        self.key, self.threshold = key, threshold
        self.assumed = ""
        """What was taken for granted of the scores; empty where nothing was."""
        self._gathered: RateEvidence | MeanEvidence
        if key in _RATES:
            self._gathered = RateEvidence(threshold)
            return
        if key not in _MEANS:
            raise InputError(
                f"--until-decided: no bound of {key} holds at every look; set a budget on "
                f"{', '.join([*_RATES, *_MEANS])}, or evaluate a fixed number of instances"
            )
        self._range = _range_of(key, metric)
        self.assumed = "" if key == "net" or metric in _RANGES else f"{metric}: its scores are taken to lie in 0 to 1"
        self._gathered = MeanEvidence(threshold, *self._range)

    def add(self, found: Sorted) -> None:
        """Take the scored pairs of a further step.

        Raises:
            InputError: a score outside the metric's range, or no predictions where the figure is about them.
        """
        if isinstance(self._gathered, RateEvidence):
            counted = _RATES[self.key](found)
            self._gathered.add(int(np.count_nonzero(counted.of & counted.hits)), int(np.count_nonzero(counted.of)))
            return
        try:
            self._gathered.add(_MEANS[self.key](found))
        except ValueError as error:
            raise InputError(
                f"--until-decided: {found.metric.name} has {error}: a bound of its mean that holds at every look "
                "has to know where scores lie; set a budget on nfr, or make it discrete with --correct-at"
            ) from None

    def value(self) -> float | None:
        """The figure so far; None where nothing counts yet."""
        return self._gathered.value()

    def evidence(self) -> Evidence:
        return self._gathered.evidence()

    def bounds(self, alpha: float) -> tuple[float, float]:
        """One-sided bounds, each at level 1 − ``alpha`` at all looks together."""
        return self._gathered.bounds(alpha)


def _range_of(key: str, metric: str) -> Range:
    if key == "net":
        return -1.0, 1.0
    low, high = score_range(metric)
    if key == "mean_difference":
        return low - high, high - low
    return (0.0, high - low) if key in ("mean_gain", "mean_regression") else (low, high)


def _is(found: Sorted, *names: str) -> Flags:
    wanted = [place for place, name in enumerate(found.names) if name in names]
    flags: Flags = np.isin(found.codes, wanted)
    return flags


def _changed(found: Sorted) -> Flags:
    if found.changed is None:
        raise InputError("--until-decided: a budget on how answers change needs predictions on both sides")
    return found.changed


def _gain(found: Sorted) -> Floats:
    return found.gain[found.scored]


_RATES: Mapping[str, Callable[[Sorted], _Counted]] = {
    "nfr": lambda f: _Counted(f.scored, _is(f, "negative_flip")),
    "pfr": lambda f: _Counted(f.scored, _is(f, "positive_flip")),
    "nfr_mc": lambda f: _Counted(f.scored, _is(f, "negative_flip") | (_is(f, "both_wrong") & _changed(f))),
    "inconsistency": lambda f: _Counted(f.scored, _is(f, "both_wrong") & _changed(f)),
    "both_correct_changed": lambda f: _Counted(f.scored, _is(f, "both_correct") & _changed(f)),
    "agreement": lambda f: _Counted(f.scored, ~_changed(f)),
    "accuracy_new": lambda f: _Counted(f.scored, _is(f, "both_correct", "positive_flip")),
    "nfi": lambda f: _Counted(f.scored & _is(f, "negative_flip", "both_wrong"), _is(f, "negative_flip")),
    "btc": lambda f: _Counted(f.scored & _is(f, "both_correct", "negative_flip"), _is(f, "both_correct")),
}
"""Rates by their names. Pairs of which a rate is taken come in an order of their own, so the bound of a rate over a
part of them holds as that of a rate over all of them does."""
_MEANS: Mapping[str, Callable[[Sorted], Floats]] = {
    "net": lambda f: (_is(f, "positive_flip").astype(np.float64) - _is(f, "negative_flip"))[f.scored],
    "mean_difference": _gain,
    "score_new": lambda f: f.new[f.scored],
    "mean_gain": lambda f: f.gain[f.scored & _is(f, "positive_flip")],
    "mean_regression": lambda f: -f.gain[f.scored & _is(f, "negative_flip")],
}
