"""Compare two runs on one task, filter and metric."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from compatcheck.compare.answers import How
from compatcheck.compare.beside import Besides
from compatcheck.compare.changes import change_figures, changed_slice, clustered_changes
from compatcheck.compare.clusters import Clusters, clustered_figures, clustered_slice, find_clusters
from compatcheck.compare.coverage import Covered
from compatcheck.compare.differences import as_json
from compatcheck.compare.instances import build_instances, with_failures
from compatcheck.compare.intervals import LARGE, rate
from compatcheck.compare.means import Numbers, score_range, smooth_metrics
from compatcheck.compare.metrics import Changes, discrete_metrics
from compatcheck.compare.pairing import Pairs, pair, take
from compatcheck.compare.quadrants import Grade, Sorted, dead_band, resolve_metric, sort_pairs
from compatcheck.compare.readings import Readings, Reread
from compatcheck.compare.result import (
    CHANGES,
    PREFERENCES,
    QUADRANTS,
    SMOOTH_GROUPS,
    Beside,
    ClusterCount,
    Comparison,
    Estimate,
)
from compatcheck.compare.significance import mcnemar, sign_flip
from compatcheck.compare.slices import build_slices, expand
from compatcheck.compare.ties import choices
from compatcheck.errors import InputError
from compatcheck.records import CONFIDENCE, Metric, OldAsReference, TaskRun, agreed_column
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
    reread: Reread | None = None  # gives other readings of the scores, to see what hangs on them
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


def compare(old: TaskRun, new: TaskRun, *, metric: Metric | str, **options: Any) -> Comparison:
    """Pair two runs and compute everything a report shows of them; ``options`` are those of :class:`Settings`.

    ``metric`` is a name that both runs score, or how to read that score.
    Raises InputError: the runs cannot be compared, or an option makes no sense."""
    how = Settings(**options)
    if old.task != new.task:
        raise InputError(f"OLD was recorded for task '{old.task}' and NEW for task '{new.task}': nothing to compare")
    if old.filter != new.filter:
        raise InputError(
            f"on task '{old.task}' OLD went through filter '{old.filter}' and NEW through '{new.filter}': "
            "only outputs of the same filter can be compared"
        )
    metric = resolve_metric(metric, old, new)
    pairs = pair(old, new)
    found = sort_pairs(old, new, pairs, metric, epsilon=how.epsilon, correct_at=how.correct_at, grade=how.grade)
    n, of_changes = int(found.scored.sum()), isinstance(metric, OldAsReference)
    metrics, tests = _figures(found, how)
    if not of_changes:
        metrics |= _self_agreement(old, new, pairs, found, CONFIDENCE)
    clusters, by_id, found_by_id = None, pairs, found
    if how.cluster_by is not None:
        # Sums over clusters, and the draws of their signs, do not hang on the order of the rows.
        order = np.argsort(take(old.records["doc_id"], pairs.old).to_numpy(dtype=object), kind="stable")
        by_id, found_by_id = pairs.take(order), found.take(order)
        clusters = find_clusters(how.cluster_by, old, new, by_id, found_by_id.scored)
        if of_changes:
            metrics = clustered_changes(metrics, found_by_id, clusters, CONFIDENCE)
        else:
            metrics, tests = clustered_figures(metrics, found_by_id, clusters, **how.drawing)

    covered, readings = Covered(), how.readings(metric)
    for counter in (covered, readings):
        counter.add(found, old, new, pairs)

    shown = None if clusters is None else clusters.shown
    again = None if clusters is None else partial(clustered_slice, clusters, CONFIDENCE)
    fields = expand(how.slice_by, old, new, how.also_slice_by)
    slices = build_slices(old, new, by_id, found_by_id, fields, CONFIDENCE, again)
    return Comparison(
        task=old.task,
        filter=old.filter,
        metric=metric.name,
        kind=found.metric.kind,
        signature=signature(old, new, found.metric, n, how, shown),
        n=n,
        pairing=covered.pairing(pairs, (len(old.records), len(new.records)), old.duplicates + new.duplicates),
        quadrants=found.counts,
        metrics=metrics,
        tests=tests,
        slices=tuple(map(changed_slice, slices)) if of_changes else slices,
        confidence=CONFIDENCE,
        clusters=shown,
        score_range=_range(found),
        **({} if of_changes else choices(old, new, pairs, found)),
        **with_failures(build_instances(old, new, pairs, found), new, pairs.new),
        readings=readings.readings(n, found.changes, partial(_reread, how, clusters)),
        reference="old" if of_changes else None,
        beside=_beside(how, old, new, pairs, found),
    )


def _figures(found: Sorted, how: Settings) -> tuple[dict[str, Estimate], dict[str, float | None]]:
    """Metrics and tests of the scored pairs."""
    scored = found.scored
    if found.names in (CHANGES, PREFERENCES):
        alike = found.names == CHANGES and found.metric.kind == "smooth"
        agreed = None if found.agreed is None else found.agreed[scored]
        return change_figures(found.counts, found.new[scored] if alike else None, agreed, **how.drawing)
    smooth = None
    if found.names == SMOOTH_GROUPS:
        smooth = Numbers(found.old[scored], found.new[scored], found.gain[scored], found.codes[scored])
    return figures(found.counts, found.changes, smooth, **how.drawing)


def _range(found: Sorted) -> tuple[float, float] | None:
    """The range that a smooth metric's scores are taken to have."""
    if found.names in (QUADRANTS, PREFERENCES) or found.metric.kind == "discrete":
        return None
    return score_range(found.old[found.scored], found.new[found.scored])


def _beside(how: Settings, old: TaskRun, new: TaskRun, pairs: Pairs, found: Sorted) -> Mapping[str, Beside] | None:
    """What else is told of the answers; it counts single instances, and so nothing where clusters are counted."""
    besides = Besides(how.beside if how.cluster_by is None else None, {*old.records.columns, *new.records.columns})
    besides.add(old, new, pairs, found.scored)
    return besides.figures(how.drawing) or None


def _reread(
    how: Settings, clusters: Clusters | None, counts: Mapping[str, int], changes: Changes | None, other: Sorted | None
) -> Mapping[str, Estimate]:
    """The figures of another reading."""
    made = discrete_metrics(counts, changes, **how.drawing)
    if clusters is None or other is None:
        return made
    return clustered_figures(made, other, clusters, **how.drawing)[0]


def _self_agreement(old: TaskRun, new: TaskRun, pairs: Pairs, found: Sorted, confidence: float) -> dict[str, Estimate]:
    """Of a judge: how often it gave the same verdict both ways round, of the answers of each side that it was asked."""
    column = agreed_column(found.metric.name)
    made = {}
    for name, run, rows in (("old", old, pairs.old), ("new", new, pairs.new)):
        if column in run.records:
            agreed = run.records[column].to_numpy(dtype=np.float64, na_value=np.nan)[rows][found.scored]
            asked = int(np.isfinite(agreed).sum())
            why = "the judge was not asked: every answer is the target, or there is none"
            made[f"self_agreement_{name}"] = rate(int(np.nansum(agreed)), asked, confidence, why)
    return made


def figures(
    counts: Mapping[str, int],
    changes: Changes | None,
    smooth: Numbers | None,
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Estimate], dict[str, float | None]]:
    """Metrics and tests of the scored pairs; quadrants need their counts alone, and ``smooth`` is None for them."""
    how = {"confidence": confidence, "resamples": resamples, "seed": seed}
    if smooth is None:
        tests: dict[str, float | None] = {"mcnemar_p": mcnemar(counts["negative_flip"], counts["positive_flip"])}
        return discrete_metrics(counts, changes, **how), tests  # type: ignore[arg-type]
    # In an order of their own: what is resampled does not hang on the order of the rows.
    order = np.lexsort((smooth.codes, smooth.new, smooth.old, smooth.gain))
    smooth = Numbers(*(values[order] for values in smooth))
    # Its own stream of random numbers: the p-value does not hang on how many draws the bootstrap made.
    p = sign_flip(smooth.gain, resamples, np.random.default_rng([seed, 1]))
    return smooth_metrics(smooth, changes, **how), {"permutation_p": p}  # type: ignore[arg-type]


def signature(
    old: TaskRun, new: TaskRun, metric: Metric, n: int, how: Settings, clusters: ClusterCount | None = None
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
