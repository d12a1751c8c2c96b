"""The noise floor of a comparison and of several runs of one model, from runs that are in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from compatcheck.compare.noise import Measured, above_noise, noise_floor
from compatcheck.compare.quadrants import Grade
from compatcheck.compare.result import Comparison
from compatcheck.errors import InputError
from compatcheck.records import CONFIDENCE, Metric, Run, TaskRun


def with_noise(
    comparisons: Sequence[Comparison],
    old: Run,
    reruns: Sequence[Run],
    *,
    epsilon: float | None = None,
    correct_at: float | None = None,
    grade: Grade | None = None,
) -> tuple[list[Comparison], list[str]]:
    """The comparisons with the noise floor of OLD, and a note for each that no rerun has the scores of.
    Raises InputError: a rerun that cannot be paired with OLD.
    """
    found, notes = [], other_models(old, reruns)
    for each in comparisons:
        own = _task_run(old, each.task, each.filter, each.metric)
        others = [_task_run(run, each.task, each.filter, each.metric) for run in reruns]
        pairs = [(own, other) for other in others if own is not None and other is not None]
        if len(pairs) < len(reruns):
            notes.append(
                f"{each.name}: {len(reruns) - len(pairs)} of {len(reruns)} reruns have no such score; "
                f"{'the noise floor is not known' if not pairs else 'the noise floor is that of the others'}"
            )
        if pairs:
            metric = _metric(pairs, each.metric, each.kind)
            source = _source([run for run, other in zip(reruns, others, strict=True) if other is not None])
            floor = noise_floor(
                pairs, metric, source=source, epsilon=epsilon, correct_at=correct_at, confidence=each.confidence,
                grade=grade,
            )  # fmt: skip
            name = "nfr" if each.reference is None else "changed"
            p = above_noise(each.metrics[name], floor.metrics[name], floor.reruns) if each.clusters is None else None
            each = replace(each, noise=floor, tests=each.tests if p is None else {**each.tests, "noise_p": p})
        found.append(each)
    return found, notes


def other_models(old: Run, reruns: Sequence[Run]) -> list[str]:
    """A sentence for every rerun that is of another model than ``old``, as far as both know which they are of."""
    one = old.manifest
    return [
        f"{run.manifest.reference} is a run of another model than {one.reference}, by their fingerprints: what flips "
        "between two models is no noise"
        for run in reruns
        if "recorded" not in (one.kind, run.manifest.kind) and run.manifest.fingerprint != one.fingerprint
    ]


def measured(runs: Sequence[Run], epsilon: float | None, correct_at: float | None) -> tuple[Measured, ...]:
    """The noise floor of every score that the runs share; of R runs all R(R − 1)/2 pairs are pooled.
    Raises InputError: they share none.
    """
    found = []
    for own in runs[0].tasks:
        for metric in own.metrics:
            same = [_task_run(run, own.task, own.filter, metric.name) for run in runs]
            each = [one for one in same if one is not None]
            if len(each) < len(runs):
                continue
            pairs = list(itertools.combinations(each, 2))
            metric, source = _metric(pairs, metric.name, ""), _source(runs[1:])
            floor = noise_floor(
                pairs, metric, source=source, epsilon=epsilon, correct_at=correct_at, confidence=CONFIDENCE
            )
            kind = "discrete" if correct_at is not None else metric.kind
            found.append(Measured(own.task, own.filter, metric.name, kind, floor))
    if not found:
        raise InputError(
            "the runs share no task, filter and metric: they are no runs of the same model on the same task"
        )
    return tuple(found)


def _task_run(run: Run, task: str, filter_name: str, metric: str) -> TaskRun | None:
    named = (one for one in run.tasks if (one.task, one.filter) == (task, filter_name))
    return next((one for one in named if any(each.name == metric for each in one.metrics)), None)


def _metric(pairs: Sequence[tuple[TaskRun, TaskRun]], name: str, kind: str) -> Metric:
    """The metric of all runs in one reading: smooth where one run, or the comparison, has it so."""
    each = [metric for pair in pairs for run in pair for metric in run.metrics if metric.name == name]
    smooth = "smooth" in (kind, *(metric.kind for metric in each))
    error = math.sqrt(2) * max(metric.error for metric in each)
    return replace(each[0], kind="smooth" if smooth else each[0].kind, error=error)


def _source(reruns: Sequence[Run]) -> str:
    """How the noise was measured, in words."""
    here = sum(bool(run.manifest.settings.get("rerun")) for run in reruns)
    counts = (
        (here, "with requests in another order, in other batches and with another seed"),
        (len(reruns) - here, "as recorded"),
    )
    return "; ".join(f"{count} rerun{'' if count == 1 else 's'} {how}" for count, how in counts if count)
