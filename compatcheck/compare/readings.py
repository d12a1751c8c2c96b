"""What a comparison would be if its scores were read otherwise: case ignored, or exact match in place of a score.

How else scores can be read is not known here: whoever compares gives a function for it (:data:`Reread`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.compare.intervals import Floats
from compatcheck.compare.metrics import Changes
from compatcheck.compare.pairing import Pairs
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import QUADRANTS, Estimate, Reading
from compatcheck.records import Metric, TaskRun

Way = tuple[str, ...]
"""The options of another reading, such as ``("ignore_case",)``."""
Reread = Callable[[Metric, pd.DataFrame], Mapping[Way, Floats]]
"""Other scores of a metric by the way they are read, 0 or 1 each; shape (records,). Ways that change nothing are left
out. What is only looked at for a hint is called ``("contains",)``."""
HINT: Way = ("contains",)
LEAST = 0.02
"""A reading that changes fewer of a side's scores is not spoken of."""


@dataclass
class _Counts:
    quadrants: NDArray[np.int64]
    changed: list[int]
    both_wrong: int = 0
    both_correct: int = 0
    last: Sorted | None = None


class Readings:
    """Counts what every other reading would make of the pairs, part by part."""

    def __init__(self, reread: Reread | None, metric: Metric) -> None:
        self._reread, self._metric = reread, metric
        self._ways: dict[Way, _Counts] = {}
        self._strict: Changes | None = None
        self._quadrants = np.zeros(len(QUADRANTS), np.int64)

    def add(self, found: Sorted, old: TaskRun, new: TaskRun, pairs: Pairs) -> None:
        """Take note of the pairs of a part."""
        if self._reread is None:
            return
        discrete = found.names == QUADRANTS
        others = [self._reread(self._metric, run.records) for run in (old, new)]
        strict = np.bincount(found.codes[found.scored], minlength=len(QUADRANTS)) if discrete else 0
        self._quadrants += strict
        for way in dict.fromkeys([*others[0], *others[1]]):
            scores = []
            for other, rows, own in zip(others, (pairs.old, pairs.new), (found.old, found.new), strict=True):
                scores.append(other[way][rows] if way in other else own)
            codes = ((scores[0] != 1).astype(np.int8) + 2 * (scores[1] != 1).astype(np.int8)).astype(np.int8)
            codes[~found.scored] = -1
            counts = self._ways.setdefault(way, _Counts(np.zeros(len(QUADRANTS), np.int64), [0, 0]))
            counts.quadrants += np.bincount(codes[found.scored], minlength=len(QUADRANTS)) - strict
            for side, own in enumerate((found.old, found.new)):
                counts.changed[side] += int((found.scored & (scores[side] != own)).sum())
            counts.last = replace(
                found, metric=replace(found.metric, kind="discrete"), names=QUADRANTS, old=scores[0], new=scores[1],
                gain=np.where(found.scored, scores[1] - scores[0], np.nan), codes=codes,
            )  # fmt: skip
            changes = counts.last.changes
            if changes is not None:
                before = found.changes if discrete else None
                counts.both_wrong += changes.both_wrong - (before.both_wrong if before else 0)
                counts.both_correct += changes.both_correct - (before.both_correct if before else 0)

    def readings(
        self,
        n: int,
        changes: Changes | None,
        figures: Callable[[Mapping[str, int], Changes | None, Sorted | None], Mapping[str, Estimate]],
    ) -> tuple[Reading, ...]:
        """Those that would change more than :data:`LEAST` of the scores of a side, and hints whatever they change.

        ``changes`` are those of the comparison as it is; ``figures`` makes the metrics of a reading.
        """
        found = []
        for way, counts in self._ways.items():
            if max(counts.changed) <= LEAST * n:
                continue
            quadrants = dict(zip(QUADRANTS, (self._quadrants + counts.quadrants).tolist(), strict=True))
            own = None
            if changes is not None:
                own = replace(
                    changes,
                    both_wrong=changes.both_wrong + counts.both_wrong,
                    both_correct=changes.both_correct + counts.both_correct,
                )
            metrics = {} if way == HINT else figures(quadrants, own, counts.last)
            found.append(Reading(way, counts.changed[0], counts.changed[1], n, quadrants, metrics))
        return tuple(_minimal(found, n))


def _minimal(readings: Sequence[Reading], n: int) -> list[Reading]:
    """Without those of several options that change hardly more than one of the options does alone."""
    alone = {one.way[0]: max(one.changed_old, one.changed_new) for one in readings if len(one.way) == 1}
    return [
        one
        for one in readings
        if len(one.way) == 1
        or max(one.changed_old, one.changed_new) > LEAST * n + max((alone.get(name, 0) for name in one.way), default=0)
    ]
