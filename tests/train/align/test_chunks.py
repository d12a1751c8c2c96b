from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings

from compatcheck_train.align.spans import Spans, chunks, spans
from compatcheck_train.align.vocabulary import Vocabulary
from tests.train.align.kinds import KINDS, LOSSLESS, tokenizer
from tests.train.align.test_spans import TEXT, starts_of


def plain(*ends: int, exact: list[bool] | None = None, begin: int = 0, lead: int = 0, eos: bool = False) -> Spans:
    right = np.array(exact if exact is not None else [True] * len(ends), dtype=bool)
    return Spans(begin, np.array(ends), right, np.ones(len(ends), dtype=bool), lead, eos)


def of(kind: str, text: str, *, eos: bool = False) -> Spans:
    vocabulary = Vocabulary(tokenizer(kind))
    ids = [*tokenizer(kind)(text)["input_ids"], *[vocabulary.eos] * eos]
    return spans(vocabulary, text, ids)


def test_a_chunk_closes_where_both_have_a_boundary() -> None:
    found = chunks(plain(2, 5, 7, 9), plain(1, 2, 7, 8, 9))
    assert found.student.tolist() == [0, 1, 3, 4]
    assert found.teacher.tolist() == [0, 2, 3, 5]
    assert found.comparable.tolist() == [True, True, True]


def test_what_is_not_exact_is_not_comparable() -> None:
    found = chunks(plain(2, 5, 7, exact=[True, False, True]), plain(2, 5, 6, 7))
    assert found.comparable.tolist() == [True, False, True]


def test_start_and_end_tokens() -> None:
    found = chunks(plain(0, 3, 3, lead=1, eos=True), plain(3, 3, eos=True))
    assert (found.student.tolist(), found.teacher.tolist()) == ([1, 2, 3], [0, 1, 2])
    assert found.comparable.tolist() == [True, True]
    found = chunks(plain(3, 3, eos=True), plain(3))
    assert (found.student.tolist(), found.teacher.tolist()) == ([0, 1, 2], [0, 1, 1])
    assert found.comparable.tolist() == [True, False]


def test_a_cut_sequence_has_a_chunk_of_its_own_at_its_start() -> None:
    found = chunks(plain(5, 7, begin=3), plain(2, 5, 7))
    assert (found.student.tolist(), found.teacher.tolist()) == ([0, 1, 2], [0, 2, 3])
    assert found.comparable.tolist() == [False, True]
    found = chunks(plain(5, 7, begin=2), plain(2, 5, 7))
    assert (found.student.tolist(), found.teacher.tolist()) == ([0, 0, 1, 2], [0, 1, 2, 3])
    assert found.comparable.tolist() == [False, True, True]


def test_tokens_that_cover_nothing_go_with_what_follows() -> None:
    found = chunks(plain(0, 2, 4), plain(2, 4))
    assert (found.student.tolist(), found.teacher.tolist()) == ([0, 2, 3], [0, 1, 2])


def test_digits_split_in_three_ways() -> None:
    text = "Ben has 250 pens."
    sides = {kind: of(kind, text) for kind in ("fixture-bpe", "fixture-unigram", "byte-level")}

    def at_number(left: str, right: str) -> list[tuple[int, int]]:
        """Tokens on either side of the chunks that lie in " 250"."""
        found = chunks(sides[left], sides[right])
        assert found.comparable.all()
        ends = sides[left].ends[found.student[1:] - 1]
        sizes = zip(np.diff(found.student).tolist(), np.diff(found.teacher).tolist(), strict=True)
        return [size for size, end in zip(sizes, ends, strict=True) if 7 < end <= 11]

    assert at_number("fixture-bpe", "fixture-unigram") == [(2, 1), (1, 1), (1, 1)]  # " " and "2" against "▁2"
    assert at_number("fixture-bpe", "byte-level") == [(4, 1)]
    assert at_number("byte-level", "fixture-unigram") == [(1, 3)]


@pytest.mark.parametrize(("left", "right"), product(KINDS, KINDS))
@settings(max_examples=15, deadline=None)
@given(text=TEXT)
def test_chunks_tile_both_sides_and_comparable_ones_cover_the_same_bytes(left: str, right: str, text: str) -> None:
    one, two = of(left, text, eos=True), of(right, text, eos=True)
    found = chunks(one, two)
    for edges, side in ((found.student, one), (found.teacher, two)):
        assert edges[0] == side.lead
        assert edges[-1] == len(side.ends)
        assert (np.diff(edges) >= 0).all()
    assert (np.diff(found.student) + np.diff(found.teacher) > 0).all()
    for c in np.flatnonzero(found.comparable):
        (a, b), (d, e) = found.student[c : c + 2], found.teacher[c : c + 2]
        assert (starts_of(one)[a], one.ends[b - 1]) == (starts_of(two)[d], two.ends[e - 1])
        assert one.exact[a:b].all()
        assert two.exact[d:e].all()
    if left == right:
        assert found.student.tolist() == found.teacher.tolist()
    if left == right and left in LOSSLESS and "▁" not in text:
        inner = slice(one.lead, len(one.ends) - 1)
        covering = int((one.ends[inner] > starts_of(one)[inner]).sum())
        assert len(found) == covering + 1
    if {left, right} <= set(LOSSLESS) and "▁" not in text:
        assert found.comparable.all()
