from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from compatcheck.compare import compare
from compatcheck.compare.pairing import differ, pair
from compatcheck.errors import InputError


def test_rows_are_paired_by_id_and_never_by_order(make_run):
    old = make_run([1, 0, 1, 0], ids=["a", "b", "c", "d"])
    new = make_run([0, 0, 1, 1], ids=["d", "c", "b", "a"])
    found = compare(old, new, metric="exact_match")
    assert found.quadrants == {"both_correct": 1, "positive_flip": 1, "negative_flip": 1, "both_wrong": 1}
    assert found.instances[["doc_id", "quadrant"]].values.tolist() == [
        ["a", "both_correct"],
        ["b", "positive_flip"],
        ["c", "negative_flip"],
        ["d", "both_wrong"],
    ]


def test_rows_of_one_side_only_are_counted_and_named(make_run):
    old = make_run([1, 1, 1, 0], ids=["a", "b", "c", "x"])
    new = make_run([1, 1], ids=["y", "b"])
    pairing = compare(old, new, metric="exact_match").pairing
    assert (pairing.paired, pairing.only_old, pairing.only_new) == (1, 3, 1)
    assert pairing.examples == {"only_old": ("a", "c", "x"), "only_new": ("y",)}
    assert pairing.key == "id"


def test_at_most_five_ids_are_named(make_run):
    old = make_run([1] * 9)
    new = make_run([1], ids=["d8"])
    assert compare(old, new, metric="exact_match").pairing.examples["only_old"] == ("d0", "d1", "d2", "d3", "d4")


def test_duplicates_dropped_at_import_are_summed(make_run):
    found = compare(make_run([1], duplicates=2), make_run([1], duplicates=3), metric="exact_match")
    assert found.pairing.duplicates == 5


def test_a_repeated_id_is_an_error_that_names_it(make_run):
    with pytest.raises(InputError, match=r"^NEW has more than one record with the id 'd1' on task 'arithmetic'"):
        pair(make_run([1, 0]), make_run([1, 0, 1], ids=["d0", "d1", "d1"]))


def test_a_missing_id_is_an_error_that_names_the_record(make_run):
    with pytest.raises(InputError, match=r"^OLD has a record without an id on task 'arithmetic' \(record 2\)"):
        pair(make_run([1, 0], ids=["d0", None]), make_run([1, 0]))


def test_no_common_id_shows_ids_of_either_side(make_run):
    with pytest.raises(InputError, match=r"no id in common.*OLD has 'd0', 'd1', NEW has '7', '8'; .*--id-field"):
        pair(make_run([1, 0]), make_run([1, 0], ids=["7", "8"]))


def test_control_characters_of_an_id_stay_out_of_the_message(make_run):
    with pytest.raises(InputError) as caught:
        pair(make_run([1], ids=["\x1b[31mred\n"]), make_run([1]))
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_side_is_an_error(make_run):
    with pytest.raises(InputError, match=r"^NEW has no records for task 'arithmetic'"):
        pair(make_run([1]), make_run([]))


def test_changed_targets_are_counted_and_not_scored(make_run):
    old = make_run([1, 1, 0], target=["1", "2", "3"])
    new = make_run([1, 0, 0], target=["1", "9", "3"])
    found = compare(old, new, metric="exact_match")
    assert (found.n, found.pairing.target_changed) == (2, 1)
    assert found.pairing.examples == {"target_changed": ("d1",)}
    assert found.instances["doc_id"].tolist() == ["d0", "d2"]


@pytest.mark.parametrize("column", ["doc_hash", "target_hash"])
def test_another_hash_is_other_content(make_run, column):
    old = make_run([1, 1, 1], **{column: ["p", "q", "r"]})
    new = make_run([1, 1, 1], **{column: ["p", "z", "r"]})
    assert compare(old, new, metric="exact_match").pairing.target_changed == 1


def test_a_hash_on_one_side_contradicts_nothing(make_run):
    old = make_run([1, 1], doc_hash=["p", "q"])
    assert compare(old, make_run([1, 1]), metric="exact_match").pairing.target_changed == 0
    assert compare(old, make_run([1, 1], doc_hash=["p", None]), metric="exact_match").pairing.target_changed == 0


def test_hashes_of_different_things_contradict_nothing(make_run):
    old = make_run([1], doc_hash=["input:1"])
    assert pair(old, make_run([1], doc_hash=["2"])).target_changed == 0
    with pytest.raises(InputError, match="differ in content or target"):
        pair(old, make_run([1], doc_hash=["input:2"]))


@pytest.mark.parametrize(
    ("one", "other"), [("é", "e\u0301"), ("a", " a\n"), ("a", "\u3000a\xa0"), ("5", "5.0"), ("true", "True")]
)
def test_targets_that_metrics_read_alike_are_the_same(make_run, one, other):
    pairing = compare(
        make_run([1, 0], target=[one, "b"]), make_run([1, 1], target=[other, "c"]), metric="exact_match"
    ).pairing
    assert (pairing.paired, pairing.target_changed) == (1, 1)


def test_numbers_that_floats_do_not_tell_apart_are_two_targets(make_run):
    one, other = str(2**53), str(2**53 + 1)
    pairing = compare(
        make_run([1, 0], target=["1", one]), make_run([1, 1], target=["1", other]), metric="exact_match"
    ).pairing
    assert (pairing.paired, pairing.target_changed) == (1, 1)


def test_a_target_that_one_side_lacks_is_a_changed_one(make_run):
    old = make_run([1, 1, 1], target=["1", "2", None])
    new = make_run([1, 1, 1], target=["1", None, None])
    assert compare(old, new, metric="exact_match").pairing.target_changed == 1


def test_a_side_without_any_target_is_no_contradiction(make_run):
    old = make_run([1, 1], target=["1", "2"])
    new = make_run([1, 1], target=[None, None])
    found = compare(old, new, metric="exact_match")
    assert (found.n, found.pairing.target_changed) == (2, 0)
    assert found.instances["target"].tolist() == ["1", "2"]


def test_a_record_in_error_may_lack_its_target(make_run):
    old = make_run([1, None, 0], target=["1", None, "3"], error=[None, "timeout", None])
    new = make_run([1, 1, 0], target=["1", "2", "3"])
    pairing = compare(old, new, metric="exact_match").pairing
    assert (pairing.paired, pairing.target_changed, pairing.errors_old) == (2, 0, 1)


def test_only_changed_targets_are_an_error_that_shows_one(make_run):
    with pytest.raises(
        InputError, match=r"recorded for different data.*all 2 rows.*id 'd0', with target '1' in OLD and"
    ):
        pair(make_run([1, 1], target=["1", "2"]), make_run([1, 1], target=["3", "4"]))


def test_renumbered_data_are_paired_by_content(make_run):
    old = make_run([1, 1, 0, 0], doc_hash=["p", "q", "r", "s"], target=["1", "2", "3", "4"])
    new = make_run(
        [1, 0, 1, 0], ids=["d1", "d2", "d3", "d4"], doc_hash=["p", "q", "r", "s"], target=["1", "2", "3", "4"]
    )
    found = compare(old, new, metric="exact_match")
    assert found.pairing.key == "content hash"
    assert (found.pairing.paired, found.pairing.only_old, found.pairing.only_new) == (4, 0, 0)
    assert list(found.quadrants.values()) == [1, 1, 1, 1]
    assert found.instances["doc_id"].tolist() == ["d0", "d1", "d2", "d3"]


def test_ids_of_another_kind_are_paired_by_content(make_run):
    old = make_run([1, 0], ids=["0", "1"], doc_hash=["p", "q"])
    new = make_run([0, 1], ids=["train-1", "train-0"], doc_hash=["q", "p"])
    found = compare(old, new, metric="exact_match")
    assert (found.pairing.key, found.quadrants["both_correct"], found.quadrants["both_wrong"]) == ("content hash", 1, 1)


@pytest.mark.parametrize("hashes", [["p", "p", "r"], ["p", None, "r"]])
def test_content_that_is_not_unique_pairs_nothing(make_run, hashes):
    old = make_run([1, 1, 1], doc_hash=hashes)
    new = make_run([1, 1, 1], ids=["x", "y", "z"], doc_hash=["p", "q", "r"])
    with pytest.raises(InputError, match="no id in common"):
        pair(old, new)


def test_ids_win_where_most_of_them_agree(make_run):
    old = make_run([1] * 4, doc_hash=["p", "q", "r", "s"])
    new = make_run([1] * 4, doc_hash=["p", "q", "s", "r"])
    found = compare(old, new, metric="exact_match")
    assert (found.pairing.key, found.pairing.paired, found.pairing.target_changed) == ("id", 2, 2)


@pytest.mark.parametrize("kind", [object, "str", "string", "category"])
def test_differ_counts_null_equal_only_to_null(kind):
    before = pd.Series(["a", "b", None, None, "e"], dtype=kind)
    after = pd.Series(["a", "c", None, "d", None], dtype=kind)
    assert differ(before, after).tolist() == [False, True, False, True, True]


def test_text_kept_as_objects_pairs_with_text_kept_as_text(make_run):
    old, new = make_run([1, 0], target=["1", "2"]), make_run([1, 0], target=["1", "2"])
    old.records["doc_id"] = old.records["doc_id"].astype(object)
    old.records["target"] = old.records["target"].astype(object)
    pairs = pair(old, new)
    assert np.array_equal(pairs.old, pairs.new)
    assert pairs.target_changed == 0


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"target": ["a", None, "c"]},
        {"doc_hash": ["x", "y", None], "input": ["q", "r", "s"]},
        {"error": [None, "timeout", None]},
    ],
)
def test_rows_in_step_are_paired_as_the_join_pairs_them(make_run, change, monkeypatch):
    old, new = make_run([1, 0, 1], **change), make_run([0, 0, 1], **change)
    found = pair(old, new)
    monkeypatch.setattr("compatcheck.compare.pairing._in_step", lambda *_: False)
    joined = pair(old, new)
    assert (found.old.tolist(), found.new.tolist()) == (joined.old.tolist(), joined.new.tolist()) == ([0, 1, 2],) * 2
    assert replace(found, old=joined.old, new=joined.new) == joined


@pytest.mark.parametrize("ids", [["d0", "d0", "d1"], ["d0", None, "d1"]])
def test_rows_in_step_need_ids_of_their_own(make_run, ids):
    runs = [make_run([1, 0, 1]) for _ in range(2)]
    for run in runs:
        run.records["doc_id"] = ids
    with pytest.raises(InputError, match=r"more than one record with the id|a record without an id"):
        pair(*runs)
