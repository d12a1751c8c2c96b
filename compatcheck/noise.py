"""The noise floor of a model: what ``compatcheck noise`` and ``diff --noise-floor`` share."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.compare.noise import Measured, Measurements, above_noise, noise_floor
from compatcheck.compare.result import Comparison, NoiseFloor
from compatcheck.errors import InputError
from compatcheck.records import Metric, Run, TaskRun
from compatcheck.tasks.load import DEFAULT_SEED

if TYPE_CHECKING:
    from compatcheck.evaluation.collect import Request

REPEATS = 3
"""Reruns of one reference where nothing else is said."""


@dataclass(frozen=True)
class NoiseReport(Measurements):
    """What :func:`measure` found. Printing it shows a table."""

    def __str__(self) -> str:
        from compatcheck.report.summaries import noise_text

        return noise_text(self)


def with_noise(
    comparisons: Sequence[Comparison],
    old: Run,
    reruns: Sequence[Run],
    *,
    epsilon: float | None = None,
    correct_at: float | None = None,
) -> tuple[list[Comparison], list[str]]:
    """The comparisons with the noise floor of OLD, and a note for each that no rerun has the scores of.

    Raises:
        InputError: a rerun that cannot be paired with OLD.
    """
    found, notes = [], []
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
            floor = _floor(pairs, metric, source, epsilon, correct_at, each.confidence)
            p = above_noise(each.metrics["nfr"], floor.metrics["nfr"], floor.reruns) if each.clusters is None else None
            each = replace(each, noise=floor, tests=each.tests if p is None else {**each.tests, "noise_p": p})
        found.append(each)
    return found, notes


def measure(
    references: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    repeats: int = REPEATS,
    task: str | Sequence[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    num_fewshot: int | None = None,
    engine: str = "auto",
    engine_args: Mapping[str, Any] | None = None,
    batch_size: int | str = "auto",
    dtype: str = "auto",
    device: str | None = None,
    apply_chat_template: bool = False,
    fewshot_as_multiturn: bool = True,
    trust_remote_code: bool = False,
    seed: int = DEFAULT_SEED,
    store: str | os.PathLike[str] | bool | None = None,
    metric: str | Sequence[str] | None = None,
    metric_args: Mapping[str, Mapping[str, Any]] | None = None,
    lower_is_better: str | Sequence[str] = (),
    epsilon: float | None = None,
    correct_at: float | None = None,
    id_field: str | None = None,
    target_field: str | None = None,
    prediction_field: str | None = None,
    extract: str | None = None,
    targets: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: Any = None,
) -> NoiseReport:
    """The noise floor of one model that is run ``repeats`` times again, or of several recorded runs of the same model.

    The names are those of :func:`compatcheck.diff`. Of R runs all R(R − 1)/2 pairs are pooled.

    Raises:
        InputError: one recorded run alone, several references of which one is a model, or as for ``diff``.
    """
    from compatcheck.evaluation.collect import Request
    from compatcheck.evaluation.evaluate import EngineOptions
    from compatcheck.evaluation.settling import check_directions, with_direction
    from compatcheck.readers import Layout
    from compatcheck.tasks.load import TaskOptions

    several = [references] if isinstance(references, str | os.PathLike) else references
    names = [os.fspath(each) for each in several]
    request = Request(
        old=names[0],
        new="",
        tasks=tuple([task] if isinstance(task, str) else task or ()),
        metrics=tuple([metric] if isinstance(metric, str) else metric or ()),
        metric_options=with_direction(metric_args, lower_is_better),
        task_options=TaskOptions(Path(data) if data is not None else None, split, limit, sample, num_fewshot, seed),
        engine=EngineOptions(
            engine,
            engine_args or {},
            batch_size,
            dtype,
            device,
            seed,
            trust_remote_code,
            apply_chat_template,
            fewshot_as_multiturn,
        ),
        old_layout=Layout(
            id_field=id_field,
            target_field=target_field,
            prediction_field=prediction_field,
            extract=extract,
            targets=Path(targets) if targets is not None else None,
        ),
        store=store,
    )
    runs = _runs(request, names, repeats, say, progress)
    check_directions(request.metric_options, [one for run in runs for one in run.tasks])
    measured = _measured(runs, epsilon, correct_at)
    notes = dict.fromkeys(note for run in runs for note in run.notes)
    return NoiseReport(tuple(names), measured, tuple(notes))


def _runs(request: Request, names: Sequence[str], repeats: int, say: Callable[[str], None], progress: Any) -> list[Run]:
    from compatcheck.evaluation.collect import PLACEHOLDER, collect_one
    from compatcheck.evaluation.reruns import collect_reruns
    from compatcheck.references import resolve

    if len(names) == 1:
        if repeats < 1:
            raise InputError(f"--repeats {repeats}: one model is run again at least once")
        if PLACEHOLDER not in names[0] and resolve(names[0], request.engine.trust_remote_code).recorded is not None:
            raise InputError(
                f"{names[0]}: one recorded run shows no noise; name several runs of the same model, or the model itself"
            )
        again = collect_reruns(request, repeats, (), say, progress)
        return [collect_one(request, say, progress), *again]
    return [collect_one(request, say, progress), *collect_reruns(request, 0, names[1:], say, progress)]


def _measured(runs: Sequence[Run], epsilon: float | None, correct_at: float | None) -> tuple[Measured, ...]:
    found = []
    for own in runs[0].tasks:
        for metric in own.metrics:
            all_ = [_task_run(run, own.task, own.filter, metric.name) for run in runs]
            if any(one is None for one in all_):
                continue
            pairs = list(itertools.combinations([one for one in all_ if one is not None], 2))
            metric = _metric(pairs, metric.name, "")
            floor = _floor(pairs, metric, _source(runs[1:]), epsilon, correct_at, 0.95)
            kind = "discrete" if correct_at is not None else metric.kind
            found.append(Measured(own.task, own.filter, metric.name, kind, floor))
    if not found:
        raise InputError(
            "the runs share no task, filter and metric: they are no runs of the same model on the same task"
        )
    return tuple(found)


def _floor(
    pairs: Sequence[tuple[TaskRun, TaskRun]],
    metric: Metric,
    source: str,
    epsilon: float | None,
    correct_at: float | None,
    confidence: float,
) -> NoiseFloor:
    return noise_floor(pairs, metric, source=source, epsilon=epsilon, correct_at=correct_at, confidence=confidence)


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
