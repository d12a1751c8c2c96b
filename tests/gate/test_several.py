"""Budgets that are judged together: one error rate over all of a run, tiers, required tasks."""

from __future__ import annotations

import pytest

from compatcheck.errors import InputError
from compatcheck.gate import judge, parse_rules
from tests.gate.test_gate import discrete


def test_twenty_tasks_share_one_error():
    """At the budget of one task alone the failure is not shown among twenty: Holm's p is twenty times its own."""
    unlucky = [discrete(both=95, negative=5, task=f"t{place}") for place in range(1)]
    quiet = [discrete(both=100, task=f"t{place}") for place in range(1, 20)]
    (alone,), verdict = judge(unlucky, parse_rules(["net:0%"]))
    assert (alone.gates[0].verdict, verdict) == ("fail", "fail")
    judged, verdict = judge([*unlucky, *quiet], parse_rules(["net:0%"]))
    assert verdict == "inconclusive"
    assert judged[0].gates[0].verdict == "inconclusive"
    assert "but only by itself: with 20 budgets judged together p is" in judged[0].gates[0].reason


def test_a_failure_that_is_clear_enough_stands_among_many():
    tasks = [
        discrete(both=80, negative=20, task="t0"),
        *(discrete(both=100, task=f"t{place}") for place in range(1, 20)),
    ]
    judged, verdict = judge(tasks, parse_rules(["net:0%", "nfr:2%"]))
    assert verdict == "fail"
    assert [gate.verdict for gate in judged[0].gates] == ["fail", "fail"]


def test_an_advisory_budget_is_shown_and_gates_nothing():
    bad = discrete(both=80, negative=20)
    rules = [*parse_rules(["nfr:50%"]), *parse_rules(["nfr:2%"], "advisory")]
    (judged,), verdict = judge([bad], rules)
    assert [(gate.verdict, gate.tier) for gate in judged.gates] == [("pass", "critical"), ("fail", "advisory")]
    assert verdict == "pass"
    assert judge([bad], parse_rules(["nfr:2%"], "advisory"))[1] == "none"
    with pytest.raises(InputError, match="--advisory 'nfr': a rule reads"):
        parse_rules(["nfr"], "advisory")


def test_advisory_budgets_take_nothing_from_the_critical_ones():
    bad = discrete(both=95, negative=5)
    rules = [*parse_rules(["net:0%"]), *parse_rules(["nfr:2%", "btc:99%", "nfi:1%"], "advisory")]
    assert judge([bad], rules)[1] == "fail"


def test_a_required_task_that_is_missing_is_an_error():
    there = discrete(both=100)
    assert judge([there], parse_rules(["nfr:5%"]), ["gsm8k"])[1] == "pass"
    with pytest.raises(InputError, match=r"--required gsm8: the task was not compared.*gsm8k"):
        judge([there], parse_rules(["nfr:5%"]), ["gsm8"])
