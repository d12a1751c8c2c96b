"""Other readings of the scores of records, for :mod:`compatcheck.compare.readings`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck import similarity
from compatcheck.compare.readings import HINT
from compatcheck.compare.result import Comparison
from compatcheck.compare.slices import MOST, flipped_part
from compatcheck.records import Metric, prediction_column, score_column
from compatcheck.similarity import RECORDED, STRUCTURED
from compatcheck.similarity.exact import CASE, EXACT, other_readings, references
from compatcheck.similarity.structured import NOTHING_READ

LOOKED_AT = 1_000
"""Wrong answers of a part that are searched for the target, for a hint."""

NO_ANSWER = "(no answer)"
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
    wrong = np.flatnonzero(scores == 0)  # what is right stays right
    predictions, targets = _texts(records[column].iloc[wrong]), _texts(records["target"].iloc[wrong])
    found = dict(other_readings(scores[wrong], predictions, targets, settled))
    held = _held(scores[wrong], predictions, targets, ignore_case=settled.get(CASE) is not False)
    others = {}
    for way, made in (found if held is None else found | {HINT: held}).items():
        others[way] = scores.copy()
        others[way][wrong] = made
    return others


def with_parts(comparison: Comparison, options: Mapping[str, Any]) -> Comparison:
    """The comparison with a slice for every field of JSON answers that flipped, or every kind of fault of tool calls.

    Of a negative flip it says what is wrong in NEW's answer, of a positive one what was in OLD's, and where OLD is the
    reference what differs. Left as it is where not all flips are at hand.
    """
    name, found = comparison.metric, comparison.instances
    if name not in STRUCTURED or comparison.kind != "discrete":
        return comparison
    flips = {group: found[found["quadrant"] == group] for group in ("negative_flip", "positive_flip", "changed")}
    if any(len(rows) != comparison.quadrants.get(group, 0) for group, rows in flips.items()):
        return comparison
    faults = similarity.get(name, **options).faults
    assert faults is not None
    tally: dict[str, Counter[str]] = {}
    said = pd.Series(None, index=found.index, dtype=object)
    for group, rows in flips.items():
        right = rows["prediction_old" if group == "changed" else "target"]
        texts = rows["prediction_old" if group == "positive_flip" else "prediction_new"]
        for place, one, other in zip(rows.index, _texts(texts), _texts(right), strict=True):
            parts = [NO_ANSWER] if one is None or other is None else _faults(faults, one, other)
            said[place] = ", ".join(parts)
            for part in parts:
                tally.setdefault(part, Counter())[group] += 1
    if not tally:
        return comparison
    worst = sorted(tally, key=lambda part: (-sum(tally[part].values()), part))[:MOST]
    slices = (flipped_part(comparison, part, tally[part]) for part in worst)
    return replace(
        comparison, slices=(*comparison.slices, *slices), instances=found.assign(**{f"{name} flipped": said})
    )


def _faults(faults: Callable[[str, str], list[str]], text: str, right: str) -> list[str]:
    try:
        return faults(text, right)
    except (ValueError, RecursionError):  # OLD's answer as the reference may be no JSON either
        return [NOTHING_READ]


def _exact(scores: Scores, predictions: pd.Series, targets: pd.Series) -> Scores:
    known = np.isfinite(scores)
    right = [references(text) if text is not None else "" for text in _texts(targets)]
    exact = similarity.get(EXACT).score(_texts(predictions), right)
    exact[targets.isna().to_numpy()] = 0.0
    return np.where(known, exact, np.nan)


def _held(scores: Scores, predictions: list[str | None], targets: list[str | None], ignore_case: bool) -> Scores | None:
    """The scores with those wrong answers right that hold their target, as far as they were looked at."""
    holder = similarity.get("contains", ignore_case=ignore_case)
    known = (i for i in np.flatnonzero(scores == 0).tolist() if predictions[i] and targets[i])
    wrong = list(itertools.islice(known, LOOKED_AT))
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
