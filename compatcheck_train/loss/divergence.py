"""The divergence from two teachers, made without positions × vocabulary logits.

Per position i, z the logits, T the temperature, w the weights that a strategy gives:

    w_old · KL(softmax(z_old/T) ‖ softmax(z/T)) + w_new · KL(softmax(z_new/T) ‖ softmax(z/T)) + w_ce · CE(z, y)

(Echterhoff et al. 2024; the divergence has no T² factor.) Logits exist for one chunk of positions at a time; a
teacher's row is made only where its weight is not zero. As d KL/d z = (q − p)/T, the gradient with respect to the
student's hidden states (and the output layer, where that is trained) is made in the forward pass, as fused linear
cross-entropy kernels do; nothing of a chunk is kept.

The new model shares the student's output layer. Its logits are then z + (h_new − h) Wᵀ: exactly the student's own where
the hidden states are equal, whichever way the product is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from compatcheck.engines.hf.head import Head
from compatcheck_train.loss.rules import Facts, Rule, Weights

ChunkLoss = Callable[[slice, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(positions, raw logits there) -> the sum of the loss, its gradient with respect to the logits, the logits."""


def positions_at_once(hidden: Tensor, width: int) -> int:
    """Positions whose ``width`` logits in float32 fill 8 MB on a CPU and 256 MB elsewhere, but 64 at least: every chunk
    reads the whole output layer, which is what takes the time where a vocabulary is large."""
    return max(64, (2**21 if hidden.device.type == "cpu" else 2**26) // width)


def _wide(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def chunks(count: int, size: int) -> list[slice]:
    return [slice(start, min(count, start + size)) for start in range(0, count, size)]


def fused(hidden: Tensor, head: Head, chunk_loss: ChunkLoss, size: int) -> Tensor:
    """A loss over positions, ``size`` at a time, with its gradients made in the forward pass."""
    result: Tensor = _Fused.apply(hidden, head.weight, head.bias, head, chunk_loss, size)
    return result


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, *given: Any) -> Tensor:
        head, chunk_loss, size = given
        head = replace(head, weight=weight, bias=bias)
        loss = torch.zeros((), dtype=_wide(hidden), device=hidden.device)
        wanted = zip((hidden, weight, bias), ctx.needs_input_grad, strict=False)
        grads = [torch.zeros_like(t) if t is not None and needed else None for t, needed in wanted]
        for part in chunks(len(hidden), size):
            value, gradient, logits = chunk_loss(part, head.raw(hidden[part]))
            loss += value
            if not any(ctx.needs_input_grad):
                continue
            raw = head.to_raw(gradient, logits)
            with torch.autocast(hidden.device.type, enabled=False):
                if grads[0] is not None:
                    grads[0][part] = (raw @ weight).to(hidden.dtype)
                if grads[1] is not None:
                    grads[1] += raw.T @ hidden[part].to(raw.dtype)
                if grads[2] is not None:
                    grads[2] += raw.sum(0)
        ctx.save_for_backward(*grads)
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Any, ...]:
        scaled = (None if g is None else g * outer[0].to(g.dtype) for g in ctx.saved_tensors)
        return (*scaled, None, None, None)


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
    device, wide = problem.hidden.device, _wide(problem.hidden)
    old_weights = torch.zeros(len(problem.hidden), dtype=wide, device=device)
    right = torch.zeros((), dtype=torch.long, device=device)

    def chunk_loss(part: slice, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chunk = _Chunk(problem, part, raw)
        loss, gradient = chunk.loss_and_gradient()
        if chunk.weights.old is not None:
            old_weights[part] = chunk.weights.old.to(wide) * problem.weight[part]
        right.add_(chunk.right)
        return loss, gradient, chunk.z

    size = problem.chunk or positions_at_once(problem.hidden, problem.head.vocabulary)
    loss = fused(problem.hidden, problem.head, chunk_loss, size)
    return Outcome(loss, old_weights, int(right), int((old_weights != 0).sum()))


class _Chunk:
    """Some positions of a problem: the student's logits ``z`` and the rule's weights there."""

    def __init__(self, problem: Problem, part: slice, raw: Tensor) -> None:
        self.problem, self.part, self.raw = problem, part, raw
        self.z = z = problem.head.capped(raw)
        self.targets, self.base = problem.targets[part], problem.weight[part].to(z.dtype)
        right = z.argmax(-1) == self.targets
        self.right = right.sum()
        facts = replace(problem.facts.at(part), student_right=right)
        if facts.old_logprob is not None:  # to be compared with
            facts = replace(facts, student_logprob=gold_logprob(z, self.targets))
        self.weights: Weights = problem.rule(facts)

    def loss_and_gradient(self) -> tuple[Tensor, Tensor]:
        """The sum of the loss, and its gradient with respect to ``z``."""
        problem, weights, z = self.problem, self.weights, self.z
        gradient: Tensor | None = None
        loss = torch.zeros((), dtype=z.dtype, device=z.device)
        sides = [(weights.old, problem.old), (weights.new, problem.new)]
        taught = [(w.to(z.dtype) * self.base, states) for w, states in sides if w is not None and states is not None]
        if weights.mixture and len(taught) == 2:
            value, gradient = self._mixture(taught)
            loss = loss + value
        else:
            for w, states in taught:
                value, gradient = self._divergence(w, states, gradient)
                loss = loss + value
        gradient = torch.zeros_like(z) if gradient is None else gradient
        if weights.ce is not None:
            w = weights.ce.to(z.dtype) * self.base
            if bool((w != 0).any()):
                log_q = functional.log_softmax(z, dim=-1)
                loss = loss - (log_q.gather(-1, self.targets[:, None]).squeeze(-1) * w).sum()
                gradient.add_(log_q.exp_().mul_(w[:, None])).scatter_add_(-1, self.targets[:, None], -w[:, None])
        return loss, gradient

    def _teacher(self, states: States, pick: Any = slice(None)) -> Tensor:
        """A teacher's logits at some positions: (n, its vocabulary, or the student's if that is smaller)."""
        hidden = states.hidden[self.part][pick]
        if states.head is self.problem.head:
            change = hidden - self.problem.hidden.detach()[self.part][pick]
            return self.problem.head.capped(self.raw[pick] + self.problem.head.shift(change))
        return states.head.logits(hidden)[:, : self.raw.shape[-1]]

    def _cooled(self, z: Tensor) -> Tensor:
        return functional.log_softmax(z if self.problem.temperature == 1.0 else z / self.problem.temperature, dim=-1)

    def _divergence(self, weight: Tensor, states: States, gradient: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Σ weight · KL(teacher ‖ student), and the gradient with its own added."""
        z, rows = self.z, weight.nonzero().squeeze(-1)
        if not len(rows):
            return z.new_zeros(()), gradient
        every = len(rows) == len(weight)
        pick = slice(None) if every else rows
        log_p = self._cooled(self._teacher(states, pick))
        width = log_p.shape[-1]
        log_q = self._cooled(z[pick, :width])
        p, w = log_p.exp(), weight[pick]
        loss = ((p * log_p.sub_(log_q)).sum(-1) * w).sum()
        step = log_q.exp_().sub_(p).mul_((w / self.problem.temperature)[:, None])
        if every and width == z.shape[-1]:
            return loss, step if gradient is None else gradient.add_(step)
        gradient = torch.zeros_like(z) if gradient is None else gradient
        gradient[:, :width].index_add_(0, torch.arange(len(z), device=z.device)[pick], step)
        return loss, gradient

    def _mixture(self, taught: list[tuple[Tensor, States]]) -> tuple[Tensor, Tensor]:
        """KL from the teachers' mixture to the student, and its gradient."""
        (old, first), (new, second) = taught
        w = old + new
        total = w.clamp(min=torch.finfo(w.dtype).tiny)
        narrow = functional.softmax(self._teacher(first) / self.problem.temperature, dim=-1)
        p = functional.softmax(self._teacher(second) / self.problem.temperature, dim=-1).mul_((new / total)[:, None])
        p[:, : narrow.shape[-1]] += narrow.mul_((old / total)[:, None])
        log_q = self._cooled(self.z)
        loss = ((torch.xlogy(p, p) - p * log_q).sum(-1) * w).sum()
        return loss, log_q.exp_().sub_(p).mul_((w / self.problem.temperature)[:, None])


def gold_logprob(z: Tensor, targets: Tensor) -> Tensor:
    """log p(target) from logits (n, V): (n,)."""
    return z.gather(-1, targets[:, None]).squeeze(-1) - z.logsumexp(-1)


def token_logprobs(hidden: Tensor, head: Head, targets: Tensor, chunk: int | None = None) -> Tensor:
    """log p(target) at every position (N,), with gradients, from hidden states (N, d), chunk by chunk. The slope of
    each is made in the forward pass; where the output layer is trained, a chunk is recomputed in the backward pass."""
    size = chunk or positions_at_once(hidden, head.vocabulary)
    if not head.trained:
        result: Tensor = _TokenLogprobs.apply(hidden, head, targets, size)
        return result

    def one(part: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor) -> Tensor:
        return gold_logprob(replace(head, weight=weight, bias=bias).logits(part), wanted)

    parts = [
        checkpoint(one, hidden[part], head.weight, head.bias, targets[part], use_reentrant=False)
        for part in chunks(len(hidden), size)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, targets: Tensor, size: int) -> Tensor:
        found, slopes = [hidden.new_zeros(0)], torch.zeros_like(hidden)
        for part in chunks(len(hidden), size):
            z, wanted = head.logits(hidden[part]), targets[part, None]
            found.append(gold_logprob(z, targets[part]))
            if ctx.needs_input_grad[0]:
                step = functional.softmax(z, dim=-1).neg_()
                step.scatter_add_(-1, wanted, torch.ones_like(wanted, dtype=z.dtype))
                with torch.autocast(hidden.device.type, enabled=False):
                    slopes[part] = (head.to_raw(step, z) @ head.weight).to(hidden.dtype)
        ctx.save_for_backward(slopes)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * outer[0][:, None].to(slopes.dtype), None, None, None


def token_facts(hidden: Tensor, head: Head, targets: Tensor, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """Whether the gold token is ranked first, and its log-probability, at every position: two tensors (N,)."""
    right, logprob = [targets.new_zeros(0, dtype=torch.bool)], [hidden.new_zeros(0)]
    with torch.no_grad():
        for part in chunks(len(hidden), chunk or positions_at_once(hidden, head.vocabulary)):
            z = head.logits(hidden[part])
            right.append(z.argmax(-1) == targets[part])
            logprob.append(gold_logprob(z, targets[part]))
    return torch.cat(right), torch.cat(logprob)
