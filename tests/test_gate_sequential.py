"""Budgets judged at every look: what is decided stays decided, and failures hold over all budgets together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import QUADRANTS, Comparison, Estimate, Pairing
from compatcheck.gate import parse_rules
from compatcheck.gate.rules import ADVISORY, Rule
from compatcheck.gate.sequential import Budgets, Watched
from compatcheck.records import Metric

NAMES = ("nfr", "pfr", "net", "btc", "nfi", "accuracy_new", "relative_nfr")
ALPHA = 0.05


def comparison(task: str = "t") -> Comparison:
    import pandas as pd

    metrics = dict.fromkeys(NAMES, Estimate(0.0))
    return Comparison(task, "none", "acc", "discrete", "", 0, Pairing(0), {}, metrics, {}, pd.DataFrame())


def found(both: int = 0, positive: int = 0, negative: int = 0, wrong: int = 0) -> Sorted:
    codes = np.repeat(np.arange(4, dtype=np.int8), (both, positive, negative, wrong))
    n = len(codes)
    right_old, right_new = np.isin(codes, (0, 2)).astype(float), np.isin(codes, (0, 1)).astype(float)
    scored = np.ones(n, dtype=bool)
    metric, gain = Metric("acc", "discrete"), right_new - right_old
    return Sorted(metric, QUADRANTS, right_old, right_new, gain, codes, scored, None, None, None, (~scored, ~scored))


def budgets(*rules: str, tasks: tuple[str, ...] = ("t",), more: tuple[Rule, ...] = ()) -> Budgets:
    made = Budgets([*parse_rules(list(rules)), *more])
    for task in tasks:
        made.watch(comparison(task))
    return made


def test_a_pass_stays_although_later_instances_speak_against_it() -> None:
    judged = budgets("nfr:2%", "pfr:1%")
    judged.take("t/acc", found(both=300))
    assert [one.rule.text for one in judged.look()] == ["nfr:2%"]
    judged.take("t/acc", found(negative=100))
    judged.look()
    judged.finish()
    nfr = next(path for path in judged.paths("t/acc") if path.rule == "nfr:2%")
    assert (nfr.verdict, nfr.decided_at) == ("pass", 300)
    gate = judged.gates()["t/acc", "nfr:2%"]
    assert gate.verdict == "pass"
    assert "negative flips 0 %" in gate.reason, "the figure that decided it, not a later one"


@pytest.mark.parametrize(
    ("rule", "counts", "verdict"),
    [
        ("nfr:2%", {"both": 220}, "pass"),
        ("nfr:2%", {"both": 40, "negative": 9}, "fail"),
        ("nfr:2%", {"both": 98, "negative": 2}, "inconclusive"),
        ("nfr:0%", {"both": 100_000}, "inconclusive"),
        ("nfr:0%", {"both": 100, "negative": 1}, "fail"),
        ("nfr:100%", {"both": 1}, "pass"),
        ("net:-2%", {"both": 500}, "pass"),
        ("net:-2%", {"both": 100, "negative": 40}, "fail"),
        ("accuracy:-2%", {"both": 1960, "positive": 20, "negative": 20}, "pass"),
        ("btc:90%", {"both": 200, "negative": 2, "wrong": 500}, "pass"),
        ("nfi:50%", {"both": 500, "negative": 1, "wrong": 30}, "pass"),
        ("accuracy_new:60%", {"both": 400, "wrong": 100}, "pass"),
        ("accuracy_new:90%", {"both": 400, "wrong": 100}, "fail"),
        ("pfr:5%", {"both": 100, "positive": 30}, "pass"),
    ],
)
def test_each_figure(rule: str, counts: dict[str, int], verdict: str) -> None:
    judged = budgets(rule)
    judged.take("t/acc", found(**counts))
    judged.look()
    judged.finish()
    assert judged.gates()["t/acc", rule].verdict == verdict
    (path,) = judged.paths("t/acc")
    last = path.looks[-1]
    assert last.value is not None
    assert last.lower - 1e-9 <= last.value <= last.upper + 1e-9


def test_alone_it_fails_and_among_many_it_does_not_yet() -> None:
    """Evidence of 1/p = 30 shows a failure by itself and not among twenty budgets."""
    counts = {"both": 60, "negative": 6}
    alone, many = budgets("nfr:2%"), budgets("nfr:2%", tasks=tuple(f"t{i}" for i in range(20)))
    alone.take("t/acc", found(**counts))
    many.take("t0/acc", found(**counts))
    for task in range(1, 20):
        many.take(f"t{task}/acc", found(both=66))
    assert [one.verdict for one in alone.look()] == ["fail"]
    p = alone.watched[0].p_of_breaking
    assert ALPHA / 20 < p <= ALPHA
    assert many.look() == []
    many.take("t0/acc", found(negative=6))
    assert [one.comparison for one in many.look()] == ["t0/acc"]


def test_an_advisory_budget_neither_counts_nor_is_waited_for() -> None:
    (advisory,) = parse_rules(["pfr:50%"], ADVISORY)
    judged = budgets("nfr:2%", more=(advisory,))
    judged.take("t/acc", found(both=300))
    judged.look()
    assert not judged.open(["t/acc"])
    assert judged.gates()["t/acc", "pfr:50%"].verdict == "fail"
    assert judged.gates()["t/acc", "pfr:50%"].tier == ADVISORY


def test_nothing_scored_is_inconclusive_and_said() -> None:
    judged = budgets("nfi:50%")
    judged.take("t/acc", found(both=30))
    judged.look()
    judged.finish()
    gate = judged.gates()["t/acc", "nfi:50%"]
    assert (gate.verdict, gate.reason) == (
        "inconclusive",
        "new errors among all errors (NFI) is undefined: none of the instances that were drawn counts for it",
    )


@pytest.mark.slow
def test_failures_hold_over_all_budgets_and_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten tasks whose NFR is their budget, a look every 50 up to 1,500: how often any of them is said to fail."""
    monkeypatch.setattr(Watched, "keep_look", lambda *_: None)  # the bounds for display take most of the time
    draw, runs, wrong = np.random.default_rng(7), 200, 0
    tasks = tuple(f"t{i}" for i in range(10))
    for _ in range(runs):
        judged = budgets("nfr:5%", tasks=tasks)
        for _ in range(30):
            for task, negative in zip(tasks, draw.binomial(50, 0.05, 10), strict=True):
                judged.take(f"{task}/acc", found(both=50 - int(negative), negative=int(negative)))
            if any(one.verdict == "fail" for one in judged.look()):
                wrong += 1
                break
    assert wrong / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)
