"""Score recorded texts as a task does: its filters, then its metrics, without its data set and without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from compatcheck.errors import InputError
from compatcheck.records import NO_FILTER, Metric, TaskRun, score_column
from compatcheck.table.choices import NO_MATCH
from compatcheck.tasks import resolve_task

_NOT_ARGUMENTS = {"metric", "aggregation", "higher_is_better", "hf_evaluate"}


def score_with_task(run: TaskRun, name: str) -> list[TaskRun]:
    """Turn recorded texts into the records that the task's own filters and metrics give; one run per filter.

    Raises:
        InputError: the name means several tasks, or its metrics need the task's documents.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    sources = resolve_task(name)
    if len(sources) != 1:
        raise InputError(f"--task {name}: means {len(sources)} tasks; recorded outputs are scored by one")
    config: dict[str, Any] = {**load_yaml(sources[0].path), **sources[0].overrides}
    if config.get("output_type") == "multiple_choice":
        return [_with_metrics(replace(run, task=sources[0].name), [_similarity_metric("exact_match")])]
    scorers = [_scorer(sources[0].name, config, entry) for entry in config.get("metric_list") or []]
    if not scorers:
        raise InputError(f"--task {name}: it names no metric for recorded outputs; say --metric")
    filtered = [
        _filtered(replace(run, task=sources[0].name), entry["name"], entry["filter"])
        for entry in config.get("filter_list") or []
    ] or [replace(run, task=sources[0].name)]
    return [_with_metrics(one, scorers) for one in filtered]


Scorer = tuple[Metric, Callable[[Sequence[str | None], Sequence[Any]], np.ndarray]]


def _similarity_metric(name: str) -> Scorer:
    from compatcheck import similarity

    scorer = similarity.get(name)
    return Metric(scorer.name, scorer.kind, scorer.higher_is_better, scorer.signature), scorer.score


def _scorer(task: str, config: Mapping[str, Any], entry: Mapping[str, Any]) -> Scorer:
    from compatcheck import similarity

    name = str(entry["metric"])
    if config.get("process_results") is not None:
        if name not in similarity.names():
            raise InputError(
                f"--task {task}: its metric {name} needs the task's documents, which recorded outputs lack; "
                f"say --metric ({', '.join(similarity.names())})"
            )
        return _similarity_metric(name)
    from lm_eval.api.registry import get_metric

    function = get_metric(name)
    arguments = {key: value for key, value in entry.items() if key not in _NOT_ARGUMENTS}

    def score(predictions: Sequence[str | None], targets: Sequence[Any]) -> np.ndarray:
        values = np.zeros(len(predictions))
        for row, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
            if prediction is not None:
                result = function(references=[str(target)], predictions=[prediction], **arguments)
                values[row] = float(result[name] if isinstance(result, dict) else result)
        return values

    version = (config.get("metadata") or {}).get("version")
    kind = "discrete" if name in ("exact_match", "acc") else "smooth"
    return Metric(name, kind, bool(entry.get("higher_is_better", True)), f"lm-eval|task-version:{version}"), score


def _filtered(run: TaskRun, name: str, steps: Sequence[Mapping[str, Any]]) -> TaskRun:
    """Apply one of lm-eval's filter pipelines to the texts; what it leaves is the prediction."""
    from lm_eval.api.instance import Instance
    from lm_eval.filters import build_filter_ensemble

    components = [[step["function"], {k: v for k, v in step.items() if k != "function"}] for step in steps]
    texts = run.records["prediction"]
    answered = texts.notna().to_numpy()
    instances = []
    for row in np.flatnonzero(answered):
        instance = Instance("generate_until", {}, ("", {}), 0, metadata=(run.task, int(row), 1))
        instance.resps = [texts.iloc[row]]
        instances.append(instance)
    predictions = np.full(len(texts), None, dtype=object)
    if instances:
        build_filter_ensemble(name, components).apply(instances)
        for row, instance in zip(np.flatnonzero(answered), instances, strict=True):
            value = instance.filtered_resps[name]
            value = str(value[0] if isinstance(value, list) else value)
            predictions[row] = None if value == NO_MATCH else value
    records = run.records.copy()
    records["response"] = texts
    records["prediction"] = pd.Series(predictions, dtype=object, index=records.index)
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
