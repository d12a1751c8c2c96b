"""Projected KL: the divergence of two next-token distributions over different vocabularies.

Both are summed over the classes of a :class:`~compatcheck_train.align.mapping.Mapping` (many tokens to one class)::

    P_k(c) = Σ_{t in c} softmax(z_k / T)_t          KL( P_teacher ‖ P_student )

at positions where the next token of both starts at the same byte. With the identity as mapping it is the plain
divergence. As in ``loss.divergence``, logits exist for one chunk of positions at a time, and the gradient
with respect to the student's hidden states is made in the forward pass: d KL / d z_t = (p_t − P_teacher(c) · p_t /
P_student(c)) / T, with c the class of t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from compatcheck_train.align.mapping import REST, Mapping
from compatcheck_train.loss.divergence import States, positions_at_once
from compatcheck_train.training.head import Head


@dataclass(frozen=True)
class Classes:
    """A mapping on a device: the class of each token of the student (V_S,) and of the teacher (V_T,)."""

    student: Tensor
    teacher: Tensor
    count: int
    identity: bool
    rest_here: bool
    """Whether the student has tokens without a counterpart; if not, such mass of the teacher is left out and what
    remains is normalised."""

    @staticmethod
    def of(mapping: Mapping, device: Any) -> Classes:
        """The classes of a mapping."""
        student, teacher = (torch.from_numpy(side).to(device) for side in (mapping.student, mapping.teacher))
        rest = bool((mapping.student == REST).any())
        return Classes(student, teacher, mapping.classes, mapping.identity, rest)


def projected_kl(
    hidden: Tensor, head: Head, teacher: States, classes: Classes, weights: Tensor, t: float, chunk: int | None = None
) -> Tensor:
    """Σ weights · KL over positions: a scalar with gradients, from the student's hidden states (n, d) and the teacher's
    at the corresponding positions; ``weights`` (n,) are constants. Never holds more than ``chunk`` positions'
    logits."""
    width = head.vocabulary + teacher.head.vocabulary
    size = chunk or positions_at_once(hidden, width)
    if head.trained:
        total = hidden.new_zeros(())
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)

            def loss(hidden: Tensor, part: slice = part) -> Tensor:
                cut = States(teacher.hidden[part], teacher.head)
                return plain_projected_kl(hidden, head, cut, classes, weights[part], t)

            total = total + checkpoint(loss, hidden[part], use_reentrant=False)
        return total
    result: Tensor = _Fused.apply(hidden, head, teacher, classes, weights, t, size)
    return result


def plain_projected_kl(
    hidden: Tensor, head: Head, teacher: States, classes: Classes, weights: Tensor, t: float
) -> Tensor:
    """The same from whole logits, differentiated by autograd."""
    z, log_p = head.logits(hidden), _teacher(teacher, classes, t, head.vocabulary)
    if classes.identity:
        log_q = functional.log_softmax(z[:, : log_p.shape[-1]] / t, dim=-1)
    else:
        log_q = _class_log(functional.log_softmax(z / t, dim=-1), classes.student, classes.count)
    return (_kl(log_p, log_q) * weights.to(z.dtype)).sum()


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Head, teacher: States, classes: Classes, weights: Tensor, t: float, size: int
    ) -> Tensor:
        gradient = torch.zeros_like(hidden)
        loss = torch.zeros((), dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32)
        loss = loss.to(hidden.device)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            z = head.logits(hidden[part])
            w = weights[part].to(z.dtype)
            log_p = _teacher(States(teacher.hidden[part], teacher.head), classes, t, head.vocabulary)
            step = torch.zeros_like(z)
            if classes.identity:
                width = log_p.shape[-1]
                log_q = functional.log_softmax(z[:, :width] / t, dim=-1)
                loss += (_kl(log_p, log_q) * w).sum()
                step[:, :width] = log_q.exp_().sub_(log_p.exp())
            else:
                fine = functional.log_softmax(z / t, dim=-1)
                log_q = _class_log(fine, classes.student, classes.count)
                loss += (_kl(log_p, log_q) * w).sum()
                step = torch.exp(fine + (log_p - log_q).nan_to_num(0.0)[:, classes.student]).neg_().add_(fine.exp())
            gradient[part] = head.back(step.mul_((w / t)[:, None]), z).to(gradient.dtype)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor, None, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None, None, None, None, None


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """(n,) Σ p (log p − log q); a class without probability under the teacher adds nothing."""
    return (log_p.exp() * torch.where(log_p == -torch.inf, 0.0, log_p - log_q)).sum(-1)


def _teacher(teacher: States, classes: Classes, t: float, width: int) -> Tensor:
    """The teacher's log-probability of every class: (n, classes)."""
    with torch.no_grad():
        z = teacher.head.logits(teacher.hidden)
        if classes.identity:
            return functional.log_softmax(z[:, :width] / t, dim=-1)
        log_p = _class_log(functional.log_softmax(z / t, dim=-1), classes.teacher, classes.count)
        if not classes.rest_here:
            log_p[:, REST] = -torch.inf
            log_p = functional.log_softmax(log_p, dim=-1)
        return log_p


def _class_log(fine: Tensor, owner: Tensor, count: int) -> Tensor:
    """log Σ e^fine over the tokens of each class: (n, count) from (n, V); −inf where a class has no token."""
    index = owner.expand_as(fine)
    top = torch.full((len(fine), count), -torch.inf, dtype=fine.dtype, device=fine.device)
    top = top.scatter_reduce(-1, index, fine.detach(), "amax")
    shift = torch.where(top == -torch.inf, 0.0, top)
    mass = torch.zeros_like(top).scatter_add(-1, index, (fine - shift.gather(-1, index)).exp())
    return torch.where(mass == 0, -torch.inf, torch.where(mass == 0, 1.0, mass).log() + shift)
