from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compatcheck.report.worddiff import Segment, side_by_side, trim_segments, word_diff


def joined(segments: tuple[Segment, ...]) -> str:
    return "".join(segment.text for segment in segments)


def test_words_that_differ_are_segments() -> None:
    assert word_diff("the cat sat down", "the dog sat") == [
        Segment("equal", "the "),
        Segment("delete", "cat"),
        Segment("insert", "dog"),
        Segment("equal", " sat"),
        Segment("delete", " down"),
    ]


def test_equal_and_empty_texts() -> None:
    assert word_diff("same", "same") == [Segment("equal", "same")]
    assert word_diff("", "") == []
    assert word_diff("", "new") == [Segment("insert", "new")]


def test_a_phrase_is_marked_whole() -> None:
    before, after = side_by_side("So there are 297 left.", "So 450 remain here.")
    assert before == (Segment("equal", "So "), Segment("delete", "there are 297 left"), Segment("equal", "."))
    assert after == (Segment("equal", "So "), Segment("insert", "450 remain here"), Segment("equal", "."))


@given(st.text("ab \n.,_é1", max_size=60), st.text("ab \n.,_é1", max_size=60))
def test_nothing_is_lost(old: str, new: str) -> None:
    segments = word_diff(old, new)
    assert joined(tuple(s for s in segments if s.kind != "insert")) == old
    assert joined(tuple(s for s in segments if s.kind != "delete")) == new
    assert tuple(map(joined, side_by_side(old, new))) == (old, new)


def test_long_texts_are_compared_coarsely() -> None:
    old = "start " + " ".join(f"a{i}" for i in range(20_000)) + " end"
    new = "start " + " ".join(f"b{i}" for i in range(20_000)) + " end"
    assert [segment.kind for segment in word_diff(old, new)] == ["equal", "delete", "insert", "equal"]
    assert joined(side_by_side(old, new)[0]) == old


def test_a_small_change_in_a_long_text_is_found_word_by_word() -> None:
    words = [f"w{i}" for i in range(20_000)]
    old, new = " ".join(words), " ".join([*words[:9_000], "other", *words[9_001:]])
    segments = word_diff(old, new)
    assert Segment("delete", "w9000") in segments
    assert Segment("insert", "other") in segments


def test_trimming_keeps_the_change_with_its_surroundings() -> None:
    text = "x" * 2000
    shown = trim_segments(side_by_side(f"{text} old {text}", f"{text} new {text}")[0], 200)
    assert [segment.kind for segment in shown] == ["cut", "equal", "delete", "equal", "cut"]
    assert shown[2].text == "old"
    assert shown[1].text == "x" * 49 + " "
    assert shown[0] == Segment("cut", "… 1,951 characters left out …", 1951)
    assert shown[4].missing == 1951


def test_trimming_counts_every_character() -> None:
    old = " ".join(f"same{i} gone{i} same{i} same{i}" for i in range(500))
    new = " ".join(f"same{i} come{i} same{i} same{i}" for i in range(500))
    side = side_by_side(old, new)[0]
    shown = trim_segments(side, 300)
    kept = sum(len(segment.text) for segment in shown if segment.kind != "cut")
    assert kept <= 600
    assert kept + sum(segment.missing for segment in shown) == len(old)


def test_short_texts_are_not_trimmed() -> None:
    side = side_by_side("a b", "a c")[0]
    assert trim_segments(side, 300) == side
