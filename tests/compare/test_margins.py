"""Margins of choices against the definition, and what the prediction of flips has to obey."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compatcheck.compare.comparison import compare
from compatcheck.compare.margins import Margins, flipped, known_margins, of_choices
from compatcheck.records import Metric, TaskRun

numbers = st.floats(-50, 0, allow_subnormal=False).map(lambda value: round(value, 3))
sides = st.integers(2, 5).flatmap(
    lambda choices: st.lists(
        st.tuples(*(st.lists(numbers, min_size=choices, max_size=choices, unique=True) for _ in "on"), st.booleans()),
        min_size=1, max_size=30,
    )
)  # fmt: skip
Rows = list[tuple[list[float], list[float], bool]]


def made(rows: Rows) -> Margins:
    """OLD is right where a row says so; NEW then no longer is where it chooses otherwise."""
    old, new = [one for one, _, _ in rows], [other for _, other, _ in rows]
    right = np.array([known for *_, known in rows])
    moved = np.array([int(np.argmax(one)) != int(np.argmax(other)) for one, other, _ in rows])
    found = of_choices(known_margins(old, new, right, right & moved))
    assert found is not None
    return found


@given(sides)
def test_figures_are_those_of_the_definition(rows: Rows) -> None:
    before, after = [], []
    for old, new, _ in rows:
        choice = old.index(max(old))
        for values, margins in ((old, before), (new, after)):
            margins.append(values[choice] - max(value for place, value in enumerate(values) if place != choice))
    found = made(rows)
    assert found.n == len(rows)
    assert found.mean_old == pytest.approx(np.mean(before)) and found.mean_new == pytest.approx(np.mean(after))
    assert found.changed == sum(margin < 0 for margin in after)
    changes = [b - a for a, b in zip(before, after, strict=True)]
    pairs = [[margin < -change for change in changes] for margin in before]
    assert found.changed_predicted == pytest.approx(np.mean(pairs))
    right = [pair for pair, (*_, known) in zip(pairs, rows, strict=True) if known]
    assert found.nfr_predicted == pytest.approx(sum(map(sum, right)) / len(rows) ** 2)


@given(sides, st.floats(0.1, 10), st.floats(-100, 100))
def test_what_does_not_choose_has_no_bearing(rows: Rows, factor: float, shift: float) -> None:
    """Neither the unit, nor what is added to all choices of an instance, nor their order, nor that of instances."""
    found = made(rows)
    scaled = made([([factor * v for v in old], [factor * v for v in new], known) for old, new, known in rows])
    assert scaled.changed == found.changed
    assert scaled.mean_old == pytest.approx(factor * found.mean_old)
    turned = made([(old[::-1], new[::-1], known) for old, new, known in rows][::-1])
    assert turned.changed_predicted == pytest.approx(found.changed_predicted)
    assert (turned.changed, turned.negative_flips) == (found.changed, found.negative_flips)
    moved = made([(old, [value + shift for value in new], known) for old, new, known in rows])
    assert moved.mean_new == pytest.approx(found.mean_new, abs=1e-9)


@given(sides)
def test_an_equal_model_flips_nothing_and_is_predicted_to(rows: Rows) -> None:
    found = made([(old, old, known) for old, _, known in rows])
    assert (found.changed, found.changed_predicted, found.negative_flips, found.nfr_predicted) == (0, 0.0, 0, 0.0)
    assert found.spread == 0.0


@given(st.lists(st.floats(0, 20), min_size=1, max_size=40), st.integers(0, 1000))
def test_the_prediction_is_what_shuffled_changes_give_on_average(margins: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = np.array(margins)
    change = rng.normal(-0.5, 3, len(before))
    turns = [np.mean(before + np.roll(change, turn) < 0) for turn in range(len(before))]
    assert flipped(before, change).mean() == pytest.approx(np.mean(turns))


@given(st.lists(st.floats(0, 20), min_size=2, max_size=40), st.floats(0, 5))
def test_larger_margins_flip_less_and_larger_losses_more(margins: list[float], more: float) -> None:
    before = np.sort(np.array(margins))
    change = np.random.default_rng(0).normal(0, 3, len(before))
    shares = flipped(before, change)
    assert (np.diff(shares) <= 0).all()
    assert (flipped(before, change - more) >= shares).all()


def run(values: list[Any], right: list[bool], metric: str = "acc", **more: Any) -> TaskRun:
    ids, said = [str(n) for n in range(len(values))], [str(r) for r in right]
    scores = {f"score:{metric}": [float(r) for r in right]}
    records = pd.DataFrame({"doc_id": ids, "prediction": said, "loglikelihoods": values, **scores, **more})
    return TaskRun("task", "none", (Metric(metric, "discrete"),), records)


def test_a_comparison_has_them_of_scored_pairs_with_known_choices() -> None:
    old = run([[-1.0, -2.0], [-1.0, -3.0], None, [-1.0, float("nan")]], [True, True, True, False])
    new = run([[-2.0, -1.0], [-1.0, -4.0], [-1.0, -2.0], [-1.0, -2.0]], [False, True, True, False])
    found = compare(old, new, metric="acc").margins
    assert found is not None
    assert (found.n, found.changed, found.negative_flips) == (2, 1, 1)
    assert (found.mean_old, found.mean_new) == (1.5, 1.0)


def test_without_choices_by_log_likelihoods_there_are_none() -> None:
    values: list[Any] = [[-1.0, -2.0]]
    own = {"prediction:acc_norm": ["a"]}
    assert compare(run([None], [True]), run(values, [True]), metric="acc").margins is None
    normed = run(values, [True], "acc_norm", **own)
    assert compare(normed, normed, metric="acc_norm").margins is None
    smooth = run(values, [True]).records.assign(**{"score:f1": [0.5]})
    one = TaskRun("task", "none", (Metric("f1", "smooth"),), smooth)
    assert compare(one, one, metric="f1").margins is None
