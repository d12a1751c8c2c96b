"""Near ties: how sure a model was of its choice, and which flips were a matter of rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.compare.intervals import Floats
from compatcheck.compare.margins import Known, NearTies, TieCount, known_margins, of_choices
from compatcheck.compare.pairing import Pairs, Rows
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import QUADRANTS
from compatcheck.records import TaskRun, prediction_column

NEAR = 0.05
"""Nats: a choice that is less than e^0.05 = 1.05 times as likely as the next one is a near tie. Sums of
log-likelihoods in half precision, or in another batch, move by about that much."""


class Choices:
    """What is known of choices by log-likelihoods, part by part.

    Nothing where a side has no log-likelihoods, and for a metric that does not choose by them alone, such as
    ``acc_norm`` (its records have predictions of its own).
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, 3), dtype=np.int64)  # negative and positive flips: near, confident, unknown
        self._known = np.zeros(2, dtype=np.bool_)
        self._margins: list[Known] = []

    def add(self, old: TaskRun, new: TaskRun, pairs: Pairs, found: Sorted) -> None:
        """Count the flips whose choice was closer than :data:`NEAR` in OLD or in NEW, and note all margins."""
        column = prediction_column(found.metric.name)
        before, after = margins(old.records, pairs.old), margins(new.records, pairs.new)
        if before is None or after is None or column in old.records or column in new.records:
            return
        known = np.isfinite([before, after])
        self._known |= known.any(axis=1)
        with np.errstate(invalid="ignore"):
            near = (before < NEAR) | (after < NEAR)
        for counts, name in zip(self._counts, ("negative_flip", "positive_flip"), strict=True):
            flips = found.scored & found.are(name)
            counts += [(flips & part).sum() for part in (near, known.all(axis=0) & ~near, ~known.all(axis=0) & ~near)]
        if found.names == QUADRANTS:
            one, other = (
                _likelihoods(run.records, rows[found.scored]) for run, rows in ((old, pairs.old), (new, pairs.new))
            )
            worse = found.are("negative_flip")[found.scored]
            self._margins.append(known_margins(one, other, found.are("both_correct")[found.scored] | worse, worse))

    def fields(self) -> dict[str, Any]:
        """By the name of its field in ``Comparison``."""
        if not self._known.all():
            return {}
        ties = NearTies(NEAR, *(TieCount(*map(int, counts)) for counts in self._counts))
        if not self._margins:
            return {"near_ties": ties}
        known = Known(*(np.concatenate(each) for each in zip(*self._margins, strict=True)))
        return {"near_ties": ties, "margins": of_choices(known)}


def margins(records: pd.DataFrame, rows: Rows) -> Floats | None:
    """How much likelier the likeliest choice is than the next one: a difference of log-likelihoods in nats.

    NaN where fewer than two choices have a finite log-likelihood; None where the records have no such column. Shape
    (rows,).
    """
    if "loglikelihoods" not in records:
        return None
    found = np.full(len(rows), np.nan)
    for place, values in enumerate(_likelihoods(records, rows)):
        if values is not None:
            known = sorted(float(value) for value in values if value is not None and np.isfinite(value))
            if len(known) > 1:
                found[place] = known[-1] - known[-2]
    return found


def _likelihoods(records: pd.DataFrame, rows: Rows) -> NDArray[np.object_]:
    """A list or array of floats each; None where they are not known."""
    column = records["loglikelihoods"].iloc[rows]
    return column.astype(object).where(column.notna(), None).to_numpy()
