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
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compatcheck.errors import InputError, did_you_mean
from compatcheck_train.align.projection import Classes, canonical, identity, projected_kl
from compatcheck_train.align.spans import chunks, spans
from compatcheck_train.align.vocabulary import Vocabulary
from compatcheck_train.batches import Batch, Plan
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
    cross-entropy's whatever τ is. Computed in 64 bits, as u and v are small and nearly equal."""
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


class _Side:
    """One side's trained positions (N,) of a micro-batch in its C chunks, numbered through its rows: ``chunk`` (N,) is
    each position's, −1 before a row's first; ``sizes`` (C,) the chunks' tokens, ``first`` (C,) the position that
    predicts the first of them, ``whole`` (C,) whether all of them are trained."""

    def __init__(self, batch: Batch, edges: Sequence[np.ndarray]) -> None:
        starts = np.concatenate([[0], np.cumsum([len(edge) - 1 for edge in edges])])
        rows, steps = batch.rows.numpy(), batch.steps.numpy()
        chunk = np.full(len(rows), -1, dtype=np.int64)
        for row, edge in enumerate(edges):
            mine = np.flatnonzero(rows == row)
            number = np.searchsorted(edge, steps[mine], side="right") - 1
            chunk[mine] = np.where((number >= 0) & (steps[mine] < edge[-1]), starts[row] + number, -1)
        sizes = np.concatenate([np.diff(edge) for edge in edges])
        begins = np.concatenate([edge[:-1] for edge in edges])
        first = np.full(len(sizes), -1, dtype=np.int64)
        at = np.flatnonzero((chunk >= 0) & (steps == begins[chunk]))
        first[chunk[at]] = at
        inside = chunk[chunk >= 0]
        self.chunk, self.sizes, self.first = map(torch.from_numpy, (chunk, sizes, first))
        self.whole = torch.from_numpy(np.bincount(inside, minlength=len(sizes)) == sizes)

    def sums(self, values: Tensor) -> Tensor:
        """(C,): the sum of values (N,) over each chunk's trained positions."""
        inside, chunk = self.chunk >= 0, self.chunk.to(values.device)
        return values.new_zeros(len(self.sizes)).index_add(0, chunk[inside], values[inside])


class AlignedTerm:
    """The old model's term through a teacher that has its own tokens: the old model over ``plan.retold(old_tokenizer,
    …)``, giving what :func:`align_wants` says. ``plan`` are the student's micro-batches, ``old`` and ``new`` both
    models' tokenizers; InputError for a method that is none, and for a tokenizer that cannot be aligned."""

    def __init__(self, teacher: Teacher, plan: Plan, old: Any, new: Any, method: str = "alm") -> None:
        if method not in METHODS:
            hint = did_you_mean(method, METHODS)
            raise InputError(f"alignment {method!r}: must be one of {', '.join(METHODS)}{hint}")
        self.teacher, self.method = teacher, method
        self._old, self._new, self._same = Vocabulary(old), Vocabulary(new), same_vocabulary(old, new)
        self._classes: Classes | None = None
        self._followed = self._weight = 0.0
        self._links: list[tuple[_Side, _Side, Tensor]] = []
        for index in range(len(plan.items)):
            mine, theirs = plan.batch(index), teacher.plan.batch(index)
            found = []
            for row, other in zip(mine.flat, theirs.flat, strict=True):
                text = row.context + row.text
                found.append(chunks(spans(self._new, text, row.ids), spans(self._old, text, other.ids)))
            comparable = torch.from_numpy(np.concatenate([each.comparable for each in found]))
            sides = _Side(mine, [each.student for each in found]), _Side(theirs, [each.teacher for each in found])
            self._links.append((*sides, comparable))

    @property
    def coverage(self) -> float | None:
        """Share of the weight given to the old model so far that had a counterpart in its tokens; None before any."""
        return self._followed / self._weight if self._weight else None

    def loss(self, view: View, weights: Tensor) -> Tensor:
        """The sum over chunks of weight × loss."""
        (here, there, comparable), taught = self._links[view.batch.index], self.teacher.taught(view.batch.index)
        weights = weights.detach()
        given_to = here.sums(weights)
        active = (comparable & here.whole & there.whole).to(weights.device) & (given_to != 0)
        plain = ((here.sizes == 1) & (there.sizes == 1) & self._same).to(weights.device)  # one vocabulary, one token
        by_token = active if self.method == "projected" else active & plain
        total = view.zero()
        chosen = by_token.nonzero().squeeze(-1)
        if len(chosen):
            mine, theirs = (side.first.to(weights.device)[chosen] for side in (here, there))
            total = total + self._projected(view, taught, weights, mine, theirs)
            self._followed += float(weights[mine].sum())
        rest = active & ~by_token
        if bool(rest.any()):
            mean = given_to / here.sizes.clamp(min=1).to(weights.device)
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

    def _alm(self, view: View, taught: Taught, sides: tuple[_Side, _Side], chosen: Tensor, mean: Tensor) -> Tensor:
        """Over the chosen chunks (C,), each with its weight."""
        assert taught.logprob is not None
        chunk = sides[0].chunk.to(chosen.device)
        inside = ((chunk >= 0) & chosen[chunk]).nonzero().squeeze(-1)
        logprob = token_logprobs(view.hidden[inside], view.head, view.batch.targets[inside])
        mine = logprob.new_zeros(len(chosen)).index_add(0, chunk[inside], logprob)
        theirs = sides[1].sums(taught.logprob.double())
        return (mean[chosen] * alm(mine[chosen], theirs[chosen])).sum()

    def old_facts(self, index: int) -> tuple[Tensor, Tensor]:
        """What the old model makes of each of the student's positions (N,): whether it ranks every token of the chunk
        first, and the chunk's log-probability in equal parts over the student's tokens (for a chunk of one token, its
        own; summed over a row, the old model's)."""
        (here, there, comparable), taught = self._links[index], self.teacher.taught(index)
        assert taught.logprob is not None and taught.right is not None
        device, dtype = taught.logprob.device, taught.logprob.dtype
        chunk, sizes = here.chunk.to(device), here.sizes.clamp(min=1).to(device)
        usable = comparable.to(device) & (there.sums(taught.right.long()) == there.sizes.to(device))
        each = (there.sums(taught.logprob.double()) / sizes).to(dtype)
        return (chunk >= 0) & usable[chunk], torch.where(chunk >= 0, each[chunk], 0.0)

    def close(self) -> None:
        self.teacher.close()
        self._links, self._classes = [], None
