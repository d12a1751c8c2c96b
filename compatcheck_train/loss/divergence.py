"""The divergence from two teachers, made without positions × vocabulary logits.

Per position i, z the logits, T the temperature, w the weights that a strategy gives:

    w_old · KL(softmax(z_old/T) ‖ softmax(z/T)) + w_new · KL(softmax(z_new/T) ‖ softmax(z/T)) + w_ce · CE(z, y)

(Echterhoff et al. 2024; the divergence has no T² factor.) Logits exist for one chunk of positions at a time; a
teacher's row is made only where its weight is not zero. As d KL/d z = (q − p)/T and the output layer is frozen, the
gradient with respect to the student's hidden states is made in the forward pass, as fused linear cross-entropy kernels
do; nothing of a chunk is kept. Where the output layer is trained too, every chunk is recomputed in the backward pass.

The new model shares the student's output layer. Its logits are then z + (h_new − h) Wᵀ: exactly the student's own where
the hidden states are equal, whichever way the product is cut into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from compatcheck_train.loss.rules import Facts, Rule, Weights
from compatcheck_train.training.head import Head


def positions_at_once(hidden: Tensor, width: int) -> int:
    """Positions whose ``width`` logits in float32 fill 8 MB on a CPU and 256 MB elsewhere: what a chunk holds."""
    return max(16, (2**21 if hidden.device.type == "cpu" else 2**26) // width)


@dataclass(frozen=True)
class States:
    """A teacher at the N positions: hidden states after the final norm (N, d), and its output layer."""

    hidden: Tensor
    head: Head


@dataclass(frozen=True)
class Problem:
    """One micro-batch: the student's hidden states (N, d) at the trained positions, and what the loss depends on."""

    hidden: Tensor
    head: Head
    targets: Tensor
    weight: Tensor
    """Base weight of every position (N,): 1, or the weight of context."""
    facts: Facts
    rule: Rule
    temperature: float
    old: States | None = None
    new: States | None = None
    chunk: int | None = None
    """Positions at a time; None: as :func:`positions_at_once` says."""

    def chunk_size(self) -> int:
        return self.chunk or positions_at_once(self.hidden, self.head.vocabulary)


@dataclass(frozen=True)
class Outcome:
    """``loss``: the sum over positions. ``old_weights`` (N,): base weight × the rule's weight of the old model.
    ``right``: positions whose gold token the student ranks first; ``followed``: positions with a weight of the old."""

    loss: Tensor
    old_weights: Tensor
    right: int
    followed: int


def fused_divergence(problem: Problem) -> Outcome:
    """The loss of a micro-batch, with its gradient with respect to ``hidden`` (and to the output layer if trained)."""
    if problem.head.trained:
        return _recomputed(problem)
    loss, old_weights, counts = _Fused.apply(problem.hidden, problem)
    right, followed = counts.tolist()
    return Outcome(loss, old_weights, right, followed)


class _Fused(torch.autograd.Function):
    """Loss and gradient in one pass; the backward pass only scales the gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
        problem = replace(problem, hidden=hidden)
        n, size = len(hidden), problem.chunk_size()
        gradient = torch.zeros_like(hidden)
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        old_weights = torch.zeros(n, dtype=wide, device=hidden.device)
        loss = torch.zeros((), dtype=wide, device=hidden.device)
        counts = torch.zeros(2, dtype=torch.long, device=hidden.device)
        for start in range(0, n, size):
            part = slice(start, min(n, start + size))
            value, grad_logits, logits, weights, right = _chunk(problem, part)
            loss += value
            gradient[part] = problem.head.back(grad_logits, logits).to(gradient.dtype)
            if weights.old is not None:
                old_weights[part] = weights.old.to(wide) * problem.weight[part]
            counts[0] += right
        counts[1] = (old_weights != 0).sum()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(old_weights, counts)
        return loss, old_weights, counts

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None


def _chunk(problem: Problem, part: slice) -> tuple[Tensor, Tensor, Tensor, Weights, Tensor]:
    """Loss, gradient with respect to the logits, logits, the rule's weights, and how many the student has right."""
    raw = problem.head.raw(problem.hidden[part])
    z = problem.head.capped(raw)
    targets, base = problem.targets[part], problem.weight[part].to(z.dtype)
    facts = student_facts(z, targets, problem.facts.at(part))
    weights = problem.rule(facts)
    gradient: Tensor | None = None
    loss = torch.zeros((), dtype=z.dtype, device=z.device)
    t = problem.temperature
    old = None if weights.old is None or problem.old is None else weights.old.to(z.dtype) * base
    new = None if weights.new is None or problem.new is None else weights.new.to(z.dtype) * base
    if weights.mixture and old is not None and new is not None:
        gradient = torch.zeros_like(z)
        loss = loss + _follow_mixture(problem, part, raw, z, old, new, gradient)
    else:
        for weight, states in ((old, problem.old), (new, problem.new)):
            if weight is None or states is None:
                continue
            rows = weight.nonzero().squeeze(-1)
            if not len(rows):
                continue
            every = len(rows) == len(weight)
            pick = slice(None) if every else rows
            teacher = _teacher_logits(problem, states, part, pick, raw)
            width = teacher.shape[-1]
            log_q = functional.log_softmax(_cooled(z[pick, :width], t), dim=-1)
            log_p = functional.log_softmax(_cooled(teacher, t), dim=-1)
            p = log_p.exp()
            w = weight[pick]
            loss = loss + ((p * log_p.sub_(log_q)).sum(-1) * w).sum()
            step = log_q.exp_().sub_(p).mul_((w / t)[:, None])
            if every and width == z.shape[-1]:
                gradient = step if gradient is None else gradient.add_(step)
            else:
                gradient = torch.zeros_like(z) if gradient is None else gradient
                indices = torch.arange(len(weight), device=z.device) if every else rows
                gradient[:, :width].index_add_(0, indices, step)
    gradient = torch.zeros_like(z) if gradient is None else gradient
    if weights.inhibit is not None and problem.old is not None and problem.new is not None:
        loss = loss + _inhibit(problem, part, raw, z, weights, weights.inhibit.to(z.dtype) * base, gradient)
    if weights.ce is not None:
        w = weights.ce.to(z.dtype) * base
        if bool((w != 0).any()):
            log_q = functional.log_softmax(z, dim=-1)
            loss = loss - (log_q.gather(-1, targets[:, None]).squeeze(-1) * w).sum()
            q = log_q.exp_().mul_(w[:, None])
            gradient.add_(q).scatter_add_(-1, targets[:, None], -w[:, None])
    right = facts.student_right
    assert right is not None
    return loss, gradient, z, weights, right.sum()


def student_facts(z: Tensor, targets: Tensor, facts: Facts) -> Facts:
    """Adds whether the student ranks the gold token first and, where ``old_logprob`` is there to be compared with, its
    log-probability. No gradient goes through either."""
    z = z.detach()
    right = z.argmax(-1) == targets
    if facts.old_logprob is None:
        return replace(facts, student_right=right)
    gold = z.gather(-1, targets[:, None]).squeeze(-1)
    return replace(facts, student_right=right, student_logprob=gold - z.logsumexp(-1))


def _cooled(z: Tensor, t: float) -> Tensor:
    return z if t == 1.0 else z / t


def _teacher_logits(problem: Problem, states: States, part: slice, pick: Any, raw: Tensor) -> Tensor:
    """A teacher's logits at some positions of a chunk: (n, its vocabulary, or the student's if that is smaller)."""
    if states.head is problem.head:
        change = states.hidden[part][pick] - problem.hidden.detach()[part][pick]
        return problem.head.capped(raw.detach()[pick] + problem.head.shift(change))
    logits = states.head.logits(states.hidden[part][pick])
    return logits[:, : raw.shape[-1]]


def _mixed(problem: Problem, part: slice, raw: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """The teachers' mixture, weighted by ``old`` and ``new``: (chunk, vocabulary)."""
    assert problem.old is not None and problem.new is not None
    t, total = problem.temperature, (old + new).clamp(min=torch.finfo(raw.dtype).tiny)
    first = functional.softmax(_teacher_logits(problem, problem.old, part, slice(None), raw) / t, dim=-1)
    mixture = functional.softmax(_teacher_logits(problem, problem.new, part, slice(None), raw) / t, dim=-1)
    mixture.mul_((new / total)[:, None])
    mixture[:, : first.shape[-1]] += first.mul_((old / total)[:, None])
    return mixture


def _follow_mixture(
    problem: Problem, part: slice, raw: Tensor, z: Tensor, old: Tensor, new: Tensor, gradient: Tensor
) -> Tensor:
    p, w, t = _mixed(problem, part, raw, old, new), old + new, problem.temperature
    log_q = functional.log_softmax(z / t, dim=-1)
    loss = ((torch.xlogy(p, p) - p * log_q).sum(-1) * w).sum()
    gradient.add_(log_q.exp_().sub_(p).mul_((w / t)[:, None]))
    return loss


def _reference(problem: Problem, part: slice, raw: Tensor) -> Tensor:
    """Mean of both teachers' log-probabilities at T = 1 over the vocabulary that both have."""
    assert problem.old is not None and problem.new is not None
    first = functional.log_softmax(_teacher_logits(problem, problem.old, part, slice(None), raw), dim=-1)
    second = functional.log_softmax(_teacher_logits(problem, problem.new, part, slice(None), raw), dim=-1)
    return (first + second[:, : first.shape[-1]]) / 2


def _inhibit(
    problem: Problem, part: slice, raw: Tensor, z: Tensor, weights: Weights, w: Tensor, gradient: Tensor
) -> Tensor:
    """Σ_k max(|log p(k) − reference(k)| − margin, 0)² over the reference's top tokens."""
    reference = _reference(problem, part, raw)
    value, index = reference.topk(min(weights.top, reference.shape[-1]), dim=-1)
    log_q = functional.log_softmax(z, dim=-1)
    difference = log_q.gather(-1, index) - value
    beyond = (difference.abs() - weights.margin).clamp(min=0)
    slope = 2 * beyond * difference.sign() * w[:, None]
    gradient.scatter_add_(-1, index, slope)
    gradient.sub_(log_q.exp_().mul_(slope.sum(-1, keepdim=True)))
    return ((beyond**2).sum(-1) * w).sum()


# Where the output layer is trained too


def plain_divergence(problem: Problem) -> Outcome:
    """The same loss from whole logits, differentiated by autograd: what ``fused_divergence`` is tested against, and
    what it recomputes chunk by chunk where the output layer is trained."""
    raw = problem.head.raw(problem.hidden)
    z = problem.head.capped(raw)
    facts = student_facts(z, problem.targets, problem.facts)
    weights = problem.rule(facts)
    base, t, every = problem.weight.to(z.dtype), problem.temperature, slice(None)
    none = torch.zeros_like(base)
    old = none if weights.old is None or problem.old is None else weights.old.to(z.dtype) * base
    new = none if weights.new is None or problem.new is None else weights.new.to(z.dtype) * base
    loss = torch.zeros((), dtype=z.dtype, device=z.device)
    log_q = functional.log_softmax(z / t, dim=-1)
    if weights.mixture and problem.old is not None and problem.new is not None:
        with torch.no_grad():
            p = _mixed(problem, every, raw, old, new)
        loss = loss + ((torch.xlogy(p, p) - p * log_q).sum(-1) * (old + new)).sum()
    else:
        for weight, states in ((old, problem.old), (new, problem.new)):
            if states is None or not bool((weight != 0).any()):
                continue
            with torch.no_grad():
                log_p = functional.log_softmax(_teacher_logits(problem, states, every, every, raw) / t, dim=-1)
            width = log_p.shape[-1]
            narrow = log_q if width == z.shape[-1] else functional.log_softmax(z[:, :width] / t, dim=-1)
            loss = loss + ((log_p.exp() * (log_p - narrow)).sum(-1) * weight).sum()
    if weights.inhibit is not None and problem.old is not None and problem.new is not None:
        with torch.no_grad():
            value, index = _reference(problem, every, raw).topk(min(weights.top, z.shape[-1]), dim=-1)
        difference = functional.log_softmax(z, dim=-1).gather(-1, index) - value
        loss = loss + (((difference.abs() - weights.margin).clamp(min=0) ** 2).sum(-1) * weights.inhibit * base).sum()
    if weights.ce is not None:
        loss = loss + (functional.cross_entropy(z, problem.targets, reduction="none") * weights.ce * base).sum()
    assert facts.student_right is not None
    kept = none if weights.old is None else (weights.old.to(z.dtype) * base).detach()
    return Outcome(loss, kept, int(facts.student_right.sum()), int((kept != 0).sum()))


def _recomputed(problem: Problem) -> Outcome:
    """Chunk by chunk, each recomputed in the backward pass, so that no more than a chunk is held here either."""
    found: list[Outcome] = []
    total: Tensor = torch.zeros((), device=problem.hidden.device)
    size = problem.chunk_size()
    for start in range(0, len(problem.hidden), size):
        part = slice(start, min(len(problem.hidden), start + size))

        def loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, part: slice = part) -> Tensor:
            head = replace(problem.head, weight=weight, bias=bias)
            outcome = plain_divergence(_cut(replace(problem, head=head), part, hidden))
            if len(found) * size <= part.start:  # the backward pass comes here again
                found.append(outcome)
            return outcome.loss

        total = total + checkpoint(
            loss, problem.hidden[part], problem.head.weight, problem.head.bias, use_reentrant=False
        )
    old_weights = torch.cat([outcome.old_weights for outcome in found]) if found else problem.weight.new_zeros(0)
    return Outcome(total, old_weights, sum(o.right for o in found), sum(o.followed for o in found))


def _cut(problem: Problem, part: slice, hidden: Tensor) -> Problem:
    def states(given: States | None) -> States | None:
        return None if given is None else States(given.hidden[part], given.head)

    return replace(
        problem,
        hidden=hidden,
        targets=problem.targets[part],
        weight=problem.weight[part],
        facts=problem.facts.at(part),
        old=states(problem.old),
        new=states(problem.new),
    )


# Log-probabilities of given tokens


def token_logprobs(hidden: Tensor, head: Head, targets: Tensor, chunk: int | None = None) -> Tensor:
    """log p(target) at every position (N,), with gradients, from hidden states (N, d). Logits exist chunk by chunk, in
    the forward and again in the backward pass."""
    size = chunk or positions_at_once(hidden, head.vocabulary)
    if head.trained:
        parts = [
            checkpoint(_logprobs, hidden[i : i + size], head, targets[i : i + size], use_reentrant=False)
            for i in range(0, len(hidden), size)
        ]
        return torch.cat(parts) if parts else hidden.new_zeros(0)
    result: Tensor = _TokenLogprobs.apply(hidden, head, targets, size)
    return result


def _logprobs(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    z = head.logits(hidden)
    return z.gather(-1, targets[:, None]).squeeze(-1) - z.logsumexp(-1)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, targets: Tensor, size: int) -> Tensor:
        parts = [_logprobs(hidden[i : i + size], head, targets[i : i + size]) for i in range(0, len(hidden), size)]
        ctx.save_for_backward(hidden, targets)
        ctx.head, ctx.size = head, size
        return torch.cat(parts) if parts else hidden.new_zeros(0)

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor, None, None, None]:
        hidden, targets = ctx.saved_tensors
        gradient = torch.zeros_like(hidden)
        for start in range(0, len(hidden), ctx.size):
            part = slice(start, start + ctx.size)
            w = outer[0][part, None]
            if not bool((w != 0).any()):
                continue
            z = ctx.head.logits(hidden[part])
            step = functional.softmax(z, dim=-1).mul_(-w.to(z.dtype))
            step.scatter_add_(-1, targets[part, None], w.to(z.dtype))
            gradient[part] = ctx.head.back(step, z).to(gradient.dtype)
        return gradient, None, None, None


def token_facts(hidden: Tensor, head: Head, targets: Tensor, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """Whether the gold token is ranked first, and its log-probability, at every position: two tensors (N,)."""
    size = chunk or positions_at_once(hidden, head.vocabulary)
    right, logprob = [], []
    with torch.no_grad():
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            z = head.logits(hidden[part])
            right.append(z.argmax(-1) == targets[part])
            logprob.append(z.gather(-1, targets[part, None]).squeeze(-1) - z.logsumexp(-1))
    if not right:
        return targets.new_zeros(0, dtype=torch.bool), hidden.new_zeros(0)
    return torch.cat(right), torch.cat(logprob)
