"""Whether one threshold (``--correct-at``) can be meant for the scores of both sides."""

from __future__ import annotations

import numpy as np

from compatcheck.compare.intervals import Floats
from compatcheck.errors import InputError
from compatcheck.records import Metric

PERCENT = 10
"""A mean above this, where no score is above 100, is one of percent."""


class Scales:
    """How large the scores of each side are; they are added part by part."""

    def __init__(self) -> None:
        self._sums, self._most, self._least, self._n = np.zeros(2), np.full(2, -np.inf), np.inf, 0

    def add(self, old: Floats, new: Floats) -> None:
        """Take note of scores, each of shape (pairs,)."""
        if not len(old):
            return
        both = np.stack([old, new])
        self._n += len(old)
        self._sums += both.sum(axis=1)
        self._most = np.maximum(self._most, both.max(axis=1))
        self._least = min(self._least, float(both.min()))

    def check(self, correct_at: float, metric: Metric, task: str) -> None:
        """Raise InputError where one side's scores, or the threshold alone, seem to be shares and the rest percent."""
        if not self._n or self._least < 0 or self._most.max() > 100:
            return
        means, start = dict(zip(("OLD", "NEW"), self._sums / self._n, strict=True)), f"--correct-at {correct_at:g}:"
        share, percent = sorted(means, key=means.__getitem__)
        if self._most.min() <= 1 and means[share] > 0 and means[percent] > PERCENT:
            raise InputError(
                f"{start} {share}'s scores of '{metric.name}' are at most {self._most.min():.3g}, and {percent}'s "
                f"{means[percent]:.3g} on average (task '{task}'): one side seems to be in percent, and one threshold "
                "cannot be meant for both; bring both to one scale"
            )
        if 0 < correct_at < 1 and metric.higher_is_better and means[share] > PERCENT:
            raise InputError(
                f"{start} scores of '{metric.name}' are {means[share]:.3g} on average or more (task '{task}'), so they "
                f"seem to be in percent and nearly all would be right; did you mean --correct-at {100 * correct_at:g}?"
            )
