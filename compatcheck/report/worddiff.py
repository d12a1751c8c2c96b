"""Word-level differences of two texts, for every renderer that shows OLD against NEW."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from compatcheck.report.text import left_out

MAX_TOKENS = 3000
"""Words, spaces and marks compared on each side once the common beginning and end are set aside."""

_TOKEN = re.compile(r"\s+|[^\W_]+|_+|[^\w\s]")
_BETWEEN = re.compile(r"[^\w\n]{1,3}")


@dataclass(frozen=True)
class Segment:
    """A stretch of text that is in both texts, only in the first, only in the second, or not shown."""

    kind: Literal["equal", "delete", "insert", "cut"]
    text: str
    missing: int = 0
    """Characters that a ``cut`` stands for."""


@dataclass(frozen=True)
class WordDiff:
    """The segments in reading order. ``coarse`` says that the texts were too long to be compared word by word."""

    segments: tuple[Segment, ...]
    coarse: bool = False

    @property
    def old(self) -> tuple[Segment, ...]:
        """The first text, its deleted words marked."""
        return _phrases(s for s in self.segments if s.kind != "insert")

    @property
    def new(self) -> tuple[Segment, ...]:
        """The second text, its inserted words marked."""
        return _phrases(s for s in self.segments if s.kind != "delete")


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


def word_diff(old: str, new: str, max_tokens: int = MAX_TOKENS) -> WordDiff:
    """Compare two texts word by word; whitespace and punctuation are words of their own, so that nothing is lost.

    The equal and deleted segments joined give ``old``; the equal and inserted ones give ``new``. Where more than
    ``max_tokens`` words remain on either side after the common beginning and end, these are shown as one deletion and
    one insertion (``coarse``), because the comparison takes quadratic time.
    """
    a, b = _TOKEN.findall(old), _TOKEN.findall(new)
    start = 0
    while start < len(a) and start < len(b) and a[start] == b[start]:
        start += 1
    end = 0
    while end < len(a) - start and end < len(b) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    middle_a, middle_b = a[start : len(a) - end], b[start : len(b) - end]
    coarse = max(len(middle_a), len(middle_b)) > max_tokens
    pieces: list[tuple[str, str, str]] = [("equal", "".join(a[:start]), "")]
    if coarse:
        pieces.append(("replace", "".join(middle_a), "".join(middle_b)))
    else:
        matcher = difflib.SequenceMatcher(None, middle_a, middle_b, autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            pieces.append((tag, "".join(middle_a[i1:i2]), "".join(middle_b[j1:j2])))
    pieces.append(("equal", "".join(a[len(a) - end :]), ""))
    return WordDiff(_join(pieces), coarse)


def _join(pieces: list[tuple[str, str, str]]) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    deleted = inserted = ""

    def flush() -> None:
        nonlocal deleted, inserted
        if deleted:
            segments.append(Segment("delete", deleted))
        if inserted:
            segments.append(Segment("insert", inserted))
        deleted = inserted = ""

    for tag, left, right in pieces:
        if tag != "equal":
            deleted += left if tag != "insert" else ""
            inserted += right if tag != "delete" else ""
        elif left:
            flush()
            segments.append(Segment("equal", left))
    flush()
    return tuple(segments)


def trim_segments(segments: tuple[Segment, ...], limit: int, context: int = 60) -> tuple[Segment, ...]:
    """Shorten what is shown to about ``limit`` characters, keeping the surroundings of every difference.

    Equal text is cut first, to ``context`` characters beside each change; then the middle of long changes; then, where
    there are more changes than fit, the rest. Each cut is a segment of kind ``cut`` that says how many characters are
    missing. Text within the limit is returned as it is.
    """
    if sum(len(s.text) for s in segments) <= limit:
        return segments
    context = min(context, max(limit // 4, 8))
    shorter: list[Segment] = []
    for index, segment in enumerate(segments):
        if segment.kind == "equal":
            head = context if index > 0 else 0
            tail = context if index < len(segments) - 1 else 0
            if not head and not tail:
                head = tail = limit // 2
        else:
            head = tail = max(limit // 4, 20)
        shorter.extend(_cut(segment, head, tail))
    return tuple(_until(shorter, limit))


def _cut(segment: Segment, head: int, tail: int) -> list[Segment]:
    text = segment.text
    missing = len(text) - head - tail
    if missing <= len(left_out(missing)):
        return [segment]
    parts = [
        Segment(segment.kind, text[:head]),
        _note(missing),
        Segment(segment.kind, text[len(text) - tail :] if tail else ""),
    ]
    return [part for part in parts if part.text]


def _until(segments: list[Segment], limit: int) -> list[Segment]:
    """As many segments as fit, then one cut for the rest. A note's own length does not count."""
    room = limit + limit // 2
    for index, segment in enumerate(segments):
        if segment.kind == "cut":
            continue
        room -= len(segment.text)
        if room < 0 and index < len(segments) - 1:
            rest = sum(s.missing or len(s.text) for s in segments[index + 1 :])
            return [*segments[: index + 1], _note(rest)]
    return segments


def _note(missing: int) -> Segment:
    return Segment("cut", left_out(missing), missing)
