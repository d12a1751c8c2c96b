"""The proof: figures counted by hand, intervals beside a second way, and the verdict's rules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from compatcheck.compare.intervals import newcombe, z_values
from compatcheck.compare.result import Estimate
from compatcheck.errors import ExitCode, InputError
from compatcheck.records import Manifest, Metric, Run, TaskRun
from compatcheck_train.fix.change import mean_change, rate_change, relative_rate_change
from compatcheck_train.fix.proof import Proof, prove
from compatcheck_train.fix.verdict import judge

RIGHT = Metric("acc", "discrete", True, "test")
SMOOTH = Metric("rouge1", "smooth", True, "test")


def run_of(scores: NDArray[np.float64], metric: Metric, order: NDArray[np.intp] | None = None) -> Run:
    ids = [str(i) for i in range(len(scores))]
    records = pd.DataFrame(
        {
            "doc_id": ids,
            "target": "a",
            "prediction": ["a" if s == 1 else "b" for s in scores],
            f"score:{metric.name}": scores,
        }
    )
    if order is not None:
        records = records.iloc[order].reset_index(drop=True)
    task = TaskRun("t", "none", (metric,), records, {})
    return Run(Manifest("r", "sha256:0", "model"), (task,))


def proof_of(old: Run, new: Run, compat: Run, control: Run | None = None) -> Proof:
    return prove(old, {"new": new, "compat": compat} | ({} if control is None else {"control": control}))


def random_scores(n: int, shares: tuple[float, ...], seed: int) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return [(rng.random(n) < share).astype(np.float64) for share in shares]


def test_figures_are_counted_per_document_whatever_the_order() -> None:
    old, new, compat, control = random_scores(500, (0.7, 0.75, 0.8, 0.76), 1)
    shuffled = np.random.default_rng(2).permutation(500)
    proof = proof_of(
        run_of(old, RIGHT), run_of(new, RIGHT), run_of(compat, RIGHT, shuffled), run_of(control, RIGHT)
    ).metrics[0]
    flips_new, flips_compat, flips_control = ((old == 1) & (other == 0) for other in (new, compat, control))
    assert proof.n == 500
    assert proof.changes["nfr"].count == int(flips_compat.sum()) - int(flips_new.sum())
    assert proof.changes["nfr_relative"].value == pytest.approx(flips_compat.sum() / flips_new.sum() - 1)
    assert proof.changes["score"].value == pytest.approx(compat.mean() - new.mean())
    assert proof.against_control["nfr"].value == pytest.approx(flips_compat.mean() - flips_control.mean())
    assert set(proof.undone) == {str(i) for i in np.flatnonzero(flips_new & ~flips_compat)}
    assert set(proof.appeared) == {str(i) for i in np.flatnonzero(~flips_new & flips_compat)}
    assert sum(proof.flow.values()) == 500
    undone = sum(n for (here, there), n in proof.flow.items() if here == "negative_flip" != there)
    assert undone == len(proof.undone)


def test_smooth_scores() -> None:
    rng = np.random.default_rng(3)
    old, new, compat = rng.random((3, 200))
    compat = np.maximum(compat, new)  # never below NEW
    proof = proof_of(run_of(old, SMOOTH), run_of(new, SMOOTH), run_of(compat, SMOOTH)).metrics[0]
    assert proof.changes["score"].value == pytest.approx((compat - new).mean())
    assert proof.changes["nfr"].value == pytest.approx((compat < old).mean() - (new < old).mean())
    fall = np.maximum(old - compat, 0).mean() - np.maximum(old - new, 0).mean()
    assert proof.changes["regression"].value == pytest.approx(fall)
    assert proof.judgement.verdict == "better"
    assert proof.against_control == {}


def test_interval_of_a_rate_is_newcombes() -> None:
    before = np.array([True] * 30 + [False] * 170)
    after = np.array([True] * 12 + [False] * 18 + [True] * 3 + [False] * 167)
    found = rate_change(before, after)
    low, high = newcombe(12, 3, 18, 167, z_values(0.95)[0])
    assert (found.value, found.low, found.high) == (pytest.approx(-15 / 200), low, high)


def test_relative_interval_agrees_with_a_bootstrap() -> None:
    rng = np.random.default_rng(4)
    before = rng.random(4000) < 0.1
    after = np.where(rng.random(4000) < 0.7, before, rng.random(4000) < 0.06)
    found = relative_rate_change(before, after)
    draws = []
    for _ in range(1500):
        chosen = rng.integers(0, 4000, 4000)
        draws.append(after[chosen].sum() / before[chosen].sum() - 1)
    low, high = np.quantile(draws, (0.025, 0.975))
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_mean_interval_agrees_with_the_normal_one() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.random((2, 3000))
    found = mean_change(before, after)
    error = (after - before).std(ddof=1) / np.sqrt(3000)
    assert found.low == pytest.approx((after - before).mean() - 1.96 * error, abs=error / 8)


def test_what_is_undefined_says_why() -> None:
    nothing = np.zeros(0, dtype=bool)
    assert rate_change(nothing, nothing).why == "no document was scored for both"
    none = np.zeros(10, dtype=bool)
    assert relative_rate_change(none, none).why == "there was nothing that could fall"
    assert mean_change(np.zeros(0), np.zeros(0)).value is None


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half, lower=value - 0.84 * half, upper=value + 0.84 * half)


@pytest.mark.parametrize(
    ("nfr", "score", "verdict"),
    [
        (estimate(-0.03, 0.01), estimate(0.0, 0.009), "better"),
        (estimate(-0.03, 0.01), estimate(-0.005, 0.004), "better"),
        (estimate(-0.03, 0.01), estimate(-0.005, 0.01), "inconclusive"),
        (estimate(-0.03, 0.01), estimate(-0.02, 0.03), "inconclusive"),
        (estimate(-0.03, 0.01), estimate(-0.03, 0.01), "not better"),
        (estimate(0.03, 0.01), estimate(0.05, 0.01), "not better"),
        (estimate(-0.005, 0.01), estimate(0.05, 0.01), "inconclusive"),
        (Estimate(None, why="no document was scored for both"), estimate(0, 1), "inconclusive"),
        (Estimate(-0.03, count=1, of=1), Estimate(0.0, count=1, of=1), "inconclusive"),
    ],
)
def test_verdicts(nfr: Estimate, score: Estimate, verdict: str) -> None:
    found = judge({"nfr": nfr, "score": score})
    assert found.verdict == verdict
    expected = {"better": ExitCode.OK, "not better": ExitCode.REGRESSION, "inconclusive": ExitCode.INCONCLUSIVE}
    assert found.exit_code == expected[verdict]
    assert found.delivered == "compat"


def test_the_margin_is_how_far_below_the_score_may_be() -> None:
    changes = {"nfr": estimate(-0.03, 0.01), "score": estimate(-0.01, 0.009)}
    assert judge(changes, margin=0.02).verdict == "better", "shown below NEW's, and shown to be within the margin"
    assert judge(changes, margin=0.01).verdict == "not better"
    assert "at most 2 points below NEW's" in judge(changes, margin=0.02).reason
    level = {"nfr": estimate(-0.03, 0.01), "score": estimate(0.0, 0.001)}
    assert judge(level, margin=0.0).verdict == "inconclusive"
    assert "may be more than 0 points below NEW's" in judge(level, margin=0.0).reason


def test_no_claim_without_its_interval() -> None:
    old, new, compat = random_scores(300, (0.7, 0.75, 0.85), 6)
    reason = proof_of(run_of(old, RIGHT), run_of(new, RIGHT), run_of(compat, RIGHT)).judgement.reason
    assert "95 % interval" in reason


BETTER = {"nfr": estimate(-0.03, 0.01), "score": estimate(0.02, 0.01)}


@pytest.mark.parametrize(
    ("nfr", "score", "standing", "delivered"),
    [
        (estimate(-0.02, 0.01), estimate(0.0, 0.005), "better", "compat"),
        (estimate(-0.02, 0.01), estimate(-0.03, 0.01), "fewer flips", "compat"),
        (estimate(-0.02, 0.01), estimate(0.0, 0.02), "fewer flips", "compat"),
        (estimate(-0.005, 0.01), estimate(0.01, 0.02), "open", "compat"),
        (estimate(0.005, 0.01), estimate(0.01, 0.02), "open", "compat"),
        (estimate(-0.005, 0.01), estimate(-0.01, 0.02), "open", "compat"),
        (estimate(0.0, 0.01), estimate(0.0, 0.02), "worse", "control"),
        (estimate(0.02, 0.01), estimate(-0.01, 0.02), "worse", "control"),
        (estimate(-0.001, 0.01), estimate(-0.084, 0.02), "worse", "control"),  # 8.4 points, and flips no worse
        (estimate(0.02, 0.01), estimate(0.01, 0.02), "open", "compat"),
    ],
)
def test_the_control_decides_what_is_delivered(nfr: Estimate, score: Estimate, standing: str, delivered: str) -> None:
    found = judge(BETTER, {"nfr": nfr, "score": score}, BETTER)
    assert (found.against_control, found.delivered, found.verdict) == (standing, delivered, "better")
    lost = {"nfr": estimate(-0.03, 0.01), "score": estimate(-0.05, 0.01)}
    judged = judge(BETTER, {"nfr": nfr, "score": score}, lost)
    assert judged.verdict == ("not better" if delivered == "control" else "better"), "on what is delivered"
    assert judge(BETTER).against_control == ""


def test_what_is_delivered_is_what_is_judged() -> None:
    rng = np.random.default_rng(8)
    old, new = random_scores(2000, (0.7, 0.75), 9)
    compat = np.where(rng.random(2000) < 0.2, old, new)
    control = np.maximum(compat, rng.random(2000) < 0.3)
    runs = [run_of(each.astype(float), RIGHT) for each in (old, new, compat, control)]
    found = proof_of(*runs).metrics[0]
    assert found.judgement.delivered == "control"
    assert found.control_changes["score"].value == pytest.approx(control.mean() - new.mean())
    assert f"{100 * (control.mean() - new.mean()):+.2f} points" in found.judgement.reason


def test_runs_that_share_nothing() -> None:
    old, new, compat = random_scores(10, (0.5, 0.5, 0.5), 7)
    with pytest.raises(InputError):
        proof_of(run_of(old, RIGHT), run_of(new, RIGHT), run_of(compat, SMOOTH))
