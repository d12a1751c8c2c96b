"""The figures where OLD's answers are the reference: what changed and how alike answers are, not what is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compatcheck.compare.clusters import Clusters, clustered_mean, clustered_rate
from compatcheck.compare.intervals import Flags, Floats, mean_bounds, rate
from compatcheck.compare.means import MeanOf, score_range
from compatcheck.compare.metrics import CHANGE_RATES, PREFERENCE_RATES
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import NO_TARGETS, PREFERENCES, Estimate, Slice
from compatcheck.compare.significance import mcnemar

NOT_ASKED = "the judge was not asked: every answer of NEW is that of OLD, or one of both is none"


def change_figures(
    counts: Mapping[str, int],
    similarity: Floats | None,
    agreed: Floats | None,
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Estimate], dict[str, float | None]]:
    """Metrics and tests of the scored pairs.

    ``similarity`` has the scores of a smooth metric, ``agreed`` whether a judge agreed with itself (1, 0, NaN where it
    was not asked); None where there is no such thing.
    """
    n, preferences = sum(counts.values()), tuple(counts) == PREFERENCES
    rates = PREFERENCE_RATES if preferences else CHANGE_RATES
    found = {name: rate(sum(counts.get(group, 0) for group in each.groups), n, confidence)
             for name, each in rates.items()}  # fmt: skip
    if similarity is not None:
        found["similarity"] = _mean(np.sort(similarity), confidence, resamples, seed)
    if not preferences:
        return found, {}
    if agreed is not None:
        asked = int(np.isfinite(agreed).sum())
        found["self_agreement"] = rate(int(np.nansum(agreed)), asked, confidence, NOT_ASKED)
    return found, {"sign_p": mcnemar(counts["old_preferred"], counts["new_preferred"])}


def _mean(values: Floats, confidence: float, resamples: int, seed: int) -> Estimate:
    n = len(values)
    if n == 0:
        return Estimate(None, of=0, why="no pair could be scored")
    bounds = mean_bounds(values, confidence, resamples, np.random.default_rng(seed))
    if bounds is None:
        return Estimate(float(values.mean()), count=n, of=n)
    at = MeanOf.of(values, score_range(values))
    return Estimate(float(values.mean()), bounds.low, bounds.high, n, n, *at(confidence), one_sided=at)


def clustered_changes(
    metrics: Mapping[str, Estimate], found: Sorted, clusters: Clusters, confidence: float
) -> dict[str, Estimate]:
    """The same metrics with intervals by clusters."""
    found = found.take(found.scored)
    done = dict(metrics)
    for name in PREFERENCE_RATES:
        if name in metrics and (share := found.rate(name)) is not None:
            done[name] = clustered_rate(metrics[name], *share, clusters, confidence)
    if "similarity" in metrics and len(found.new):
        single = MeanOf.of(found.new, score_range(found.new))
        every: Flags = np.ones(len(found.new), dtype=bool)
        done["similarity"] = clustered_mean(metrics["similarity"], found.new, every, clusters, single, confidence)
    return done


def changed_slice(part: Slice) -> Slice:
    """A slice that was counted with what changed in the place of negative flips."""
    unknown = Estimate(None, of=part.n, why=NO_TARGETS)
    return replace(part, changed=part.nfr, nfr=unknown, negative_flips=0, positive_flips=0, lost=None)
