"""Several samples of one document: averaged to one record, so that a document counts once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.errors import InputError
from compatcheck.records import Metric, score_column

AVERAGE = "average"
WAYS = (AVERAGE,)
"""What can be done with several rows of one id."""


def check_way(way: str | None) -> None:
    """Raise InputError for a way of treating repeats that does not exist."""
    if way is not None and way not in WAYS:
        raise InputError(f"--repeats {way}: must be {' or '.join(WAYS)}")


def average_records(
    records: pd.DataFrame, metrics: Sequence[Metric]
) -> tuple[pd.DataFrame, tuple[Metric, ...], tuple[int, int]]:
    """One record for each ``doc_id``, in the order of the first: scores averaged, all else of the first that worked.

    Samples with an error take no part where another one of their document worked. A discrete score becomes the share of
    samples that are right, and its metric smooth: an average is neither right nor wrong. It knows the standard error of
    an average. Also returns the least and the greatest number of samples of a document.

    Raises:
        InputError: rows of one document differ in their target.
    """
    ids = records["doc_id"]
    codes, distinct = pd.factorize(ids)
    counts = np.bincount(codes, minlength=len(distinct))
    spread = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    if spread[1] <= 1:
        return records, tuple(metrics), spread
    for column in ("target", "doc_hash", "target_hash"):
        if column in records:
            several = records.groupby(codes)[column].nunique()
            if (several > 1).any():
                name = distinct[int(several.index[several > 1][0])]
                raise InputError(
                    f"--repeats average: the rows of id {name!r:.80} differ in `{column}`: they are no samples of one "
                    "document"
                )
    worked = records["error"].isna().to_numpy() if "error" in records else np.ones(len(records), dtype=bool)
    # The first that worked, and where none did the first: failed rows go behind, order is kept otherwise.
    order = np.lexsort((np.arange(len(codes)), ~worked, codes))
    first = order[np.r_[True, codes[order][1:] != codes[order][:-1]]]
    averaged = records.iloc[first].reset_index(drop=True)
    good = np.bincount(codes, weights=worked, minlength=len(distinct))
    found = []
    for metric in metrics:
        column = score_column(metric.name)
        values = np.where(worked, records[column].to_numpy(dtype=np.float64, na_value=np.nan), 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.bincount(codes, values, len(distinct)) / good
            around = np.bincount(codes, np.where(worked, (values - means[codes]) ** 2, 0.0), len(distinct))
            squares = (around / (good - 1) / good)[good > 1]
            averaged[column] = np.where(good > 0, means, np.nan)
        found.append(as_mean(metric, spread, float(np.sqrt(squares.mean())) if len(squares) else 0.0))
    return averaged, tuple(found), spread


def as_mean(metric: Metric, spread: tuple[int, int], error: float = 0.0) -> Metric:
    """The metric of averaged samples, which its signature names; ``error`` is an average's standard error."""
    samples = f"{spread[0]}" if spread[0] == spread[1] else f"{spread[0]} to {spread[1]}"
    signature = f"{metric.signature}|" if metric.signature else ""
    return replace(metric, kind="smooth", signature=f"{signature}mean of {samples} samples", error=error)


def error_of_shares(shares: NDArray[np.float64], samples: int) -> float:
    """Root mean square, over documents, of the standard error of a share of ``samples`` right or wrong answers.

    Of scores between 0 and 1 it is an upper bound; 0 where that is unknown: a single sample, or other scores.
    """
    known = shares[np.isfinite(shares)]
    if samples < 2 or len(known) == 0 or known.min() < 0 or known.max() > 1:
        return 0.0
    return float(np.sqrt((known * (1 - known) / (samples - 1)).mean()))


def sample_scores(task: Any, filter_name: str, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, float]] | None:
    """The scores of a task that was asked several times for each document, averaged over the answers.

    lm-eval scores what the filter leaves: by default the first answer alone. Here the filter and the task's own
    ``process_results`` are applied to every answer by itself, and the numbers that they give are averaged. None where
    every document was asked once, where the task does not generate, and where the filter itself makes one of them
    (a majority vote, the first k): its score stays as the task defines it.
    """
    if task.OUTPUT_TYPE != "generate_until" or not samples:
        return None
    answers = [sample["resps"][0] for sample in samples]
    repeats = len(answers[0])
    ensemble = next((one for one in getattr(task, "_filters", ()) if one.name == filter_name), None)
    if repeats < 2 or ensemble is None or any(len(each) != repeats for each in answers):
        return None
    filters = [make() for make in ensemble.filters]
    if any(_combines(each) for each in filters):
        return None
    docs = [sample["doc"] for sample in samples]
    totals: list[dict[str, list[float]]] = [{} for _ in samples]
    for number in range(repeats):
        left: Any = [[each[number]] for each in answers]
        for each in filters:
            left = each.apply(left, docs)
        for found, doc, answer in zip(totals, docs, left, strict=True):
            for name, value in task.process_results(doc, [answer]).items():
                if isinstance(value, int | float | np.number):
                    found.setdefault(name, []).append(float(value))
    return [{name: sum(values) / repeats for name, values in found.items()} for found in totals]


def _combines(one: Any) -> bool:
    """Whether a filter makes one answer of several."""
    from lm_eval.filters.custom import CustomFilter
    from lm_eval.filters.selection import MajorityVoteFilter, TakeKFilter

    return isinstance(one, MajorityVoteFilter | TakeKFilter | CustomFilter)
