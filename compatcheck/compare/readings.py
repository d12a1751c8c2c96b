"""What a comparison would be if its scores were read otherwise: case ignored, or exact match in place of a score.

How else scores can be read is not known here: whoever compares gives a function for it (:data:`Reread`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

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
LEAST = 0.02  # a reading that changes fewer of a side's scores is not spoken of


@dataclass
class _Counts:
    """What a reading adds to the comparison as it is."""

    quadrants: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(QUADRANTS), np.int64))
    changed: list[int] = field(default_factory=lambda: [0, 0])
    changes: Changes = field(default_factory=lambda: Changes(0))
    last: Sorted | None = None


class Readings:
    """Counts what every other reading would make of the pairs, part by part."""

    def __init__(self, reread: Reread | None, metric: Metric) -> None:
        self._reread, self._metric = reread, metric
        self._ways: dict[Way, _Counts] = {}
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
            sides = zip(others, (pairs.old, pairs.new), (found.old, found.new), strict=True)
            before, after = (other[way][rows] if way in other else own for other, rows, own in sides)
            codes = ((before != 1).astype(np.int8) + 2 * (after != 1).astype(np.int8)).astype(np.int8)
            codes[~found.scored] = -1
            counts = self._ways.setdefault(way, _Counts())
            counts.quadrants += np.bincount(codes[found.scored], minlength=len(QUADRANTS)) - strict
            for side, (scores, own) in enumerate(((before, found.old), (after, found.new))):
                counts.changed[side] += int((found.scored & (scores != own)).sum())
            counts.last = replace(
                found, metric=replace(found.metric, kind="discrete"), names=QUADRANTS, old=before, new=after,
                gain=np.where(found.scored, after - before, np.nan), codes=codes,
            )  # fmt: skip
            if counts.last.changes is not None:
                counts.changes = counts.changes.plus(counts.last.changes)
                counts.changes = counts.changes.plus(found.changes if discrete else None, -1)

    def readings(
        self,
        n: int,
        changes: Changes | None,
        figures: Callable[[Mapping[str, int], Changes | None, Sorted | None], Mapping[str, Estimate]],
    ) -> tuple[Reading, ...]:
        """Those that would change more than :data:`LEAST` of the scores of a side, and hints whatever they change.

        ``changes`` are those of the comparison as it is; ``figures`` makes the metrics of a reading. Left out are those
        of several options that change hardly more than one of the options does alone.
        """
        found = []
        for way, counts in self._ways.items():
            if max(counts.changed) > LEAST * n:
                quadrants = dict(zip(QUADRANTS, (self._quadrants + counts.quadrants).tolist(), strict=True))
                own = None if changes is None else changes.plus(replace(counts.changes, changed=0))
                metrics = {} if way == HINT else figures(quadrants, own, counts.last)
                found.append(Reading(way, counts.changed[0], counts.changed[1], n, quadrants, metrics))
        most = {one.way: max(one.changed_old, one.changed_new) for one in found}
        return tuple(
            one
            for one in found
            if len(one.way) == 1
            or most[one.way] > LEAST * n + max((most.get((name,), 0) for name in one.way), default=0)
        )
