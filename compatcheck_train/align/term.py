"""The old model's part of the loss where it tokenizes in its own way.

An :class:`AlignedTerm` is an ``OldTerm`` (see ``compatcheck_train.loss.old_term``) over a teacher of the ordinary kind,
online or cached, whose plan holds the same documents in the old model's tokens (``plan.retold``)::

    term = AlignedTerm(teacher, old_tokenizer, new_tokenizer, "alm")
    train(old, new, examples, settings, out, old_term=term)

Every row is cut into chunks (``chunks``). A chunk follows the old model with the mean of the weights that the strategy
gives its tokens: with MUSCLE the share of them on which the student is wrong. The loss of a chunk is

``alm``
    τ times the divergence of the chunk's likelihood under both models (``alm``).
``projected``
    KL(old ‖ student) over the common classes of both vocabularies (``projection``) at the chunk's first token, whose
    position both models share. Later tokens of a chunk have no counterpart and add nothing.

Where both vocabularies are the same and a chunk is one token on either side, its classes are the tokens themselves, and
both methods take the plain KL at temperature T. So with identical tokenizers the loss is plain MUSCLE's, to rounding.

Chunks that are not comparable, or of which some tokens are not trained (they begin in the context while only answers
count), add nothing; ``coverage`` says how much of the weight found its counterpart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compatcheck.errors import InputError, did_you_mean
from compatcheck_train.align.alm import TAU, alm
from compatcheck_train.align.chunks import Chunks, chunks
from compatcheck_train.align.mapping import Mapping, canonical, identity
from compatcheck_train.align.projection import Classes, projected_kl
from compatcheck_train.align.spans import spans
from compatcheck_train.align.vocabulary import Vocabulary
from compatcheck_train.loss.divergence import States, token_logprobs
from compatcheck_train.loss.old_term import StudentView, Text
from compatcheck_train.teachers.base import Teacher, TeacherBatch, Wants

METHODS = ("alm", "projected")


def align_wants(method: str, old: Any, new: Any) -> Wants:
    """What the term needs of the old model: two numbers a token for ``alm``, hidden states for ``projected`` and where
    both tokenizers have the same vocabulary.

    Raises:
        InputError: a tokenizer that cannot be aligned: before the old model runs.
    """
    Vocabulary(old), Vocabulary(new)
    return Wants(states=method == "projected" or same_vocabulary(old, new), facts=method == "alm")


def check_method(method: str) -> str:
    """The method itself.

    Raises:
        InputError: no such method.
    """
    if method not in METHODS:
        raise InputError(f"alignment {method!r}: must be one of {', '.join(METHODS)}{did_you_mean(method, METHODS)}")
    return method


@dataclass(frozen=True)
class Links:
    """The chunks of a micro-batch, numbered through its rows; what is before a row's first chunk has number −1.

    ``student`` and ``teacher`` are, for each row, the chunk of every token. ``sizes`` (2, C) are the chunks' tokens on
    either side, ``first`` (2, C) the index in its row of the first one, ``rows`` (C,) the row; ``comparable`` (C,).
    """

    student: tuple[np.ndarray, ...]
    teacher: tuple[np.ndarray, ...]
    sizes: np.ndarray
    first: np.ndarray
    rows: np.ndarray
    comparable: np.ndarray


def link(found: Sequence[Chunks], lengths: Sequence[tuple[int, int]]) -> Links:
    """The chunks of the rows of a micro-batch together; ``lengths`` are the rows' tokens on either side."""
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    at = 0
    for made, pair in zip(found, lengths, strict=True):
        for side, edges, length in zip(sides, (made.student, made.teacher), pair, strict=True):
            owner = np.full(length, -1, dtype=np.int64)
            owner[edges[0] : edges[-1]] = at + np.repeat(np.arange(len(made)), np.diff(edges))
            side.append(owner)
        at += len(made)
    both = [[made.student for made in found], [made.teacher for made in found]]
    return Links(
        tuple(sides[0]),
        tuple(sides[1]),
        np.stack([np.concatenate([np.diff(edge) for edge in side]) for side in both]),
        np.stack([np.concatenate([edge[:-1] for edge in side]) for side in both]),
        np.concatenate([np.full(len(made), row) for row, made in enumerate(found)]),
        np.concatenate([made.comparable for made in found]),
    )


class AlignedTerm:
    """The old model's term through a teacher that has its own tokens.

    Args:
        teacher: the old model over ``plan.retold(old_tokenizer, …)``, giving what :func:`align_wants` says.
        old, new: both models' tokenizers.
        method: ``alm`` or ``projected``.
        tau: temperature of the likelihoods compared by ``alm``.

    Raises:
        InputError: a tokenizer that cannot be aligned, or no such method.
    """

    def __init__(self, teacher: Teacher, old: Any, new: Any, method: str = "alm", *, tau: float = TAU) -> None:
        self.teacher, self.method, self.tau = teacher, check_method(method), tau
        self.identity = f"aligned:{method}:{tau}"
        self._old, self._new = Vocabulary(old), Vocabulary(new)
        self._same = same_vocabulary(old, new)
        self._classes: Classes | None = None
        self._links: list[Links] = []
        self._followed = self._weight = 0.0

    @property
    def coverage(self) -> float | None:
        """Share of the weight given to the old model so far that had a counterpart in its tokens; None before any."""
        return self._followed / self._weight if self._weight else None

    def prepare(self, batches: Sequence[Sequence[Text]], tokens: Sequence[Sequence[Sequence[int]]]) -> None:
        """Align the rows of every micro-batch; the teacher's tokens are those of its plan."""
        self._links = []
        for index, (texts, ids) in enumerate(zip(batches, tokens, strict=True)):
            theirs = [row.ids for item in self.teacher.plan.items[index] for row in item.rows]
            found, lengths = [], []
            for text, mine, other in zip(texts, ids, theirs, strict=True):
                whole = text.context + text.answer
                found.append(chunks(spans(self._new, whole, mine), spans(self._old, whole, other)))
                lengths.append((len(mine), len(other)))
            self._links.append(link(found, lengths))

    def loss(self, batch: int, student: StudentView) -> Tensor:
        """The sum over chunks of weight × loss."""
        links, given = self._links[batch], self.teacher.batch(batch)
        device = student.hidden.device
        own = self.teacher.plan.batch(batch).to(device)
        here, there = _Places(links.student, student.rows, student.steps), _Places(links.teacher, own.rows, own.steps)
        sizes = torch.from_numpy(links.sizes).to(device)
        count = sizes.shape[1]
        weights = student.weights.detach()
        given_to = weights.new_zeros(count).index_add(0, here.chunk, weights[here.inside])
        active = torch.from_numpy(links.comparable).to(device) & (given_to != 0)
        active &= (here.counts(count) == sizes[0]) & (there.counts(count) == sizes[1])
        by_token = active & ((sizes[0] == 1) & (sizes[1] == 1) if self._same else False)
        if self.method == "projected":
            by_token = active
        total = student.hidden.sum() * 0
        chosen = by_token.nonzero().squeeze(-1)
        if len(chosen):
            mine, theirs = here.of(links, 0, chosen), there.of(links, 1, chosen)
            total = total + self._projected(student, given, mine, theirs)
            self._followed += float(weights[mine].sum())
        rest = active & ~by_token
        if bool(rest.any()):
            mean = given_to / sizes[0].clamp(min=1)
            total = total + self._alm(student, given, here, there, rest, mean)
            self._followed += float(given_to[rest].sum())
        self._weight += float(weights.sum())
        return total

    def _projected(self, student: StudentView, given: TeacherBatch, mine: Tensor, theirs: Tensor) -> Tensor:
        """Over the first tokens of chunks, at positions ``mine`` of the student and ``theirs`` of the teacher."""
        assert given.hidden is not None and self.teacher.head is not None
        weights = student.weights.detach()[mine]
        keep = weights != 0
        states = States(given.hidden[theirs[keep]], self.teacher.head)
        hidden = student.hidden[mine[keep]]
        return projected_kl(hidden, student.head, states, self._mapped(student), weights[keep], student.temperature)

    def _alm(
        self, student: StudentView, given: TeacherBatch, here: _Places, there: _Places, chosen: Tensor, mean: Tensor
    ) -> Tensor:
        """Over the chosen chunks (C,), each with its weight."""
        assert given.logprob is not None
        wanted = chosen[here.chunk]
        inside = here.inside[wanted]
        logprob = token_logprobs(student.hidden[inside], student.head, student.targets[inside])
        mine = logprob.new_zeros(len(chosen)).index_add(0, here.chunk[wanted], logprob)
        theirs = torch.zeros(len(chosen), dtype=torch.float64, device=mine.device)
        theirs = theirs.index_add(0, there.chunk, given.logprob[there.inside].double())
        return (mean[chosen] * alm(mine[chosen], theirs[chosen], self.tau)).sum()

    def _mapped(self, student: StudentView) -> Classes:
        if self._classes is None:
            assert self.teacher.head is not None
            widths = (student.head.vocabulary, self.teacher.head.vocabulary)
            mapping = identity(min(widths)) if self._same else canonical(self._new, self._old, widths)
            self._classes = Classes.of(mapping, student.hidden.device)
        return self._classes

    def old_facts(self, batch: int, rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """What the old model makes of each of the student's positions (N,): whether it ranks every token of the chunk
        first, and the chunk's log-probability in equal parts over the student's tokens (for a chunk of one token, its
        own; summed over a row, the old model's)."""
        links, given = self._links[batch], self.teacher.batch(batch)
        assert given.logprob is not None and given.right is not None
        own = self.teacher.plan.batch(batch).to(rows.device)
        here, there = _Places(links.student, rows, steps), _Places(links.teacher, own.rows, own.steps)
        sizes = torch.from_numpy(links.sizes).to(rows.device)
        count = sizes.shape[1]
        sums = torch.zeros(count, dtype=torch.float64, device=rows.device)
        sums = sums.index_add(0, there.chunk, given.logprob[there.inside].double())
        hits = torch.zeros(count, dtype=torch.long, device=rows.device)
        hits = hits.index_add(0, there.chunk, given.right[there.inside].long())
        usable = torch.from_numpy(links.comparable).to(rows.device) & (hits == sizes[1])
        right = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        logprob = torch.zeros(len(rows), dtype=given.logprob.dtype, device=rows.device)
        right[here.inside] = usable[here.chunk]
        logprob[here.inside] = (sums / sizes[0].clamp(min=1))[here.chunk].to(logprob.dtype)
        return right, logprob

    def close(self) -> None:
        """Free the teacher and the alignment."""
        self.teacher.close()
        self._links, self._classes = [], None


class _Places:
    """The trained positions of one side in their chunks: ``inside`` (M,) are the positions that lie in a chunk,
    ``chunk`` (M,) its number."""

    def __init__(self, owners: tuple[np.ndarray, ...], rows: Tensor, steps: Tensor) -> None:
        starts = np.concatenate([[0], np.cumsum([len(owner) for owner in owners])])
        flat = torch.from_numpy(np.concatenate(owners)).to(rows.device)
        self._starts = torch.from_numpy(starts).to(rows.device)
        self._token = self._starts[rows] + steps
        chunk = flat[self._token]
        self.inside = (chunk >= 0).nonzero().squeeze(-1)
        self.chunk = chunk[self.inside]
        self._tokens = len(flat)

    def counts(self, size: int) -> Tensor:
        """How many trained positions each chunk has."""
        return torch.bincount(self.chunk, minlength=size)

    def of(self, links: Links, side: int, chosen: Tensor) -> Tensor:
        """The position that predicts the first token of each chosen chunk."""
        place = torch.full((self._tokens,), -1, dtype=torch.long, device=chosen.device)
        place[self._token] = torch.arange(len(self._token), device=chosen.device)
        numbers = chosen.cpu().numpy()
        rows = torch.from_numpy(links.rows[numbers]).to(chosen.device)
        first = torch.from_numpy(links.first[side][numbers]).to(chosen.device)
        return place[self._starts[rows] + first]


def same_vocabulary(old: Any, new: Any) -> bool:
    """Whether both have the same entries under the same numbers, however they split a text."""
    return bool(old.get_vocab() == new.get_vocab())


def mapping_of(old: Any, new: Any, widths: tuple[int, int]) -> Mapping:
    """The classes that ``projected`` compares; ``widths`` are those of the new and the old model's output layer."""
    if same_vocabulary(old, new):
        return identity(min(widths))
    return canonical(Vocabulary(new), Vocabulary(old), widths)
