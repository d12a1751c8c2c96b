"""The proof: what compat changed against new, measured from old, and against the control at equal steps; and the bound
for choice tasks, both models averaged at inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from compatcheck.api import compare_runs
from compatcheck.compare.intervals import Flags
from compatcheck.compare.result import Comparison
from compatcheck.errors import InputError
from compatcheck.records import Run
from compatcheck.tasks import LoadedTask
from compatcheck_train.fix.change import (
    Changes,
    Figures,
    Seeds,
    mean_change,
    over_seeds,
    rate_change,
    relative_rate_change,
)
from compatcheck_train.fix.verdict import COMPAT, CONTROL, MARGIN, Judgement, both, judge, of_one

NEW = "new"
Side = str | tuple[str, int]
"""``new``, ``compat``, ``control``, or one of the last two with the seed it was trained with."""


@dataclass(frozen=True)
class MetricProof:
    """One (task, filter, metric). ``comparisons`` has old → new, old → compat and, where there is one, old → control.

    ``changes`` compares compat with new, ``control_changes`` the control with new, ``against_control`` compat with the
    control: ``nfr`` and ``nfr_relative``, ``nfr_mc`` and ``pfr`` where they are known, and ``score`` (accuracy, or the
    mean of a smooth metric, positive for better). ``flow`` counts the documents by their group of old → new and of old
    → compat; ``undone`` and ``appeared`` are those whose negative flip is gone or is new with compat. ``seeds`` has the
    same over several trainings."""

    task: str
    filter: str
    metric: str
    kind: str
    n: int
    comparisons: Mapping[str, Comparison]
    changes: Changes
    against_control: Changes
    control_changes: Changes
    flow: Mapping[tuple[str, str], int]
    undone: tuple[str, ...]
    appeared: tuple[str, ...]
    judgement: Judgement
    seeds: Seeds | None = None


@dataclass(frozen=True)
class Proof:
    """Every metric's proof; the verdict is that of the first, which is the task's first metric or the one asked for."""

    metrics: tuple[MetricProof, ...]
    notes: tuple[str, ...] = ()

    @property
    def judgement(self) -> Judgement:
        return self.metrics[0].judgement


def prove(
    old: Run, sides: Mapping[Any, Run], seed: int = 0, margin: float = MARGIN, correct_at: float | None = None
) -> Proof:
    """Compare old → every side on the documents that all of them have: ``new``, ``compat`` and, where there is one,
    ``control``; where there were several trainings, all of them too, by side and seed (:data:`Side`): the former are
    those of them that may be delivered then. InputError where the runs share no task, filter and metric."""
    found: dict[Side, dict[tuple[str, str, str], Comparison]] = {}
    notes: list[str] = []
    for side, run in sides.items():
        comparisons, said = compare_runs(old, run, epsilon=0.0, correct_at=correct_at, seed=seed)
        found[side] = {(each.task, each.filter, each.metric): each for each in comparisons}
        notes += said
    keys = [key for key in found[NEW] if all(key in each for each in found.values())]
    if not keys:
        raise InputError("old, new and compat share no task, filter and metric, so nothing can be proven")
    metrics = (_metric({side: each[key] for side, each in found.items()}, seed, margin) for key in keys)
    return Proof(tuple(metrics), tuple(dict.fromkeys(notes)))


def _metric(comparisons: Mapping[Side, Comparison], seed: int, margin: float) -> MetricProof:
    tables = {side: _scored(each) for side, each in comparisons.items()}
    shared = tables[NEW].index
    for table in tables.values():
        shared = shared.intersection(table.index)
    tables = {side: table.loc[shared] for side, table in tables.items()}
    first = comparisons[NEW]

    def changes(before: str, after: str) -> Changes:
        return _changes(tables[before], tables[after], first.kind, seed) if {before, after} <= tables.keys() else {}

    own, against, of_control = changes(NEW, COMPAT), changes(CONTROL, COMPAT), changes(NEW, CONTROL)
    judgement = judge(own, against, of_control, margin)
    seeds = _over_seeds(tables, first.kind, seed)
    if seeds is not None:
        judgement = judge(seeds.changes, seeds.against_control, seeds.control_changes, margin)
        judgement = both(judgement, of_one(of_control if judgement.delivered == CONTROL else own, margin))
    before, after = (_is(tables[side], "negative_flip") for side in (NEW, COMPAT))
    ids = tables[NEW]["doc_id"].to_numpy(dtype=object)
    moves = Counter(zip(tables[NEW]["quadrant"], tables[COMPAT]["quadrant"], strict=True))
    groups = [(here, there) for here in first.quadrants for there in first.quadrants]
    return MetricProof(
        first.task, first.filter, first.metric, first.kind, len(shared),
        {side: each for side, each in comparisons.items() if isinstance(side, str)}, own, against, of_control,
        {move: moves[move] for move in groups if moves[move]}, tuple(map(str, ids[before & ~after])),
        tuple(map(str, ids[~before & after])), judgement, seeds,
    )  # fmt: skip


def _over_seeds(tables: Mapping[Side, pd.DataFrame], kind: str, seed: int) -> Seeds | None:
    """The same changes as means over trainings, where there are several."""
    numbers = [side[1] for side in tables if isinstance(side, tuple) and side[0] == COMPAT]
    if not numbers:
        return None

    def figures(found: list[pd.DataFrame]) -> Figures:
        lost = [_is(table, "negative_flip").astype(np.float64) for table in found]
        score = [_right(table) if kind == "discrete" else table["gain"] for table in found]
        return np.array(lost), np.array(score, dtype=np.float64)

    compat, control = (
        figures([tables[side, number] for number in numbers]) if (side, numbers[0]) in tables else None
        for side in (COMPAT, CONTROL)
    )
    assert compat is not None
    return over_seeds(numbers, figures([tables[NEW]]), compat, control, seed)


def _scored(comparison: Comparison) -> pd.DataFrame:
    """The scored instances by document, each once."""
    table = comparison.instances[comparison.instances["quadrant"].notna()]
    key = table["doc_id"].astype(str) + "\0" + table["doc_hash"].fillna("").astype(str)
    return table.set_axis(pd.Index(key), axis=0).loc[lambda t: ~t.index.duplicated()]


def _changes(before: pd.DataFrame, after: pd.DataFrame, kind: str, seed: int) -> Changes:
    lost, lost_after = _is(before, "negative_flip"), _is(after, "negative_flip")
    changes = {
        "nfr": rate_change(lost, lost_after),
        "nfr_relative": relative_rate_change(lost, lost_after, seed),
        "pfr": rate_change(_is(before, "positive_flip"), _is(after, "positive_flip")),
    }
    if kind != "discrete":
        # gain is the distance from old in the direction of better, so its change is that of the score, signed; a fall
        # is 0 where a document did not fall: NFR times mean regression, when averaged
        gain, gain_after = (table["gain"].to_numpy(dtype=np.float64) for table in (before, after))
        changes["score"] = mean_change(gain, gain_after, seed)
        changes["regression"] = mean_change(np.maximum(-gain, 0.0), np.maximum(-gain_after, 0.0), seed)
        return changes
    changes["score"] = rate_change(_right(before), _right(after))
    if all(table["changed"].notna().all() for table in (before, after)):
        # negative flips, and both wrong in different ways
        wrong = (_is(t, "both_wrong") & t["changed"].to_numpy(dtype=bool) for t in (before, after))
        changes["nfr_mc"] = rate_change(lost | next(wrong), lost_after | next(wrong))
    return changes


def _is(table: pd.DataFrame, quadrant: str) -> Flags:
    return np.asarray(table["quadrant"] == quadrant, dtype=bool)


def _right(table: pd.DataFrame) -> Flags:
    return _is(table, "both_correct") | _is(table, "positive_flip")


def bound_of(old: Run, new: Run, loaded: LoadedTask, metric: str) -> Changes | None:
    """The mean of both models' distributions over the choices, which costs two models and no training: its changes
    against NEW for ``acc`` or ``acc_norm``; None for other metrics and tasks."""
    task: Any = loaded.task
    if metric not in ("acc", "acc_norm") or task.OUTPUT_TYPE != "multiple_choice" or task.multiple_input:
        return None
    tables = [
        dict(zip(t["doc_id"], t["loglikelihoods"].to_numpy(dtype=object, na_value=None), strict=True))
        for t in (run.tasks[0].records for run in (old, new))
    ]
    right: list[tuple[bool, ...]] = []
    for number, doc in enumerate(task.eval_docs):
        pair = [table.get(str(number)) for table in tables]
        if any(values is None for values in pair):
            continue
        choices, target = task.doc_to_choice(doc), task.doc_to_target(doc)
        several = target if isinstance(target, list) else [target]
        gold = {choices.index(each) if isinstance(each, str) else each for each in several}
        lengths = np.array([len(c) if metric == "acc_norm" else 1 for c in choices], dtype=np.float64)
        scores = [np.asarray(values, dtype=np.float64) / lengths for values in pair]
        mean: NDArray[np.float64] = np.mean([softmax(each) for each in scores], axis=0)
        right.append(tuple(int(np.argmax(values)) in gold for values in (*scores, mean)))
    was, now, averaged = np.array(right, dtype=bool).reshape(-1, 3).T
    lost, lost_after = was & ~now, was & ~averaged
    relative, score = relative_rate_change(lost, lost_after), rate_change(now, averaged)
    return {"nfr": rate_change(lost, lost_after), "nfr_relative": relative, "score": score}
