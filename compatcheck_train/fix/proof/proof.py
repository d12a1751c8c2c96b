"""The proof: what compat changed against new, measured from old, and against the control at equal steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from compatcheck.api import compare_runs
from compatcheck.compare.intervals import Flags, Floats
from compatcheck.compare.result import Comparison, Estimate
from compatcheck.errors import InputError
from compatcheck.records import Run
from compatcheck_train.fix.proof.change import mean_change, rate_change, relative_rate_change
from compatcheck_train.fix.proof.seeds import Seeds, over_seeds
from compatcheck_train.fix.proof.verdict import COMPAT, CONTROL, MARGIN, Judgement, both, judge, of_one

NEW = "new"
Side = str | tuple[str, int]
"""``new``, ``compat``, ``control``, or one of the last two with the seed it was trained with."""


@dataclass(frozen=True)
class Flow:
    """How many documents went from one group of old → new to one of old → compat."""

    new: str
    compat: str
    count: int


@dataclass(frozen=True)
class MetricProof:
    """One (task, filter, metric). ``comparisons`` has old → new, old → compat and, where there is one, old → control.

    ``changes`` compares compat with new, ``control_changes`` the control with new, ``against_control`` compat with the
    control: ``nfr`` and ``nfr_relative`` (the fall is negative), ``nfr_mc`` and ``pfr`` where they are known, and
    ``score`` (accuracy, or the mean of a smooth metric, positive for better). ``undone`` and ``appeared`` are the
    documents whose negative flip is gone or is new with compat. ``seeds`` has the same over several trainings.
    """

    task: str
    filter: str
    metric: str
    kind: str
    n: int
    comparisons: Mapping[str, Comparison]
    changes: Mapping[str, Estimate]
    against_control: Mapping[str, Estimate]
    control_changes: Mapping[str, Estimate]
    flow: tuple[Flow, ...]
    undone: tuple[str, ...]
    appeared: tuple[str, ...]
    judgement: Judgement
    seeds: Seeds | None = None

    @property
    def name(self) -> str:
        """``task/filter/metric``, leaving out a filter that is none."""
        return self.comparisons[NEW].name


@dataclass(frozen=True)
class Proof:
    """Every metric's proof; the verdict is that of the first, which is the task's first metric or the one asked for."""

    metrics: tuple[MetricProof, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def judgement(self) -> Judgement:
        return self.metrics[0].judgement


def prove(
    old: Run, new: Run, compat: Run, control: Run | None = None, *, epsilon: float = 0.0, seed: int = 0,
    margin: float = MARGIN, trained: Mapping[int, tuple[Run, Run | None]] | None = None,
) -> Proof:  # fmt: skip
    """Compare old → new, old → compat and old → control on the documents that all of them have.

    Args:
        margin: by so much the score may be below NEW's (:func:`judge`).
        trained: compat and its control by the seed of their training, where there are several; ``compat`` and
            ``control`` are those of them that may be delivered.

    Raises:
        InputError: the runs share no task, filter and metric.
    """
    given: dict[Side, Run | None] = {NEW: new, COMPAT: compat, CONTROL: control}
    for number, (one, its_control) in (trained or {}).items():
        given |= {(COMPAT, number): one, (CONTROL, number): its_control}
    sides = {side: run for side, run in given.items() if run is not None}
    found: dict[Side, dict[tuple[str, str, str], Comparison]] = {}
    notes: list[str] = []
    for side, run in sides.items():
        comparisons, said = compare_runs(old, run, epsilon=epsilon, seed=seed)
        found[side] = {(each.task, each.filter, each.metric): each for each in comparisons}
        notes += said
    keys = [key for key in found[NEW] if all(key in each for each in found.values())]
    if not keys:
        raise InputError("old, new and compat share no task, filter and metric, so nothing can be proven")
    return Proof(
        tuple(_metric({side: each[key] for side, each in found.items()}, seed, margin) for key in keys),
        tuple(dict.fromkeys(notes)),
    )


def _metric(comparisons: Mapping[Side, Comparison], seed: int, margin: float) -> MetricProof:
    tables = {side: _scored(each) for side, each in comparisons.items()}
    shared = tables[NEW].index
    for table in tables.values():
        shared = shared.intersection(table.index)
    tables = {side: table.loc[shared] for side, table in tables.items()}
    first = comparisons[NEW]
    changes = _changes(tables[NEW], tables[COMPAT], first.kind, seed)
    against = _changes(tables[CONTROL], tables[COMPAT], first.kind, seed) if CONTROL in tables else {}
    of_control = _changes(tables[NEW], tables[CONTROL], first.kind, seed) if CONTROL in tables else {}
    judgement = judge(changes, against, of_control, margin)
    seeds = _over_seeds(tables, first.kind, seed)
    if seeds is not None:
        judgement = judge(seeds.changes, seeds.against_control, seeds.control_changes, margin)
        judgement = both(judgement, of_one(of_control if judgement.delivered == CONTROL else changes, margin))
    flips = {side: _is(table, "negative_flip") for side, table in tables.items()}
    ids = tables[NEW]["doc_id"].to_numpy(dtype=object)
    moves = Counter(zip(tables[NEW]["quadrant"], tables[COMPAT]["quadrant"], strict=True))
    return MetricProof(
        task=first.task,
        filter=first.filter,
        metric=first.metric,
        kind=first.kind,
        n=len(shared),
        comparisons={side: each for side, each in comparisons.items() if isinstance(side, str)},
        changes=changes,
        against_control=against,
        control_changes=of_control,
        flow=tuple(
            Flow(here, there, moves[here, there])
            for here in first.quadrants
            for there in first.quadrants
            if moves[here, there]
        ),
        undone=tuple(map(str, ids[flips[NEW] & ~flips[COMPAT]])),
        appeared=tuple(map(str, ids[~flips[NEW] & flips[COMPAT]])),
        judgement=judgement,
        seeds=seeds,
    )


def _over_seeds(tables: Mapping[Side, pd.DataFrame], kind: str, seed: int) -> Seeds | None:
    """The same changes as means over trainings, where there are several."""
    numbers = [side[1] for side in tables if isinstance(side, tuple) and side[0] == COMPAT]
    if not numbers:
        return None
    score = (lambda t: _right(t).astype(np.float64)) if kind == "discrete" else _gain

    def figures(side: str) -> tuple[Floats, Floats]:
        """Flips and scores, (K, n)."""
        found = [tables[side, number] for number in numbers]
        lost = np.array([_is(table, "negative_flip") for table in found], dtype=np.float64)
        return lost, np.array([score(table) for table in found])

    before = (_is(tables[NEW], "negative_flip").astype(np.float64)[None], score(tables[NEW])[None])
    return over_seeds(numbers, before, figures(COMPAT), figures(CONTROL) if CONTROL in tables else None, seed)


def _scored(comparison: Comparison) -> pd.DataFrame:
    """The scored instances by document, each once."""
    instances = comparison.instances
    table = instances[instances["quadrant"].notna()]
    key = table["doc_id"].astype(str) + "\0" + table["doc_hash"].fillna("").astype(str)
    return table.set_axis(pd.Index(key), axis=0).loc[lambda t: ~t.index.duplicated()]


def _changes(before: pd.DataFrame, after: pd.DataFrame, kind: str, seed: int) -> dict[str, Estimate]:
    lost, lost_after = _is(before, "negative_flip"), _is(after, "negative_flip")
    changes = {
        "nfr": rate_change(lost, lost_after),
        "nfr_relative": relative_rate_change(lost, lost_after, seed=seed),
        "pfr": rate_change(_is(before, "positive_flip"), _is(after, "positive_flip")),
    }
    if kind == "discrete":
        changes["score"] = rate_change(_right(before), _right(after))
        if all(table["changed"].notna().all() for table in (before, after)):
            changes["nfr_mc"] = rate_change(_inconsistent(before), _inconsistent(after))
    else:
        # gain is the distance from old in the direction of better, so its change is that of the score, signed
        changes["score"] = mean_change(_gain(before), _gain(after), seed=seed)
        changes["regression"] = mean_change(_fall(before), _fall(after), seed=seed)
    return changes


def _is(table: pd.DataFrame, quadrant: str) -> Flags:
    return np.asarray(table["quadrant"] == quadrant, dtype=bool)


def _right(table: pd.DataFrame) -> Flags:
    return _is(table, "both_correct") | _is(table, "positive_flip")


def _inconsistent(table: pd.DataFrame) -> Flags:
    """What NFR_mc counts: negative flips, and both wrong in different ways."""
    return _is(table, "negative_flip") | (_is(table, "both_wrong") & table["changed"].to_numpy(dtype=bool))


def _gain(table: pd.DataFrame) -> Floats:
    return table["gain"].to_numpy(dtype=np.float64)


def _fall(table: pd.DataFrame) -> Floats:
    """How far each document fell, 0 where it did not: NFR times mean regression, when averaged."""
    return np.maximum(-_gain(table), 0.0)
