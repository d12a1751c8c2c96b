"""The scores of one run by themselves: means with intervals, before anything is compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compatcheck.compare.intervals import mean_bounds, rate
from compatcheck.compare.pairing import failed_rows
from compatcheck.compare.quadrants import silent_rows
from compatcheck.compare.result import Estimate
from compatcheck.compare.settings import RESAMPLES
from compatcheck.records import CONFIDENCE, Metric, Run, score_column


@dataclass(frozen=True)
class Score:
    """One metric of a run on one task and filter.

    ``n`` counts the documents, ``errors`` those of them that could not be evaluated, ``no_answer`` those that were
    scored without an answer. ``mean`` is over the scored ones.
    """

    task: str
    filter: str
    metric: Metric
    n: int
    errors: int
    no_answer: int
    mean: Estimate


def scores(run: Run, *, seed: int = 0) -> list[Score]:
    """The mean of every metric: Wilson's interval for a discrete one, else bootstrap (normal for many documents)."""
    found = []
    for one in run.tasks:
        records = one.records
        scored = ~failed_rows(records)
        for metric in one.metrics:
            values = records[score_column(metric.name)].to_numpy(dtype=np.float64)
            silent = silent_rows(records.get("prediction"), scored, (values == 0) & metric.higher_is_better)
            values = values[~np.isnan(values)]
            n = len(values)
            if metric.kind == "discrete" or not n:
                mean = rate(int(values.sum()), n, CONFIDENCE, "no instance could be scored")
            else:
                low, high, lower, upper = mean_bounds(
                    values, CONFIDENCE, RESAMPLES, np.random.default_rng(seed)
                ) or (None,) * 4  # fmt: skip
                mean = Estimate(float(values.mean()), low, high, n, n, lower, upper)
            counts = len(records), int((~scored).sum()), int(silent.sum())
            found.append(Score(one.task, one.filter, metric, *counts, mean))
    return found
