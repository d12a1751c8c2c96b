"""The bound for choice tasks: both models averaged at inference, which costs two models and no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from compatcheck.compare.result import Estimate
from compatcheck.records import Run
from compatcheck.tasks import LoadedTask
from compatcheck_train.fix.proof.change import rate_change, relative_rate_change


@dataclass(frozen=True)
class Bound:
    """Mean of both models' distributions over the choices: its changes against NEW, as a proof has them."""

    nfr: Estimate
    nfr_relative: Estimate
    score: Estimate


def bound_of(old: Run, new: Run, loaded: LoadedTask, metric: str) -> Bound | None:
    """The bound of ``acc`` or ``acc_norm``; None for other metrics and tasks."""
    task: Any = loaded.task
    if metric not in ("acc", "acc_norm") or task.OUTPUT_TYPE != "multiple_choice" or task.multiple_input:
        return None
    tables = [
        dict(zip(t["doc_id"], t["loglikelihoods"], strict=True)) for t in (r.tasks[0].records for r in (old, new))
    ]
    right: list[list[bool]] = [[], [], []]
    for number, doc in enumerate(task.eval_docs):
        pair = [table.get(str(number)) for table in tables]
        if any(values is None for values in pair):
            continue
        choices = task.doc_to_choice(doc)
        gold = task.doc_to_target(doc)
        gold = choices.index(gold) if isinstance(gold, str) else gold
        lengths = np.array([len(c) if metric == "acc_norm" else 1 for c in choices], dtype=np.float64)
        scores = [np.asarray(values, dtype=np.float64) / lengths for values in pair]
        mean: NDArray[np.float64] = np.mean([softmax(each) for each in scores], axis=0)
        for place, values in enumerate((*scores, mean)):
            right[place].append(int(np.argmax(values)) == gold)
    was, now, both = (np.array(each, dtype=bool) for each in right)
    lost, lost_after = was & ~now, was & ~both
    return Bound(rate_change(lost, lost_after), relative_rate_change(lost, lost_after), rate_change(now, both))
