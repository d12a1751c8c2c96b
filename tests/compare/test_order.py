"""No figure and no verdict depends on the order of the rows of OLD or of NEW."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compatcheck.advice import advise
from compatcheck.compare import compare
from compatcheck.compare.result import Comparison, Result, Side
from compatcheck.compare.serialise import result_to_dict
from compatcheck.gate import judge, parse_rules
from compatcheck.records import Metric, TaskRun

RULES = {
    "discrete": ["nfr:5%", "net:-2%", "relative_nfr:50%", "btc:90%", "agreement:80%", "nfi:20%"],
    "smooth": ["nfr:5%", "regression:0.02", "mean_regression:0.1", "mean_gain:0.1", "score_new:0.4"],
}


def sides(seed: int, n: int, kind: str) -> tuple[TaskRun, TaskRun]:
    rng = np.random.default_rng(seed)
    ids = [f"d{place}" for place in rng.permutation(10 * n)[:n]]
    if kind == "discrete":
        old, new = (rng.random(n) < 0.8).astype(float), (rng.random(n) < 0.75).astype(float)
    else:
        old = rng.random(n).round(rng.integers(1, 8))
        new = np.clip(old + rng.normal(-0.02, 0.1, n) * (rng.random(n) < 0.6), 0, 1)
    passage, topic = rng.integers(0, 12, n), rng.integers(0, 3, n)

    def run(scores: np.ndarray) -> TaskRun:
        records = pd.DataFrame(
            {
                "doc_id": ids,
                "prediction": [f"{score:.2f}" for score in scores],
                "score:m": scores,
                "passage": [None if place == 11 else f"p{place}" for place in passage],
                "topic": [f"t{place}" for place in topic],
            }
        )
        return TaskRun("t", "none", (Metric("m", kind),), records)

    return run(old), run(new)


def shuffled(run: TaskRun, rng: np.random.Generator) -> TaskRun:
    order = rng.permutation(len(run.records))
    return replace(run, records=run.records.iloc[order].reset_index(drop=True))


def everything(old: TaskRun, new: TaskRun, kind: str, clustered: bool) -> dict[str, object]:
    """All that a report holds of the comparison but its instances."""
    found = compare(
        old, new, metric="m", slice_by=["topic"], cluster_by="passage" if clustered else None, resamples=200, seed=5
    )
    judged, verdict = judge([found], parse_rules(RULES[kind]))
    side = Side("a", "b")
    result = Result(side, side, judged, verdict, advice=advise(judged, verdict))
    return result_to_dict(result)


@pytest.mark.parametrize("kind", ["discrete", "smooth"])
@pytest.mark.parametrize("clustered", [False, True])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(31, 150))
def test_every_figure_and_verdict_is_that_of_any_order(kind: str, clustered: bool, seed: int, n: int) -> None:
    old, new = sides(seed, n, kind)
    expected = everything(old, new, kind, clustered)
    rng = np.random.default_rng(seed)
    assert everything(shuffled(old, rng), shuffled(new, rng), kind, clustered) == expected


def test_twelve_orders_of_old_have_one_verdict() -> None:
    """At the edge of a budget the draws of a bootstrap decided: 7 orders passed, 5 were inconclusive."""
    rng = np.random.default_rng(0)
    old, new = sides(3, 400, "smooth")
    first = compare(old, new, metric="m").metrics["mean_difference"]
    assert first.lower is not None

    def verdict(found: Comparison) -> str:
        return judge([found], parse_rules([f"regression:{-first.lower!r}"]))[1]

    assert {verdict(compare(shuffled(old, rng), shuffled(new, rng), metric="m")) for _ in range(12)} == {"pass"}
