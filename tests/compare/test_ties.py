from __future__ import annotations

import json

import numpy as np
import pandas as pd

from compatcheck.compare import Result, Side, compare
from compatcheck.compare.margins import TieCount
from compatcheck.compare.serialise import join_instances, result_from_dict, result_to_dict
from compatcheck.compare.ties import NEAR, margins
from compatcheck.report import render

SURE = [-1.0, -4.0, -5.0]
UNSURE = [-4.0, -1.0, -1.04]


def test_the_margin_is_between_the_two_likeliest_choices() -> None:
    records = pd.DataFrame({"loglikelihoods": [SURE, UNSURE, [-2.0], None, [float("-inf"), -1.0, -3.0]]})
    found = margins(records, np.array([0, 1, 2, 3, 4]))
    assert found is not None
    assert np.round(found[[0, 1, 4]], 12).tolist() == [3.0, 0.04, 2.0]
    assert np.isnan(found[[2, 3]]).all()
    assert margins(pd.DataFrame({"doc_id": ["a"]}), np.array([0])) is None


def test_flips_near_a_tie_are_told_from_confident_ones(make_run) -> None:
    """By hand: of 4 negative flips old is unsure of the first, new of the second, the third is sure, one is unknown."""
    assert NEAR == 0.05
    old = make_run([1, 1, 1, 1, 0, 1], loglikelihoods=[UNSURE, SURE, SURE, None, UNSURE, UNSURE])
    new = make_run([0, 0, 0, 0, 1, 1], loglikelihoods=[SURE, UNSURE, SURE, SURE, SURE, UNSURE])
    c = compare(old, new, metric="exact_match")
    assert c.near_ties is not None
    assert c.near_ties.negative == TieCount(near=2, confident=1, unknown=1)
    assert c.near_ties.positive == TieCount(near=1, confident=0)
    result = Result(Side("a", "x"), Side("b", "y"), (c,))
    data = json.loads(json.dumps(result_to_dict(result), allow_nan=False))
    assert data["comparisons"][0]["near_ties"] == {
        "threshold": 0.05,
        "negative": {"near": 2, "confident": 1, "unknown": 1},
        "positive": {"near": 1, "confident": 0, "unknown": 0},
    }
    assert result_from_dict(data, join_instances(result)).comparisons[0].near_ties == c.near_ties
    printed = " ".join(render(result, "terminal").split())
    assert "Near ties 2 of 4 negative flips, 1 confident, 1 unknown; 1 of 1 positive flips, 0 confident" in printed


def test_a_metric_that_chooses_otherwise_has_no_near_ties_by_log_likelihoods(make_run) -> None:
    columns = {"loglikelihoods": [SURE, SURE], "prediction__exact_match": ["a", "b"]}
    assert compare(make_run([1, 1], **columns), make_run([0, 1], **columns), metric="exact_match").near_ties is None
    assert compare(make_run([1, 1]), make_run([0, 1]), metric="exact_match").near_ties is None
