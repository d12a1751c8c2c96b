from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from compatcheck.engines.hf.packing import Branch, Document, Group, Packer, common_prefix, group_documents


def _documents(*contexts: tuple[int, ...]) -> list[Document]:
    return [Document(context) for context in contexts]


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=12))
def test_common_prefix_counts_the_leading_tokens_that_agree(one: list[int], two: list[int]) -> None:
    expected = 0
    for first, second in zip(one, two, strict=False):
        if first != second:
            break
        expected += 1
    assert common_prefix(one, two) == expected


def test_documents_with_the_same_examples_are_one_group() -> None:
    shots = tuple(range(50))
    documents = _documents((*shots, 90, 91), (*shots, 92), (*shots, 90, 93))
    assert group_documents(documents, least_saving=24) == [Group(50, tuple(documents))]


def test_two_sets_of_examples_make_two_groups_and_the_rest_one_without_a_prefix() -> None:
    first, second = tuple(range(40)), tuple(range(100, 150))
    documents = _documents((*first, 1), (*second, 1), (7, 8, 9), (*first, 2), (*second, 2), (5,))
    groups = group_documents(documents, least_saving=24)
    assert [(g.prefix, [documents.index(d) for d in g.documents]) for g in groups] == [
        (40, [0, 3]), (50, [1, 4]), (0, [2, 5]),
    ]  # fmt: skip


def test_the_nesting_that_saves_most_is_taken() -> None:
    # Together the four share 30 tokens (saves 90); in pairs they share 200 and 200 (saves 400).
    common = tuple(range(30))
    left, right = (*common, *range(1000, 1170)), (*common, *range(2000, 2170))
    documents = _documents((*left, 1), (*right, 1), (*left, 2), (*right, 2))
    assert sorted(group.prefix for group in group_documents(documents, 24)) == [200, 200]


def test_every_document_keeps_a_token_of_its_own() -> None:
    whole = tuple(range(60))
    groups = group_documents(_documents(whole, (*whole, 5), (*whole, 6)), 24)
    assert [group.prefix for group in groups] == [59]


def test_small_savings_and_small_groups_are_left_alone() -> None:
    documents = _documents((1, 2, 3, 4), (1, 2, 3, 5))
    assert [group.prefix for group in group_documents(documents, least_saving=3)] == [0]
    assert [group.prefix for group in group_documents(documents, least_saving=2)] == [3]
    assert [group.prefix for group in group_documents(documents, least_saving=2, least_members=3)] == [0]


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9), max_size=25), st.integers(0, 8))
def test_groups_hold_every_document_once_and_really_share_their_prefix(contexts: list[list[int]], least: int) -> None:
    documents = [Document(tuple(context)) for context in contexts]
    groups = group_documents(documents, least)
    assert sorted(id(d) for group in groups for d in group.documents) == sorted(map(id, documents))
    for group in groups:
        assert all(d.context[: group.prefix] == group.prefix_tokens for d in group.documents)
        assert all(len(d.context) > group.prefix for d in group.documents)
        if group.prefix:
            assert group.prefix * (len(group.documents) - 1) > least


def test_ten_thousand_nested_contexts_are_grouped_in_linear_time() -> None:
    documents = [Document(tuple(range(length))) for length in range(1, 1200)]
    assert sum(len(group.documents) for group in group_documents(documents, 24)) == 1199


def _packed(groups: list[Group], budget: int, most: int | None = None) -> list[list[tuple[int, bool, int, bool]]]:
    packer, kept, forwards = Packer(groups, most), False, []
    while packer:
        parts = packer.take(budget, kept)
        kept = parts[-1].keep
        forwards.append([(p.group.prefix, p.encode_prefix, len(p.documents), p.keep) for p in parts])
    return forwards


def test_forwards_stay_within_the_budget_and_read_a_prefix_once() -> None:
    branches = (Branch(0, (1, 2, 3)), Branch(1, (4,)))  # two and no tokens are read
    group = Group(10, tuple(Document((*range(10), 50 + n, 60 + n), branches) for n in range(5)))
    assert group.documents[0].size(10) == 4
    assert _packed([group], 18) == [[(10, True, 2, True)], [(10, False, 3, False)]]


def test_small_groups_travel_together_and_a_document_above_the_budget_goes_alone() -> None:
    groups = [
        Group(2, tuple(_documents((1, 2, 3), (1, 2, 4)))),
        Group(3, tuple(_documents((5, 6, 7, 8), (5, 6, 7, 9)))),
        Group(0, tuple(_documents(tuple(range(40)), (1,)))),
    ]
    assert _packed(groups, 9) == [
        [(2, True, 2, False), (3, True, 2, False)], [(0, False, 1, True)], [(0, False, 1, False)],
    ]  # fmt: skip


def test_at_most_so_many_documents_travel_together() -> None:
    rng = random.Random(0)
    group = Group(0, tuple(_documents(*[(rng.randrange(9),) for _ in range(5)])))
    assert _packed([group], 100, most=2) == [[(0, False, 2, True)], [(0, False, 2, True)], [(0, False, 1, False)]]


def test_after_a_rewind_the_same_documents_come_again_with_their_prefix() -> None:
    group = Group(4, tuple(_documents(*[(1, 2, 3, 4, n) for n in range(6)])))
    packer = Packer([group])
    assert len(packer.take(6, False)[0].documents) == 2
    at = packer.at
    assert packer.take(4, True)[0].encode_prefix is False
    packer.at = at
    part = packer.take(6, prefix_kept=False)[0]
    assert (part.encode_prefix, part.documents) == (True, group.documents[2:4])
