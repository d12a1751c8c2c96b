"""What the pairs of one metric come to: they are added part by part, in one part where they are in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from compatcheck.compare.answers import How
from compatcheck.compare.beside import Besides
from compatcheck.compare.changes import change_figures, changed_slice, clustered_changes
from compatcheck.compare.clusters import Clusters, clustered_figures, clustered_slice, find_clusters
from compatcheck.compare.coverage import Covered
from compatcheck.compare.instances import InstanceFile, build_instances, failure_kinds
from compatcheck.compare.intervals import rate
from compatcheck.compare.kinds import counted
from compatcheck.compare.means import Numbers, score_range, smooth_metrics
from compatcheck.compare.metrics import Changes, discrete_metrics
from compatcheck.compare.overview import Gains, Overview, WorstFlips, gains_of, together
from compatcheck.compare.pairing import Pairs, Rows, take
from compatcheck.compare.quadrants import Sorted, sort_pairs
from compatcheck.compare.result import KIND_COLUMN, PREFERENCES, QUADRANTS, Comparison, Estimate, Slice
from compatcheck.compare.scales import Scales
from compatcheck.compare.settings import Settings, signature
from compatcheck.compare.significance import mcnemar, sign_flip
from compatcheck.compare.slices import build_slices
from compatcheck.compare.ties import Choices
from compatcheck.records import CONFIDENCE, Metric, OldAsReference, StoredRun, TaskRun, agreed_column

Part = tuple[TaskRun, TaskRun, Pairs]
"""Rows of OLD and of NEW that are at hand, and which of them belong together."""


class Tally:
    """Takes the pairs of one metric.

    Args:
        beside: what else is told of the answers; None for nothing.
        names: the columns of both sides.
        file: where all instances go; None where they are one part, which then is held.
    """

    def __init__(
        self, metric: Metric, how: Settings, beside: How | None, names: Collection[str], file: InstanceFile | None
    ) -> None:
        self.metric, self.how, self._file = metric, how, file
        self._of_changes = isinstance(metric, OldAsReference)
        self._covered, self._readings = Covered(), how.readings(metric)
        self._besides = Besides(beside if how.cluster_by is None else None, names, texts=file is None)
        self._changes: Changes | None = None
        self._agreed: Counter[tuple[str, str]] = Counter()
        """Of a judge: of the answers of each side that it was asked, how often it was, and gave one verdict twice."""
        self._codes: list[np.ndarray] = []
        self._scored: list[np.ndarray] = []
        self._unanswered: list[np.ndarray] = []
        self._numbers: list[Numbers] = []
        self._gains: Gains | None = None
        self._kinds: list[str] = []
        self._worst = None if file is None else WorstFlips()
        self._choices, self._scales = Choices(), Scales()
        self._clusters: tuple[Clusters, Rows] | None = None

    def add(self, part: Part, labels: frozenset[str] | None) -> None:
        """Take note of the pairs of a part; ``labels`` are the targets of all, where they are known before."""
        how, (old, new, pairs) = self.how, part
        found = sort_pairs(
            old, new, pairs, self.metric, epsilon=how.epsilon, correct_at=how.correct_at, grade=how.grade
        )
        self._found, scored = found, found.scored
        for counter in (self._covered, self._readings):
            counter.add(found, old, new, pairs)
        self._besides.add(old, new, pairs, scored)
        self._codes.append(found.codes[scored])
        if how.correct_at is not None:
            self._scales.add(found.old[scored], found.new[scored])
        self._scored.append(scored)
        self._unanswered.append(found.unanswered)
        if found.changes is not None:
            self._changes = found.changes if self._changes is None else self._changes.plus(found.changes)
        if found.metric.kind != "discrete" and found.names not in (QUADRANTS, PREFERENCES):
            self._numbers.append(Numbers(found.old[scored], found.new[scored], found.gain[scored], found.codes[scored]))
        else:
            self._gains = together(self._gains, gains_of(found.gain[scored], "discrete"))
        if not self._of_changes:
            self._judged(part, scored)
            self._choices.add(old, new, pairs, found)
        if how.cluster_by is not None:
            # Sums over clusters, and the draws of their signs, do not depend on the order of the rows.
            order = np.argsort(take(old.records["doc_id"], pairs.old).to_numpy(dtype=object), kind="stable")
            self._clusters = find_clusters(how.cluster_by, old, new, pairs.take(order), scored[order]), order
        self._keep(build_instances(old, new, pairs, found), part, labels)

    def _judged(self, part: Part, scored: np.ndarray) -> None:
        old, new, pairs = part
        column = agreed_column(self.metric.name)
        for side, run, rows in (("old", old, pairs.old), ("new", new, pairs.new)):
            if column in run.records:
                agreed = run.records[column].to_numpy(dtype=np.float64, na_value=np.nan)[rows][scored]
                self._agreed[side, "asked"] += int(np.isfinite(agreed).sum())
                self._agreed[side, "same"] += int(np.nansum(agreed))

    def _keep(self, instances: pd.DataFrame, part: Part, labels: frozenset[str] | None) -> None:
        kinds = failure_kinds(instances, part[1], part[2].new, labels)
        instances[KIND_COLUMN] = kinds
        self._kinds.extend(() if kinds is None else kinds.dropna())
        if self._worst is None or self._file is None:
            self._instances = instances
        else:
            self._worst.add(instances)
            self._file.write(instances)

    def comparison(
        self, old: TaskRun | StoredRun, new: TaskRun | StoredRun, pairs: Pairs, values: Mapping[str, pd.Series]
    ) -> Comparison:
        """What all of it comes to; ``values`` are those of every slice field, pair by pair.

        Raises InputError: ``--correct-at`` cannot be meant for the scores of both sides."""
        if self.how.correct_at is not None and not self._of_changes:
            self._scales.check(self.how.correct_at, self.metric, old.task)
        codes, found = np.concatenate(self._codes), self._found
        n, sizes = len(codes), np.bincount(codes, minlength=len(found.names))
        counts = {name: int(size) for name, size in zip(found.names, sizes, strict=True)}
        numbers = None
        if self._numbers:
            numbers = Numbers(*(np.concatenate(each) for each in zip(*self._numbers, strict=True)))
            self._numbers = []
        metrics, tests = self._figures(counts, numbers)
        shown = None if self._clusters is None else self._clusters[0].shown
        kinds, overview = counted(self._kinds), None
        if self._worst is None:
            instances = self._instances
        else:
            gains = self._gains if numbers is None else gains_of(numbers.gain, "smooth")
            overview, instances = Overview(self._worst.rows, gains), self._worst.chosen()
        return Comparison(
            task=old.task,
            filter=old.filter,
            metric=self.metric.name,
            kind=found.metric.kind,
            signature=signature(old, new, found.metric, n, self.how, shown),
            n=n,
            pairing=self._covered.pairing(pairs, (old.rows, new.rows), old.duplicates + new.duplicates),
            quadrants=counts,
            metrics=metrics,
            tests=tests,
            instances=instances if kinds else instances.drop(columns=KIND_COLUMN),
            kinds=kinds,
            slices=self._slices(codes, values),
            confidence=CONFIDENCE,
            overview=overview,
            clusters=shown,
            score_range=None if numbers is None else score_range(numbers.old, numbers.new),
            lower_is_better=None if self._of_changes or self.metric.higher_is_better else True,
            **self._choices.fields(),
            readings=self._readings.readings(n, self._changes, self._reread),
            reference="old" if self._of_changes else None,
            beside=self._besides.figures(self.how.drawing) or None,
        )

    def _figures(
        self, counts: Mapping[str, int], numbers: Numbers | None
    ) -> tuple[dict[str, Estimate], dict[str, float | None]]:
        """Metrics and tests of the scored pairs."""
        found, drawing = self._found, self.how.drawing
        if self._of_changes:
            alike, agreed = None if numbers is None else numbers.new, found.agreed
            metrics, tests = change_figures(counts, alike, None if agreed is None else agreed[found.scored], **drawing)
        else:
            metrics, tests = figures(counts, self._changes, numbers, **drawing)
        why = "the judge was not asked: every answer is the target, or there is none"
        for side in ("old", "new"):
            if (side, "asked") in self._agreed:
                same, asked = (self._agreed[side, name] for name in ("same", "asked"))
                metrics[f"self_agreement_{side}"] = rate(same, asked, CONFIDENCE, why)
        if self._clusters is None:
            return metrics, tests
        clusters, order = self._clusters
        if self._of_changes:
            return clustered_changes(metrics, found.take(order), clusters, CONFIDENCE), tests
        return clustered_figures(metrics, found.take(order), clusters, **drawing)

    def _slices(self, codes: np.ndarray, values: Mapping[str, pd.Series]) -> tuple[Slice, ...]:
        scored, unanswered, again = np.concatenate(self._scored), np.concatenate(self._unanswered), None
        if self._clusters is not None:
            clusters, order = self._clusters
            scored, unanswered, codes = scored[order], unanswered[order], self._found.codes[order][scored[order]]
            values = {field: each.take(order) for field, each in values.items()}

            def again(part: Slice, inside: Any, down: Any, right: Any) -> Slice:
                return clustered_slice(clusters, CONFIDENCE, part, inside, down, right)

        slices = build_slices(values, scored, unanswered, (codes, self._found.names), CONFIDENCE, again)
        return tuple(map(changed_slice, slices)) if self._of_changes else slices

    def _reread(
        self, counts: Mapping[str, int], changes: Changes | None, other: Sorted | None
    ) -> Mapping[str, Estimate]:
        """The figures of another reading."""
        made = discrete_metrics(counts, changes, **self.how.drawing)
        if self._clusters is None or other is None:
            return made
        clusters, order = self._clusters
        return clustered_figures(made, other.take(order), clusters, **self.how.drawing)[0]


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
    # In an order of their own: what is resampled does not depend on the order of the rows.
    order = np.lexsort((smooth.codes, smooth.new, smooth.old, smooth.gain))
    smooth = Numbers(*(values[order] for values in smooth))
    # Its own stream of random numbers: the p-value does not depend on how many draws the bootstrap made.
    p = sign_flip(smooth.gain, resamples, np.random.default_rng([seed, 1]))
    return smooth_metrics(smooth, changes, **how), {"permutation_p": p}  # type: ignore[arg-type]
