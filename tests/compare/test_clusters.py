"""Intervals by clusters, against formulas written out again and against limits that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from compatcheck.compare import compare
from compatcheck.compare.clusters import Clusters, clustered_rate, effective_size
from compatcheck.compare.intervals import rate
from compatcheck.errors import InputError
from compatcheck.gate import judge, parse_rules
from compatcheck.records import Metric
from compatcheck.rereading import reread


def wilson(count, n, z):
    p = count / n
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def questions(make_run, passages=40, each=5, seed=0, **columns):
    """Questions on passages; NEW fails whole passages more often than single questions."""
    rng = np.random.default_rng(seed)
    passage = np.repeat([f"p{number}" for number in range(passages)], each)
    bad = np.repeat(rng.random(passages) < 0.2, each)
    new = np.where(bad, rng.random(len(bad)) < 0.3, rng.random(len(bad)) < 0.97).astype(float)
    old = (rng.random(len(bad)) < 0.9).astype(float)
    return (
        make_run(list(old), passage=list(passage), prediction=[f"o{x}" for x in old], **columns),
        make_run(list(new), prediction=[f"n{x}" for x in new]),
    )


def test_whole_clusters_that_agree_are_worth_one_instance_each_less_one(make_run):
    """Five copies of 20 questions, 4 of them flips. By hand: variance 20/19 · p(1 − p)/20, so 19 instances."""
    old = make_run([1.0] * 100, passage=[f"p{n // 5}" for n in range(100)])
    new = make_run([0.0] * 20 + [1.0] * 80)
    c = compare(old, new, metric="exact_match", cluster_by="passage")
    nfr = c.metrics["nfr"]
    assert nfr.effective == pytest.approx(19)
    assert (nfr.value, nfr.count, nfr.of) == (0.2, 20, 100)
    assert (nfr.low, nfr.high) == pytest.approx(wilson(0.2 * 19, 19, stats.t.ppf(0.975, 19)))
    worth = 19 * (stats.norm.ppf(0.95) / stats.t.ppf(0.95, 19)) ** 2
    hits = 0.2 * worth
    assert nfr.lower == pytest.approx(stats.beta.ppf(0.05, hits, worth - hits + 1))
    assert nfr.upper == pytest.approx(stats.beta.ppf(0.95, hits + 1, worth - hits))
    assert (c.clusters.field, c.clusters.count, c.clusters.largest) == ("passage", 20, 5)


def test_the_design_effect_written_out_again(make_run):
    old, new = questions(make_run)
    c = compare(old, new, metric="exact_match", cluster_by="passage")
    frame = pd.DataFrame(
        {"g": old.records["passage"], "o": old.records["score:exact_match"], "n": new.records["score:exact_match"]}
    )
    frame["nf"] = (frame.o == 1) & (frame.n == 0)
    frame["held"] = frame.o == 1
    groups = frame.groupby("g")
    for name, hit, of in (("nfr", "nf", None), ("btc", "kept", "held")):
        frame["kept"] = frame.held & (frame.n == 1)
        weight = pd.Series(1.0, frame.index) if of is None else frame[of].astype(float)
        rate = frame[hit].sum() / weight.sum()
        e = (frame[hit] - rate * weight).groupby(frame.g).sum()
        g = (weight.groupby(frame.g).sum() > 0).sum()
        variance = g / (g - 1) * (e**2).sum() / weight.sum() ** 2
        assert c.metrics[name].effective == pytest.approx(min(weight.sum(), rate * (1 - rate) / variance))
        assert c.metrics[name].value == pytest.approx(rate)
    assert c.metrics["nfr"].effective < 0.7 * len(frame)
    assert len(groups) == c.clusters.count


def test_no_flip_counts_every_cluster_as_one(make_run):
    """Clusters of 1, 2 and 3 instances: (Σ m)² / Σ m² = 36 / 14."""
    old = make_run([1.0] * 6, passage=["a", "b", "b", "c", "c", "c"])
    nfr = compare(old, make_run([1.0] * 6), metric="exact_match", cluster_by="passage").metrics["nfr"]
    assert nfr.effective == pytest.approx(36 / 14)
    assert nfr.low == 0
    assert nfr.high == pytest.approx(wilson(0, 36 / 14, stats.t.ppf(0.975, 2))[1])


def test_single_instances_as_clusters_are_nearly_the_plain_interval(make_run):
    rng = np.random.default_rng(1)
    old, new = (make_run(list((rng.random(2000) < 0.8).astype(float))) for _ in range(2))
    old.records["own"] = [str(n) for n in range(2000)]
    plain = compare(old, new, metric="exact_match").metrics
    grouped = compare(old, new, metric="exact_match", cluster_by="own").metrics
    for name in ("accuracy_new", "nfr", "pfr", "net", "btc", "nfi"):
        assert grouped[name].value == plain[name].value
        assert (grouped[name].low, grouped[name].high) == pytest.approx((plain[name].low, plain[name].high), abs=1e-3)


def test_instances_without_a_group_are_clusters_of_their_own(make_run):
    old = make_run([1.0] * 5, passage=["a", "a", None, None, "b"])
    c = compare(old, make_run([1.0, 0.0, 1.0, 1.0, 1.0]), metric="exact_match", cluster_by="passage")
    assert (c.clusters.count, c.clusters.largest) == (4, 2)


def test_means_have_students_t_by_clusters(make_run, smooth):
    """The standard error by clusters is computed here with pandas."""
    rng = np.random.default_rng(2)
    passage = np.repeat(np.arange(200), 4)
    shift = np.repeat(rng.normal(0, 0.1, 200), 4)
    gain = shift + rng.normal(0, 0.02, 800)
    old = make_run([0.5] * 800, metric=smooth, passage=[f"p{n}" for n in passage])
    new = make_run(list(0.5 + gain), metric=smooth)
    c = compare(old, new, metric="rouge1", cluster_by="passage", seed=3)
    means = pd.Series(gain).groupby(passage).mean()
    half = stats.t.ppf(0.975, 199) * means.std(ddof=1) / np.sqrt(200)
    found = c.metrics["mean_difference"]
    assert found.value == pytest.approx(gain.mean())
    assert found.high - found.low == pytest.approx(2 * half)
    plain = compare(old, new, metric="rouge1", seed=3).metrics["mean_difference"]
    assert found.high - found.low > 1.7 * (plain.high - plain.low)
    assert c.metrics["mean_gain"].low < c.metrics["mean_gain"].value < c.metrics["mean_gain"].high


@pytest.mark.slow
@pytest.mark.parametrize("groups", [3, 5, 10])
def test_means_of_few_clusters_err_at_most_one_time_in_twenty(make_run, smooth, groups):
    """Clusters of 10 that move together, at the budget: a bootstrap of 3 clusters passes one in five."""
    rng = np.random.default_rng(8)
    passed = failed = 0
    for _ in range(300):
        gain = np.repeat(rng.normal(-0.02, 0.1, groups), 10) + rng.normal(0, 0.02, 10 * groups)
        old = make_run([0.5] * len(gain), metric=smooth, passage=[f"p{n // 10}" for n in range(len(gain))])
        new = make_run(list(np.clip(0.5 + gain, 0, 1)), metric=smooth)
        c = compare(old, new, metric="rouge1", cluster_by="passage", resamples=100)
        verdict = judge([c], parse_rules(["regression:0.02"]))[1]
        passed, failed = passed + (verdict == "pass"), failed + (verdict == "fail")
    assert max(passed, failed) / 300 <= 0.05 + 1.645 * np.sqrt(0.05 * 0.95 / 300)
    if groups < 5:
        assert passed == failed == 0


def test_intervals_cover_what_is_true_where_plain_ones_do_not():
    """60 clusters of 8 instances that flip together at 10 %: of 400 samples, counted."""
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(60), 8)
    covered = {"clusters": 0, "plain": 0}
    for _ in range(400):
        rate = rng.beta(0.5, 4.5, 60)
        part = rng.random(480) < np.repeat(rate, 8)
        size, groups = effective_size(part, np.ones(480, dtype=bool), Clusters("g", codes, 60))
        for name, n, z in (("clusters", size, stats.t.ppf(0.975, groups - 1)), ("plain", 480, 1.96)):
            low, high = wilson(part.mean() * n, n, z)
            covered[name] += low <= 0.1 <= high
    assert covered["clusters"] >= 0.92 * 400
    assert covered["plain"] < 0.87 * 400


def test_the_gate_and_the_signature_count_by_clusters(make_run):
    """4 flips in 1,000 keep nfr:2% as single instances (field rule: up to 12), not as one passage among 50."""
    old = make_run([1.0] * 1000, passage=[f"p{n // 20}" for n in range(1000)])
    new = make_run([0.0] * 12 + [1.0] * 988)
    verdicts = {}
    for field in (None, "passage"):
        c = compare(old, new, metric="exact_match", cluster_by=field)
        (judged,), verdicts[field] = judge([c], parse_rules(["nfr:2%"]))
        needed = judged.gates[0].needed_n
    assert verdicts == {None: "pass", "passage": "inconclusive"}
    assert needed is not None and needed > 1000
    assert "|clusters:passage:50|ci:wilson95-effective-n|bounds:clopper-pearson95-effective-n+gaffke95|" in c.signature
    assert "clusters" not in compare(old, new, metric="exact_match").signature


def test_the_test_exchanges_the_signs_of_whole_clusters(make_run):
    """One passage of 8 falls: McNemar says p = 0.008, but of one cluster that moved p is 1."""
    old = make_run([1.0] * 40, passage=[f"p{n // 8}" for n in range(40)])
    new = make_run([0.0] * 8 + [1.0] * 32)
    assert compare(old, new, metric="exact_match").tests["mcnemar_p"] == pytest.approx(2 * 0.5**8)
    assert compare(old, new, metric="exact_match", cluster_by="passage").tests == {"permutation_p": 1.0}


def test_slices_are_tested_by_clusters(make_run):
    """The t-test of two rates with residuals about the rate of all, by clusters, written out again."""
    old, new = questions(make_run, topic=["a", "a", "b", "b", "b"] * 40)
    found = compare(old, new, metric="exact_match", cluster_by="passage", slice_by=["topic"]).slices
    down = ((old.records["score:exact_match"] == 1) & (new.records["score:exact_match"] == 0)).astype(float)
    for part in found:
        inside = old.records["topic"] == part.value
        mine, rest = down[inside].mean(), down[~inside].mean()
        e = (down - down.mean()) * np.where(inside, 1 / inside.sum(), -1 / (~inside).sum())
        sums = pd.Series(e).groupby(old.records["passage"]).sum()
        error = np.sqrt(40 / 39 * (sums**2).sum())
        assert part.p == pytest.approx(stats.t.sf((mine - rest) / error, 39))
        assert part.nfr.effective is not None


def test_a_slice_in_few_clusters_has_no_p_value(make_run):
    """A slice within one cluster has a spread of its own of nothing: it says nothing of other clusters."""
    old = make_run(
        [1.0] * 100, passage=[f"p{n // 10}" for n in range(100)], topic=["one"] * 10 + ["few"] * 30 + ["many"] * 60
    )
    new = make_run([0.0] * 5 + [1.0] * 95)
    found = compare(old, new, metric="exact_match", cluster_by="passage", slice_by=["topic"]).slices
    # "many" is held against a rest of 4 clusters.
    assert [each.p for each in found] == [None, None, None]
    old.records["topic"] = ["first"] * 50 + ["second"] * 50
    found = compare(old, new, metric="exact_match", cluster_by="passage", slice_by=["topic"]).slices
    assert all(0 < each.p < 1 for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("within", [True, False])
def test_slices_of_nothing_are_found_one_time_in_twenty(make_run, within):
    """Null data in 20 clusters of 10; slices that follow the clusters, and slices that cross them."""
    rng = np.random.default_rng(12)
    found = 0
    for _ in range(300):
        rate = np.repeat(rng.beta(0.4, 3.6, 20), 10)
        down = rng.random(200) < rate
        topic = np.repeat(rng.permutation(20) % 3, 10) if within else rng.integers(0, 3, 200)
        old = make_run([1.0] * 200, passage=[f"p{n // 10}" for n in range(200)], topic=[f"t{n}" for n in topic])
        new = make_run(list(1.0 - down))
        c = compare(old, new, metric="exact_match", cluster_by="passage", slice_by=["topic"], resamples=100)
        found += any(each.p_adjusted is not None and each.p_adjusted < 0.05 for each in c.slices)
    assert found / 300 <= 0.05 + 1.645 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("passsage", "--cluster-by: the records of task 'arithmetic' have no field 'passsage'.*did you mean 'passage'"),
        ("passage", "all 4 instances of task 'arithmetic' are in one cluster"),
    ],
)
def test_fields_that_make_no_clusters(make_run, field, message):
    run = make_run([1.0] * 4, passage=["a"] * 4)
    with pytest.raises(InputError, match=message):
        compare(run, run, metric="exact_match", cluster_by=field)


def test_a_metric_made_discrete_counts_by_clusters_too(make_run):
    metric = Metric("rouge1", "smooth")
    old = make_run([0.9] * 20, metric=metric, passage=[f"p{n // 2}" for n in range(20)])
    new = make_run([0.1] * 4 + [0.9] * 16, metric=metric)
    nfr = compare(old, new, metric="rouge1", correct_at=0.5, cluster_by="passage").metrics["nfr"]
    assert nfr.effective == pytest.approx(9)


@pytest.mark.parametrize(("alpha", "beta", "count"), [(0.2, 3.8, 30), (0.05, 0.95, 30), (0.1, 9.9, 50), (0.2, 1.8, 20)])
def test_a_rate_of_rare_clusters_passes_at_its_budget_one_time_in_twenty(alpha, beta, count):
    """Clusters of 10 that flip together: where few flips were seen, their design effect is too small as well."""
    rng = np.random.default_rng(13)
    codes, every = np.repeat(np.arange(count), 10), np.ones(10 * count, dtype=bool)
    budget, passed = alpha / (alpha + beta), 0
    for _ in range(500):
        down = rng.random(10 * count) < np.repeat(rng.beta(alpha, beta, count), 10)
        figure = rate(int(down.sum()), len(down), 0.95)
        passed += clustered_rate(figure, down, every, Clusters("g", codes, count), 0.95).upper <= budget
    assert passed / 500 <= 0.05 + 1.645 * np.sqrt(0.05 * 0.95 / 500)


def test_other_readings_count_by_the_same_clusters(make_run):
    """What their intervals are does not depend on the order of the rows either."""
    ids = [f"d{n:03d}" for n in range(60)]
    texts = {"prediction": ["Yes" if n % 3 else "no" for n in range(60)], "target": ["yes"] * 60}
    old = make_run([0.0] * 60, ids=ids, passage=[f"p{n // 6}" for n in range(60)], **texts)
    new = make_run([0.0] * 60, ids=ids, **texts | {"prediction": ["Yes" if n < 40 else "no" for n in range(60)]})
    order = np.random.default_rng(1).permutation(60)
    shuffled = replace(old, records=old.records.iloc[order].reset_index(drop=True))
    how = {"metric": "exact_match", "cluster_by": "passage", "reread": reread}
    one, other = compare(old, new, **how), compare(shuffled, new, **how)
    assert one.readings[0].metrics["nfr"].effective < 60
    assert other.readings == one.readings
