"""Other readings of the scores of records, for :mod:`compatcheck.compare.readings`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck import similarity
from compatcheck.compare.readings import HINT
from compatcheck.records import Metric, prediction_column, score_column
from compatcheck.similarity import RECORDED
from compatcheck.similarity.exact import CASE, EXACT, other_readings, references

LOOKED_AT = 1_000
"""Wrong answers of a part that are searched for the target, for a hint."""

Scores = NDArray[np.float64]


def reread(metric: Metric, records: pd.DataFrame) -> Mapping[tuple[str, ...], Scores]:
    """What exact match would be if case, punctuation or white space did not count, as far as the user has not said; and
    exact match where a score stands beside target and prediction."""
    column = prediction_column(metric.name) if prediction_column(metric.name) in records else "prediction"
    if column not in records or "target" not in records or not metric.higher_is_better:
        return {}
    scores = records[score_column(metric.name)].to_numpy(dtype=np.float64, na_value=np.nan)
    settled = dict(metric.settled)
    if metric.name == RECORDED and metric.kind == "smooth" and EXACT not in settled:
        return {(EXACT,): _exact(scores, records[column], records["target"])}
    if metric.name != EXACT or metric.kind != "discrete":
        return {}
    predictions, targets = _texts(records[column]), _texts(records["target"])
    found = dict(other_readings(scores, predictions, targets, settled))
    held = _held(scores, predictions, targets, ignore_case=settled.get(CASE) is not False)
    return found if held is None else found | {HINT: held}


def _exact(scores: Scores, predictions: pd.Series, targets: pd.Series) -> Scores:
    known = np.isfinite(scores)
    right = [references(text) if text is not None else "" for text in _texts(targets)]
    exact = similarity.get(EXACT).score(_texts(predictions), right)
    exact[targets.isna().to_numpy()] = 0.0
    return np.where(known, exact, np.nan)


def _held(scores: Scores, predictions: list[str | None], targets: list[str | None], ignore_case: bool) -> Scores | None:
    """The scores with those wrong answers right that hold their target, as far as they were looked at."""
    holder = similarity.get("contains", ignore_case=ignore_case)
    wrong = [int(i) for i in np.flatnonzero(scores == 0) if predictions[i] and targets[i]][:LOOKED_AT]
    if not wrong:
        return None
    held = holder.score([predictions[i] for i in wrong], [references(str(targets[i])) for i in wrong])
    if not held.any():
        return None
    scores = scores.copy()
    scores[wrong] = held
    return scores


def _texts(column: pd.Series) -> list[str | None]:
    return [None if value is None or value is pd.NA or value != value else str(value) for value in column.tolist()]
