from __future__ import annotations

from collections.abc import Callable

import pytest

from compatcheck.compare.result import Result
from compatcheck.report import browse
from compatcheck.report.browse import Place


def ids(result: Result, places: list[Place]) -> list[str]:
    return [str(result.comparisons[each.comparison].instances["doc_id"].iloc[each.row]) for each in places]


def test_negative_flips_come_first_and_the_worst_of_them(several: Result) -> None:
    found = ids(several, browse.select(several, [2]))
    rows = several.comparisons[2].instances.set_index("doc_id")
    worse = several.comparisons[2].negative_flips["doc_id"].tolist()
    assert found[: len(worse)] == worse
    gains = rows.loc[found[len(worse) :], "gain"].tolist()
    assert gains == sorted(gains, reverse=True)  # then positive flips, the greatest first
    assert len(gains) == several.comparisons[2].quadrants["positive_flip"]


def test_every_instance_is_in_one_group(errors: Result) -> None:
    groups = [ids(errors, browse.select(errors, [0], name)) for name in browse.FILTERS if name not in ("flips", "all")]
    assert sorted(doc_id for group in groups for doc_id in group) == sorted(
        ids(errors, browse.select(errors, [0], "all"))
    )
    assert len(browse.select(errors, [0], "error")) == 4


def test_search_finds_all_words_in_any_text_or_field(failing: Result, hostile: Result) -> None:
    rows = failing.comparisons[0].instances
    texts = rows.drop(columns=["doc_hash", "task", "filter", "metric", "quadrant"]).fillna("").astype(str)
    lower = texts.agg(" ".join, axis=1).str.lower()
    expected = rows["doc_id"][lower.str.contains("biscuits") & lower.str.contains("money")]
    found = ids(failing, browse.select(failing, [0], "all", "BISCUITS money"))
    assert 0 < len(found) < 400
    assert sorted(found) == sorted(expected)
    assert len(browse.select(hostile, [0], "all", "@SOMEONE")) == 12  # lone surrogates beside it
    assert browse.select(hostile, [0], "all", "(nothing)") == []


@pytest.mark.parametrize(("name", "known"), [("Negative-Flips", "negative_flip"), ("errors", "error"), ("all", "all")])
def test_filters_are_read_kindly(name: str, known: str) -> None:
    assert browse.check_filter(name) == (known, None)


def test_many_instances_are_chosen_at_once(large: Callable[[int], Result]) -> None:
    result = large(12_000)
    assert len(browse.select(result, [0, 1], "all")) == 24_000
    assert browse.find_id(result, [0, 1], "11999") == [Place(0, 11_999)]
