"""How two runs are compared, and the signature that says it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compatcheck.compare.answers import How
from compatcheck.compare.differences import as_json
from compatcheck.compare.intervals import LARGE
from compatcheck.compare.quadrants import Grade, dead_band
from compatcheck.compare.readings import Readings, Reread
from compatcheck.compare.result import ClusterCount
from compatcheck.errors import InputError
from compatcheck.records import CONFIDENCE, Metric, OldAsReference, StoredRun, TaskRun
from compatcheck.version import __version__

RESAMPLES = 2000  # bootstrap resamples and sign permutations: the least p-value is 0.0005


@dataclass(frozen=True)
class Settings:
    """How two runs are compared. Raises InputError: an option makes no sense."""

    # Dead-band of a smooth metric: a gain of at most this size, either way, is "unchanged"; None for 0, and for
    # averages of samples 2.5 standard errors of their difference.
    epsilon: float | None = None
    correct_at: float | None = None  # makes a smooth metric discrete: a score that reaches this is correct
    slice_by: Sequence[str] = ()  # fields of the records by whose values flips are counted
    also_slice_by: Sequence[str] = ()  # fields that budgets are set on: taken where the records have them
    cluster_by: str | None = None  # field whose values group instances; intervals and tests then count by groups
    seed: int = 0  # of the bootstrap and the permutation test; the same input and seed give the same figures
    resamples: int = RESAMPLES
    beside: How | None = None  # what else is told of the answers; None for nothing
    reread: Reread | None = None  # gives other readings of the scores, to see what depends on them
    grade: Grade | None = None  # scores NEW's answers by OLD's, where these are the reference

    def __post_init__(self) -> None:
        if self.epsilon is not None and not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise InputError(f"--epsilon {self.epsilon:g}: the dead-band is a finite number of at least 0")
        if self.correct_at is not None and not math.isfinite(self.correct_at):
            raise InputError(f"--correct-at {self.correct_at:g}: the threshold is a finite number")
        if self.resamples < 100:
            raise InputError(f"resamples {self.resamples}: an interval needs at least 100")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: a seed is at least 0")

    @property
    def drawing(self) -> dict[str, Any]:
        """How intervals and tests are made."""
        return {"confidence": CONFIDENCE, "resamples": self.resamples, "seed": self.seed}

    def readings(self, metric: Metric) -> Readings:
        known = self.correct_at is None and not isinstance(metric, OldAsReference)
        return Readings(self.reread if known else None, metric)


def signature(
    old: TaskRun | StoredRun,
    new: TaskRun | StoredRun,
    metric: Metric,
    n: int,
    how: Settings,
    clusters: ClusterCount | None = None,
) -> str:
    """One line that says how the figures were made, to be quoted with them: ``task|filter:…|metric:…|…``.

    A setting in which OLD and NEW differ is shown as ``old/new``.
    """
    level, smooth = f"{100 * CONFIDENCE:.10g}", metric.kind != "discrete"
    worth = "" if clusters is None else "-effective-n"
    intervals, bounds = f"wilson{level}{worth}", f"clopper-pearson{level}{worth}+gaffke{level}"
    if smooth and clusters is not None:
        intervals, bounds = f"{intervals}+cluster-t{level}", f"{bounds}+cluster-t{level}"
    elif smooth:
        intervals += f"+normal{level}" if n > LARGE else f"+bootstrap{level}x{how.resamples}"
    parts: dict[str, object] = {"filter": old.filter, "metric": metric.name, "n": n}
    if isinstance(metric, OldAsReference):
        parts["reference"] = "old"
    if smooth:
        parts["eps"] = f"{dead_band(how.epsilon, metric):.10g}"
    if how.correct_at is not None:
        parts["correct"] = f"{'>=' if metric.higher_is_better else '<='}{how.correct_at:.10g}"
    if clusters is not None:
        parts["clusters"] = f"{clusters.field}:{clusters.count}"
    parts |= {"ci": intervals, "bounds": bounds, "seed": how.seed}
    for name in dict.fromkeys([*old.settings, *new.settings]):
        values = [_setting(run.settings, name) for run in (old, new)]
        if values != [None, None]:
            texts = dict.fromkeys("none" if value is None else _short(value) for value in values)
            parts["fewshot" if name == "num_fewshot" else name] = "/".join(texts)
    if metric.signature:
        parts["impl"] = metric.signature
    parts["compatcheck"] = __version__

    def plain(value: object) -> str:  # what cannot be taken for the signature's own marks
        return " ".join(str(value).replace("|", ",").split())

    return "|".join([plain(old.task), *(f"{plain(name)}:{plain(value)}" for name, value in parts.items())])


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    """A setting by its name. Of a run that was made here (it counts its documents) reasoning is taken out where it does
    not say otherwise; recorded texts are kept."""
    made = name == "reasoning" and "documents" in settings and "generation" in settings
    return settings.get(name, "strip" if made else None)


def _short(value: Any) -> str:
    """A few digits stand for a mapping or a list."""
    long = isinstance(value, Mapping | list | tuple)
    return hashlib.sha256(as_json(value).encode()).hexdigest()[:8] if long else str(value)
