"""Approximate likelihood matching: compare how likely two models find the same chunk of text.

With l the log-probability of a chunk (the sum over its tokens), u = l_teacher / τ and v = l_student / τ, the loss of a
chunk is the divergence of two coins, one that falls with e^u and one with e^v (Minixhofer et al., 2503.20083, section
3)::

    −[ e^u v + (1 − e^u) log(1 − e^v) ]        the binary cross-entropy
    minus the same at v = u                    the KL: the same gradient, and 0 where both agree

It is multiplied by τ here. Then its gradient with respect to l_student, for chunks whose −l is small against τ, is
l_teacher / l_student − 1: of the size of a cross-entropy's whatever τ is, so that the term weighs what the others
weigh. The teacher gives one number a chunk.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TAU = 100.0
_SURE = -1e-9
"""A log-probability is taken to be at most this: log(1 − e^v) has no value at 0."""


def log1mexp(x: Tensor) -> Tensor:
    """log(1 − e^x) for x < 0, without loss of digits near 0 or far from it, nor in the gradient."""
    near = x > -math.log(2)
    inside = torch.where(near, x, torch.full_like(x, -0.1))
    outside = torch.where(near, torch.full_like(x, -1.0), x)
    return torch.where(near, torch.log(-torch.expm1(inside)), torch.log1p(-torch.exp(outside)))


def alm(student: Tensor, teacher: Tensor, tau: float = TAU) -> Tensor:
    """τ · KL of each chunk: (C,) from the chunks' log-probabilities (C,) under both, gradients through ``student``
    alone.

    Computed in 64 bits, as u and v are small and nearly equal; returned in the student's own type.
    """
    v = student.double().clamp(max=_SURE) / tau
    u = teacher.detach().double().clamp(max=_SURE) / tau
    sure = u.exp()
    value = sure * (u - v) - torch.expm1(u) * (log1mexp(u) - log1mexp(v))
    return (tau * value).to(student.dtype)
