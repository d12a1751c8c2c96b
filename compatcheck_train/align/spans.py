"""Which bytes of a text each token covers, and where two tokenizations of it meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compatcheck_train.align.vocabulary import Vocabulary


@dataclass(frozen=True)
class Spans:
    """The byte span of every token of a sequence; together they tile the text from ``begin`` on.

    ``ends`` (n,) is where each token ends, in bytes of the whole text: a token starts where the one before it ends, the
    first at ``begin``. Special tokens around the text cover nothing: the first ``lead`` ones, and the last when
    ``eos``. ``exact`` (n,): the token stands for just the bytes it covers, so that its probability is one of this text.
    ``closed`` (n,): the end of the token is a known boundary, not a guess inside a region that the tokenizer changed.
    """

    begin: int
    ends: np.ndarray
    exact: np.ndarray
    closed: np.ndarray
    lead: int
    eos: bool


def spans(vocabulary: Vocabulary, text: str, ids: Sequence[int]) -> Spans:
    """The spans of ``ids``, which encode ``text`` or, where a sequence was cut to fit, an end of it.

    A tokenizer that keeps every byte is read from the tokens themselves. One that changes the text (lower case, other
    normal forms, lost spaces, unknown characters) is read from the offsets it reports, and each part whose bytes are
    not those of the text is marked as not exact. Ids that are not what the tokenizer makes of the text are matched from
    both ends; what is between is one region without boundaries."""
    data = text.encode()
    lead, eos, begin = _around(vocabulary, data, ids)
    inner = ids[lead : len(ids) - eos]
    made = [vocabulary.bytes_of(number) for number in inner]
    if begin is not None and begin <= 0:
        return _around_again(_lossless(begin, made), lead, eos)
    own, offsets = vocabulary.encode(text)
    own_lead, own_eos, _ = _around(vocabulary, data, own)
    own_inner, offsets = own[own_lead : len(own) - own_eos], offsets[own_lead : len(own) - own_eos]
    cut = len(own_inner) - len(inner)
    is_own = cut >= 0 and [*own_inner[cut:]] == [*inner]
    if begin is not None and (cut > 0 or not is_own):
        return _around_again(_lossless(begin, made), lead, eos)
    found = _from_offsets(vocabulary, text, own_inner, offsets, cut) if is_own else _from_both_ends(data, made)
    return _around_again(found, lead, eos)


def _around(vocabulary: Vocabulary, data: bytes, ids: Sequence[int]) -> tuple[int, bool, int | None]:
    """How many special tokens stand before the text, whether one stands behind it, and where the text that the others
    stand for begins (None when they are not an end of it). A special token that is written in the text belongs to
    it."""

    def special(number: int) -> bool:
        return vocabulary.special(number) and not vocabulary.unknown(number)

    run = 0
    while run < len(ids) and special(ids[run]):
        run += 1
    behind = len(ids) > 0 and special(ids[-1]) and ids[-1] != vocabulary.bos
    if run == len(ids) and behind:
        run -= 1
    options = []
    for eos in (True, False)[not behind :]:
        for lead in range(min(run, len(ids) - eos) + 1):
            inner = ids[lead : len(ids) - eos]
            known = not any(vocabulary.unknown(number) for number in inner)
            begin = _place(data, b"".join(map(vocabulary.bytes_of, inner))) if known else None
            if begin is not None and begin <= 0:
                return lead, eos, begin
            options.append((lead, eos, begin))
    written = [b"".join(map(vocabulary.bytes_of, ids[n:run])) for n in range(run)]
    lead = next((n for n in range(run) if data.startswith(written[n])), run)
    first = next(n for n in range(len(ids), lead - 1, -1) if n == lead or not special(ids[n - 1]))
    eos = behind and len(ids) > lead and not data.endswith(b"".join(map(vocabulary.bytes_of, ids[first:])))
    return next(option for option in options if option[:2] == (lead, eos))


def _place(data: bytes, whole: bytes) -> int | None:
    """Where ``whole`` begins so that it ends with the text; −1 for the space that a tokenizer put before it."""
    if data.endswith(whole):
        return len(data) - len(whole)
    if len(whole) == len(data) + 1 and whole[:1] == b" " and whole.endswith(data):
        return -1
    return None


def _lossless(begin: int, made: list[bytes]) -> Spans:
    """Spans of tokens that stand for the text from ``begin`` on, byte by byte."""
    ends = np.maximum(begin + np.cumsum([len(piece) for piece in made], dtype=np.int64), 0)
    exact = np.ones(len(made), dtype=bool)
    return Spans(max(begin, 0), ends, exact, exact, 0, False)


def _around_again(inner: Spans, lead: int, eos: bool) -> Spans:
    """Spans with the special tokens put back at both ends."""
    last = inner.ends[-1] if len(inner.ends) else inner.begin
    ends = np.concatenate([[inner.begin] * lead, inner.ends, [last] * eos]).astype(np.int64)
    exact, closed = (np.pad(each, (lead, int(eos)), constant_values=True) for each in (inner.exact, inner.closed))
    return Spans(inner.begin, ends, exact, closed, lead, bool(eos))


def _from_offsets(
    vocabulary: Vocabulary, text: str, own: Sequence[int], offsets: Sequence[tuple[int, int]], cut: int
) -> Spans:
    """Spans from the character offsets of the text's ``own`` tokens, without the first ``cut`` ones. Tokens whose
    offsets overlap are one group; a group is exact when its bytes are the text's, but for one space before it that the
    tokenizer added or dropped."""
    data = text.encode()
    place = np.concatenate([[0], np.cumsum([len(sign.encode()) for sign in text])]).astype(np.int64)
    groups: list[tuple[int, int, int]] = []  # first token, token after the last, byte after the last
    for number, (a, b) in enumerate(offsets):
        low, high = int(place[a]), int(place[b])
        # one that stands for nothing of the text goes with what is before it
        if groups and (low < groups[-1][2] or low == high):
            first, _, stop = groups[-1]
            groups[-1] = (first, number + 1, max(stop, high) if low < stop else stop)
        else:
            groups.append((number, number + 1, high))
    begin = 0 if not cut else int(place[offsets[cut - 1][1]])
    ends = np.zeros(len(offsets), dtype=np.int64)
    exact, closed = np.zeros((2, len(offsets)), dtype=bool)
    made = [vocabulary.bytes_of(token) for token in own]
    before = 0
    for number, (first, after, stop) in enumerate(groups):
        if number + 1 == len(groups) and not data[stop:].strip():
            stop = len(data)
        part, whole = data[before:stop], b"".join(made[first:after])
        free = first == 0 or vocabulary.added(own[first - 1])
        # a space before the group that is part of no token, or one that the tokenizer put before the text
        shifts = [(whole, 0), (b" " + whole, 1), *[(whole.removeprefix(b" "), -1)] * (free and whole[:1] == b" ")]
        shift = next((by for bytes_, by in shifts if bytes_ == part), None)
        if shift is not None and not any(vocabulary.unknown(token) for token in own[first:after]):
            run = before + shift + np.cumsum([len(piece) for piece in made[first:after]])
            ends[first:after] = np.clip(run, before, stop)
            exact[first:after] = closed[first:after] = True
        else:
            ends[first:after] = stop
            ends[first : after - 1] = before
            closed[after - 1] = True
        before = stop
    if groups and before < len(data):  # what the tokenizer dropped at the end goes with the last token
        ends[-1], exact[-1], closed[-1] = len(data), False, True
    return Spans(begin, ends[cut:], exact[cut:], closed[cut:], 0, False)


def _from_both_ends(data: bytes, made: list[bytes]) -> Spans:
    """Spans of ids that do not encode the text as it stands: matched from the front and from the back."""
    count = len(made)
    ends, exact = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)
    at = front = 0
    while front < count and data.startswith(made[front], at):
        at += len(made[front])
        ends[front], exact[front] = at, True
        front += 1
    back, until = count, len(data)
    while back > front and until - len(made[back - 1]) >= at and data.endswith(made[back - 1], at, until):
        ends[back - 1], exact[back - 1] = until, True
        until -= len(made[back - 1])
        back -= 1
    closed = exact.copy()
    if back > front:  # the region between: its last token ends where the matched end begins
        ends[front : back - 1] = at
        ends[back - 1] = until
        closed[back - 1] = True
    elif count and until != at:
        ends[count - 1] = len(data)
        exact[max(0, front - 1)] = False
    return Spans(0, ends, exact, closed, 0, False)


@dataclass(frozen=True)
class Chunks:
    """C chunks of a text in two tokenizations.

    Chunk c holds the student's tokens ``student[c]`` up to ``student[c + 1]`` and the teacher's tokens ``teacher[c]``
    up to ``teacher[c + 1]`` (each array has C + 1 entries); the chunks hold every token of both but the special ones
    before the text. ``comparable`` (C,): both sides stand for the same bytes, exactly, so that their probabilities can
    be compared."""

    student: np.ndarray
    teacher: np.ndarray
    comparable: np.ndarray

    def __len__(self) -> int:
        return len(self.comparable)


def chunks(student: Spans, teacher: Spans) -> Chunks:
    """The chunks of a text from the spans of its two tokenizations; n log n in their number of tokens.

    Regions without a boundary, and tokens of a part of the text that the other side does not have (cut sequences), are
    in chunks that are not comparable. End tokens that both have make the last chunk."""
    sides = (_Side(student), _Side(teacher))
    common = np.intersect1d(sides[0].boundaries, sides[1].boundaries)
    edges = [np.concatenate([[side.first], side.after(common), [side.stop]]).astype(np.int64) for side in sides]
    between = np.zeros(len(common) + 1, dtype=bool)
    between[1:-1] = True  # not what is before the first common boundary or behind the last
    if student.eos or teacher.eos:
        edges = [np.append(edge, side.stop + side.spans.eos) for edge, side in zip(edges, sides, strict=True)]
        whole = len(common) > 0 and all(int(side.until) == int(common[-1]) for side in sides)
        between = np.append(between, whole and student.eos and teacher.eos)
    sizes = [np.diff(edge) for edge in edges]
    keep = (sizes[0] > 0) | (sizes[1] > 0)
    good = between & (sizes[0] > 0) & (sizes[1] > 0)
    for side, edge in zip(sides, edges, strict=True):
        good &= side.all_exact(edge)
    left, right = (np.concatenate([edge[:1], edge[1:][keep]]) for edge in edges)
    return Chunks(left, right, good[keep])


class _Side:
    """The text tokens of one tokenization, without the special ones around them."""

    def __init__(self, spans: Spans) -> None:
        self.spans = spans
        self.first, self.stop = spans.lead, len(spans.ends) - spans.eos
        self.ends = spans.ends[self.first : self.stop]
        self.until = self.ends[-1] if len(self.ends) else spans.begin
        self.boundaries = np.unique(np.append(self.ends[spans.closed[self.first : self.stop]], spans.begin))

    def after(self, at: np.ndarray) -> np.ndarray:
        """How many tokens of the sequence lie before each boundary; those that cover nothing go with what follows."""
        found = np.searchsorted(self.ends, at, side="left") + 1
        return self.first + np.where(at <= self.spans.begin, 0, np.minimum(found, len(self.ends)))

    def all_exact(self, edges: np.ndarray) -> np.ndarray:
        """Whether every token between two edges is exact."""
        wrong = np.concatenate([[0], np.cumsum(~self.spans.exact)])
        return wrong[edges[1:]] == wrong[edges[:-1]]
