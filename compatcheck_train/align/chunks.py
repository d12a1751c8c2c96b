"""Chunks: the shortest stretches of a text at whose ends both tokenizations have a boundary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compatcheck_train.align.spans import Spans


@dataclass(frozen=True)
class Chunks:
    """C chunks of a text in two tokenizations.

    Chunk c holds the student's tokens ``student[c]`` up to ``student[c + 1]`` and the teacher's tokens ``teacher[c]``
    up to ``teacher[c + 1]`` (each array has C + 1 entries); the chunks hold every token of both but the special ones
    before the text. ``comparable`` (C,): both sides stand for the same bytes, exactly, so that their probabilities can
    be compared.
    """

    student: np.ndarray
    teacher: np.ndarray
    comparable: np.ndarray

    def __len__(self) -> int:
        return len(self.comparable)

    @property
    def single(self) -> np.ndarray:
        """(C,): comparable, and one token on either side."""
        return self.comparable & (np.diff(self.student) == 1) & (np.diff(self.teacher) == 1)


def chunks(student: Spans, teacher: Spans) -> Chunks:
    """The chunks of a text from the spans of its two tokenizations; n log n in their number of tokens.

    Regions without a boundary, and tokens of a part of the text that the other side does not have (cut sequences), are
    in chunks that are not comparable. End tokens that both have make the last chunk.
    """
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
