"""Projected KL: the divergence of two next-token distributions over different vocabularies.

Both are summed over classes of tokens (many tokens to one class)::

    P_k(c) = Σ_{t in c} softmax(z_k / T)_t          KL( P_teacher ‖ P_student )

at positions where the next token of both starts at the same byte; with every token its own class it is the plain
divergence. The gradient is made in the forward pass, as in ``loss.divergence``:
d KL / d z_t = (p_t − P_teacher(c) · p_t / P_student(c)) / T, with c the class of t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compatcheck.engines.hf.head import Head
from compatcheck_train.align.vocabulary import Vocabulary
from compatcheck_train.loss.divergence import States, fused, positions_at_once

REST = 0
"""The class of tokens that have no counterpart."""


@dataclass(frozen=True)
class Classes:
    """The class of each token of the student (V_S,) and of the teacher (V_T,), numbers below ``count``; every class but
    ``REST`` has tokens on both sides. ``identity``: every token is its own class, the same on both sides."""

    student: Tensor
    teacher: Tensor
    count: int
    identity: bool = False

    def to(self, device: Any) -> Classes:
        return replace(self, student=self.student.to(device), teacher=self.teacher.to(device))


def identity(size: int) -> Classes:
    """The classes of a vocabulary of ``size`` tokens beside itself."""
    numbers = torch.arange(size)
    return Classes(numbers, numbers, size, True)


def canonical(student: Vocabulary, teacher: Vocabulary, sizes: tuple[int, int]) -> Classes:
    """A token belongs to the longest token of both vocabularies that its bytes begin with.

    A token of both vocabularies is its own class. One that only one side has ("407" where the other splits digits)
    counts as the token that the other side would begin with ("4"): after it, the text goes on in the same way. Start
    and end tokens are matched by what they are for; what no shared token begins, and the entries that pad an output
    layer (``sizes`` are the layers' widths), is ``REST``.

    Both distributions are sums over classes of a softmax over all tokens, so they are distributions again; nothing is
    lost but what lies within a class. It is the many-to-one case of the sparse map of projected KL (X-Token,
    2605.21699) made on both sides, so that a digit of one side never meets the whole number of the other as an
    impossible event."""
    sides = [
        {n: b"" if side.special(n) else side.event(n) for n in range(min(len(side), size))}
        for side, size in zip((student, teacher), sizes, strict=True)
    ]
    shared = sorted((set(sides[0].values()) & set(sides[1].values())) - {b""})
    number = {event: place + 1 for place, event in enumerate(shared)}
    longest = max(map(len, shared), default=0)
    maps = []
    for events, size in zip(sides, sizes, strict=True):
        found = torch.full((size,), REST)
        for token, event in events.items():
            begins = (number.get(event[:length]) for length in range(min(len(event), longest), 0, -1))
            found[token] = next((place for place in begins if place is not None), REST)
        maps.append(found)
    count = len(number) + 1
    for mine, theirs in ((student.bos, teacher.bos), (student.eos, teacher.eos)):
        if mine is not None and theirs is not None:
            maps[0][mine] = maps[1][theirs] = count
            count += 1
    return Classes(maps[0], maps[1], count)


def projected_kl(
    hidden: Tensor, head: Head, teacher: States, classes: Classes, weights: Tensor, t: float, chunk: int | None = None
) -> Tensor:
    """Σ weights · KL over positions: a scalar with gradients, from the student's hidden states (n, d) and the teacher's
    at the corresponding positions; ``weights`` (n,) are constants. Never holds more than ``chunk`` positions'
    logits."""
    # Where the student has no token without a counterpart, such mass of the teacher is left out.
    rest_here = classes.identity or bool((classes.student == REST).any())

    def chunk_loss(part: slice, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = head.capped(raw)
        w = weights[part].to(z.dtype)
        theirs = teacher.head.logits(teacher.hidden[part])
        step = torch.zeros_like(z)
        if classes.identity:
            log_p = functional.log_softmax(theirs[:, : head.vocabulary] / t, dim=-1)
            width = log_p.shape[-1]
            log_q = functional.log_softmax(z[:, :width] / t, dim=-1)
            step[:, :width] = log_q.exp() - log_p.exp()
        else:
            log_p = _class_log(functional.log_softmax(theirs / t, dim=-1), classes.teacher, classes.count)
            if not rest_here:
                log_p[:, REST] = -torch.inf
                log_p = functional.log_softmax(log_p, dim=-1)
            fine = functional.log_softmax(z / t, dim=-1)
            log_q = _class_log(fine, classes.student, classes.count)
            step = torch.exp(fine + (log_p - log_q).nan_to_num(0.0)[:, classes.student]).neg_().add_(fine.exp())
        # a class without probability under the teacher adds nothing
        each = (log_p.exp() * torch.where(log_p == -torch.inf, 0.0, log_p - log_q)).sum(-1)
        return (each * w).sum(), step.mul_((w / t)[:, None]), z

    size = chunk or positions_at_once(hidden, head.vocabulary + teacher.head.vocabulary)
    return fused(hidden, head, chunk_loss, size)


def _class_log(fine: Tensor, owner: Tensor, count: int) -> Tensor:
    """log Σ e^fine over the tokens of each class: (n, count) from (n, V); −inf where a class has no token."""
    index = owner.expand_as(fine)
    top = torch.full((len(fine), count), -torch.inf, dtype=fine.dtype, device=fine.device)
    top = top.scatter_reduce(-1, index, fine, "amax")
    shift = torch.where(top == -torch.inf, 0.0, top)
    mass = torch.zeros_like(top).scatter_add(-1, index, (fine - shift.gather(-1, index)).exp())
    return torch.where(mass == 0, -torch.inf, mass.log() + shift)
