from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compatcheck.compare import compare
from compatcheck.compare import means as module
from compatcheck.compare.significance import sign_flip
from compatcheck.errors import InputError
from compatcheck.records import Metric


def test_every_figure_of_a_small_table(make_run, smooth):
    old = make_run([0.5, 0.4, 0.9, 0.2], metric=smooth, prediction=["a", "b", "c", "d"])
    new = make_run([0.7, 0.8, 0.8, 0.2], metric=smooth, prediction=["x", "y", "z", "d"])
    found = compare(old, new, metric="rouge1")
    values = {name: (figure.value, figure.count, figure.of) for name, figure in found.metrics.items()}
    assert values == {
        "score_old": (pytest.approx(0.5), 4, 4),
        "score_new": (pytest.approx(0.625), 4, 4),
        "pfr": (0.5, 2, 4),
        "nfr": (0.25, 1, 4),
        "mean_gain": (pytest.approx(0.3), 2, 4),
        "mean_regression": (pytest.approx(0.1), 1, 4),
        "mean_difference": (pytest.approx(0.125), 4, 4),
        "agreement": (0.25, 1, 4),
    }
    assert found.metrics["mean_regression"].low is None  # one value says nothing of its spread
    assert set(found.tests) == {"permutation_p"}


def test_the_dead_band_leaves_small_gains_out_of_the_means(make_run, smooth):
    old, new = make_run([0.5] * 4, metric=smooth), make_run([0.51, 0.7, 0.49, 0.1], metric=smooth)
    metrics = compare(old, new, metric="rouge1", epsilon=0.05).metrics
    assert (metrics["mean_gain"].value, metrics["mean_regression"].value) == (pytest.approx(0.2), pytest.approx(0.4))
    assert (metrics["pfr"].value, metrics["nfr"].value) == (0.25, 0.25)
    assert metrics["mean_difference"].value == pytest.approx(-0.05)


def test_no_gain_and_no_regression_are_undefined_and_not_zero(make_run, smooth):
    run = make_run([0.5, 0.25], metric=smooth)
    metrics = compare(run, run, metric="rouge1").metrics
    assert (metrics["mean_gain"].value, metrics["mean_gain"].why) == (None, "no instance gained")
    assert (metrics["mean_regression"].value, metrics["mean_regression"].why) == (None, "no instance regressed")
    assert metrics["mean_difference"].value == 0


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=60))
def test_identities(rows):
    import pandas as pd

    from compatcheck.records import TaskRun

    def run(side):
        records = pd.DataFrame({"doc_id": [str(place) for place in range(len(rows))]})
        records["score:rouge1"] = [row[side] / 20 for row in rows]
        return TaskRun("samsum", "none", (Metric("rouge1", "smooth"),), records)

    metrics = compare(run(0), run(1), metric="rouge1", resamples=100).metrics
    value = {name: figure.value for name, figure in metrics.items()}
    assert value["mean_difference"] == pytest.approx(value["score_new"] - value["score_old"], abs=1e-12)
    parts = value["pfr"] * (value["mean_gain"] or 0) - value["nfr"] * (value["mean_regression"] or 0)
    assert value["mean_difference"] == pytest.approx(parts, abs=1e-12)
    for figure in metrics.values():
        if figure.low is not None:
            assert figure.low <= figure.high
            assert figure.lower <= figure.upper


def test_a_score_whose_powers_overflow(make_run, smooth):
    with pytest.raises(InputError, match=r"OLD has the score 1e\+60 .* within ±1e\+50"):
        compare(make_run([0.5, 1e60], metric=smooth), make_run([0.5, 0.5], metric=smooth), metric="rouge1")


def plain_bootstrap(old, new, resamples, seed):
    """A second implementation: draws rows by index and averages them, one resample at a time."""
    rng = np.random.default_rng(seed)
    means = {"score_old": [], "score_new": [], "mean_difference": [], "mean_gain": [], "mean_regression": []}
    for _ in range(resamples):
        rows = rng.choice(len(old), size=len(old), replace=True)
        gain = new[rows] - old[rows]
        means["score_old"].append(old[rows].mean())
        means["score_new"].append(new[rows].mean())
        means["mean_difference"].append(gain.mean())
        means["mean_gain"].append(gain[gain > 0].mean())
        means["mean_regression"].append(-gain[gain < 0].mean())
    return {name: np.quantile(values, [0.025, 0.975, 0.05, 0.95]) for name, values in means.items()}


def scores(n, seed=1):
    rng = np.random.default_rng(seed)
    old = rng.beta(2, 3, n)
    return old, np.clip(old + rng.normal(0.01, 0.1, n) * (rng.random(n) < 0.7), 0, 1)


def test_intervals_equal_a_second_bootstrap(make_run, smooth):
    old, new = scores(400)
    metrics = compare(
        make_run(old, metric=smooth), make_run(new, metric=smooth), metric="rouge1", resamples=4000
    ).metrics
    for name, expected in plain_bootstrap(old, new, 4000, seed=9).items():
        figure, width = metrics[name], expected[1] - expected[0]
        assert (figure.low, figure.high) == pytest.approx(expected[:2], abs=0.08 * width), name


def test_intervals_of_large_comparisons_meet_those_of_the_bootstrap(make_run, smooth, monkeypatch):
    from compatcheck.compare import intervals

    old, new = scores(3000)
    runs = make_run(old, metric=smooth), make_run(new, metric=smooth)
    by_bootstrap = compare(*runs, metric="rouge1").metrics
    monkeypatch.setattr(module, "LARGE", 500)
    monkeypatch.setattr(intervals, "LARGE", 500)
    for name, figure in compare(*runs, metric="rouge1").metrics.items():
        if name.startswith(("mean", "score")):
            other = by_bootstrap[name]
            width = other.high - other.low
            assert (figure.low, figure.high) == pytest.approx((other.low, other.high), abs=0.1 * width), name


def test_the_same_seed_gives_the_same_figures(make_run, smooth):
    old, new = scores(200)
    runs = make_run(old, metric=smooth), make_run(new, metric=smooth)
    first, again = compare(*runs, metric="rouge1", seed=3), compare(*runs, metric="rouge1", seed=3)
    assert first == again
    assert compare(*runs, metric="rouge1", seed=4).metrics["mean_gain"] != first.metrics["mean_gain"]


def test_the_permutation_p_is_that_of_the_scored_gains(make_run, smooth):
    old, new = scores(150)
    found = compare(make_run(old, metric=smooth), make_run(new, metric=smooth), metric="rouge1", seed=5)
    assert found.tests["permutation_p"] == sign_flip(np.sort(new - old), 2000, np.random.default_rng([5, 1]))
