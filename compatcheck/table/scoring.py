"""Scores of recorded predictions: those the file carries, and those computed from the texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from compatcheck import similarity
from compatcheck.errors import InputError, did_you_mean
from compatcheck.records import Metric, agreed_column, score_column
from compatcheck.similarity import direction

AS_RECORDED = "as recorded"
"""How the signature of a score ends that was read and not computed."""

LOG_LIKELIHOOD = "log-likelihood of each document"
"""In the signature of a score that is called a perplexity and is none."""
DIRECTION = "higher_is_better"
"""Setting of any recorded metric: which way it points (``--lower-is-better``, ``--metric-arg X.higher_is_better``)."""
Options = Mapping[str, Mapping[str, Any]]


def recorded_metric(
    name: str, scores: pd.Series, higher_is_better: bool | None = None, options: Options | None = None
) -> Metric:
    """The metric of scores that were read, not computed: discrete when every one is 0 or 1.

    Which way it points: what the user says (``options``), else what the file says (``higher_is_better``), else what the
    name says, else higher is taken as better. What is called a perplexity and never above 0 is a log-likelihood.
    """
    kind = "discrete" if scores.dropna().isin((0.0, 1.0)).all() else "smooth"
    said = direction_said(name, options)
    if said is None and are_log_likelihoods(name, lambda: scores):
        return Metric(name, kind, True, f"{name}|{LOG_LIKELIHOOD}|{AS_RECORDED}")
    for told in (said, higher_is_better, direction.higher_is_better(name)):
        if told is not None:
            return Metric(name, kind, told, f"{name}|{AS_RECORDED}")
    return Metric(name, kind, True, f"{name}|{AS_RECORDED}", assumed=name != similarity.RECORDED)


def are_log_likelihoods(name: str, scores: Callable[[], pd.Series]) -> bool:
    """Whether what is called a perplexity is the log-likelihood of each document, as lm-eval writes it.

    A perplexity is never below 1, the logarithm of a probability never above 0.
    """
    if "perplexity" not in name.lower() and name.lower() != "ppl":
        return False
    known = scores()
    return bool(known.max() <= 0) and bool(known.min() < 0)


def direction_said(name: str, options: Options | None) -> bool | None:
    """What the user says of a metric's direction, if anything.

    Raises InputError where that is neither true nor false.
    """
    said = (options or {}).get(name, {}).get(DIRECTION)
    if said is not None and not isinstance(said, bool):
        raise InputError(f"--metric-arg {name}.{DIRECTION}={said}: must be true or false")
    return said


def worst_score(metric: Metric, least: float) -> float | None:
    """The score of a row without an answer: what is wrong on a discrete metric, else 0 where none can be worse.

    ``least`` is the least score of the file, NaN where it has none. None where no score is sure to be the worst: that
    of a metric where less is better has no end, nor has one with scores below 0.
    """
    if math.isnan(least):
        return None
    if metric.kind == "discrete":
        return 0.0 if metric.higher_is_better else 1.0
    return 0.0 if metric.higher_is_better and least >= 0 else None


def settle_scores(
    records: pd.DataFrame,
    worst: Mapping[str, float | None],
    where: Callable[[int], str],
    partial: Collection[str] = (),
) -> pd.DataFrame:
    """Scores that were read: no answer is wrong, and what failed has none. ``worst`` is that of :func:`worst_score`.

    A row that lacks a score of ``partial`` is in error. Raises InputError for one that lacks another; ``where`` names
    the place of a row.
    """
    for name, lowest in worst.items():
        scores = records[f"score:{name}"]
        ok = scored_rows(records)
        if "prediction" in records.columns and lowest is not None:
            scores = scores.mask(scores.isna() & records["prediction"].isna(), lowest)  # no answer is wrong
        records[f"score:{name}"] = scores
        gaps = np.flatnonzero(scores.isna().to_numpy() & ok)
        if name in partial:
            errors = records["error"].astype(object) if "error" in records else pd.Series(None, records.index, object)
            errors.iloc[gaps] = f"not scored: the tool gives no {name}"
            records["error"] = errors
        elif len(gaps):
            row = int(gaps[0])
            field = name if name == similarity.RECORDED else f"score:{name}"
            if "prediction" in records.columns and records["prediction"].isna().iloc[row]:
                raise InputError(
                    f"{where(row)}: no answer and no `{field}`, and no score of it is sure to be the worst: less is "
                    "better, or scores lie below 0, or no row has one; give the row a score or an `error`"
                )
            raise InputError(f"{where(row)}: no `{field}`; every row without an error needs one")
    ok = scored_rows(records)
    for name in worst:
        records[f"score:{name}"] = records[f"score:{name}"].where(ok)
    return records


def check_metrics(metrics: Sequence[str], recorded: Sequence[str] = ()) -> None:
    """Raise InputError for a metric that can neither be computed nor is recorded."""
    for name in metrics:
        if name not in recorded and name not in similarity.names():
            known = [*recorded, *similarity.names()]
            raise InputError(f"unknown metric '{name}'{did_you_mean(name, known)}; metrics are {', '.join(known)}")


def score_records(
    records: pd.DataFrame,
    metrics: Sequence[str],
    *,
    references: Sequence[Any] | None = None,
    options: Options | None = None,
    where: Callable[[int], str] | None = None,
) -> tuple[pd.DataFrame, tuple[Metric, ...]]:
    """Add a ``score:<metric>`` column for each metric that the records do not have yet.

    ``references`` gives each row's target or list of targets where that is not the column ``target``.
    ``options`` holds settings of metrics by name, as :func:`compatcheck.similarity.get` takes them.
    ``where`` names the place of a row (by position) for error messages.
    Rows with an ``error`` are not scored (NaN); a row without a prediction scores 0.
    Raises InputError for an unknown metric and for a row without a target.
    """
    check_metrics(metrics, [name.removeprefix("score:") for name in records.columns if name.startswith("score:")])
    found: list[Metric] = []
    added: dict[str, Any] = {}
    for name in dict.fromkeys(metrics):
        column = score_column(name)
        if column in records.columns:
            found.append(recorded_metric(name, records[column], options=options))
            continue
        if direction_said(name, options) is not None:
            raise InputError(
                f"--metric {name}: is computed here, so which way it points is known; --lower-is-better and "
                f"{DIRECTION} are for scores that were recorded or that a task gives"
            )
        scorer = similarity.get(name, **(options or {}).get(name, {}))
        targets = records["target"] if references is None else references
        added[column], agreed = _computed(scorer, records, targets, where)
        if agreed is not None:
            added[agreed_column(name)] = agreed
        found.append(Metric(name, scorer.kind, scorer.higher_is_better, scorer.signature))
    return (records.assign(**added) if added else records), tuple(found)


def _computed(
    scorer: similarity.Scorer, records: pd.DataFrame, targets: Any, where: Callable[[int], str] | None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    def place(row: int) -> str:
        return f"{where(row)}: " if where else f"row {records['doc_id'].iloc[row]!r}: "

    wanted = scored_rows(records)
    rows = np.flatnonzero(wanted)
    # Lists of Python texts, in parts: a million rows as objects at once would be most of the memory.
    scores, agreed = np.full(len(records), np.nan), np.full(len(records), np.nan)
    for start in range(0, len(rows), 100_000):
        part = rows[start : start + 100_000]
        predictions = _texts(records["prediction"], part)
        right = _texts(targets, part)
        for i, target in enumerate(right):
            if target is None:
                raise InputError(
                    f"{place(int(part[i]))}no target, which metric '{scorer.name}' needs; name the field with "
                    "--target-field, give the targets in a file of their own with --targets, score by a recorded "
                    "`score`, or compare answers alone: diff OLD NEW --reference old"
                )
        inputs = _texts(records["input"], part) if scorer.judged is not None and "input" in records else None
        try:
            found = scorer.grade(predictions, right, inputs)
        except similarity.UnfitTarget as error:
            raise InputError(f"{place(int(part[error.row]))}{error}") from None
        scores[part] = found[0]
        if found[1] is not None:
            agreed[part] = found[1]
    return scores, agreed if scorer.judged is not None else None


def scored_rows(records: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows take part in scoring: all but those with an error. Shape (n,)."""
    if "error" not in records.columns:
        return np.ones(len(records), dtype=bool)
    return records["error"].isna().to_numpy(dtype=bool)


def _texts(values: Any, rows: np.ndarray[Any, Any]) -> list[Any]:
    """Python texts (or lists of them) of some rows; null is None."""
    if isinstance(values, pd.Series):
        texts: list[Any] = pa.array(values.iloc[rows], from_pandas=True).to_pylist()
        return texts
    return [values[i] for i in rows]
