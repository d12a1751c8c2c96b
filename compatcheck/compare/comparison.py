"""Compare two runs on one task, filter and metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compatcheck.compare.clusters import clustered_figures, clustered_rate, find_clusters, worse_than_rest
from compatcheck.compare.coverage import Covered
from compatcheck.compare.instances import build_instances
from compatcheck.compare.intervals import Flags, Floats, rate
from compatcheck.compare.means import score_range
from compatcheck.compare.metrics import Changes, discrete_metrics
from compatcheck.compare.pairing import Pairs, pair, take
from compatcheck.compare.quadrants import Sorted, dead_band, resolve_metric, sort_pairs
from compatcheck.compare.readings import Readings, Reread
from compatcheck.compare.result import QUADRANTS, Comparison, Estimate, Slice
from compatcheck.compare.signature import signature
from compatcheck.compare.significance import mcnemar, sign_flip
from compatcheck.compare.slices import build_slices
from compatcheck.compare.smooth import smooth_metrics
from compatcheck.compare.ties import near_ties
from compatcheck.errors import InputError
from compatcheck.records import Metric, TaskRun, agreed_column

RESAMPLES = 2000
"""Bootstrap resamples and sign permutations: the least p-value is 0.0005."""


def compare(
    old: TaskRun,
    new: TaskRun,
    *,
    metric: Metric | str,
    epsilon: float | None = None,
    correct_at: float | None = None,
    slice_by: Sequence[str] = (),
    cluster_by: str | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    reread: Reread | None = None,
) -> Comparison:
    """Pair two runs and compute everything a report shows of them.

    Args:
        metric: a name that both runs score, or how to read that score.
        epsilon: dead-band of a smooth metric: a gain of at most this size, either way, is "unchanged"; None for 0, and
            for averages of samples 2.5 standard errors of their difference.
        correct_at: makes a smooth metric discrete: a score that reaches this is correct.
        slice_by: fields of the records by whose values flips are counted.
        cluster_by: field of the records whose values group instances; intervals and tests then count by groups.
        reread: gives other readings of the scores, to see what hangs on them.
        seed: of the bootstrap and the permutation test; the same input and seed give the same figures.

    Raises:
        InputError: the runs cannot be compared, or an option makes no sense.
    """
    check_options(epsilon, correct_at, confidence, resamples, seed)
    if old.task != new.task:
        raise InputError(f"OLD was recorded for task '{old.task}' and NEW for task '{new.task}': nothing to compare")
    if old.filter != new.filter:
        raise InputError(
            f"on task '{old.task}' OLD went through filter '{old.filter}' and NEW through '{new.filter}': "
            "only outputs of the same filter can be compared"
        )
    metric = resolve_metric(metric, old, new)
    pairs = pair(old, new)
    found = sort_pairs(old, new, pairs, metric, epsilon=epsilon, correct_at=correct_at)
    n = int(found.scored.sum())
    scored = found.scored
    metrics, tests = figures(
        found.names,
        found.counts,
        found.changes,
        found.old[scored],
        found.new[scored],
        found.gain[scored],
        found.codes[scored],
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    metrics |= self_agreement(old, new, pairs, found, confidence)
    clusters, by_id, found_by_id = None, pairs, found
    if cluster_by is not None:
        # Sums over clusters, and the draws of their signs, do not hang on the order of the rows.
        order = np.argsort(take(old.records["doc_id"], pairs.old).to_numpy(dtype=object), kind="stable")
        by_id, found_by_id = pairs.take(order), found.take(order)
        clusters = find_clusters(cluster_by, old, new, by_id, found_by_id.scored)
        metrics, tests = clustered_figures(
            metrics, found_by_id, clusters, confidence=confidence, resamples=resamples, seed=seed
        )

    def by_clusters(part: Slice, inside: Flags, down: Flags, held: Flags | None) -> Slice:
        assert clusters is not None
        nfr = clustered_rate(part.nfr, down, inside, clusters, confidence)
        lost = part.lost
        if lost is not None and held is not None:
            lost = clustered_rate(lost, down, inside & held, clusters, confidence)
        return replace(part, nfr=nfr, p=worse_than_rest(down, inside, clusters), lost=lost)

    again = None if clusters is None else by_clusters
    covered, readings = Covered(), Readings(reread if correct_at is None else None, metric)
    for counter in (covered, readings):
        counter.add(found, old, new, pairs)

    def otherwise(counts: Mapping[str, int], changes: Changes | None, other: Sorted | None) -> Mapping[str, Estimate]:
        """The figures of another reading."""
        made = discrete_metrics(counts, changes, confidence=confidence, resamples=resamples, seed=seed)
        if clusters is None or other is None:
            return made
        return clustered_figures(made, other, clusters, confidence=confidence, resamples=resamples, seed=seed)[0]

    return Comparison(
        task=old.task,
        filter=old.filter,
        metric=metric.name,
        kind=found.metric.kind,
        signature=signature(
            old,
            new,
            found.metric,
            n=n,
            epsilon=dead_band(epsilon, found.metric),
            correct_at=correct_at,
            confidence=confidence,
            resamples=resamples,
            seed=seed,
            clusters=None if clusters is None else clusters.shown,
        ),
        n=n,
        pairing=covered.pairing(pairs, (len(old.records), len(new.records)), old.duplicates + new.duplicates),
        quadrants=found.counts,
        metrics=metrics,
        tests=tests,
        instances=build_instances(old, new, pairs, found),
        slices=build_slices(old, new, by_id, found_by_id, slice_by, confidence, again) if slice_by else (),
        confidence=confidence,
        clusters=None if clusters is None else clusters.shown,
        score_range=score_range(found.old[scored], found.new[scored]) if found.names != QUADRANTS else None,
        near_ties=near_ties(old, new, pairs, found),
        readings=readings.readings(n, found.changes, otherwise),
    )


def self_agreement(old: TaskRun, new: TaskRun, pairs: Pairs, found: Sorted, confidence: float) -> dict[str, Estimate]:
    """Of a judge: how often it gave the same verdict both ways round, of the answers of each side that it was asked."""
    column = agreed_column(found.metric.name)
    figures = {}
    for name, run, rows in (("old", old, pairs.old), ("new", new, pairs.new)):
        if column in run.records:
            agreed = run.records[column].to_numpy(dtype=np.float64, na_value=np.nan)[rows][found.scored]
            asked = int(np.isfinite(agreed).sum())
            why = "the judge was not asked: every answer is the target, or there is none"
            figures[f"self_agreement_{name}"] = rate(int(np.nansum(agreed)), asked, confidence, why)
    return figures


def figures(
    names: tuple[str, ...],
    counts: Mapping[str, int],
    changes: Changes | None,
    old: Floats,
    new: Floats,
    gain: Floats,
    codes: NDArray[np.int8],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Estimate], dict[str, float | None]]:
    """Metrics and tests of the scored pairs, whose group is ``names[code]``; quadrants need their counts alone."""
    # In an order of their own: what is resampled does not hang on the order of the rows.
    order = np.lexsort((codes, new, old, gain))
    old, new, gain, codes = old[order], new[order], gain[order], codes[order]
    if names == QUADRANTS:
        metrics = discrete_metrics(counts, changes, confidence=confidence, resamples=resamples, seed=seed)
        return metrics, {"mcnemar_p": mcnemar(counts["negative_flip"], counts["positive_flip"])}
    metrics = smooth_metrics(
        old,
        new,
        gain,
        codes == names.index("positive_flip"),
        codes == names.index("negative_flip"),
        changes,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    # Its own stream of random numbers: the p-value does not hang on how many draws the bootstrap made.
    return metrics, {"permutation_p": sign_flip(gain, resamples, np.random.default_rng([seed, 1]))}


def check_options(
    epsilon: float | None, correct_at: float | None, confidence: float, resamples: int, seed: int
) -> None:
    if epsilon is not None and not (math.isfinite(epsilon) and epsilon >= 0):
        raise InputError(f"--epsilon {epsilon:g}: the dead-band is a finite number of at least 0")
    if correct_at is not None and not math.isfinite(correct_at):
        raise InputError(f"--correct-at {correct_at:g}: the threshold is a finite number")
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence {confidence:g}: it is a number from 0.5 to below 1, such as 0.95")
    if resamples < 100:
        raise InputError(f"resamples {resamples}: an interval needs at least 100")
    if seed < 0:
        raise InputError(f"--seed {seed}: a seed is at least 0")
