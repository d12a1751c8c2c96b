"""The bound beside a plain computation, and where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from compatcheck.records import Manifest, Metric, Run, TaskRun
from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks
from compatcheck_train.fix.proof import bound_of

COUNT = 60


@pytest.fixture(scope="module")
def loaded(fixtures: Path) -> LoadedTask:
    return load_tasks(["piqa"], TaskOptions(data=fixtures / "data", limit=COUNT))[0]


def run_of(values: np.ndarray, left_out: frozenset[int] = frozenset()) -> Run:
    kept = [number for number in range(COUNT) if number not in left_out]
    records = pd.DataFrame({"doc_id": [str(n) for n in kept], "loglikelihoods": [list(values[n]) for n in kept]})
    return Run(
        Manifest("r", "sha256:0", "model"),
        (TaskRun("piqa", "none", (Metric("acc", "discrete", True, "t"),), records, {}),),
    )


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_both_models_averaged(metric: str, loaded: LoadedTask) -> None:
    rng = np.random.default_rng(2)
    old, new = rng.normal(-10, 3, (2, COUNT, 2))
    docs = [loaded.task.eval_docs[number] for number in range(COUNT)]
    golds = np.array([doc["label"] for doc in docs])
    lengths = np.array([[len(doc["sol1"]), len(doc["sol2"])] if metric == "acc_norm" else [1, 1] for doc in docs])
    left_out = frozenset({3, 7})
    found = bound_of(run_of(old), run_of(new, left_out), loaded, metric)
    here = [number for number in range(COUNT) if number not in left_out]
    was, now = ((table / lengths).argmax(1) == golds for table in (old, new))
    both = (softmax(old / lengths, 1) + softmax(new / lengths, 1)).argmax(1) == golds
    assert found is not None
    lost, lost_after = (was & ~now)[here], (was & ~both)[here]
    assert (found["nfr"].count, found["nfr"].of) == (lost_after.sum() - lost.sum(), COUNT - 2)
    assert found["nfr_relative"].value == pytest.approx(lost_after.sum() / lost.sum() - 1)
    assert found["score"].value == pytest.approx(both[here].mean() - now[here].mean())


def test_several_right_choices(loaded: LoadedTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice is right where it is one of them, as lm-eval counts."""
    old, new = (
        np.tile([[-1.0, -9.0, -9.0], [-9.0, -1.0, -3.0]], (COUNT // 2, 1)),
        np.tile([-9.0, -2.0, -1.0], (COUNT, 1)),
    )
    monkeypatch.setattr(loaded.task, "doc_to_choice", lambda doc: ["a", "b", "c"])
    monkeypatch.setattr(loaded.task, "doc_to_target", lambda doc: [0, 1])
    found = bound_of(run_of(old), run_of(new), loaded, "acc")
    assert found is not None
    assert (found["nfr_relative"].count, found["nfr_relative"].of) == (-COUNT, COUNT)
    assert found["score"].value == 1.0


def test_there_is_none_for_other_metrics_and_tasks(loaded: LoadedTask, fixtures: Path) -> None:
    run = run_of(np.zeros((COUNT, 2)))
    assert bound_of(run, run, loaded, "exact_match") is None
    (text,) = load_tasks(["gsm8k"], TaskOptions(data=fixtures / "data", limit=3))
    assert bound_of(run, run, text, "acc") is None
