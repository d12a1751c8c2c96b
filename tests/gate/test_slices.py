"""Budgets on a slice: judged of its instances alone, with the bounds of its own figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import compatcheck
from compatcheck.compare import Comparison, compare
from compatcheck.compare.intervals import exact
from compatcheck.errors import InputError
from compatcheck.gate import judge, parse_rules, slice_fields
from compatcheck.gate.sequential import Budgets
from compatcheck.records import Metric, TaskRun
from tests.factories import write_rows


def sliced(task: str = "support", cluster_by: str | None = None) -> Comparison:
    """300 instances about billing, of which 60 flip negatively, and 700 about a/b tests, of which none does."""
    fields = ["billing"] * 300 + ["a/b"] * 700

    def run(scores: list[float]) -> TaskRun:
        records = pd.DataFrame({"doc_id": [str(i) for i in range(1000)], "score:acc": scores, "category": fields})
        records["passage"] = [f"p{i // 4}" for i in range(1000)]
        return TaskRun(task, "none", (Metric("acc", "discrete"),), records)

    new = [0.0] * 60 + [1.0] * 940
    return compare(run([1.0] * 1000), run(new), metric="acc", slice_by=["category"], cluster_by=cluster_by)


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("nfr:10%", "pass"),
        ("category=billing/nfr:10%", "fail"),
        ("category=billing/nfr:20%", "inconclusive"),
        ("category=billing/nfr:30%", "pass"),
        ("support/category=billing/acc.nfr:10%", "fail"),
        ("category=a/b/nfr:1%", "pass"),
        ("category=billing/btc:90%", "fail"),
        ("category=billing/btc:70%", "pass"),
    ],
)
def test_a_slice_is_judged_by_its_own_bounds(rule: str, verdict: str) -> None:
    (judged,), found = judge([sliced()], parse_rules([rule]))
    assert (judged.gates[0].rule, found) == (rule, verdict)


def test_the_reason_names_the_slice_and_its_size() -> None:
    (judged,), _ = judge([sliced()], parse_rules(["category=billing/nfr:10%"]))
    lower = exact(60, 300, 0.95)[0]
    assert judged.gates[0].reason == (
        f"negative flips of category=billing 20 %, with 95 % confidence at least {100 * lower:.3g} %: more than "
        "the 10 % allowed"
    )
    (judged,), _ = judge([sliced()], parse_rules(["category=billing/nfr:19%"]))
    assert judged.gates[0].needed_n is not None
    assert judged.gates[0].needed_n > 300
    assert "(there are 300)" in judged.gates[0].reason


def test_clusters_count_in_a_slice_too() -> None:
    rules = parse_rules(["category=billing/nfr:16%"])
    single, clustered = (judge([sliced(cluster_by=by)], rules) for by in (None, "passage"))
    assert (single[1], clustered[1]) == ("fail", "inconclusive")


def test_slices_hold_together_with_all_other_budgets() -> None:
    rules = parse_rules(["category=billing/nfr:16%", *(f"nfr:{share}%" for share in range(10, 20))])
    assert judge([sliced()], rules[:1])[1] == "fail"
    judged, verdict = judge([sliced()], rules)
    assert verdict == "inconclusive"
    assert "but only by itself" in judged[0].gates[0].reason


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("category=bilinge/nfr:5%", r"no slice by 'category' is called 'bilinge' \(did you mean 'billing'"),
        ("kind=x/nfr:5%", r"there is no --slice-by kind"),
        ("nowhere/category=billing/nfr:5%", r"no task or filter is called 'nowhere'"),
        ("category=billing/net:-1%", r"on a slice a budget is set on nfr or btc"),
        ("category=billing/missing:1%", r"on a slice a budget is set on nfr or btc"),
    ],
)
def test_a_slice_that_is_not_there_is_refused(rule: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        judge([sliced()], parse_rules([rule]))


def test_which_fields_have_to_be_sliced_by() -> None:
    assert slice_fields(parse_rules(["nfr:1%", "category=a/nfr:5%", "t/kind=b/nfr:5%", "category=c/nfr:5%"])) == [
        "category", "kind",
    ]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_on_a_slice_slices_by_its_field_where_the_records_have_it(tmp_path: Path, stream: bool) -> None:
    for name, wrong in (("old", 0), ("new", 60)):
        rows = [{"task": "a", "id": i, "target": "x", "prediction": "y" if i < wrong else "x", "category": "billing"}
                for i in range(200)]  # fmt: skip
        rows += [{"task": "b", "id": i, "target": "x", "prediction": "x"} for i in range(200)]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    found = compatcheck.diff(
        tmp_path / "old.jsonl", tmp_path / "new.jsonl", fail_on=["category=billing/nfr:5%", "nfr:90%"], stream=stream
    )
    assert found.verdict == "fail"
    assert [(each.task, gate.rule, gate.verdict) for each in found.comparisons for gate in each.gates] == [
        ("a", "category=billing/nfr:5%", "fail"), ("a", "nfr:90%", "pass"), ("b", "nfr:90%", "pass"),
    ]  # fmt: skip


def test_until_decided_refuses_a_slice() -> None:
    with pytest.raises(InputError, match="no bound of it holds at every look"):
        Budgets(parse_rules(["category=billing/nfr:5%"]))


def test_a_slice_of_which_half_is_in_error_does_not_pass() -> None:
    """Of all rows they are too few to be noticed."""

    def run(errors: int) -> TaskRun:
        records = pd.DataFrame({
            "doc_id": [str(i) for i in range(10_000)], "score:acc": [None] * errors + [1.0] * (10_000 - errors),
            "error": ["timeout"] * errors + [None] * (10_000 - errors), "category": ["billing"] * 300 + ["a/b"] * 9700,
        })  # fmt: skip
        return TaskRun("support", "none", (Metric("acc", "discrete"),), records)

    comparison = compare(run(0), run(150), metric="acc", slice_by=["category"])
    (judged,), found = judge([comparison], parse_rules(["category=billing/nfr:10%", "category=a/b/nfr:10%"]))
    assert ([gate.verdict for gate in judged.gates], found) == (["inconclusive", "pass"], "inconclusive")
    assert judged.gates[0].doubt == (
        "of category=billing 150 of 300 rows (50 %) show nothing, more than --max-missing 2 %: 150 not scored"
    )
    (judged,), found = judge([comparison], parse_rules(["category=billing/nfr:10%"]), max_missing=0.5)
    assert found == "pass"


def test_agreement_of_a_slice_without_old_as_the_reference() -> None:
    with pytest.raises(InputError, match="agreement of a slice is known where OLD's answers are the reference"):
        judge([sliced()], parse_rules(["category=billing/agreement:95%"]))
