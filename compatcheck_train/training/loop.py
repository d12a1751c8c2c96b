"""The loop: steps, epochs, validation, checkpoints, and stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from compatcheck.engines.hf.head import Head, decoder_of, head_of
from compatcheck.engines.progress import Progress
from compatcheck.errors import InputError
from compatcheck_train.batches import Batch, Plan
from compatcheck_train.loss.strategies import Strategy
from compatcheck_train.loss.view import OldTerm, View
from compatcheck_train.settings import TrainSettings
from compatcheck_train.teachers import Teacher
from compatcheck_train.teachers.prefixes import trained_states
from compatcheck_train.training import processes
from compatcheck_train.training.checkpoint import Output, TrainingState, load_weights, save_tensors
from compatcheck_train.training.models import COMPAT, Student


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """The rate of optimiser step ``step`` (from 0) of ``total``: linear warm-up, then the schedule down to zero."""
    warmup = min(settings.warmup_steps, math.ceil(settings.warmup_share * total))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    share = (step - warmup) / max(1, total - warmup)
    factor = 1 - share if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share))
    return settings.learning_rate * factor


class Diverged(InputError):
    """The loss, or its gradient, is no number."""


class Trainee(torch.nn.Module):
    """Student, teachers and strategy together: one call is one micro-batch's loss, so that it can be wrapped for
    several devices."""

    def __init__(
        self, student: Student, plan: Plan, strategy: Strategy, settings: TrainSettings, autocast: Callable[[], Any],
        old: Teacher | None = None, old_term: OldTerm | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model = student.peft
        self.student, self.plan, self.strategy, self.settings = student, plan, strategy, settings
        self.options = strategy.settled(settings.strategy_options)
        self.autocast, self.old, self.old_term = autocast, old, old_term
        self.new: Teacher | None = None
        head = head_of(student.base, COMPAT)
        self._fixed_head = None if head.trained else head

    @property
    def head(self) -> Head:
        """The student's output layer; one object as long as it is frozen."""
        return self._fixed_head or head_of(self.student.base, COMPAT)

    @property
    def new_head(self) -> Head:
        """NEW's output layer: the student's own where that is frozen."""
        return self._fixed_head or head_of(self.student.base, self.student.teacher).frozen()

    def new_states(self, batch: Batch) -> Tensor:
        with self.student.as_teacher():
            return self.states(batch)

    def states(self, batch: Batch) -> Tensor:
        """The hidden states at the trained positions (N, d), as the active adapter makes them."""
        with self.autocast():
            return trained_states(decoder_of(self.student.base), batch, self.settings.shared_prefix)

    def forward(self, index: int) -> tuple[Tensor, Tensor]:
        """The sum of the loss over the positions or documents of micro-batch ``index``, and (right, followed, seen)."""
        batch = self.plan.batch(index).to(next(self.model.parameters()).device)
        old, new = (
            None if teacher is None else teacher.taught(index, batch if teacher.plan is self.plan else None)
            for teacher in (self.old, self.new)
        )
        view = View(
            batch, self.states(batch), self.head, self.strategy.needs, self.settings, self.options, old, new,
            self.old_term,
        )  # fmt: skip
        parts = self.strategy.loss(view)
        return parts.loss, torch.tensor([parts.right, parts.followed, parts.seen])


class Loop:
    """Runs a :class:`Trainee`. A step takes the next ``gradient_accumulation`` micro-batches of every process; its loss
    is the mean over all their positions (or documents), however they are spread."""

    def __init__(
        self, trainee: Trainee, accelerator: Any, output: Output, progress: Progress, note: Callable[[str], None]
    ) -> None:
        self.trainee, self.accelerator, self.output = trainee, accelerator, output
        self.progress, self.note = progress, note
        self.settings, self.plan, self.per = trainee.settings, trainee.plan, trainee.strategy.per
        self.parameters = trainee.student.parameters()
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.group = self.settings.gradient_accumulation * self.world
        self.steps_per_epoch = math.ceil(self.plan.training / self.group)
        self.total = self.steps_per_epoch * self.settings.epochs
        if self.settings.max_steps is not None:
            self.total = min(self.total, self.settings.max_steps)
        self.plain = torch.optim.AdamW(
            list(self.parameters.values()), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        self.sharded = processes.sharded(self.settings)
        self.module: Any = trainee
        if self.sharded:
            for parameter in self.parameters.values():  # the first process's weights on all of them
                torch.distributed.broadcast(parameter.data, 0)
            self.optimizer = accelerator.prepare(self.plain)
        else:
            self.module, self.optimizer = accelerator.prepare(trainee, self.plain)
        self.state = TrainingState()

    def run(self) -> TrainingState:
        """Train to the end, from the last checkpoint if there is one; the weights of the epoch that is kept are in
        place then. Raises :class:`Diverged` where the loss or its gradient is no number."""
        resumed = self.output.resume(self.parameters, self.plain)
        if resumed is not None:
            self.state = resumed
            self.note(f"Resumed from step {self.state.step} of {self.total}.")
        self.accelerator.wait_for_everyone()
        if self.settings.report_to:
            self.accelerator.init_trackers("compatcheck")
        self.output.cut_metrics(self.state.step)
        started = time.monotonic() - self.state.seconds
        self.progress.start("training", self.total, self.state.step)
        try:
            if not self.state.history:
                self._validate(0, {})
            while self.state.step < self.total and not self.state.finished:
                self._epoch(started)
        finally:
            self.progress.finish()
        self.state.finished = True
        self.accelerator.wait_for_everyone()
        if self.state.best_epoch and self.output.best.is_file():
            load_weights(self.output.best, self.parameters)
        start, *epochs = self.state.history
        if epochs and min(each["validation_loss"] for each in epochs) >= start["validation_loss"]:
            self.note("The validation loss never fell below that of the start.")
        return self.state

    def _epoch(self, started: float) -> None:
        """From where the training is to the end of that epoch, or of the training."""
        epoch, done = divmod(self.state.step, self.steps_per_epoch)
        order = self.plan.epoch(self.settings.seed, epoch)
        last = min(self.steps_per_epoch, self.total - epoch * self.steps_per_epoch)
        sums, saves, patience = self.state.sums, self.settings.save_steps, self.settings.patience
        for number in range(done, last):
            values = self._step(order[number * self.group : (number + 1) * self.group])
            self.output.log(self.state.step, values)
            for key, value in (("loss", values["loss"]), ("followed", values["followed"]), ("steps", 1.0)):
                sums[key] = sums.get(key, 0.0) + value
            self.progress.advance(1)
            self.progress.beside(self._standing(values["loss"]))
            if saves and self.state.step % saves == 0 and number + 1 < last:
                self._save(started)
        means = {key: sums[key] / sums["steps"] for key in ("loss", "followed")}
        self.state.sums = {}
        self._validate(epoch + 1, means)
        if patience is not None and epoch + 1 - max(1, self.state.best_epoch) >= patience:
            self.note(f"Stopped after epoch {epoch + 1}: none was better in validation for {patience} epochs.")
            self.state.finished = True
        self._save(started)

    def _standing(self, loss: float) -> str:
        """What the progress shows: this step's loss, and what the last validation gave. Which share follows OLD is said
        where the strategy decides it position by position; elsewhere it is all or none by definition."""
        last = self.state.history[-1]
        followed = last["validation_followed"]
        share = f", {followed:.0%} follow OLD" if 0 < followed < 1 else ""
        return f"loss {loss:.4f}, in validation {last['validation_loss']:.4f} (epoch {last['epoch']}){share}"

    def _step(self, micro: list[int]) -> dict[str, float]:
        """One optimiser step over the micro-batches of all processes; returns its loss and shares."""
        rate = learning_rate(self.settings, self.state.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        size = sum(self.plan.size(index, self.per) for index in micro)
        mine = micro[self.rank :: self.world]
        rounds = math.ceil(len(micro) / self.world)
        total, counts = torch.zeros((), dtype=torch.float64), torch.zeros(3, dtype=torch.long)
        for turn in range(rounds):
            # A process without a micro-batch left in the last step takes part with a loss of zero.
            index, share = (mine[turn], 1.0) if turn < len(mine) else (micro[0], 0.0)
            last = turn == rounds - 1
            self.accelerator.gradient_state._set_sync_gradients(last)
            with nullcontext() if last else getattr(self.module, "no_sync", nullcontext)():
                loss, numbers = self.module(index)
                self.accelerator.backward(loss * (share * self.world / size))
            if share:
                total += loss.detach().double().cpu() / size
                counts += numbers
        if self.sharded:
            processes.average_gradients(self.parameters.values())
        norm = self.accelerator.clip_grad_norm_(list(self.parameters.values()), self.settings.max_grad_norm)
        value, right, followed, seen = self._summed(total, counts)
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            kept = self.output.last()
            where = f"the last good checkpoint is {kept}" if kept else "there is no checkpoint yet"
            raise Diverged(
                f"the training loss is {value} at step {self.state.step + 1}, or its gradient is no number; {where}. "
                "Try a lower learning rate"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.step += 1
        return {
            "loss": value, "learning_rate": rate, "gradient_norm": float(norm), "followed": followed / max(1.0, seen),
            "right": right / max(1.0, seen),
        }  # fmt: skip

    def _summed(self, total: Tensor, counts: Tensor) -> list[float]:
        """Loss and counts over all processes."""
        both = torch.stack([total, *counts.double()]).float().to(self.accelerator.device)
        found: list[float] = self.accelerator.reduce(both, "sum").tolist()
        return found

    def _validate(self, epoch: int, means: dict[str, float]) -> None:
        """The loss over the validation examples; keeps the weights where it is the best of all epochs. Over choices the
        last epoch's are kept, unless patience is asked for: the loss of sure answers rises while more are right."""
        every = range(self.plan.training, len(self.plan.items))
        total, counts = torch.zeros((), dtype=torch.float64), torch.zeros(3, dtype=torch.long)
        with torch.no_grad():
            for turn in range(math.ceil(len(every) / self.world)):
                # As in a step: where weights are split, all processes run them equally often.
                place = turn * self.world + self.rank
                loss, numbers = self.trainee(every[place] if place < len(every) else every[0])
                if place < len(every):
                    total += loss.detach().double().cpu()
                    counts += numbers
        summed, right, followed, seen = self._summed(total, counts)
        value = summed / sum(self.plan.size(index, self.per) for index in every)
        parts = {"right": right / max(1.0, seen), "followed": followed / max(1.0, seen)}
        entry = {"epoch": epoch, "validation_loss": value, **{f"validation_{k}": v for k, v in parts.items()}, **means}
        self.output.log(self.state.step, entry)
        self.state.history.append({"step": self.state.step, **entry})
        last = self.per == "document" and self.settings.patience is None
        if epoch and math.isfinite(value) and (last or epoch == self._best()):
            self.state.best_epoch = epoch
            if self.accelerator.is_main_process:
                save_tensors(self.output.best, self.parameters)

    def _best(self) -> int:
        """The epoch with the lowest validation loss so far, but for the start."""
        epochs = [each for each in self.state.history[1:] if math.isfinite(each["validation_loss"])]
        return int(min(epochs, key=lambda each: each["validation_loss"])["epoch"])

    def _save(self, started: float) -> None:
        self.state.seconds = time.monotonic() - started
        if self.accelerator.is_main_process:
            self.output.save(self.state, self.parameters, self.plain)
        self.accelerator.wait_for_everyone()
