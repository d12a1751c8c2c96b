from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from compatcheck.compare import compare
from compatcheck.compare.slices import MISSING, label
from compatcheck.errors import InputError


def sliced(make_run, fields, old=None, new=None, **columns):
    size = len(next(iter(columns.values())))
    run_old = make_run(old or [1] * size, **columns)
    return compare(run_old, make_run(new or [1] * size), metric="exact_match", slice_by=fields).slices


def test_a_slice_counts_its_flips_and_is_tested_against_the_rest(make_run):
    topic = ["sums"] * 10 + ["dates"] * 30
    new = [0] * 6 + [1] * 4 + [0] * 2 + [1] * 28
    first, second = sliced(make_run, ["topic"], new=new, topic=topic)
    assert (first.value, first.n, first.negative_flips, first.positive_flips) == ("dates", 30, 2, 0)
    assert (second.value, second.n, second.negative_flips, second.nfr.value) == ("sums", 10, 6, 0.6)
    assert second.p == pytest.approx(fisher_exact([[6, 4], [2, 28]], alternative="greater").pvalue)
    assert first.p == pytest.approx(fisher_exact([[2, 28], [6, 4]], alternative="greater").pvalue)


def test_p_values_are_adjusted_over_all_slices_of_all_fields(make_run):
    topic = ["a"] * 20 + ["b"] * 20 + ["c"] * 20
    size = ["small", "large"] * 30
    new = [0] * 9 + [1] * 11 + [0] * 3 + [1] * 37
    found = sliced(make_run, ["topic", "size"], new=new, topic=topic, size=size)
    assert [(each.field, each.value) for each in found] == [
        ("topic", "a"),
        ("topic", "b"),
        ("topic", "c"),
        ("size", "large"),
        ("size", "small"),
    ]
    # Benjamini and Hochberg 1995, by hand: from the greatest p down, p · m / rank, never rising.
    order = sorted(range(5), key=lambda place: found[place].p, reverse=True)
    least, expected = 1.0, [0.0] * 5
    for rank, place in zip(range(5, 0, -1), order, strict=True):
        least = min(least, found[place].p * 5 / rank)
        expected[place] = least
    assert [each.p_adjusted for each in found] == pytest.approx(expected)


def test_positive_flips_and_errors(make_run):
    old = make_run([0, 0, None, 1], error=[None, None, "timeout", None], topic=["a", "a", "a", "b"])
    found = compare(old, make_run([1, 0, 1, 1]), metric="exact_match", slice_by=["topic"]).slices
    assert [(each.value, each.n, each.positive_flips) for each in found] == [("a", 2, 1), ("b", 1, 0)]


def test_smooth_flips_are_sliced_alike(make_run, smooth):
    old = make_run([0.5] * 4, metric=smooth, topic=["a", "a", "b", "b"])
    new = make_run([0.4, 0.6, 0.5, 0.1], metric=smooth)
    found = compare(old, new, metric="rouge1", slice_by=["topic"]).slices
    assert [(each.value, each.positive_flips, each.negative_flips) for each in found] == [("a", 1, 1), ("b", 0, 1)]


def test_a_field_with_one_value_has_no_rest(make_run):
    (only,) = sliced(make_run, ["topic"], new=[0, 1], topic=["a", "a"])
    assert (only.p, only.p_adjusted, only.nfr.value) == (None, None, 0.5)


def test_an_unknown_field_is_an_error(make_run):
    with pytest.raises(
        InputError, match=r"^--slice-by: .*no field 'topc' \(did you mean 'topic'\?\); they have topic, le"
    ):
        sliced(make_run, ["topc"], topic=["a"], length=[3])
    with pytest.raises(InputError, match=r"no field 'prediction'; they have no further field"):
        compare(make_run([1]), make_run([1]), metric="exact_match", slice_by=["prediction"])


def test_the_target_can_be_sliced_by(make_run):
    found = sliced(make_run, ["target"], target=["yes", "no", "yes"])
    assert [(each.value, each.n) for each in found] == [("yes", 2), ("no", 1)]


def test_a_field_may_come_from_either_side(make_run):
    old = make_run([1, 1, 1], topic=["a", None, "b"])
    new = make_run([1, 1, 1], topic=["z", "a", "b"], level=[1, 1, 2])
    found = compare(old, new, metric="exact_match", slice_by=["topic", "level"]).slices
    assert [(each.field, each.value, each.n) for each in found] == [
        ("topic", "a", 2),
        ("topic", "b", 1),
        ("level", "1", 2),
        ("level", "2", 1),
    ]


def test_few_numbers_are_their_own_slices_in_order():
    codes, labels = label(pd.Series([10.0, 2.5, 10.0, 1.0]))
    assert labels == ["1", "2.5", "10"]
    assert codes.tolist() == [2, 1, 2, 0]


def test_many_numbers_are_cut_at_the_quartiles():
    codes, labels = label(pd.Series(range(1, 101)))
    assert labels == ["1 to 25", "over 25 to 50", "over 50 to 75", "over 75 to 100"]
    assert np.bincount(codes).tolist() == [25, 25, 25, 25]


@pytest.mark.parametrize("values", [[0] * 90 + list(range(1, 21)), [99] * 90 + list(range(20))])
def test_numbers_heaped_on_one_value_still_make_slices(values):
    codes, labels = label(pd.Series(values))
    assert len(labels) == 2
    assert np.bincount(codes).tolist() == ([90, 20] if values[0] == 0 else [20, 90])


def test_rare_texts_share_a_slice():
    values = [f"t{place:03}" for place in range(60)] + [f"t{place:03}" for place in range(5, 55)]
    codes, labels = label(pd.Series(values))
    assert len(labels) == 51
    assert labels[0] == "t005"
    assert labels[-1] == "(other: 10 values)"
    assert int((codes == 50).sum()) == 10


def test_other_kinds_of_values():
    assert label(pd.Series([True, False, True]))[1] == ["true", "false"]
    assert label(pd.Series([["a", 1], ["a", 1], {"k": 2}]))[1] == ['["a", 1]', '{"k": 2}']
    codes, labels = label(pd.Series(["a", None, "a"]))
    assert (codes.tolist(), labels) == ([0, 1, 0], ["a", MISSING])
    codes, labels = label(pd.Series([1.0, None, 3.0]))
    assert (codes.tolist(), labels) == ([0, 2, 1], ["1", "3", MISSING])
    assert label(pd.Series([None, None], dtype=object))[1] == [MISSING]
    assert label(pd.Series(["b", "a", "b"], dtype="category"))[1] == ["b", "a"]


def test_automatic_slices_are_lengths_and_the_margin_of_the_old_model(make_run):
    """Characters and nats by hand; few distinct values are slices of their own."""
    old = make_run(
        [1, 1, 1, 1], input=["ab", "ab", "abcd", None], target=["x", "yy", "x", "x"],
        loglikelihoods=[[-1.0, -2.5], [-3.0, -1.0, -1.25], [-1.0, -2.5], None],
    )  # fmt: skip
    new = make_run([0, 1, 1, 1], loglikelihoods=[[0.0, -9.0]] * 4)
    found = compare(old, new, metric="exact_match", slice_by=["auto"]).slices
    assert [(each.field, each.value, each.n, each.negative_flips) for each in found] == [
        ("auto:input_length", "2", 2, 1),
        ("auto:input_length", "4", 1, 0),
        ("auto:input_length", MISSING, 1, 0),
        ("auto:target_length", "1", 3, 1),
        ("auto:target_length", "2", 1, 0),
        ("auto:old_confidence", "0.25", 1, 0),
        ("auto:old_confidence", "1.5", 2, 1),
        ("auto:old_confidence", MISSING, 1, 0),
    ]
    tested = [each.p for each in found]
    assert [each.p_adjusted for each in found] == pytest.approx(
        [min(1.0, min(p * 8 / rank for rank, p in enumerate(sorted(tested), 1) if p >= q)) for q in tested]
    )


def test_auto_takes_the_activity_label_and_what_there_is(make_run):
    run = make_run([1, 1], target=["a", "b"], activity_label=["Cooking", "Diving"])
    found = compare(run, run, metric="exact_match", slice_by=["auto", "activity_label"]).slices
    assert list(dict.fromkeys(each.field for each in found)) == ["auto:target_length", "activity_label"]


def test_many_lengths_are_cut_at_their_quartiles(make_run):
    run = make_run([1] * 100, input=["a" * length for length in range(1, 101)])
    found = compare(run, run, metric="exact_match", slice_by=["auto:input_length"]).slices
    assert [(each.value, each.n) for each in found] == [
        ("1 to 25", 25), ("over 25 to 50", 25), ("over 50 to 75", 25), ("over 75 to 100", 25)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("auto:input_lenght", "did you mean 'auto:input_length'"),
        ("auto:input_length", "have no field 'input'"),
        ("auto:old_confidence", "no log-likelihoods of choices in OLD"),
        ("auto", "neither input, target nor log-likelihoods"),
    ],
)
def test_what_automatic_slices_need(make_run, field, message):
    run = make_run([1, 1])
    with pytest.raises(InputError, match=message):
        compare(run, run, metric="exact_match", slice_by=[field])
