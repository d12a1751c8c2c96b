"""Near ties: how sure a model was of its choice, and which flips hang on a hair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from compatcheck.compare.intervals import Floats
from compatcheck.compare.margins import NearTies, TieCount, of_choices
from compatcheck.compare.pairing import Pairs, Rows
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import QUADRANTS
from compatcheck.records import TaskRun, prediction_column

NEAR = 0.05
"""Nats: a choice that is less than e^0.05 = 1.05 times as likely as the next one is a near tie. Sums of
log-likelihoods in half precision, or in another batch, move by about that much."""


def choices(old: TaskRun, new: TaskRun, pairs: Pairs, found: Sorted) -> dict[str, Any]:
    """What is known of choices by log-likelihoods, by the name of its field in ``Comparison``."""
    ties = near_ties(old, new, pairs, found)
    if ties is None or found.names != QUADRANTS:
        return {"near_ties": ties}
    one, other = (
        run.records["loglikelihoods"].to_numpy(dtype=object)[rows][found.scored]
        for run, rows in ((old, pairs.old), (new, pairs.new))
    )
    right = (found.are("both_correct") | found.are("negative_flip"))[found.scored]
    return {"near_ties": ties, "margins": of_choices(one, other, right, found.are("negative_flip")[found.scored])}


def near_ties(old: TaskRun, new: TaskRun, pairs: Pairs, found: Sorted) -> NearTies | None:
    """Count the flips whose choice hung on less than :data:`NEAR` in OLD or in NEW.

    None where a side has no log-likelihoods, and for a metric that does not choose by them alone, such as ``acc_norm``
    (its records have predictions of its own).
    """
    column = prediction_column(found.metric.name)
    if column in old.records or column in new.records:
        return None
    before, after = margins(old.records, pairs.old), margins(new.records, pairs.new)
    if before is None or after is None:
        return None
    with np.errstate(invalid="ignore"):
        near = (before < NEAR) | (after < NEAR)
    known = np.isfinite(before) & np.isfinite(after)
    counted = []
    for name in ("negative_flip", "positive_flip"):
        flips = found.scored & found.are(name)
        parts = (flips & near, flips & known & ~near, flips & ~known & ~near)
        counted.append(TieCount(*(int(part.sum()) for part in parts)))
    return NearTies(NEAR, *counted)


def margins(records: pd.DataFrame, rows: Rows) -> Floats | None:
    """How much likelier the likeliest choice is than the next one: a difference of log-likelihoods in nats.

    NaN where fewer than two choices have a finite log-likelihood; None where the records have none. Shape (rows,).
    """
    if "loglikelihoods" not in records:
        return None
    found = np.full(len(rows), np.nan)
    for place, values in enumerate(records["loglikelihoods"].to_numpy(dtype=object)[rows]):
        if values is not None and not isinstance(values, float):
            known = sorted(float(value) for value in values if value is not None and np.isfinite(value))
            if len(known) > 1:
                found[place] = known[-1] - known[-2]
    return found if np.isfinite(found).any() else None
