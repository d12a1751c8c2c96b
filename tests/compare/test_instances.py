from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd

from compatcheck.compare import INSTANCE_COLUMNS, compare
from compatcheck.compare.pairing import take


def test_the_columns_of_the_contract_then_slice_fields(make_run):
    old = make_run([1, 0], input=["q0", None], response=["so 4", "so 5"], topic=["a", "b"], doc_hash=["h", "i"])
    new = make_run([1, 1], input=["Q0", "Q1"], prediction=["4", "5"], level=[1, 2], loglikelihoods=[[0.1], [0.2]])
    table = compare(old, new, metric="exact_match").instances
    assert tuple(table.columns) == (*INSTANCE_COLUMNS, "topic", "level")
    assert table.iloc[0].dropna().to_dict() == {
        "task": "arithmetic",
        "doc_id": "d0",
        "filter": "none",
        "metric": "exact_match",
        "input": "q0",
        "prediction_new": "4",
        "response_old": "so 4",
        "score_old": 1.0,
        "score_new": 1.0,
        "gain": 0.0,
        "quadrant": "both_correct",
        "doc_hash": "h",
        "topic": "a",
        "level": 1,
    }
    assert table["input"].tolist() == ["q0", "Q1"]


def test_a_field_with_the_name_of_a_column_is_renamed(make_run):
    table = compare(make_run([1], gain=["high"]), make_run([0]), metric="exact_match").instances
    assert table["gain"].tolist() == [-1]
    assert table["field:gain"].tolist() == ["high"]


def test_kinds_of_the_columns(make_run):
    table = compare(
        make_run([1, None], error=[None, "x"], prediction=["1", None]),
        make_run([0, 1], prediction=["2", "3"]),
        metric="exact_match",
    ).instances
    assert table["changed"].dtype == "boolean"
    assert table["changed"].tolist() == [True, pd.NA]
    assert table["gain"].dtype == np.float64
    assert table["quadrant"].iloc[0] == "negative_flip"
    assert table["quadrant"].isna().tolist() == [False, True]
    assert (table["task"] == "arithmetic").all()


def test_the_records_are_not_changed(make_run):
    old, new = make_run([1, 0], prediction=["1", "2"]), make_run([0, 0], prediction=["3", "2"])
    before = old.records.copy(deep=True), new.records.copy(deep=True)
    table = compare(old, new, metric="exact_match").instances
    table.loc[0, ["prediction_old", "doc_id"]] = "changed"
    table.loc[0, "score_old"] = 7.0
    pd.testing.assert_frame_equal(old.records, before[0])
    pd.testing.assert_frame_equal(new.records, before[1])


def test_take_in_order_shares_memory():
    numbers = pd.Series([1.0, 2.0, 3.0])
    whole = take(numbers, np.arange(3))
    assert whole.tolist() == [1.0, 2.0, 3.0]
    if int(pd.__version__.split(".")[0]) >= 3:  # before, pandas copied at every step
        assert np.shares_memory(whole.to_numpy(), numbers.to_numpy())
    assert take(numbers, np.array([2, 0])).tolist() == [3.0, 1.0]


def test_worst_regressions_come_first(make_run, smooth):
    old, new = make_run([0.9, 0.9, 0.9], metric=smooth), make_run([0.8, 0.1, 0.95], metric=smooth)
    assert compare(old, new, metric="rouge1").negative_flips["doc_id"].tolist() == ["d1", "d0"]


def test_numbers_with_gaps_on_one_side_alone_stay_numbers(make_run):
    old, new = make_run([1, 1, 1]), make_run([1, 1, 1], difficulty=[3, 5, 12])
    old.records["difficulty"] = pd.array([3, None, 12], dtype="Int64")
    found = compare(old, new, metric="exact_match", slice_by=["difficulty"])
    assert found.instances["difficulty"].tolist() == [3, 5, 12]
    assert [part.value for part in found.slices] == ["3", "5", "12"]


def test_comparing_holds_no_text_as_an_object_of_python(make_run):
    size = 3_000
    columns = {
        "input": [f"{n} " + "words " * 100 for n in range(size)],
        "prediction": ["a", "b"] * (size // 2),
        "loglikelihoods": [[-1.0, -2.0], [-3.0, -1.0]] * (size // 2),
        "full_prompt": [None] * size,
    }
    old, new = make_run([1, 0] * (size // 2), **columns), make_run([0, 1] * (size // 2), **columns)
    pair_up = compare(old, new, metric="exact_match")  # imports and caches
    tracemalloc.start()
    try:
        again = compare(old, new, metric="exact_match")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 600 * size, f"{peak / size:.0f} bytes a pair"
    assert "prompt_old" not in again.instances
    assert again.margins == pair_up.margins
