"""One micro-batch as a strategy sees it: the student, both teachers, and the losses that can be made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from compatcheck.engines.hf.head import Head
from compatcheck.errors import InputError
from compatcheck_train.batches import Batch
from compatcheck_train.loss.divergence import Problem, States, fused_divergence, token_facts, token_logprobs
from compatcheck_train.loss.rules import Facts, Parts, Rule, Weights
from compatcheck_train.settings import TrainSettings


@dataclass(frozen=True)
class Taught:
    """What a teacher gives at the N trained positions of a micro-batch in its own tokens (``batch``): hidden states
    after the final norm (N, d) and its output layer, the log-probability of the gold token (N,) in float32, whether it
    ranks that first (N,); None: not asked for."""

    hidden: Tensor | None
    logprob: Tensor | None
    right: Tensor | None
    head: Head | None
    batch: Batch

    def sums(self) -> Tensor:
        """The log-likelihood of every row's answer (R,), without its end."""
        assert self.logprob is not None
        return self.batch.by_row(self.logprob, self.batch.answer & ~self.batch.end)


class OldTerm(Protocol):
    """The old model's term where it tokenizes differently, so that positions of the two models do not correspond."""

    def loss(self, view: View, weights: Tensor) -> Tensor:
        """The sum over the student's positions of weight (N,) × divergence: a scalar with gradients."""

    def old_facts(self, index: int) -> tuple[Tensor, Tensor]:
        """At each of the student's positions (N,): whether the old model ranks the gold text there first, and its
        log-probability of it."""


@dataclass
class View:
    """``hidden`` (N, d) are the student's states at the trained positions and carry gradients; ``needs`` and
    ``options`` are the strategy's."""

    batch: Batch
    hidden: Tensor
    head: Head
    needs: frozenset[str]
    settings: TrainSettings
    options: Mapping[str, Any]
    old: Taught | None = None
    new: Taught | None = None
    old_term: OldTerm | None = None
    chunk: int | None = None

    def zero(self) -> Tensor:
        """0 that depends on the student, so that a gradient always exists."""
        return self.hidden.sum() * 0

    # Over positions

    def divergence(self, rule: Rule) -> Parts:
        """The fused divergence at every trained position, with the weights that the rule gives."""
        outcome = fused_divergence(self._problem(rule, slice(None), self.batch.weight))
        loss = outcome.loss
        if self.old_term is not None:
            loss = loss + self.old_term.loss(self, outcome.old_weights)
        return Parts(loss, outcome.right, outcome.followed, len(self.batch.targets))

    def _problem(self, rule: Rule, chosen: Any, weight: Tensor) -> Problem:
        old, new = (
            States(taught.hidden[chosen], taught.head)
            if taught is not None and taught.hidden is not None and taught.head is not None
            else None
            for taught in (self.old if self.old_term is None else None, self.new)
        )
        return Problem(
            self.hidden[chosen], self.head, self.batch.targets[chosen], weight, self._facts().at(chosen), rule,
            self.settings.temperature, old, new, self.chunk,
        )  # fmt: skip

    def _facts(self) -> Facts:
        b = self.batch
        facts: dict[str, Any] = {"answer": b.answer, "rows": b.rows}
        if "old-facts" in self.needs:
            if self.old_term is not None:
                facts["old_right"], facts["old_logprob"] = self.old_term.old_facts(b.index)
            else:
                assert self.old is not None
                facts |= {"old_right": self.old.right, "old_logprob": self.old.logprob}
        if "totals" in self.needs:  # over a row's answer; over the whole row where it has none
            _, mine = token_facts(self.hidden.detach(), self.head, b.targets, self.chunk)
            counted = b.answer | (b.by_row(torch.ones_like(mine), b.answer)[b.rows] == 0)
            facts["student_total"] = b.by_row(mine, counted)[b.rows]
            facts["old_total"] = b.by_row(facts["old_logprob"], counted)[b.rows]
        return Facts(**facts)

    # Over rows and documents

    def student_sums(self) -> Tensor:
        """The student's log-likelihood of every row's answer (R,), without its end, with gradients."""
        b = self.batch
        chosen = (b.answer & ~b.end).nonzero().squeeze(-1)
        logprob = token_logprobs(self.hidden[chosen], self.head, b.targets[chosen], self.chunk)
        return logprob.new_zeros(len(b.flat)).index_add(0, b.rows[chosen], logprob)

    def grouped(self, values: Tensor) -> list[Tensor]:
        """One tensor per document, from one number per row."""
        return [values[rows.start : rows.stop] for rows in self.batch.groups]

    def normed(self, sums: Tensor) -> Tensor:
        """Log-likelihoods divided by the answers' length, as option ``choice_norm`` says: none, chars or bytes."""
        how = self.options.get("choice_norm", "none")
        if how == "none":
            return sums
        if how not in ("chars", "bytes"):
            raise InputError(f"strategy {self.settings.strategy}: choice_norm {how!r} must be none, chars or bytes")
        texts = [row.text.lstrip() for row in self.batch.flat]
        sizes = [max(1, len(text if how == "chars" else text.encode())) for text in texts]
        return sums / torch.tensor(sizes, dtype=sums.dtype, device=sums.device)

    def anchor(self, likeliest: Sequence[int | None]) -> Tensor:
        """The anchor, summed over documents: a mean of KL(new ‖ student), or of the cross-entropy, over the tokens of
        the right answer (of ``likeliest`` where there is no label; None: none) and its end."""
        how, weight = self.options["anchor"], float(self.options["anchor_weight"])
        if how not in ("new", "ce", "none"):
            raise InputError(f"strategy {self.settings.strategy}: anchor {how!r} must be new, ce or none")
        if how == "new" and self.new is None:
            raise InputError(f"strategy {self.settings.strategy} has no teacher: its anchor must be ce or none")
        b = self.batch
        share = torch.zeros(len(b.flat), device=b.rows.device)
        for item, rows, other in zip(b.items, b.groups, likeliest, strict=True):
            row = item.gold if item.gold is not None else other
            if how != "none" and row is not None:
                share[rows.start + row] = weight
        lengths = b.by_row(torch.ones_like(b.weight), b.answer)
        weights = (share / lengths.clamp(min=1))[b.rows] * b.answer
        chosen = weights.nonzero().squeeze(-1)
        if not len(chosen):
            return self.zero()

        def rule(facts: Facts) -> Weights:
            every = facts.answer.new_ones(facts.answer.shape).float()
            return Weights(new=every) if how == "new" else Weights(ce=every)

        return fused_divergence(self._problem(rule, chosen, weights[chosen])).loss
