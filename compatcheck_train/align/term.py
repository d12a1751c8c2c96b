"""The old model's part of the loss where it tokenizes in its own way.

An :class:`AlignedTerm` stands over a teacher, online or cached, whose plan holds the same documents in the old model's
tokens (``plan.retold``). Every row is cut into chunks (``spans.chunks``). A chunk follows the old model with the mean
of the weights that the strategy gives its tokens: with MUSCLE the share of those that the student has wrong. Its loss:

``alm``
    τ times the divergence of the chunk's likelihood under both models.
``projected``
    KL(old ‖ student) over the common classes of both vocabularies (``projection``) at the chunk's first token, whose
    position both models share. Later tokens of a chunk have no counterpart and add nothing.

Where both vocabularies are the same and a chunk is one token on either side, its classes are the tokens themselves, and
both methods take the plain KL at temperature T. So with identical tokenizers the loss is plain MUSCLE's, to rounding.

Chunks that are not comparable, or of which some tokens are not trained (they begin in the context while only answers
count), add nothing; ``coverage`` says how much of the weight found its counterpart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compatcheck.errors import InputError, did_you_mean
from compatcheck_train.align.projection import Classes, canonical, identity, projected_kl
from compatcheck_train.align.spans import Chunks, chunks, spans
from compatcheck_train.align.vocabulary import Vocabulary
from compatcheck_train.batches import Plan
from compatcheck_train.loss.divergence import States, token_logprobs
from compatcheck_train.loss.view import Taught, View
from compatcheck_train.teachers import Teacher
from compatcheck_train.teachers.online import Wants

METHODS = ("alm", "projected")
TAU = 100.0
_SURE = -1e-9
"""A log-probability is taken to be at most this: log(1 − e^v) has no value at 0."""


def log1mexp(x: Tensor) -> Tensor:
    """log(1 − e^x) for x < 0, without loss of digits near 0 or far from it, nor in the gradient."""
    near = x > -math.log(2)
    inside, outside = torch.where(near, x, -0.1), torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(inside)), torch.log1p(-torch.exp(outside)))


def alm(student: Tensor, teacher: Tensor, tau: float = TAU) -> Tensor:
    """Approximate likelihood matching (Minixhofer et al., 2503.20083, section 3): (C,) from the chunks'
    log-probabilities (C,) under both, gradients through ``student`` alone.

    With u = l_teacher / τ and v = l_student / τ it is the KL of two coins, one that falls with e^u and one with e^v,
    times τ: then its gradient, for chunks whose −l is small against τ, is l_teacher / l_student − 1, of the size of a
    cross-entropy's whatever τ is. Computed in 64 bits, as u and v are small and nearly equal.
    """
    v = student.double().clamp(max=_SURE) / tau
    u = teacher.detach().double().clamp(max=_SURE) / tau
    value = u.exp() * (u - v) - torch.expm1(u) * (log1mexp(u) - log1mexp(v))
    return (tau * value).to(student.dtype)


def same_vocabulary(old: Any, new: Any) -> bool:
    """Whether both have the same entries under the same numbers, however they split a text."""
    return bool(old.get_vocab() == new.get_vocab())


def align_wants(method: str, old: Any, new: Any) -> Wants:
    """What the term needs of the old model: two numbers a token for ``alm``, hidden states for ``projected`` and where
    both tokenizers have the same vocabulary. InputError for a tokenizer that cannot be aligned: before OLD runs."""
    Vocabulary(old), Vocabulary(new)
    states = method == "projected" or same_vocabulary(old, new)
    return frozenset(["states"] * states + ["facts"] * (method == "alm"))


@dataclass(frozen=True)
class _Links:
    """The chunks of a micro-batch, numbered through its rows; what is before a row's first chunk has number −1.

    ``owners`` are, for either side, the chunk of every token of every row. ``sizes`` (2, C) are the chunks' tokens on
    either side, ``first`` (2, C) the index in its row of the first one, ``rows`` (C,) the row; ``comparable`` (C,).
    """

    owners: tuple[list[np.ndarray], list[np.ndarray]]
    sizes: np.ndarray
    first: np.ndarray
    rows: np.ndarray
    comparable: np.ndarray


def _link(found: Sequence[Chunks], lengths: Sequence[tuple[int, int]]) -> _Links:
    """The chunks of the rows of a micro-batch together; ``lengths`` are the rows' tokens on either side."""
    owners: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    at = 0
    for made, pair in zip(found, lengths, strict=True):
        for side, edges, length in zip(owners, (made.student, made.teacher), pair, strict=True):
            owner = np.full(length, -1, dtype=np.int64)
            owner[edges[0] : edges[-1]] = at + np.repeat(np.arange(len(made)), np.diff(edges))
            side.append(owner)
        at += len(made)
    both = [[made.student for made in found], [made.teacher for made in found]]
    return _Links(
        owners,
        np.stack([np.concatenate([np.diff(edge) for edge in side]) for side in both]),
        np.stack([np.concatenate([edge[:-1] for edge in side]) for side in both]),
        np.concatenate([np.full(len(made), row) for row, made in enumerate(found)]),
        np.concatenate([made.comparable for made in found]),
    )


class _Places:
    """The trained positions of one side in their chunks: ``inside`` (M,) are the positions that lie in a chunk,
    ``chunk`` (M,) its number."""

    def __init__(self, links: _Links, side: int, rows: Tensor, steps: Tensor) -> None:
        owners, self._links, self._side = links.owners[side], links, side
        starts = np.concatenate([[0], np.cumsum([len(owner) for owner in owners])])
        flat = torch.from_numpy(np.concatenate(owners)).to(rows.device)
        self._starts = torch.from_numpy(starts).to(rows.device)
        self._token = self._starts[rows] + steps
        chunk = flat[self._token]
        self.inside = (chunk >= 0).nonzero().squeeze(-1)
        self.chunk = chunk[self.inside]
        self._tokens = len(flat)

    def sums(self, values: Tensor, count: int) -> Tensor:
        """(C,): the sum of values (N,) over each chunk's trained positions."""
        return values.new_zeros(count).index_add(0, self.chunk, values[self.inside])

    def first(self, chosen: Tensor) -> Tensor:
        """The position that predicts the first token of each chosen chunk."""
        place = torch.full((self._tokens,), -1, dtype=torch.long, device=chosen.device)
        place[self._token] = torch.arange(len(self._token), device=chosen.device)
        numbers = chosen.cpu().numpy()
        rows = torch.from_numpy(self._links.rows[numbers]).to(chosen.device)
        first = torch.from_numpy(self._links.first[self._side][numbers]).to(chosen.device)
        return place[self._starts[rows] + first]


class AlignedTerm:
    """The old model's term through a teacher that has its own tokens.

    Args:
        teacher: the old model over ``plan.retold(old_tokenizer, …)``, giving what :func:`align_wants` says.
        plan: the student's micro-batches.
        old, new: both models' tokenizers.
        method: ``alm`` or ``projected``; InputError for others, and for a tokenizer that cannot be aligned.
    """

    def __init__(self, teacher: Teacher, plan: Plan, old: Any, new: Any, method: str = "alm") -> None:
        if method not in METHODS:
            hint = did_you_mean(method, METHODS)
            raise InputError(f"alignment {method!r}: must be one of {', '.join(METHODS)}{hint}")
        self.teacher, self.method = teacher, method
        self._old, self._new, self._same = Vocabulary(old), Vocabulary(new), same_vocabulary(old, new)
        self._classes: Classes | None = None
        self._followed = self._weight = 0.0
        self._links: list[_Links] = []
        for mine, theirs in zip(plan.items, teacher.plan.items, strict=True):
            rows = [row for item in mine for row in item.rows]
            others = [row for item in theirs for row in item.rows]
            found, lengths = [], []
            for row, other in zip(rows, others, strict=True):
                text = row.context + row.text
                found.append(chunks(spans(self._new, text, row.ids), spans(self._old, text, other.ids)))
                lengths.append((len(row.ids), len(other.ids)))
            self._links.append(_link(found, lengths))

    @property
    def coverage(self) -> float | None:
        """Share of the weight given to the old model so far that had a counterpart in its tokens; None before any."""
        return self._followed / self._weight if self._weight else None

    def loss(self, view: View, weights: Tensor) -> Tensor:
        """The sum over chunks of weight × loss."""
        batch, device = view.batch, view.hidden.device
        links, taught = self._links[batch.index], self.teacher.taught(batch.index)
        here = _Places(links, 0, batch.rows, batch.steps)
        there = _Places(links, 1, taught.batch.rows, taught.batch.steps)
        sizes = torch.from_numpy(links.sizes).to(device)
        count = sizes.shape[1]
        weights = weights.detach()
        given_to = here.sums(weights, count)
        active = torch.from_numpy(links.comparable).to(device) & (given_to != 0)
        for side, size in zip((here, there), sizes, strict=True):  # every token of the chunk is trained
            active &= torch.bincount(side.chunk, minlength=count) == size
        plain = (sizes == 1).all(0) & self._same  # both vocabularies are one, and so is the token
        by_token = active if self.method == "projected" else active & plain
        total = view.zero()
        chosen = by_token.nonzero().squeeze(-1)
        if len(chosen):
            mine, theirs = here.first(chosen), there.first(chosen)
            total = total + self._projected(view, taught, weights, mine, theirs)
            self._followed += float(weights[mine].sum())
        rest = active & ~by_token
        if bool(rest.any()):
            mean = given_to / sizes[0].clamp(min=1)
            total = total + self._alm(view, taught, (here, there), rest, mean)
            self._followed += float(given_to[rest].sum())
        self._weight += float(weights.sum())
        return total

    def _projected(self, view: View, taught: Taught, weights: Tensor, mine: Tensor, theirs: Tensor) -> Tensor:
        """Over the first tokens of chunks, at positions ``mine`` of the student and ``theirs`` of the teacher."""
        assert taught.hidden is not None and taught.head is not None
        if self._classes is None:
            widths = (view.head.vocabulary, taught.head.vocabulary)
            classes = identity(min(widths)) if self._same else canonical(self._new, self._old, widths)
            self._classes = classes.to(view.hidden.device)
        keep = weights[mine] != 0
        mine, states = mine[keep], States(taught.hidden[theirs[keep]], taught.head)
        t = view.settings.temperature
        return projected_kl(view.hidden[mine], view.head, states, self._classes, weights[mine], t)

    def _alm(self, view: View, taught: Taught, sides: tuple[_Places, _Places], chosen: Tensor, mean: Tensor) -> Tensor:
        """Over the chosen chunks (C,), each with its weight."""
        assert taught.logprob is not None
        here, there = sides
        wanted = chosen[here.chunk]
        inside = here.inside[wanted]
        logprob = token_logprobs(view.hidden[inside], view.head, view.batch.targets[inside])
        mine = logprob.new_zeros(len(chosen)).index_add(0, here.chunk[wanted], logprob)
        theirs = there.sums(taught.logprob.double(), len(chosen))
        return (mean[chosen] * alm(mine[chosen], theirs[chosen])).sum()

    def old_facts(self, index: int, rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """What the old model makes of each of the student's positions (N,): whether it ranks every token of the chunk
        first, and the chunk's log-probability in equal parts over the student's tokens (for a chunk of one token, its
        own; summed over a row, the old model's)."""
        links, taught = self._links[index], self.teacher.taught(index)
        assert taught.logprob is not None and taught.right is not None
        here = _Places(links, 0, rows, steps)
        there = _Places(links, 1, taught.batch.rows, taught.batch.steps)
        sizes = torch.from_numpy(links.sizes).to(rows.device)
        count = sizes.shape[1]
        usable = torch.from_numpy(links.comparable).to(rows.device) & (
            there.sums(taught.right.long(), count) == sizes[1]
        )
        each = there.sums(taught.logprob.double(), count) / sizes[0].clamp(min=1)
        right = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        logprob = torch.zeros(len(rows), dtype=taught.logprob.dtype, device=rows.device)
        right[here.inside] = usable[here.chunk]
        logprob[here.inside] = each[here.chunk].to(logprob.dtype)
        return right, logprob

    def close(self) -> None:
        """Free the teacher and the alignment."""
        self.teacher.close()
        self._links, self._classes = [], None
