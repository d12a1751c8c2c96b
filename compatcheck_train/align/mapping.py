"""Which tokens of two vocabularies are the same event: the sparse map under the projected divergence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compatcheck_train.align.vocabulary import Vocabulary

REST = 0
"""The class of tokens that have no counterpart."""


@dataclass(frozen=True)
class Mapping:
    """Each token's class: ``student`` (V_S,) and ``teacher`` (V_T,), numbers below ``classes``; every class but
    ``REST`` has tokens on both sides. ``identity``: every token is its own class, the same on both sides."""

    student: np.ndarray
    teacher: np.ndarray
    classes: int
    identity: bool


def identity(size: int) -> Mapping:
    """The mapping of a vocabulary of ``size`` tokens on itself."""
    numbers = np.arange(size, dtype=np.int64)
    return Mapping(numbers, numbers, size, True)


def canonical(student: Vocabulary, teacher: Vocabulary, sizes: tuple[int, int]) -> Mapping:
    """The canonical mapping: a token belongs to the longest token of both vocabularies that its bytes begin with.

    A token of both vocabularies is its own class. One that only one side has ("407" where the other splits digits)
    counts as the token that the other side would begin with ("4"): after it, the text goes on in the same way. Start
    and end tokens are matched by what they are for; what no shared token begins, and the entries that pad an output
    layer (``sizes`` are the layers' widths), is ``REST``.

    Both distributions are sums over classes of a softmax over all tokens, so they are distributions again; nothing is
    lost but what lies within a class. It is the many-to-one case of the sparse map of projected KL (X-Token,
    2605.21699) made on both sides, so that a digit of one side never meets the whole number of the other as an
    impossible event.
    """
    sides = [_events(student, sizes[0]), _events(teacher, sizes[1])]
    shared = set(sides[0].values()) & set(sides[1].values())
    shared.discard(b"")
    number = {event: place + 1 for place, event in enumerate(sorted(shared))}
    longest = max(map(len, shared), default=0)
    maps = []
    for events, size in zip(sides, sizes, strict=True):
        found = np.full(size, REST, dtype=np.int64)
        for token, event in events.items():
            for length in range(min(len(event), longest), 0, -1):
                place = number.get(event[:length])
                if place is not None:
                    found[token] = place
                    break
        maps.append(found)
    classes = len(number) + 1
    for role in ("bos", "eos"):
        ids = [getattr(student, role), getattr(teacher, role)]
        if None not in ids:
            for found, token in zip(maps, ids, strict=True):
                found[token] = classes
            classes += 1
    return Mapping(maps[0], maps[1], classes, False)


def _events(vocabulary: Vocabulary, size: int) -> dict[int, bytes]:
    """Bytes by token; special tokens, and entries that no text has, stand for none."""
    count = min(len(vocabulary), size)
    return {n: b"" if vocabulary.special(n) else vocabulary.event(n) for n in range(count)}
