"""Figures of a divergence against plain sums, and how often their bounds hold."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import skew

from compatcheck.compare.comparison import compare
from compatcheck.compare.divergence import Positive, Spread, with_divergence
from compatcheck.compare.result import Comparison
from compatcheck.errors import InputError
from compatcheck.gate import judge, parse_rules
from compatcheck.records import Metric, TaskRun, TokenDivergence


def comparison(count: int = 60, metric: str = "acc", **more: object) -> Comparison:
    def run(right: int) -> TaskRun:
        records = pd.DataFrame({
            "doc_id": [str(n) for n in range(count)], "prediction": ["a"] * right + ["b"] * (count - right),
            f"score:{metric}": [1.0] * right + [0.0] * (count - right), "topic": [f"t{n % 12}" for n in range(count)],
        })  # fmt: skip
        return TaskRun("task", "none", (Metric(metric, "discrete"),), records)

    return compare(run(count), run(max(0, count - 2)), metric=metric, **more)


def divergence(count: int = 60, scale: float = 1.0, seed: int = 0) -> TokenDivergence:
    """Documents of 1 to 20 tokens, whose divergences are skewed."""
    rng = np.random.default_rng(seed)
    documents = np.repeat(np.arange(count), rng.integers(1, 21, count))
    size = len(documents)
    return TokenDivergence(
        "task", "prompt and right choice", tuple(map(str, range(count))), documents,
        scale * rng.lognormal(-4, 1.5, size), -rng.exponential(2, size), -rng.exponential(2, size),
        rng.random(size) < 0.95,
    )  # fmt: skip


def test_figures_are_plain_means_over_tokens() -> None:
    found = divergence()
    (done,) = with_divergence([comparison()], [found])
    kl, mean = done.kl, done.metrics["kl"]
    assert kl is not None and mean.value is not None and mean.low is not None and mean.high is not None
    assert mean.value == pytest.approx(found.kl.mean())
    assert mean.low < mean.value < mean.high
    assert (mean.of, kl.tokens, kl.documents) == (len(found.kl), len(found.kl), 60)
    assert list(kl.percentiles) == ["50", "90", "99", "99.9", "max"]
    assert kl.percentiles["50"] == pytest.approx(np.median(found.kl))
    assert kl.percentiles["max"] == found.kl.max()
    assert kl.same_top.count == found.same_top.sum()
    assert kl.perplexity_old == pytest.approx(np.exp(-found.logprob_old.mean()))
    assert kl.perplexity_ratio.value == pytest.approx(kl.perplexity_new / kl.perplexity_old)
    assert kl.perplexity_ratio.low is not None and kl.perplexity_ratio.high is not None
    assert kl.perplexity_ratio.low < kl.perplexity_ratio.value < kl.perplexity_ratio.high


def test_bounds_are_moved_by_the_skewness_that_was_seen() -> None:
    totals, ones = np.array([1.0] * 39 + [9.0]), np.ones(40)
    found = Spread.of(totals, ones)
    assert found.skew == pytest.approx(skew(totals))
    lower, upper = found(0.95)
    assert upper - found.value > found.value - lower
    mirrored = Spread.of(-totals, ones)(0.95)
    assert mirrored == pytest.approx((-upper, -lower))


def test_it_stands_once_in_the_first_comparison_of_its_task() -> None:
    both = [comparison(), comparison(metric="acc_norm")]
    done = with_divergence(both, [divergence()])
    assert done[0].kl is not None and done[1] == both[1]
    assert with_divergence(both, []) == both


def test_the_order_of_documents_has_no_bearing() -> None:
    found = divergence()
    order = np.random.default_rng(1).permutation(len(found.kl))
    names = ("documents", "kl", "logprob_old", "logprob_new", "same_top")
    other = replace(found, **{name: getattr(found, name)[order] for name in names})
    one, two = (with_divergence([comparison()], [each])[0].metrics["kl"] for each in (found, other))
    assert two.value == pytest.approx(one.value) and two.upper == pytest.approx(one.upper)


@pytest.mark.parametrize(("scale", "verdict"), [(0.1, "pass"), (1.0, "inconclusive"), (10.0, "fail")])
def test_a_budget_is_judged_by_the_bound(scale: float, verdict: str) -> None:
    done = with_divergence([comparison()], [divergence(scale=scale)])
    value = done[0].metrics["kl"].value
    assert value is not None
    rule = f"kl:{1.05 * value if verdict == 'inconclusive' else 0.05}"
    (judged,), found = judge(done, parse_rules([rule]))
    assert found == verdict, judged.gates


def test_few_documents_settle_nothing_and_a_single_one_has_no_interval() -> None:
    for count in (1, 29):
        done = with_divergence([comparison(count)], [divergence(count, scale=1e-6)])
        (judged,), verdict = judge(done, parse_rules(["kl:0.5"]))
        assert verdict == "inconclusive"
        assert judged.gates[0].needed_n == 30
    assert with_divergence([comparison(1)], [divergence(1)])[0].metrics["kl"].low is None


def test_clusters_are_those_of_the_comparison() -> None:
    plain, grouped = (
        with_divergence([comparison(**by)], [divergence()], by.get("cluster_by"))[0]  # type: ignore[arg-type]
        for by in ({}, {"cluster_by": "topic"})
    )
    assert plain.metrics["kl"].value == pytest.approx(grouped.metrics["kl"].value)
    assert (plain.metrics["kl"].effective, grouped.metrics["kl"].effective) == (60, 12)
    assert judge([grouped], parse_rules(["kl:9"]))[1] == "inconclusive"


@pytest.mark.parametrize("rule", ["kl:1%", "kl:-0.1", "topic=t1/kl:0.1"])
def test_what_cannot_be_meant_is_refused(rule: str) -> None:
    with pytest.raises(InputError, match="kl"):
        parse_rules([rule])


def test_a_budget_without_a_measurement_says_what_is_missing() -> None:
    with pytest.raises(InputError, match="add --metric kl"):
        judge([comparison()], parse_rules(["kl:0.01"]))


def test_bounds_err_no_more_often_than_they_say() -> None:
    """Means of skewed values, as divergences are: Student's t alone would err 14 % of the time here."""
    rng, runs, groups = np.random.default_rng(2), 600, 60
    true = np.exp(0.5)
    above = below = plain = 0
    for _ in range(runs):
        sizes = rng.integers(5, 40, groups).astype(np.float64)
        totals = sizes * rng.lognormal(0, 1, groups)
        low, high = Positive.of(totals, sizes)(0.95)
        above, below = above + (high < true), below + (low > true)
        plain += replace(Spread.of(totals, sizes), skew=0.0)(0.95)[1] < true
    assert plain / runs > 0.1
    assert above / runs < 0.075
    assert below / runs < 0.075


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(1, 90)), min_size=2, max_size=40))
def test_bounds_are_on_their_sides_of_the_mean(documents: list[tuple[float, int]]) -> None:
    means, sizes = (np.array(each, dtype=np.float64) for each in zip(*documents, strict=True))
    value = float((means * sizes).sum() / sizes.sum())
    for kind in (Spread, Positive):
        bounds = [kind.of(means * sizes, sizes)(confidence) for confidence in (0.9, 0.95, 0.99)]
        near = 1e-9 * (1 + value)
        assert all(low <= value + near and high >= value - near for low, high in bounds)
        assert all(wide[0] <= narrow[0] + near and wide[1] >= narrow[1] - near for narrow, wide in pairwise(bounds))


def test_half_of_the_documents_do_not_pass_for_all() -> None:
    (done,) = with_divergence([comparison(400)], [divergence(200, scale=1e-6)])
    (judged,), verdict = judge([done], parse_rules(["kl:0.01"]))
    assert verdict == "inconclusive"
    assert judged.gates[0].doubt is not None
    assert judged.gates[0].doubt.startswith("200 of 400 rows (50 %) do not say how far apart both models are")
