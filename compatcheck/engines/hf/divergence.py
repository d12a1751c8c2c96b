"""How far NEW's next-token distribution is from OLD's, from hidden states, without positions × vocabulary logits.

At every position, with the natural logarithm and over the whole vocabulary, as ``llama-perplexity --kl-divergence`` of
llama.cpp defines them (tools/perplexity/perplexity.cpp): KL(OLD ‖ NEW) = Σ p (log p − log q), whether both rank the
same token first, and the log-probability of the token that follows. llama.cpp keeps OLD's log-probabilities in 16 bits
and leaves out those below −16; here nothing is rounded or left out.

Logits exist for a block of the vocabulary and some positions at a time. Sums are kept relative to the highest logit so
far (online softmax, Milakov and Gimelshein 2018), in float64 from block to block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compatcheck.engines.hf.head import Head

VOCABULARY_BLOCK = 4096
"""Tokens of the vocabulary whose logits are made at a time."""
ROWS = {"cpu": 256}
"""Positions whose logits are made at a time, by kind of device: on a CPU they are to stay in the caches."""
MORE_ROWS = 4096
"""The same on other devices."""

HeadPart = Callable[[int, int], Head]
"""As :meth:`Head.part`."""


@dataclass(frozen=True)
class States:
    """A model at n positions: hidden states (n, d) after its final norm, and what makes logits of them."""

    hidden: Tensor
    head: HeadPart


@dataclass(frozen=True)
class Compared:
    """What is known of every position; tensors (n,), those of numbers float64.

    ``old_at_top_new`` is OLD's log-probability of the token that NEW ranks first, and so on."""

    kl: Tensor
    old: Tensor
    """Log-probability of the token that follows."""
    new: Tensor
    top_old: Tensor
    """The token that is ranked first; of equals the one with the lowest number."""
    top_new: Tensor
    old_at_top_old: Tensor
    old_at_top_new: Tensor
    new_at_top_old: Tensor
    new_at_top_new: Tensor


def compare_states(old: States, new: States, targets: Tensor, vocabulary: int) -> Compared:
    """Compare two models at the same positions; ``targets`` (n,) are the tokens that follow, and logits of the first
    ``vocabulary`` tokens count."""
    with torch.no_grad():
        running = _Running(targets)
        rows = ROWS.get(targets.device.type, MORE_ROWS)
        for start in range(0, vocabulary, VOCABULARY_BLOCK):
            end = min(vocabulary, start + VOCABULARY_BLOCK)
            heads = [_wide(side.head(start, end)) for side in (old, new)]
            for first in range(0, len(targets), rows):
                part = slice(first, first + rows)
                logits = [head.logits(side.hidden[part].to(head.weight.dtype)) for head, side in
                          zip(heads, (old, new), strict=True)]  # fmt: skip
                running.add(start, part, *logits)
        return running.compared()


def _wide(head: Head) -> Head:
    """The layer in float32 or float64: half precision would round logits by more than precisions differ."""
    if head.weight.dtype in (torch.float32, torch.float64):
        return head
    return Head(head.weight.float(), None if head.bias is None else head.bias.float(), head.scale, head.cap)


class _Running:
    """Sums over the vocabulary so far, of every position."""

    def __init__(self, targets: Tensor) -> None:
        count, device = len(targets), targets.device
        self.targets = targets

        def numbers(value: float = 0.0) -> Tensor:
            return torch.full((count,), value, dtype=torch.float64, device=device)

        self.highest = [numbers(-torch.inf), numbers(-torch.inf)]
        self.total = [numbers(), numbers()]
        self.top = [torch.zeros_like(targets), torch.zeros_like(targets)]
        self.given = [numbers(), numbers()]
        self.other_at_top = [numbers(), numbers()]
        """Of the other side, the logit at the token that this one ranks first."""
        self.weighted = numbers()
        """Σ exp(z − highest) (z − y), z being OLD's logits and y NEW's."""

    def add(self, start: int, part: slice, *logits: Tensor) -> None:
        """Logits (r, tokens of the block) of both sides at some positions; they are overwritten."""
        z, y = logits
        tokens = self.targets[part] - start
        rows = ((tokens >= 0) & (tokens < z.shape[1])).nonzero()[:, 0]
        apart = z - y
        scales = []
        for side, (own, other) in enumerate(((z, y), (y, z))):
            self.given[side][part][rows] = own[rows, tokens[rows]].double()
            found = own.amax(-1)
            better = (found > self.highest[side][part]).nonzero()[:, 0]
            best = own[better].argmax(-1)
            self.top[side][part][better] = best + start
            self.other_at_top[side][part][better] = other[better, best].double()
            highest = torch.maximum(self.highest[side][part], found.double())
            scales.append(torch.nan_to_num((self.highest[side][part] - highest).exp_(), nan=1.0))
            self.highest[side][part] = highest
        for side, own in enumerate((z, y)):
            own.sub_(self.highest[side][part].to(own.dtype)[:, None]).exp_()
            self.total[side][part] = self.total[side][part] * scales[side] + own.sum(-1).double()
        self.weighted[part] = self.weighted[part] * scales[0] + z.mul_(apart).sum(-1).double()

    def compared(self) -> Compared:
        norm = [highest + total.log() for highest, total in zip(self.highest, self.total, strict=True)]
        # Rounding may leave a divergence of 0 a little below it.
        kl = (self.weighted / self.total[0] - norm[0] + norm[1]).clamp_(min=0.0)
        at_top = [self.highest[side] - norm[side] for side in (0, 1)]
        old_at_new, new_at_old = self.other_at_top[1] - norm[0], self.other_at_top[0] - norm[1]
        return Compared(
            kl, self.given[0] - norm[0], self.given[1] - norm[1], self.top[0], self.top[1],
            at_top[0], old_at_new, new_at_old, at_top[1],
        )  # fmt: skip
