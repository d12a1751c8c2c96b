"""The signature of a comparison: one line that says how its figures were made, to be quoted with them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from compatcheck.compare.differences import short
from compatcheck.compare.intervals import LARGE
from compatcheck.compare.result import ClusterCount
from compatcheck.records import Metric, TaskRun

_SHORT = {"num_fewshot": "fewshot"}


def signature(
    old: TaskRun,
    new: TaskRun,
    metric: Metric,
    *,
    n: int,
    epsilon: float,
    correct_at: float | None,
    confidence: float,
    resamples: int,
    seed: int,
    clusters: ClusterCount | None = None,
) -> str:
    """``task|filter:…|metric:…|…``; a setting in which OLD and NEW differ is shown as ``old/new``."""
    level = f"{100 * confidence:.10g}"
    worth = "" if clusters is None else "-effective-n"
    intervals, bounds = f"wilson{level}{worth}", f"clopper-pearson{level}{worth}+gaffke{level}"
    if metric.kind != "discrete" and clusters is not None:
        intervals, bounds = f"{intervals}+cluster-t{level}", f"{bounds}+cluster-t{level}"
    elif metric.kind != "discrete":
        intervals += f"+normal{level}" if n > LARGE else f"+bootstrap{level}x{resamples}"
    parts = {"filter": old.filter, "metric": metric.name, "n": n}
    if metric.kind != "discrete":
        parts["eps"] = f"{epsilon:.10g}"
    if correct_at is not None:
        parts["correct"] = f"{'>=' if metric.higher_is_better else '<='}{correct_at:.10g}"
    if clusters is not None:
        parts["clusters"] = f"{clusters.field}:{clusters.count}"
    parts |= {"ci": intervals, "bounds": bounds, "seed": seed}
    parts |= _settings(old.settings, new.settings)
    if metric.signature:
        parts["impl"] = metric.signature
    parts["compatcheck"] = project_version()
    return "|".join([_plain(old.task), *(f"{_plain(name)}:{_plain(value)}" for name, value in parts.items())])


def project_version() -> str:
    """The installed version, or ``unknown`` when run from a tree that is not installed."""
    try:
        return version("compatcheck")
    except PackageNotFoundError:
        return "unknown"


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    shown = {}
    for name in dict.fromkeys([*old, *new]):
        values = [settings.get(name) for settings in (old, new)]
        if all(value is None for value in values):
            continue
        texts = ["none" if v is None else short(v) if isinstance(v, Mapping | list | tuple) else str(v) for v in values]
        shown[_SHORT.get(name, name)] = texts[0] if texts[0] == texts[1] else "/".join(texts)
    return shown


def _plain(value: object) -> str:
    """A value that cannot be taken for the signature's own marks."""
    return " ".join(str(value).replace("|", ",").split())
