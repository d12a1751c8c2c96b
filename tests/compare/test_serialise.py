from __future__ import annotations

import functools
import json

import numpy as np
import pandas as pd
import pytest

from compatcheck.compare import INSTANCE_COLUMNS, Gate, Result, Side, compare
from compatcheck.compare.serialise import join_instances, result_from_dict, result_to_dict
from compatcheck.errors import InputError


@pytest.fixture
def result(make_run, smooth):
    old = make_run([1, 0, 1, 0, None], error=[None] * 4 + ["timeout"], prediction=["1", "2", "3", None, None])
    old.records["topic"] = ["a", "a", "b", "b", None]
    new = make_run([1, 1, 0, 0, 1, 1], prediction=list("135678"), duplicates=1)
    first = compare(old, new, metric="exact_match", slice_by=["topic"])
    first = first.with_gates((Gate("nfr:2%", "fail", "NFR 25 % …"), Gate("net:0", "inconclusive", "open", 1234)))
    summary = make_run([0.5, 0.25], metric=smooth, task="summary", level=[1, 2])
    second = compare(summary, make_run([0.5, 0.5], metric=smooth, task="summary"), metric="rouge1")
    return Result(
        old=Side("old/", "sha256:aa", "adapter", {"name": "hf", "dtype": "float32"}, {"limit": None}),
        new=Side("new/", "sha256:bb"),
        comparisons=(first, second),
        verdict="fail",
        version="0.1.0",
        notes=("the engine fell back",),
        command="compatcheck diff old/ new/",
    )


def through_json(result):
    return json.loads(json.dumps(result_to_dict(result), allow_nan=False))


def test_the_contract(result):
    data = through_json(result)
    assert data["schema"] == "compatcheck.report/1"
    assert (data["version"], data["verdict"]) == ("0.1.0", "fail")
    assert data["old"]["reference"] == "old/"
    assert data["new"]["fingerprint"] == "sha256:bb"
    first, second = data["comparisons"]
    assert {"task", "filter", "metric", "kind", "signature", "n", "pairing", "quadrants", "metrics", "tests"} <= set(
        first
    )
    assert first["pairing"] == {
        "paired": 4,
        "only_old": 0,
        "only_new": 1,
        "duplicates": 1,
        "target_changed": 0,
        "errors_old": 1,
        "errors_new": 0,
        "no_answer_old": 1,
        "no_answer_new": 0,
        "key": "id",
        "examples": {"only_new": ["d5"]},
        "rows_old": 5,
        "rows_new": 6,
        "no_answer_both": 0,
        "cut_off_old": None,
        "cut_off_new": None,
    }
    assert first["quadrants"] == {"both_correct": 1, "positive_flip": 1, "negative_flip": 1, "both_wrong": 1}
    nfr = first["metrics"]["nfr"]
    assert (nfr["value"], nfr["count"], nfr["of"]) == (0.25, 1, 4)
    assert 0 < nfr["low"] < 0.25 < nfr["high"] < 1
    assert 0 < nfr["lower"] < 0.25 < nfr["upper"] < 1
    assert set(first["metrics"]) == {
        "accuracy_old",
        "accuracy_new",
        "nfr",
        "pfr",
        "nfr_mc",
        "inconsistency",
        "net",
        "relative_nfr",
        "btc",
        "bec",
        "nfi",
        "pfi",
        "agreement",
        "both_correct_changed",
    }
    assert first["gates"][1] == {
        "rule": "net:0",
        "verdict": "inconclusive",
        "reason": "open",
        "needed_n": 1234,
        "tier": "critical",
    }
    assert first["slices"][0]["field"] == "topic"
    assert second["quadrants"] == {"positive_flip": 1, "negative_flip": 0, "unchanged": 1}
    assert second["metrics"]["mean_regression"] == {
        "value": None,
        "low": None,
        "high": None,
        "count": 0,
        "of": 2,
        "lower": None,
        "upper": None,
        "why": "no instance regressed",
    }
    assert set(second["tests"]) == {"permutation_p"}


def test_the_round_trip_is_exact(result):
    table = join_instances(result)
    assert len(table) == 7
    back = result_from_dict(through_json(result), table)
    assert back == result
    for found, expected in zip(back.comparisons, result.comparisons, strict=True):
        assert list(found.instances.columns) == list(expected.instances.columns)
        pd.testing.assert_frame_equal(found.instances, expected.instances, check_dtype=False, check_categorical=False)


def test_the_round_trip_through_parquet(result, tmp_path):
    join_instances(result).to_parquet(tmp_path / "instances.parquet")
    back = result_from_dict(through_json(result), pd.read_parquet(tmp_path / "instances.parquet"))
    assert back == result
    first = back.comparisons[0].instances
    assert first["quadrant"].fillna("error").tolist() == [
        "both_correct",
        "positive_flip",
        "negative_flip",
        "both_wrong",
        "error",
    ]
    assert first["changed"].tolist() == [False, True, True, True, pd.NA]
    assert back.comparisons[1].instances["level"].tolist() == [1, 2]


def test_one_comparison_needs_no_copy(result):
    single = Result(result.old, result.new, result.comparisons[:1])
    assert join_instances(single) is single.comparisons[0].instances
    assert result_from_dict(through_json(single), join_instances(single)) == single


def test_no_comparison_has_an_empty_table(result):
    nothing = Result(result.old, result.new, ())
    assert list(join_instances(nothing).columns) == list(INSTANCE_COLUMNS)
    assert result_from_dict(through_json(nothing), join_instances(nothing)) == nothing


def test_fields_of_several_kinds_become_text(make_run, tmp_path):
    numbers = make_run([1, 0], level=[1, 2], tags=[["x"], "y"])
    words = make_run([1, 0], task="spelling", level=["low", "high"])
    comparisons = tuple(compare(run, run, metric="exact_match") for run in (numbers, words))
    table = join_instances(Result(Side("a", ""), Side("b", ""), comparisons))
    table.to_parquet(tmp_path / "instances.parquet")
    assert table["level"].tolist() == ["1", "2", "low", "high"]
    assert table["tags"].tolist()[:2] == ['["x"]', "y"]
    assert table["tags"].isna().tolist() == [False, False, True, True]


def test_what_json_cannot_hold_is_made_plain(result):
    from dataclasses import replace
    from pathlib import Path

    side = Side("x", "y", engine={"path": Path("m"), "seed": np.int64(3), "scale": float("nan"), "shape": (1, 2)})
    data = through_json(replace(result, old=side))
    assert data["old"]["engine"] == {"path": "m", "seed": 3, "scale": None, "shape": [1, 2]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data.update(schema="other/1"),
            r"no report of schema 'compatcheck.report/1': its schema is 'other/1'",
        ),
        (lambda data: data.pop("verdict"), r"the report lacks the field 'verdict'"),
        (lambda data: data["comparisons"][0].pop("n"), r"the report lacks the field 'n'"),
        (lambda data: data["comparisons"][0]["metrics"].update(nfr=3), r"field of the wrong kind"),
        (
            lambda data: data["comparisons"][0]["gates"].append({"rule": "x"}),
            r"lacks the field 'verdict' in comparisons\[0\].gates\[2\]: it was cut or edited",
        ),
        (lambda data: data["comparisons"][0].pop("gates"), r"lacks the field 'gates' in comparisons\[0\]"),
        (
            lambda data: data["comparisons"][0]["metrics"].pop("nfr"),
            r"lacks the field 'nfr' of 'arithmetic/exact_match'",
        ),
        (lambda data: data["comparisons"][0]["quadrants"].pop("both_wrong"), r"lacks the field 'both_wrong'"),
        (
            lambda data: data["comparisons"][0]["gates"][0].update(verdict="![x](http://e)"),
            r"comparisons\[0\].gates\[0\].verdict is '!\[x\]\(http://e\)' in place of one of pass, fail, inconclusive",
        ),
        (
            lambda data: data["comparisons"][0].update(n=10**400),
            r"comparisons\[0\].n is int in place of a whole number",
        ),
        (lambda data: data["comparisons"][0].update(n=True), r"comparisons\[0\].n is True in place of a whole number"),
        (
            lambda data: data["comparisons"][0].update(confidence=float("inf")),
            r"confidence is inf in place of a number",
        ),
        (lambda data: data["comparisons"][1].update(score_range=[0]), r"score_range is list in place of a list of 2"),
        (lambda data: data["comparisons"][0]["pairing"].update(examples={"only_old": [1]}), r"only_old\[0\] is int"),
        (lambda data: data["comparisons"][0].update(fields=["nowhere"]), r"fields of 'arithmetic/exact_match' that"),
        (
            lambda data: data["old"]["settings"].update(x=functools.reduce(lambda x, _: [x], range(60), 1)),
            r"old.settings.x is .* in place of values nested at most 50 deep",
        ),
        (
            lambda data: data["old"].update(engine={"seed": 10**30}),
            r"old.engine.seed is int in place of a whole number",
        ),
        (lambda data: data.update(comparisons=None), r"field of the wrong kind"),
    ],
)
def test_a_damaged_report_is_refused(result, change, message):
    data = through_json(result)
    change(data)
    with pytest.raises(InputError, match=message):
        result_from_dict(data, join_instances(result))


def test_instances_of_another_report_are_refused(result, make_run):
    better = compare(make_run([1, 0, 1, 0, 1]), make_run([1, 1, 1, 1, 1]), metric="exact_match")
    other = join_instances(Result(result.old, result.new, (better, result.comparisons[1]))).assign(
        topic="a", failure_kind=""
    )
    with pytest.raises(InputError, match="the instances of 'arithmetic/exact_match' are not those of this report"):
        result_from_dict(through_json(result), other)
    strange = join_instances(result).assign(quadrant="sideways")
    with pytest.raises(InputError, match=r"their quadrants are \{'sideways': 5\} in place of"):
        result_from_dict(through_json(result), strange)


def test_another_table_is_refused(result):
    with pytest.raises(InputError, match=r"the instance table has no column 'gain'"):
        result_from_dict(through_json(result), join_instances(result).drop(columns="gain"))
    text = join_instances(result).assign(gain="much")
    with pytest.raises(InputError, match=r"the column 'gain' of the instance table holds other than numbers"):
        result_from_dict(through_json(result), text)
    with pytest.raises(InputError, match="its schema is None"):
        result_from_dict([], join_instances(result))
