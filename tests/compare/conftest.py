"""Small runs, written out row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest

from compatcheck.records import NO_FILTER, Metric, TaskRun


def build_run(
    scores: Sequence[float | None],
    *,
    ids: Sequence[str] | None = None,
    metric: Metric | str = "exact_match",
    task: str = "arithmetic",
    filter: str = NO_FILTER,
    settings: dict[str, Any] | None = None,
    duplicates: int = 0,
    **columns: Sequence[Any],
) -> TaskRun:
    """A run with these scores; the metric is discrete unless it is given in full."""
    if isinstance(metric, str):
        metric = Metric(metric, "discrete")
    records = pd.DataFrame({"doc_id": list(ids) if ids is not None else [f"d{place}" for place in range(len(scores))]})
    for name, values in columns.items():
        records[name.replace("__", ":")] = pd.Series(list(values))
    records[f"score:{metric.name}"] = pd.Series(list(scores), dtype="float64")
    return TaskRun(task, filter, (metric,), records, settings or {}, duplicates)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., TaskRun]:
    return build_run


@pytest.fixture(scope="session")
def smooth() -> Metric:
    return Metric("rouge1", "smooth", signature="rouge1|fmeasure")
