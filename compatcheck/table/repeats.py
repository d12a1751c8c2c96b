"""Several samples of one document: averaged to one record, so that a document counts once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.errors import InputError
from compatcheck.records import FIGURES, Metric, figure_column, score_column

AVERAGE = "average"
"""What can be done with several rows of one id."""


def average_records(
    records: pd.DataFrame, metrics: Sequence[Metric]
) -> tuple[pd.DataFrame, tuple[Metric, ...], tuple[int, int]]:
    """One record for each ``doc_id``, in the order of the first: scores and figures of the answers (tokens, seconds …)
    averaged, all else of the first that worked.

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
    for column in filter(None, (figure_column(name, records.columns) for name in FIGURES)):
        averaged[column] = _means(records[column], codes, worked)
    return averaged, tuple(found), spread


def _means(values: pd.Series, codes: NDArray[np.intp], worked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each document the mean of those samples that worked and say the figure; NaN where none does."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    means = pd.Series(np.where(worked, numbers, np.nan)).groupby(codes).mean()
    return means.to_numpy()


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
