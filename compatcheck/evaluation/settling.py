"""The metrics that were asked for: computed where a run lacks them, read as the user says, each its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from compatcheck import similarity
from compatcheck.errors import InputError, did_you_mean
from compatcheck.evaluation.against import metrics_of
from compatcheck.records import LISTS, Metric, OldAsReference, StoredRun, TaskRun, score_column
from compatcheck.similarity import RECORDED
from compatcheck.similarity.exact import EXACT, OPTIONS, references
from compatcheck.table.lists import references_of
from compatcheck.table.scoring import (
    DIRECTION,
    LOG_LIKELIHOOD,
    Options,
    are_log_likelihoods,
    direction_said,
    score_records,
    scored_rows,
)
from compatcheck.table.stored import mapped
from compatcheck.tasks.load import check_metric_names

if TYPE_CHECKING:
    from compatcheck.evaluation.request import Request

Kind = TypeVar("Kind", TaskRun, StoredRun)


def with_direction(options: Options | None, lower_is_better: str | Iterable[str]) -> dict[str, dict[str, Any]]:
    """Settings of metrics with ``--lower-is-better`` among them. Raises InputError: the two contradict each other, or a
    metric has no such setting."""
    merged = {name: dict(each) for name, each in (options or {}).items()}
    for name, each in merged.items():
        similarity.check_settings(name, {key: value for key, value in each.items() if key != DIRECTION})
    for name in [lower_is_better] if isinstance(lower_is_better, str) else lower_is_better:
        if merged.setdefault(name, {}).setdefault(DIRECTION, False) is not False:
            raise InputError(f"--lower-is-better {name}: --metric-arg {name}.{DIRECTION} says otherwise")
    return merged


def check_directions(options: Options, runs: Iterable[TaskRun | StoredRun]) -> None:
    """Raise InputError for a direction of a metric that is not compared."""
    known = list(dict.fromkeys(metric.name for run in runs for metric in run.metrics))
    for name in options:
        if DIRECTION in options[name] and name not in known:
            raise InputError(
                f"--lower-is-better {name}: no such metric is compared{did_you_mean(name, known)}; there are "
                f"{', '.join(known)}"
            )


def settle(run: Kind, asked: Sequence[str], options: Options) -> Kind:
    """The run with its metrics as they are to be read, and notes on what was taken for granted."""
    settled: list[Metric] = [_settled(metric, run, asked, options) for metric in run.metrics]
    run = replace(run, metrics=tuple(settled), notes=(*run.notes, *_notes(run.task, settled)))
    loose = {name: True for name in OPTIONS if options.get(EXACT, {}).get(name) is True}
    for metric in settled:
        if metric.name == EXACT and loose and metric.kind == "discrete":
            run = _loosened(run, metric, loose)
    return run


def _settled(metric: Metric, run: TaskRun | StoredRun, asked: Sequence[str], options: Options) -> Metric:
    said = direction_said(metric.name, options)
    if said is not None:
        metric = replace(metric, higher_is_better=said, assumed=False)
    elif not metric.higher_is_better and are_log_likelihoods(metric.name, lambda: _scores(run, metric)):
        metric = replace(metric, higher_is_better=True, signature=f"{metric.signature}|{LOG_LIKELIHOOD}")
    own = dict(metric.settled)
    if metric.name == EXACT:
        given = options.get(EXACT, {})
        own |= {name: given[name] for name in OPTIONS if isinstance(given.get(name), bool)}
    if metric.name == RECORDED and RECORDED in asked:
        own[EXACT] = False
    return replace(metric, settled=tuple(own.items()))


def _scores(run: TaskRun | StoredRun, metric: Metric) -> pd.Series:
    column = score_column(metric.name)
    if isinstance(run, TaskRun):
        return run.records[column]
    edges = [batch[column].agg(["min", "max"]) for batch in run.table.read([column])]
    return pd.concat(edges) if edges else pd.Series([], dtype=float)


def _notes(task: str, metrics: Sequence[Metric]) -> Iterator[str]:
    for metric in metrics:
        if metric.assumed:
            yield (
                f"{task}: nothing says which way {metric.name} points; a higher score is taken as better "
                f"(--lower-is-better {metric.name} turns it, --metric-arg {metric.name}.{DIRECTION}=true confirms it)"
            )
        if LOG_LIKELIHOOD in metric.signature:
            yield (
                f"{task}: {metric.name} is recorded as the {LOG_LIKELIHOOD} (no perplexity is below 1), so a higher "
                "one is better"
            )


def _loosened(run: Kind, metric: Metric, loose: Mapping[str, bool]) -> Kind:
    """Exact match that was scored elsewhere: what is equal without case or punctuation is right, too."""
    scorer = similarity.get(EXACT, **loose)
    added = scorer.signature.removeprefix(f"{EXACT}|strip|thousands-separators:ignored") or "|strip"
    if added in metric.signature or not {"prediction", "target"} <= set(run.names):
        return run
    column = score_column(EXACT)

    def loosened(part: TaskRun) -> TaskRun:
        records = part.records
        scores = records[column].to_numpy(dtype=np.float64, na_value=np.nan).copy()
        wrong = np.flatnonzero((scores == 0) & scored_rows(records) & records["target"].notna().to_numpy())
        texts = [None if pd.isna(text) else str(text) for text in records["prediction"].iloc[wrong]]
        right = [references(str(target)) for target in records["target"].iloc[wrong]]
        scores[wrong] = scorer.score(texts, right)
        return replace(part, records=records.assign(**{column: scores}))

    metrics = tuple(
        replace(one, signature=f"{one.signature}{added}") if one.name == EXACT else one for one in run.metrics
    )
    run = replace(run, metrics=metrics)
    return loosened(run) if isinstance(run, TaskRun) else mapped(run, loosened)  # type: ignore[return-value]


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
    typed = {*run.typed, *([LISTS] if "rows" in run.settings else [])}  # of prompts a target may be a list
    accepted = references_of(run.records, typed, missing)
    records, added = score_records(run.records, missing, references=accepted, options=request.metric_options)
    have |= {metric.name: metric for metric in added}
    return replace(run, metrics=tuple(have[name] for name in dict.fromkeys(asked)), records=records)
