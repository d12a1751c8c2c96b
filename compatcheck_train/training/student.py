"""The module that is trained: one call is one micro-batch's loss, so that it can be wrapped for several devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from compatcheck_train.loss.old_term import OldTerm
from compatcheck_train.loss.strategies.base import Strategy
from compatcheck_train.loss.view import Taught, View
from compatcheck_train.settings import TrainSettings
from compatcheck_train.teachers import OnlineTeacher, Teacher, Wants
from compatcheck_train.teachers.online import frozen
from compatcheck_train.training.batches import Batch, Plan
from compatcheck_train.training.head import Head, decoder_of, head_of
from compatcheck_train.training.models import COMPAT, Student
from compatcheck_train.training.prefixes import trained_states


class Trainee(torch.nn.Module):
    """Student, teachers and strategy together."""

    def __init__(
        self,
        student: Student,
        plan: Plan,
        strategy: Strategy,
        settings: TrainSettings,
        options: Mapping[str, Any],
        autocast: Callable[[], Any],
        old: Teacher | None = None,
        old_term: OldTerm | None = None,
    ) -> None:
        super().__init__()
        self.model = student.peft
        self.student, self.plan, self.strategy = student, plan, strategy
        self.settings, self.options, self.autocast = settings, options, autocast
        self.old, self.old_term = old, old_term
        self.new: Teacher | None = None
        head = head_of(student.base, COMPAT)
        self._fixed_head = None if head.trained else head

    @property
    def head(self) -> Head:
        """The student's output layer; one object as long as it is frozen."""
        return self._fixed_head or head_of(self.student.base, COMPAT)

    def new_online(self, wants: Wants) -> OnlineTeacher:
        """NEW as a teacher in every step."""
        return OnlineTeacher(self.new_states, self.new_head, self.plan, wants)

    @property
    def new_head(self) -> Head:
        """NEW's output layer: the student's own where that is frozen."""
        if self._fixed_head is not None:
            return self._fixed_head
        return frozen(self.student.base, self.student.teacher)

    def new_states(self, batch: Batch) -> Tensor:
        """NEW's hidden states at the trained positions."""
        with self.student.as_teacher():
            return self.states(batch)

    def states(self, batch: Batch) -> Tensor:
        """The hidden states at the trained positions (N, d), as the active adapter makes them."""
        with self.autocast():
            return trained_states(decoder_of(self.student.base), batch, self.settings.shared_prefix)

    def forward(self, index: int) -> tuple[Tensor, Tensor]:
        """The sum of the loss over the positions or documents of micro-batch ``index``, and (right, followed, seen)."""
        device = next(self.model.parameters()).device
        batch = self.plan.batch(index).to(device)
        taught = {side: self._taught(teacher, index, batch) for side, teacher in (("old", self.old), ("new", self.new))}
        view = View(
            batch, self.states(batch), self.head, self.strategy, self.settings, self.options, taught["old"],
            taught["new"], self.old_term,
        )  # fmt: skip
        parts = self.strategy.loss(view)
        return parts.loss, torch.tensor([parts.right, parts.followed, parts.seen])

    def _taught(self, teacher: Teacher | None, index: int, batch: Batch) -> Taught | None:
        if teacher is None:
            return None
        own = batch if teacher.plan is self.plan else teacher.plan.batch(index).to(batch.ids.device)
        return Taught(teacher.batch(index), teacher.head, own)
