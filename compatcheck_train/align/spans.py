"""Which bytes of a text each token covers."""

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

    @property
    def starts(self) -> np.ndarray:
        """Where each token starts, in bytes of the text."""
        return np.concatenate([[self.begin], self.ends[:-1]]) if len(self.ends) else self.ends


def spans(vocabulary: Vocabulary, text: str, ids: Sequence[int]) -> Spans:
    """The spans of ``ids``, which encode ``text`` or, where a sequence was cut to fit, an end of it.

    A tokenizer that keeps every byte is read from the tokens themselves. One that changes the text (lower case, other
    normal forms, lost spaces, unknown characters) is read from the offsets it reports, and each part whose bytes are
    not those of the text is marked as not exact. Ids that are not what the tokenizer makes of the text are matched from
    both ends; what is between is one region without boundaries.
    """
    data = text.encode()
    lead, eos, begin = _around(vocabulary, data, ids)
    inner = ids[lead : len(ids) - eos]
    made = [vocabulary.bytes_of(number) for number in inner]
    if begin is not None and begin <= 0:
        return _lossless(begin, made, lead, eos)
    (own, offsets), *_ = vocabulary.encode([text])
    own_lead, own_eos, _ = _around(vocabulary, data, own)
    own_inner, offsets = own[own_lead : len(own) - own_eos], offsets[own_lead : len(own) - own_eos]
    cut = len(own_inner) - len(inner)
    is_own = cut >= 0 and [*own_inner[cut:]] == [*inner]
    if begin is not None and (cut > 0 or not is_own):
        return _lossless(begin, made, lead, eos)
    if is_own:
        return _from_offsets(vocabulary, text, data, own_inner, offsets, cut, lead, eos)
    return _from_both_ends(data, made, lead, eos)


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


def _lossless(begin: int, made: list[bytes], lead: int, eos: bool) -> Spans:
    """Spans of tokens that stand for the text from ``begin`` on, byte by byte."""
    ends = np.maximum(begin + np.cumsum([len(piece) for piece in made], dtype=np.int64), 0)
    exact = np.ones(len(made), dtype=bool)
    return _around_again(max(begin, 0), ends, exact, exact.copy(), lead, eos)


def _around_again(begin: int, ends: np.ndarray, exact: np.ndarray, closed: np.ndarray, lead: int, eos: bool) -> Spans:
    """Spans with the special tokens put back at both ends."""
    last = ends[-1:] if len(ends) else np.array([begin])
    true = np.ones(1, dtype=bool)
    ends = np.concatenate([np.full(lead, begin), ends, last[:eos]]).astype(np.int64)
    exact = np.concatenate([np.repeat(true, lead), exact, true[:eos]])
    closed = np.concatenate([np.repeat(true, lead), closed, true[:eos]])
    return Spans(begin, ends, exact, closed, lead, bool(eos))


def _from_offsets(
    vocabulary: Vocabulary,
    text: str,
    data: bytes,
    own: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    cut: int,
    lead: int,
    eos: bool,
) -> Spans:
    """Spans from the character offsets of the text's ``own`` tokens, without the first ``cut`` ones. Tokens whose
    offsets overlap are one group; a group is exact when its bytes are the text's, but for one space before it that the
    tokenizer added or dropped."""
    place = np.concatenate([[0], np.cumsum([len(sign.encode()) for sign in text])]).astype(np.int64)
    groups: list[tuple[int, int, int, int]] = []  # first token, token after the last, first byte, byte after the last
    for number, (a, b) in enumerate(offsets):
        low, high = int(place[a]), int(place[b])
        if groups and low < groups[-1][3]:
            first, _, start, stop = groups[-1]
            groups[-1] = (first, number + 1, min(start, low), max(stop, high))
        elif groups and low == high:  # stands for nothing of the text: goes with what is before it
            first, _, start, stop = groups[-1]
            groups[-1] = (first, number + 1, start, stop)
        else:
            groups.append((number, number + 1, low, high))
    begin = 0 if not cut else int(place[offsets[cut - 1][1]])
    ends = np.zeros(len(offsets), dtype=np.int64)
    exact = np.zeros(len(offsets), dtype=bool)
    closed = np.zeros(len(offsets), dtype=bool)
    made = [vocabulary.bytes_of(token) for token in own]
    before = 0
    for number, (first, after, _, stop) in enumerate(groups):
        if number + 1 == len(groups) and not data[stop:].strip():
            stop = len(data)
        part, whole = data[before:stop], b"".join(made[first:after])
        free = first == 0 or vocabulary.added(own[first - 1])
        shift = _shift(part, whole, free=free)
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
    return _around_again(begin, ends[cut:], exact[cut:], closed[cut:], lead, eos)


def _shift(part: bytes, whole: bytes, *, free: bool) -> int | None:
    """By how much the tokens' bytes lie behind the start of their part: 0, 1 (a space that is part of no token), −1 (a
    space put before the text, or one before a token that the text has not); None when they are other bytes."""
    if part == whole:
        return 0
    if part == b" " + whole:
        return 1
    if free and whole == b" " + part:
        return -1
    return None


def _from_both_ends(data: bytes, made: list[bytes], lead: int, eos: bool) -> Spans:
    """Spans of ids that do not encode the text as it stands: matched from the front and from the back."""
    count = len(made)
    ends = np.zeros(count, dtype=np.int64)
    exact = np.zeros(count, dtype=bool)
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
    return _around_again(0, ends, exact, closed, lead, eos)
