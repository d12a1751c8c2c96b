"""Score recorded texts as a task does: its filters, then its metrics, without its data set and without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from compatcheck import similarity
from compatcheck.errors import InputError
from compatcheck.records import NO_FILTER, Metric, TaskRun, score_column
from compatcheck.similarity.exact import references
from compatcheck.table.choices import NO_MATCH
from compatcheck.tasks import resolve_task

_NOT_ARGUMENTS = {"metric", "aggregation", "higher_is_better", "hf_evaluate"}
Scorer = tuple[Metric, Callable[[Sequence[str | None], Sequence[Any]], np.ndarray]]


def score_with_task(run: TaskRun, name: str, trust: bool = False) -> list[TaskRun]:
    """Turn recorded texts into the records that the task's own filters and metrics give; one run per filter. Raises
    InputError: the name means several tasks, its metrics need the task's documents, or it runs code of its own and
    ``trust`` does not say that it may."""
    sources = resolve_task(name)
    if len(sources) != 1:
        raise InputError(f"--task {name}: means {len(sources)} tasks; recorded outputs are scored by one")
    config, run = sources[0].config(trust), replace(run, task=sources[0].name)
    if config.get("output_type") == "multiple_choice":
        return [_with_metrics(run, [_similarity_metric("exact_match")])]
    scorers = [_scorer(run.task, config, entry) for entry in config.get("metric_list") or []]
    if not scorers:
        raise InputError(f"--task {name}: it names no metric for recorded outputs; say --metric")
    steps = config.get("filter_list") or []
    filtered = [_filtered(run, entry["name"], entry["filter"]) for entry in steps] or [run]
    return [_with_metrics(one, scorers) for one in filtered]


def _similarity_metric(name: str) -> Scorer:
    scorer = similarity.get(name)
    return Metric(scorer.name, scorer.kind, scorer.higher_is_better, scorer.signature), scorer.score


def _scorer(task: str, config: Mapping[str, Any], entry: Mapping[str, Any]) -> Scorer:
    name = str(getattr(entry["metric"], "__name__", entry["metric"]))
    if config.get("process_results") is not None:
        if name not in similarity.names():
            raise InputError(
                f"--task {task}: its metric {name} needs the task's documents, which recorded outputs lack; "
                f"say --metric ({', '.join(similarity.names())})"
            )
        return _similarity_metric(name)
    from lm_eval.api.registry import get_metric

    function = entry["metric"] if callable(entry["metric"]) else get_metric(name)
    if function is None:
        raise InputError(f"--task {task}: lm-eval knows no metric {name}")
    arguments = {key: value for key, value in entry.items() if key not in _NOT_ARGUMENTS}

    def one(prediction: str, target: str) -> float:
        result = function(references=[target], predictions=[prediction], **arguments)
        return float(result[name] if isinstance(result, dict) else result)

    def score(predictions: Sequence[str | None], targets: Sequence[Any]) -> np.ndarray:
        values = np.zeros(len(predictions))
        for row, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
            if prediction is not None:
                scores = [one(prediction, each) for each in references(str(target))]
                values[row] = scores[0] if len(scores) == 1 else float(any(scores))  # as lm-eval has it
        return values

    version = (config.get("metadata") or {}).get("version")
    kind = "discrete" if name in ("exact_match", "acc") else "smooth"
    return Metric(name, kind, bool(entry.get("higher_is_better", True)), f"lm-eval|task-version:{version}"), score


def _filtered(run: TaskRun, name: str, steps: Sequence[Mapping[str, Any]]) -> TaskRun:
    """Apply one of lm-eval's filter pipelines to the texts; what it leaves is the prediction."""
    from lm_eval.api.instance import Instance
    from lm_eval.filters import build_filter_ensemble

    texts = run.records["prediction"]
    rows = [int(row) for row in np.flatnonzero(texts.notna().to_numpy())]
    instances = [
        Instance("generate_until", {}, ("", {}), 0, metadata=(run.task, row, 1), resps=[texts.iloc[row]])
        for row in rows
    ]
    predictions = np.full(len(texts), None, dtype=object)
    if instances:
        components = [[step["function"], {k: v for k, v in step.items() if k != "function"}] for step in steps]
        build_filter_ensemble(name, components).apply(instances)
        for row, instance in zip(rows, instances, strict=True):
            value = instance.filtered_resps[name]
            value = str(value[0] if isinstance(value, list) else value)
            predictions[row] = None if value == NO_MATCH else value
    records = run.records.assign(response=texts, prediction=pd.Series(predictions, dtype=object, index=texts.index))
    return replace(run, filter=name or NO_FILTER, records=records)


def _with_metrics(run: TaskRun, scorers: Sequence[Scorer]) -> TaskRun:
    records = run.records.drop(columns=[c for c in run.records if str(c).startswith("score:")])
    failed = records["error"].notna().to_numpy() if "error" in records else np.zeros(len(records), dtype=bool)
    predictions = [None if pd.isna(p) else str(p) for p in records["prediction"]]
    for metric, score in scorers:
        values = np.asarray(score(predictions, records["target"].tolist()), dtype=float)
        values[failed] = np.nan
        records[score_column(metric.name)] = values
    return replace(run, metrics=tuple(metric for metric, _ in scorers), records=records)
