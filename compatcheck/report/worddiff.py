"""Word-level differences of two texts, for every renderer that shows OLD against NEW."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from compatcheck.report.text import NO_ANSWER, left_out

MAX_TOKENS = 3000
"""Words, spaces and marks compared on each side once the common beginning and end are set aside."""
CONTEXT = 60
_TOKEN = re.compile(r"\s+|[^\W_]+|_+|[^\w\s]")
_WORD = re.compile(r"[^\W_]")
_BETWEEN = re.compile(r"[^\w\n]{1,3}")


@dataclass(frozen=True)
class Segment:
    """A stretch of text that is in both texts, only in the first, only in the second, or not shown."""

    kind: Literal["equal", "delete", "insert", "cut"]
    text: str
    missing: int = 0
    """Characters that a ``cut`` stands for."""


def _phrases(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Draw the spaces and marks between two changed words into the change: phrases read better than stripes."""
    joined: list[Segment] = []
    for segment in segments:
        joined.append(segment)
        if len(joined) >= 3 and segment.kind != "equal":
            before, between = joined[-3], joined[-2]
            if before.kind == segment.kind and _BETWEEN.fullmatch(between.text):
                joined[-3:] = [Segment(segment.kind, before.text + between.text + segment.text)]
    return tuple(joined)


def _common(a: Iterable[str], b: Iterable[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def word_diff(old: str, new: str, max_tokens: int = MAX_TOKENS) -> list[Segment]:
    """Compare two texts word by word; whitespace and punctuation are words of their own, so that nothing is lost.

    The equal and deleted segments joined give ``old``; the equal and inserted ones give ``new``. Where more than
    ``max_tokens`` words remain on either side after the common beginning and end, these are shown as one deletion and
    one insertion, because the comparison takes quadratic time.
    """
    a, b = _TOKEN.findall(old), _TOKEN.findall(new)
    start = _common(a, b)
    end = _common(reversed(a[start:]), reversed(b[start:]))
    head, tail = a[:start], a[len(a) - end :]
    a, b = a[start : len(a) - end], b[start : len(b) - end]
    pieces = [("replace", 0, len(a), 0, len(b))]
    if max(len(a), len(b)) <= max_tokens:
        pieces = list(difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes())
    segments = [Segment("equal", "".join(head))]
    for tag, i1, i2, j1, j2 in pieces:
        if tag == "equal":
            segments.append(Segment("equal", "".join(a[i1:i2])))
        else:
            segments += [Segment("delete", "".join(a[i1:i2])), Segment("insert", "".join(b[j1:j2]))]
    segments.append(Segment("equal", "".join(tail)))
    return [segment for segment in segments if segment.text]


def side_by_side(
    old: str | None, new: str | None, max_tokens: int = MAX_TOKENS
) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """Both texts with the words marked that only one has.

    Nothing is marked where one has no text at all, or they share no word: marks would say nothing.
    """
    if old is None or new is None:
        marks = (Segment("cut", NO_ANSWER) if text is None else Segment("equal", text) for text in (old, new))
        return (next(marks),), (next(marks),)
    found = word_diff(old, new, max_tokens)
    if any(each.kind == "equal" and _WORD.search(each.text) for each in found):
        return _phrases(s for s in found if s.kind != "insert"), _phrases(s for s in found if s.kind != "delete")
    return (Segment("equal", old),), (Segment("equal", new),)


def trim_segments(segments: tuple[Segment, ...], limit: int) -> tuple[Segment, ...]:
    """Shorten what is shown to about ``limit`` characters, keeping the surroundings of every difference.

    Equal text is cut first, to :data:`CONTEXT` characters beside each change; then the middle of long changes; then,
    where there are more changes than fit, the rest. Each cut is a segment of kind ``cut`` that says how many characters
    are missing. Text within the limit is returned as it is.
    """
    if sum(len(s.text) for s in segments) <= limit:
        return segments
    context = min(CONTEXT, max(limit // 4, 8))
    shorter: list[Segment] = []
    for index, segment in enumerate(segments):
        head = tail = max(limit // 4, 20)
        if segment.kind == "equal":
            head = context if index > 0 else 0
            tail = context if index < len(segments) - 1 else 0
            if not head and not tail:
                head = tail = limit // 2
        shorter.extend(_cut(segment, head, tail))
    room = limit + limit // 2  # the notes' own length does not count
    for index, segment in enumerate(shorter):
        room -= len(segment.text) if segment.kind != "cut" else 0
        if room < 0 and index < len(shorter) - 1 and segment.kind != "cut":
            rest = sum(s.missing or len(s.text) for s in shorter[index + 1 :])
            return (*shorter[: index + 1], Segment("cut", left_out(rest), rest))
    return tuple(shorter)


def _cut(segment: Segment, head: int, tail: int) -> list[Segment]:
    text = segment.text
    missing = len(text) - head - tail
    note = Segment("cut", left_out(missing), missing)
    if missing <= len(note.text):
        return [segment]
    ends = Segment(segment.kind, text[:head]), Segment(segment.kind, text[len(text) - tail :] if tail else "")
    return [part for part in (ends[0], note, ends[1]) if part.text]
