"""The scores of one run by themselves: means with intervals, before anything is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compatcheck.compare.comparison import RESAMPLES
from compatcheck.compare.intervals import mean_bounds, rate
from compatcheck.compare.result import Estimate
from compatcheck.records import Metric, Run, TaskRun, score_column

_NONE_SCORED = "no instance could be scored"


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


def scores(run: Run, *, seed: int = 0, confidence: float = 0.95) -> list[Score]:
    """The mean of every metric: Wilson's interval for a discrete one, else bootstrap (normal for many documents)."""
    return [score for one in run.tasks for score in _of_task(one, seed, confidence)]


def _of_task(run: TaskRun, seed: int, confidence: float) -> Iterator[Score]:
    records = run.records
    failed = records["error"].notna() if "error" in records else np.zeros(len(records), dtype=bool)
    answered = records["prediction"].notna() if "prediction" in records else np.ones(len(records), dtype=bool)
    no_answer = int((~np.asarray(failed, dtype=bool) & ~np.asarray(answered, dtype=bool)).sum())
    for metric in run.metrics:
        values = records[score_column(metric.name)].to_numpy(dtype=np.float64)
        values = values[~np.isnan(values)]
        if metric.kind == "discrete" or not len(values):
            mean = rate(int(values.sum()), len(values), confidence, _NONE_SCORED)
        else:
            found = mean_bounds(values, confidence, RESAMPLES, np.random.default_rng(seed))
            mean = Estimate(float(values.mean()), count=len(values), of=len(values))
            if found is not None:
                mean = Estimate(
                    float(values.mean()), found.low, found.high, len(values), len(values),
                    lower=found.lower, upper=found.upper,
                )  # fmt: skip
        yield Score(run.task, run.filter, metric, len(records), int(np.asarray(failed).sum()), no_answer, mean)
