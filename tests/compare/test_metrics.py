from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compatcheck.compare import compare
from compatcheck.compare.metrics import Changes, discrete_metrics
from compatcheck.records import Metric

COUNTS = st.tuples(*[st.integers(0, 300)] * 4)
NAMES = ("both_correct", "positive_flip", "negative_flip", "both_wrong")


def figures(counts, changes=None, **options):
    options = {"confidence": 0.95, "resamples": 200, "seed": 0} | options
    return discrete_metrics(dict(zip(NAMES, counts, strict=True)), changes, **options)


def test_every_figure_of_a_small_table():
    found = figures((50, 20, 10, 20), Changes(43, both_wrong=8, both_correct=5))
    expected = {
        "accuracy_old": (60, 100),
        "accuracy_new": (70, 100),
        "nfr": (10, 100),
        "pfr": (20, 100),
        "nfr_mc": (18, 100),
        "inconsistency": (8, 100),
        "net": (10, 100),
        "btc": (50, 60),
        "bec": (20, 40),
        "nfi": (10, 30),
        "pfi": (20, 70),
        "agreement": (57, 100),
        "both_correct_changed": (5, 100),
    }
    assert {name: (figure.count, figure.of) for name, figure in found.items() if name != "relative_nfr"} == expected
    for name, (count, of) in expected.items():
        assert found[name].value == count / of
    assert found["relative_nfr"].value == pytest.approx(0.10 / (0.60 * 0.30))
    assert (found["relative_nfr"].count, found["relative_nfr"].of) == (10, 100)


@given(COUNTS.filter(any))
def test_identities(counts):
    found = {name: figure.value for name, figure in figures(counts).items()}
    old, new, nfr, pfr = (found[name] for name in ("accuracy_old", "accuracy_new", "nfr", "pfr"))
    near = 1e-12
    assert new - old == pytest.approx(pfr - nfr, abs=near)
    assert found["net"] == pytest.approx(pfr - nfr, abs=near)
    assert max(0.0, old - new) - near <= nfr <= min(old, 1 - new) + near
    if found["btc"] is not None:
        assert nfr == pytest.approx((1 - found["btc"]) * old, abs=near)
    if found["bec"] is not None:
        assert pfr == pytest.approx((1 - found["bec"]) * (1 - old), abs=near)
    if found["nfi"] is not None:
        assert nfr == pytest.approx(found["nfi"] * (1 - new), abs=near)
    if found["relative_nfr"] is not None:
        assert found["relative_nfr"] == pytest.approx(found["nfi"] / old, rel=1e-9)
        assert found["relative_nfr"] == pytest.approx(nfr / (old * (1 - new)), rel=1e-9)


@given(COUNTS.filter(any))
def test_undefined_figures_say_why_and_defined_ones_lie_in_their_interval(counts):
    for figure in figures(counts, Changes(sum(counts) // 2)).values():
        if figure.value is None:
            assert figure.why
            assert figure.low is figure.high is figure.lower is figure.upper is None
        else:
            assert figure.why is None
            assert figure.low <= figure.value + 1e-12
            assert figure.value <= figure.high + 1e-12


def test_what_is_undefined_without_correct_or_without_wrong_answers():
    none_correct = figures((0, 30, 0, 70))
    assert none_correct["btc"].why == none_correct["relative_nfr"].why == "the old model has no correct answer"
    assert none_correct["btc"].value is None
    all_correct = figures((70, 30, 0, 0))
    assert all_correct["nfi"].why == all_correct["relative_nfr"].why == "the new model has no wrong answer"
    assert figures((90, 0, 10, 0))["bec"].why == "the old model has no wrong answer"
    assert figures((0, 0, 10, 90))["pfi"].why == "the new model has no correct answer"


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_on_two_answers_nfr_mc_is_nfr(rows):
    """Two wrong answers to a question with two answers are the same answer."""
    import pandas as pd

    from compatcheck.records import TaskRun

    def run(side):
        records = pd.DataFrame({"doc_id": [str(place) for place in range(len(rows))]})
        records["target"] = [str(row[2]) for row in rows]
        records["prediction"] = [str(row[side]) for row in rows]
        records["score:acc"] = [float(row[side] == row[2]) for row in rows]
        return TaskRun("piqa", "none", (Metric("acc", "discrete"),), records)

    found = compare(run(0), run(1), metric="acc", resamples=100)
    assert found.metrics["nfr_mc"].value == found.metrics["nfr"].value
    assert found.metrics["inconsistency"].value == 0
    flips = found.quadrants["positive_flip"] + found.quadrants["negative_flip"]
    assert found.metrics["agreement"].value == pytest.approx(1 - flips / found.n)


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=80))
def test_on_several_answers_nfr_mc_adds_the_inconsistent_ones(rows):
    import pandas as pd

    from compatcheck.records import TaskRun

    def run(side):
        records = pd.DataFrame({"doc_id": [str(place) for place in range(len(rows))]})
        records["prediction"] = [str(row[side]) if row[side] else None for row in rows]
        records["score:acc"] = [float(row[side] == row[2] + 1) for row in rows]
        return TaskRun("hellaswag", "none", (Metric("acc", "discrete"),), records)

    found = compare(run(0), run(1), metric="acc", resamples=100)
    by_definition = sum(new != target + 1 and old != new for old, new, target in rows)
    inconsistent = sum(new != target + 1 and old != target + 1 and old != new for old, new, target in rows)
    assert found.metrics["nfr_mc"].count == by_definition
    assert found.metrics["inconsistency"].count == inconsistent
    assert found.metrics["nfr_mc"].count == found.metrics["nfr"].count + inconsistent
    assert found.metrics["both_correct_changed"].count == 0


def test_both_correct_with_different_text(make_run):
    old = make_run([1, 1, 0], prediction=["It is 4", "4", "5"])
    new = make_run([1, 1, 0], prediction=["4", "4", "6"])
    metrics = compare(old, new, metric="exact_match").metrics
    assert (metrics["both_correct_changed"].count, metrics["inconsistency"].count) == (1, 1)


def test_the_seed_decides_the_resampled_figures():
    first, again, other = (figures((50, 20, 10, 20), seed=seed)["relative_nfr"] for seed in (1, 1, 2))
    assert first == again
    assert first.high != other.high
