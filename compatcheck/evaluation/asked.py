"""The metrics that were asked for: computed where a run does not have them, and read as they are to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from compatcheck import similarity
from compatcheck.evaluation.against import metrics_of
from compatcheck.evaluation.settling import settle
from compatcheck.records import Metric, OldAsReference, StoredRun, TaskRun
from compatcheck.similarity.exact import EXACT, references
from compatcheck.table.scoring import score_records
from compatcheck.tasks.load import check_metric_names

if TYPE_CHECKING:
    from compatcheck.evaluation.request import Request

Kind = TypeVar("Kind", TaskRun, StoredRun)


def as_to_be_read(run: Kind, request: Request) -> Kind:
    """A task's scores as they are to be read, and the metrics for which OLD is the reference."""
    run = settle(run, request.scored, request.metric_options)
    against: tuple[Metric, ...] = metrics_of(request.against, request.metric_options)
    own: list[Metric] = [] if request.reference else [m for m in run.metrics if not isinstance(m, OldAsReference)]
    return replace(run, metrics=(*own, *against)) if against else run


def read_as_asked(run: TaskRun, request: Request) -> TaskRun:
    """One task with the metrics asked for, each read as it is to be read."""
    own = () if run.metrics or request.reference else default_metrics(run)
    asked = request.scored or own
    return as_to_be_read(_with_metrics(run, request, asked) if asked else run, request)


def default_metrics(run: TaskRun) -> tuple[str, ...]:
    """What answers to prompts are scored by where nothing else is asked for: exact match, where all have targets."""
    return (EXACT,) if "target" in run.records and run.records["target"].notna().all() else ()


def _with_metrics(run: TaskRun, request: Request, asked: Sequence[str]) -> TaskRun:
    have = {metric.name: metric for metric in run.metrics}
    check_metric_names(asked, list(dict.fromkeys([*have, *similarity.names()])))
    missing = [name for name in asked if name not in have]
    accepted = None
    if "rows" in run.settings:  # prompts, of which a target may be a list
        accepted = [None if pd.isna(text) else references(str(text)) for text in run.records["target"]]
    records, added = score_records(run.records, missing, references=accepted, options=request.metric_options)
    have |= {metric.name: metric for metric in added}
    return replace(run, metrics=tuple(have[name] for name in dict.fromkeys(asked)), records=records)
