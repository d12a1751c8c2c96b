"""One micro-batch as a strategy sees it: the student, both teachers, and the losses that can be made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compatcheck.errors import InputError
from compatcheck_train.loss.divergence import Problem, States, fused_divergence, token_facts, token_logprobs
from compatcheck_train.loss.old_term import OldTerm, StudentView
from compatcheck_train.loss.rules import Facts, Rule, Weights
from compatcheck_train.loss.strategies.base import Parts, Strategy
from compatcheck_train.settings import TrainSettings
from compatcheck_train.teachers.base import TeacherBatch
from compatcheck_train.training.batches import Batch
from compatcheck_train.training.head import Head


@dataclass(frozen=True)
class Taught:
    """What a teacher gave, its output layer, and its own tokens of the same documents."""

    given: TeacherBatch
    head: Head | None
    batch: Batch


class View:
    """``hidden`` (N, d) are the student's states at the trained positions and carry gradients."""

    def __init__(
        self,
        batch: Batch,
        hidden: Tensor,
        head: Head,
        strategy: Strategy,
        settings: TrainSettings,
        options: Mapping[str, Any],
        old: Taught | None = None,
        new: Taught | None = None,
        old_term: OldTerm | None = None,
        chunk: int | None = None,
    ) -> None:
        self.batch, self.hidden, self.head = batch, hidden, head
        self.strategy, self.settings, self.options = strategy, settings, options
        self._old, self._new, self._old_term, self._chunk = old, new, old_term, chunk

    @property
    def documents(self) -> int:
        return len(self.batch.items)

    def zero(self) -> Tensor:
        """0 that hangs on the student, so that a gradient always exists."""
        return self.hidden.sum() * 0

    # Over positions

    def divergence(self, rule: Rule) -> Parts:
        """The fused divergence at every trained position, with the weights that the rule gives."""
        problem = self._problem(rule, slice(None), self.batch.weight)
        outcome = fused_divergence(problem)
        loss = outcome.loss
        if self._old_term is not None:
            loss = loss + self._old_term.loss(self.batch.index, self._student(outcome.old_weights))
        return Parts(loss, outcome.right, outcome.followed, len(self.batch.targets))

    def _student(self, weights: Tensor) -> StudentView:
        b = self.batch
        t = self.settings.temperature
        return StudentView(self.hidden, self.head, b.targets, b.rows, b.steps, weights, b.answer, t)

    def _problem(self, rule: Rule, chosen: Any, weight: Tensor) -> Problem:
        return Problem(
            self.hidden[chosen],
            self.head,
            self.batch.targets[chosen],
            weight,
            self._facts().at(chosen),
            rule,
            self.settings.temperature,
            None if self._old_term is not None else self._states(self._old, chosen),
            self._states(self._new, chosen),
            self._chunk,
        )

    def _states(self, taught: Taught | None, chosen: Any) -> States | None:
        if taught is None or taught.given.hidden is None:
            return None
        assert taught.head is not None
        return States(taught.given.hidden[chosen], taught.head)

    def _facts(self) -> Facts:
        needs, b = self.strategy.needs, self.batch
        facts: dict[str, Any] = {"answer": b.answer, "rows": b.rows}
        for side, taught in (("old", self._old), ("new", self._new)):
            if f"{side}-facts" not in needs:
                continue
            if side == "old" and self._old_term is not None:
                right, logprob = self._old_term.old_facts(b.index, b.rows, b.steps)
                facts |= {"old_right": right, "old_logprob": logprob}
            else:
                assert taught is not None
                facts |= {f"{side}_right": taught.given.right, f"{side}_logprob": taught.given.logprob}
        if "totals" in needs:
            _, mine = token_facts(self.hidden.detach(), self.head, b.targets, self._chunk)
            facts |= {"student_total": self._totals(mine), "old_total": self._totals(facts["old_logprob"])}
        return Facts(**facts)

    def _totals(self, logprob: Tensor) -> Tensor:
        """At every position, the sum over its row's answer; over the whole row where it has none."""
        b = self.batch
        answers = torch.zeros(len(b.flat), device=b.rows.device).index_add(0, b.rows, b.answer.float())
        counted = logprob * (b.answer | (answers[b.rows] == 0))
        return logprob.new_zeros(len(b.flat)).index_add(0, b.rows, counted)[b.rows]

    # Over rows and documents

    def student_sums(self, end: bool = False) -> Tensor:
        """The student's log-likelihood of every row's answer (R,), with gradients; ``end``: and of its end."""
        b = self.batch
        chosen = (b.answer & (~b.end | end)).nonzero().squeeze(-1)
        logprob = token_logprobs(self.hidden[chosen], self.head, b.targets[chosen], self._chunk)
        return logprob.new_zeros(len(b.flat)).index_add(0, b.rows[chosen], logprob)

    def old_sums(self, end: bool = False) -> Tensor:
        """The old model's log-likelihood of every row's answer (R,), in its own tokens."""
        return _sums(self._old, end)

    def new_sums(self, end: bool = False) -> Tensor:
        """The new model's."""
        return _sums(self._new, end)

    def grouped(self, values: Tensor) -> list[Tensor]:
        """One tensor per document, from one number per row."""
        return [values[rows.start : rows.stop] for rows in self.batch.groups]

    def normed(self, sums: Tensor) -> Tensor:
        """Log-likelihoods divided by the answers' length, as option ``choice_norm`` says: none, chars or bytes."""
        how = self.options.get("choice_norm", "none")
        if how == "none":
            return sums
        if how not in ("chars", "bytes"):
            raise InputError(f"strategy {self.strategy.name}: choice_norm {how!r} must be none, chars or bytes")
        sizes = [row.size[0 if how == "chars" else 1] for row in self.batch.flat]
        return sums / torch.tensor(sizes, dtype=sums.dtype, device=sums.device)

    def anchor(self, likeliest: Sequence[int]) -> Tensor:
        """The anchor, summed over documents: a mean of KL(new ‖ student), or of the cross-entropy, over the tokens of
        the right answer (of ``likeliest`` where there is no label) and its end; pairs have none."""
        how, weight = self.options["anchor"], float(self.options["anchor_weight"])
        if how not in ("new", "ce", "none"):
            raise InputError(f"strategy {self.strategy.name}: anchor {how!r} must be new, ce or none")
        b = self.batch
        share = torch.zeros(len(b.flat), device=b.rows.device)
        for item, rows, other in zip(b.items, b.groups, likeliest, strict=True):
            if item.kind != "pair" and rows:
                share[rows.start + (item.gold if item.gold is not None else other)] = weight
        if how == "none" or weight == 0:
            return self.zero()
        lengths = torch.zeros(len(b.flat), device=b.rows.device).index_add(0, b.rows, b.answer.float())
        weights = (share / lengths.clamp(min=1))[b.rows] * b.answer
        chosen = weights.nonzero().squeeze(-1)
        if not len(chosen):
            return self.zero()

        def rule(facts: Facts) -> Weights:
            every = facts.answer.new_ones(facts.answer.shape).float()
            return Weights(new=every) if how == "new" else Weights(ce=every)

        return fused_divergence(self._problem(rule, chosen, weights[chosen])).loss


def _sums(taught: Taught | None, end: bool) -> Tensor:
    assert taught is not None and taught.given.logprob is not None
    b, logprob = taught.batch, taught.given.logprob
    counted = logprob * (b.answer & (~b.end | end))
    return logprob.new_zeros(len(b.flat)).index_add(0, b.rows, counted)
