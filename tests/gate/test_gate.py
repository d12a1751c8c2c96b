from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from compatcheck.compare import compare
from compatcheck.compare.intervals import exact, net_bounds
from compatcheck.compare.plan import needed_to_settle
from compatcheck.errors import ExitCode
from compatcheck.gate import exit_code, judge, parse_rules, settle
from compatcheck.records import Metric, TaskRun


def discrete(both=0, positive=0, negative=0, wrong=0, *, task="gsm8k", filter="none", metric="exact_match"):
    """A comparison with these quadrant counts."""
    old = np.repeat([1.0, 0.0, 1.0, 0.0], [both, positive, negative, wrong])
    new = np.repeat([1.0, 1.0, 0.0, 0.0], [both, positive, negative, wrong])
    return _compare(old, new, Metric(metric, "discrete"), task, filter, predictions=True)


def smooth(old, new, *, task="samsum", metric="rouge1", higher_is_better=True):
    return _compare(np.asarray(old), np.asarray(new), Metric(metric, "smooth", higher_is_better), task, "none")


def _compare(old, new, metric, task, filter, *, predictions=False, group=None):
    def run(scores):
        records = pd.DataFrame({"doc_id": [str(place) for place in range(len(scores))], f"score:{metric.name}": scores})
        if predictions:
            records["prediction"] = [str(score) for score in scores]
        if group is not None:
            records["group"] = group
        return TaskRun(task, filter, (metric,), records)

    return compare(run(old), run(new), metric=metric.name, cluster_by=None if group is None else "group")


def gates(rule, *comparisons):
    judged, _ = judge(comparisons, parse_rules([rule]))
    return [gate for each in judged for gate in each.gates]


def gate(rule, comparison):
    (found,) = gates(rule, comparison)
    return found


@pytest.mark.parametrize(
    ("n", "most_that_pass", "least_that_fail"),
    [(100, None, 6), (148, None, 7), (149, 0, 7), (200, 0, 8), (500, 4, 16), (1000, 12, 29), (2000, 29, 52)],
)
def test_a_budget_of_two_percent_on_nfr(n, most_that_pass, least_that_fail):
    def verdict(flips):
        return gate("nfr:2%", discrete(both=n - flips, negative=flips)).verdict

    if most_that_pass is None:
        assert verdict(0) == "inconclusive"
    else:
        assert (verdict(most_that_pass), verdict(most_that_pass + 1)) == ("pass", "inconclusive")
    assert (verdict(least_that_fail - 1), verdict(least_that_fail)) == ("inconclusive", "fail")


def test_half_of_the_scores_falling_is_not_identical():
    comparison = smooth([0.6] * 500, [0.4, 0.6] * 250)
    assert gate("nfr:2%", comparison).verdict == "fail"
    assert gate("rouge1.regression:0.03", comparison).verdict == "fail"
    assert gate("mean_regression:0.1", comparison).verdict == "fail"


def test_a_small_drop_of_the_mean_keeps_a_wide_limit():
    old = np.random.default_rng(0).beta(2, 3, 2000)
    found = gate("rouge1.regression:0.05", smooth(old, old - 0.002))
    assert found.verdict == "pass"
    assert found.reason == "mean difference −0.002, with 95 % confidence at least −0.0035: not below the −0.05 allowed"


def test_few_flips_among_many_pass():
    assert gate("nfr:2%", discrete(both=700, positive=3, negative=2, wrong=295)).verdict == "pass"


def test_reasons_read_as_sentences():
    assert gate("nfr:2%", discrete(both=899, negative=41, wrong=60)).reason == (
        "negative flips 4.1 %, with 95 % confidence at least 3.12 %: more than the 2 % allowed"
    )
    assert gate("nfr:5%", discrete(both=899, negative=31, wrong=70)).reason == (
        "negative flips 3.1 %, with 95 % confidence at most 4.16 %: within the 5 % allowed"
    )
    assert gate("nfr:2%", discrete(both=99, negative=1)).reason == (
        "negative flips 1 % (0.0513 % to 4.66 % by one-sided 95 % bounds): whether that keeps the budget of at most "
        "2 % is open; about 1,100 instances would settle it 80 % of the time if it stays so (there are 100)"
    )


def test_figures_that_would_read_like_the_budget_get_more_digits():
    found = gate("nfr:1.2%", discrete(both=98_800 - 4, negative=1_204))
    assert found.verdict == "inconclusive"
    assert "negative flips 1.204 %" in found.reason


@pytest.mark.parametrize(("flips", "n", "budget"), [(0, 100, 0.02), (1, 100, 0.02), (3, 100, 0.02), (3, 300, 0.02)])
def test_the_needed_number_settles_the_rule_four_times_in_five(flips, n, budget):
    """By exact sums over the verdicts of the gate itself, with the observed rate as the true one."""
    needed = gate(f"nfr:{100 * budget}%", discrete(both=n - flips, negative=flips)).needed_n
    right = "pass" if flips / n < budget else "fail"

    def power(size):
        most = int(binom.ppf(1 - 1e-9, size, flips / n))
        kept = [k for k in range(most + 1) if settle(True, budget, *exact(k, size, 0.95)) == right]
        return sum(binom.pmf(kept, size, flips / n)) + (binom.sf(most, size, flips / n) if right == "fail" else 0)

    assert power(needed) >= 0.8
    assert power(needed - 1) < 0.8


def test_the_needed_number_is_that_of_the_plan():
    assert gate("nfr:2%", discrete(both=99, negative=1)).needed_n == needed_to_settle(0.02, 0.01)
    assert gate("agreement:98%", discrete(both=99, negative=1)).needed_n == needed_to_settle(0.02, 0.01)


def test_a_budget_of_two_percent_takes_149_instances_without_a_flip():
    assert gate("nfr:2%", discrete(both=100)).needed_n == 149
    assert gate("nfr:2%", discrete(both=148)).verdict == "inconclusive"
    assert gate("nfr:2%", discrete(both=149)).verdict == "pass"


@pytest.mark.parametrize("n", [100, 140, 149])
def test_accuracy_is_kept_by_no_fewer_instances_than_nfr(n):
    """Without a flip both say the same: at most so many get worse. Newcombe's and Tango's bounds passed earlier."""
    pairs = discrete(both=n // 2, wrong=n - n // 2)
    assert gate("accuracy:-2%", pairs).verdict == gate("nfr:2%", pairs).verdict
    assert pairs.metrics["net"].lower == -pairs.metrics["nfr"].upper


def test_a_value_on_the_budget_has_no_needed_number():
    found = gate("nfr:2%", discrete(both=98, negative=2))
    assert (found.verdict, found.needed_n) == ("inconclusive", None)
    assert "the observed value is the budget itself" in found.reason


def test_a_budget_that_leaves_no_room_cannot_be_proven():
    found = gate("nfr:0%", discrete(both=1000))
    assert (found.verdict, found.needed_n) == ("inconclusive", None)
    assert "no sample, however large, proves a budget that leaves no room" in found.reason
    assert gate("nfr:0", discrete(both=999, negative=1)).verdict == "fail"


def test_lower_budgets_are_judged_the_other_way_round():
    better, worse = discrete(600, 100, 20, 280), discrete(600, 20, 100, 280)
    assert gate("net:-1%", better).verdict == "pass"
    assert gate("net:-1%", worse).verdict == "fail"
    assert gate("net:-1%", discrete(60, 2, 2, 36)).verdict == "inconclusive"
    assert gate("accuracy_new:60%", better).verdict == "pass"
    assert gate("accuracy_new:75%", better).verdict == "fail"
    assert gate("btc:90%", better).verdict == "pass"
    assert gate("agreement:95%", better).verdict == "fail"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "shares", "right"),
    [("net:-2%", (0.05, 0.05), "pass"), ("net:-2%", (0.0, 0.0), "pass"), ("net:-1%", (0.02, 0.05), "fail")],
)
def test_the_needed_number_of_a_difference_settles_it_four_times_in_five(rule, shares, right):
    better, worse = (round(100 * share) for share in shares)
    needed = gate(rule, discrete(70 - worse, better, worse, 30 - better)).needed_n
    draws = np.random.default_rng(5).multinomial(needed, [0.7 - shares[1], shares[0], shares[1], 0.3 - shares[0]], 1500)
    budget = float(rule[4:-1]) / 100
    settled = np.mean([settle(False, budget, *net_bounds(tuple(counts), 0.95)) == right for counts in draws])
    assert settled >= 0.8 - 1.645 * np.sqrt(0.8 * 0.2 / 1500)
    if shares == (0.0, 0.0):
        assert needed == 150  # 149 do: without a flip the bound is that of NFR


@pytest.mark.slow
def test_the_needed_number_of_a_mean_settles_it_four_times_in_five():
    rng = np.random.default_rng(6)

    def sample(n):
        return smooth(np.full(n, 0.5), 0.5 + rng.normal(0, 0.1, n).clip(-0.5, 0.5))

    needed = gate("regression:0.03", smooth([0.5] * 100, 0.5 + np.linspace(-0.17, 0.17, 100))).needed_n
    settled = sum(gate("regression:0.03", sample(needed)).verdict == "pass" for _ in range(60)) / 60
    assert settled >= 0.8 - 1.645 * np.sqrt(0.8 * 0.2 / 60)
    none = smooth([0.5] * 100, [0.5] * 100)
    assert gate("regression:0.02", none).needed_n == needed_to_settle(0.02, 0.0) == 149


def test_accuracy_and_regression_are_net_changes():
    comparison = discrete(600, 20, 100, 280)
    for rule in ("accuracy:-0.5%", "regression:0.5%", "exact_match.regression:0.005"):
        found = gate(rule, comparison)
        assert (found.verdict, found.rule) == ("fail", rule)
        assert found.reason.startswith("accuracy change −8 %, with 95 % confidence at most −6.")
        assert found.reason.endswith(": below the −0.5 % allowed")
    assert gate("net:-0.5%", comparison).reason.startswith("net change −8 %")


def test_a_metric_where_lower_is_better_regresses_when_it_rises():
    old = np.random.default_rng(0).random(200)
    assert gate("regression:0.05", smooth(old, old + 0.2, metric="loss", higher_is_better=False)).verdict == "fail"
    assert gate("regression:0.05", smooth(old, old - 0.2, metric="loss", higher_is_better=False)).verdict == "pass"


@pytest.mark.parametrize(("budget", "higher", "lower"), [(11, "pass", "fail"), (13, "fail", "pass")])
def test_a_new_score_keeps_a_budget_on_its_good_side(budget, higher, lower):
    scores = np.linspace(9.9, 10.1, 60)
    for better, verdict in ((True, higher), (False, lower)):
        found = gate(f"score_new:{budget}", smooth(scores, scores + 2, metric="x", higher_is_better=better))
        assert found.verdict == verdict
    assert (
        "at least 11.9: more than the 11 allowed"
        in gate("score_new:11", smooth(scores, scores + 2, metric="ppl", higher_is_better=False)).reason
    )


def test_short_names_of_the_paper():
    comparison = smooth([0.5] * 100, [0.7, 0.4] * 50)
    assert gate("m_r:0.2", comparison).verdict == "pass"
    assert gate("m_g:0.3", comparison).verdict == "fail"
    assert gate("rouge1.mean_difference:0", comparison).verdict == "pass"


def test_a_mean_of_few_values_settles_nothing():
    found = gate("regression:0.03", smooth([0.5] * 3, [0.5] * 3))
    assert (found.verdict, found.needed_n) == ("inconclusive", 30)
    found = gate("mean_regression:0.1", smooth([0.5] * 100, [0.4] * 6 + [0.5] * 94))
    assert (found.verdict, found.needed_n) == ("inconclusive", 500)


def test_undefined_is_inconclusive_with_its_reason():
    found = gate("relative_nfr:1", discrete(positive=50, wrong=50))
    assert found.verdict == "inconclusive"
    assert found.reason == "relative NFR is undefined: the old model has no correct answer"
    assert gate("mean_gain:0.1", smooth([0.5] * 100, [0.4] * 100)).verdict == "inconclusive"


def test_nothing_regressed_keeps_a_budget_on_the_regression_only_where_much_was_seen():
    """At most 2.95 % of 100 regress, by 1 each at worst."""
    found = gate("mean_regression:0.03", smooth([0.5] * 100, [0.6] * 100))
    assert found.verdict == "pass"
    assert found.reason == (
        "mean regression: no instance regressed, fewer than 30, so how large a regression is cannot be known, but "
        "with 95 % confidence at most 2.95 % regress, by 1 each at worst: 0.0295 over all is within the 0.03 allowed"
    )
    assert gate("mean_regression:0.02", smooth([0.5] * 100, [0.6] * 100)).verdict == "inconclusive"
    assert gate("mean_regression:0.1", smooth([0.5] * 5, [0.6] * 5)).verdict == "inconclusive"


def test_thirty_equal_outputs_show_little():
    """None of 30 lost: at most 9.5 % do, and each may lose all."""
    equal = smooth([0.5] * 30, [0.5] * 30)
    assert equal.metrics["mean_difference"].lower == pytest.approx(-(1 - 0.05 ** (1 / 30)))
    assert gate("regression:0.0001", equal).verdict == "inconclusive"
    assert gate("regression:0.09", equal).verdict == "inconclusive"
    assert gate("regression:0.1", equal).verdict == "pass"


@pytest.mark.parametrize("n", [30, 100, 300])
def test_one_loss_in_a_hundred_of_size_one_does_not_pass_at_its_budget(n):
    """The share of samples that pass regression:0.01 where 1 % lose 1, by the binomial; a bootstrap passes 74 %."""
    passed = 0.0
    for losses in range(20):
        comparison = smooth([1.0] * n, [0.0] * losses + [1.0] * (n - losses))
        verdict = gate("regression:0.01", comparison).verdict
        passed += binom.pmf(losses, n, 0.01) * (verdict == "pass")
    assert passed <= 0.05


def test_few_gains_pass_only_by_what_all_that_lost_may_have_lost():
    tiny = smooth([0.5] * 200, [0.49] * 9 + [0.5] * 191)
    assert tiny.metrics["mean_difference"].lower == -tiny.metrics["nfr"].upper
    more = smooth([0.5] * 200, [0.49] * 9 + [0.51] + [0.5] * 190)
    assert more.metrics["mean_difference"].lower > -more.metrics["nfr"].upper


@pytest.mark.parametrize(("clusters", "verdict"), [(3, "inconclusive"), (4, "inconclusive"), (5, "fail")])
def test_fewer_than_five_clusters_settle_nothing(clusters, verdict):
    n = 200
    fields = [f"c{place % clusters}" for place in range(n)]
    comparison = _compare(
        np.ones(n), np.zeros(n), Metric("exact_match", "discrete"), "t", "none", predictions=True, group=fields
    )
    found = gate("nfr:2%", comparison)
    assert found.verdict == verdict
    if verdict == "inconclusive":
        assert found.reason == f"{clusters} clusters by 'group': fewer than 5 settle no budget"


def test_the_verdict_is_that_of_the_worst_gate():
    good, open_, bad = discrete(both=1000), discrete(both=100), discrete(both=900, negative=100)

    def verdict(*comparisons, rules=("nfr:2%",)):
        return judge(comparisons, parse_rules(rules))[1]

    assert verdict(good) == "pass"
    assert verdict(good, open_) == "inconclusive"
    assert verdict(good, open_, bad) == "fail"
    assert verdict(bad, rules=()) == "none"


def test_exit_codes():
    assert [exit_code(name) for name in ("pass", "none", "fail", "inconclusive")] == [
        ExitCode.OK,
        ExitCode.OK,
        ExitCode.REGRESSION,
        ExitCode.INCONCLUSIVE,
    ]
    assert [int(code) for code in (ExitCode.OK, ExitCode.REGRESSION, ExitCode.INCONCLUSIVE)] == [0, 1, 3]


def test_judging_leaves_the_comparisons_as_they_are():
    comparison = discrete(both=1000)
    judged, _ = judge([comparison], parse_rules(["nfr:2%"]))
    assert comparison.gates == ()
    assert judged[0].metrics == comparison.metrics


def test_no_answer_does_not_pass_where_only_scores_were_recorded():
    found = gate("no_answer:5%", smooth([0.5] * 100, [0.5] * 100))
    assert found.verdict == "inconclusive"
    assert "100 of 100 rows (100 %) do not say what was answered" in found.reason
    assert gate("no_answer:5%", discrete(both=100)).verdict == "pass"


def test_a_large_figure_is_written_out():
    comparison = smooth(np.arange(100.0), np.arange(100.0) + 1500 + np.arange(100.0) / 7)
    assert gate("mean_difference:2000", comparison).reason.startswith("mean difference 1,507, with 95 % confidence")
