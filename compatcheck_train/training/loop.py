"""The loop: steps, epochs, validation, checkpoints, and stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from compatcheck.engines.progress import Progress
from compatcheck.errors import InputError
from compatcheck_train.fix.output import Output
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training import checkpoint, sharding
from compatcheck_train.training.checkpoint import Standing
from compatcheck_train.training.progress import Metrics, tell
from compatcheck_train.training.student import Trainee


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
        plain = torch.optim.AdamW(
            list(self.parameters.values()), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        self.sharded = sharding.active(self.settings)
        self.module: Any = trainee
        if self.sharded:
            sharding.same_start(self.parameters.values())
            self.optimizer = accelerator.prepare(plain)
        else:
            self.module, self.optimizer = accelerator.prepare(trainee, plain)
        self.plain = plain
        self.standing = Standing()

    def run(self) -> Standing:
        """Train to the end, from the last checkpoint if there is one; the best epoch's weights are in place then.

        Raises:
            Diverged: the loss or its gradient is no number.
        """
        kept = checkpoint.last(self.output.checkpoints)
        if kept is not None:
            self.standing = checkpoint.load(kept, self.parameters, self.plain)
            self.note(f"Went on from step {self.standing.step} of {self.total}.")
        self.accelerator.wait_for_everyone()
        self.accelerator.init_trackers("compatcheck") if self.settings.report_to else None
        metrics = Metrics(self.output.metrics, self.accelerator, self.standing.step)
        before, started = self.standing.seconds, time.monotonic()
        self.progress.start("training", self.total)
        self.progress.advance(self.standing.step)
        try:
            if not self.standing.history:
                self._validate(0, metrics, {})
            while self.standing.step < self.total and not self.standing.finished:
                self._epoch(metrics, lambda: before + time.monotonic() - started)
        finally:
            self.progress.finish()
        self.standing.finished = True
        self._take_best()
        return self.standing

    def _epoch(self, metrics: Metrics, seconds: Callable[[], float]) -> None:
        """From where the training stands to the end of that epoch, or of the training."""
        epoch, done = divmod(self.standing.step, self.steps_per_epoch)
        order = self.plan.epoch(self.settings.seed, epoch)
        last = min(self.steps_per_epoch, self.total - epoch * self.steps_per_epoch)
        sums = self.standing.sums
        for number in range(done, last):
            values = self._step(order[number * self.group : (number + 1) * self.group])
            metrics.write(self.standing.step, values)
            for key, value in (("loss", values["loss"]), ("followed", values["followed"]), ("steps", 1.0)):
                sums[key] = sums.get(key, 0.0) + value
            self.progress.advance(1)
            tell(self.progress, f"loss {values['loss']:.4f}, {values['followed']:.0%} follow OLD")
            saves = self.settings.save_steps
            if saves and self.standing.step % saves == 0 and number + 1 < last:
                self._save(seconds())
        means = {key: sums[key] / sums["steps"] for key in ("loss", "followed")}
        self.standing.sums = {}
        self._validate(epoch + 1, metrics, means)
        patience = self.settings.patience
        if patience is not None and epoch + 1 - max(1, self.standing.best_epoch) >= patience:
            self.note(f"Stopped after epoch {epoch + 1}: no better validation loss for {patience} epochs.")
            self.standing.finished = True
        self._save(seconds())

    def _step(self, micro: list[int]) -> dict[str, float]:
        """One optimiser step over the micro-batches of all processes; returns its loss and shares."""
        rate = learning_rate(self.settings, self.standing.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        size = sum(self.plan.size(index, self.per) for index in micro)
        mine = micro[self.rank :: self.world]
        rounds = math.ceil(len(micro) / self.world)
        total = torch.zeros((), dtype=torch.float64)
        counts = torch.zeros(3, dtype=torch.long)
        for turn in range(rounds):
            # A process without a micro-batch left in the last step takes part with a loss of zero.
            index, share = (mine[turn], 1.0) if turn < len(mine) else (micro[0], 0.0)
            self.accelerator.gradient_state._set_sync_gradients(turn == rounds - 1)
            context = self.module.no_sync if turn < rounds - 1 and hasattr(self.module, "no_sync") else _nothing
            with context():
                loss, numbers = self.module(index)
                self.accelerator.backward(loss * (share * self.world / size))
            if share:
                total += loss.detach().double().cpu() / size
                counts += numbers
        if self.sharded:
            sharding.average_gradients(self.parameters.values())
        norm = self.accelerator.clip_grad_norm_(list(self.parameters.values()), self.settings.max_grad_norm)
        device = self.accelerator.device
        both = self.accelerator.reduce(torch.stack([total, *counts.double()]).float().to(device), "sum").tolist()
        value, (right, followed, seen) = both[0], both[1:]
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            self._stop(value)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.standing.step += 1
        seen = max(1.0, seen)
        return {
            "loss": value, "learning_rate": rate, "gradient_norm": float(norm), "followed": followed / seen,
            "right": right / seen,
        }  # fmt: skip

    def _stop(self, value: float) -> None:
        kept = checkpoint.last(self.output.checkpoints)
        where = f"the last good checkpoint is {kept}" if kept else "there is no checkpoint yet"
        raise Diverged(
            f"the training loss is {value} at step {self.standing.step + 1}, or its gradient is no number; {where}. "
            "Try a lower learning rate"
        )

    def _validate(self, epoch: int, metrics: Metrics, means: dict[str, float]) -> None:
        """The loss over the validation examples; keeps the weights where it is the best of all epochs."""
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
        both = self.accelerator.reduce(
            torch.stack([total, *counts.double()]).to(self.accelerator.device, torch.float32), "sum"
        ).tolist()
        value = both[0] / sum(self.plan.size(index, self.per) for index in every)
        entry = {"epoch": epoch, "validation_loss": value, "validation_followed": both[2] / max(1.0, both[3]), **means}
        metrics.write(self.standing.step, entry)
        self.standing.history.append({"step": self.standing.step, **entry})
        if epoch and math.isfinite(value) and (self.standing.best_loss is None or value < self.standing.best_loss):
            self.standing.best_loss, self.standing.best_epoch = value, epoch
            if self.accelerator.is_main_process:
                checkpoint.save_weights(self.output.best, self.parameters)

    def _save(self, seconds: float) -> None:
        self.standing.seconds = seconds
        if self.accelerator.is_main_process:
            checkpoint.save(self.output.checkpoints, self.standing, self.parameters, self.plain)
        self.accelerator.wait_for_everyone()

    def _take_best(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.standing.best_epoch and self.output.best.is_file():
            checkpoint.load_weights(self.output.best, self.parameters)
        start = self.standing.history[0]["validation_loss"]
        if self.standing.best_loss is not None and self.standing.best_loss >= start:
            self.note("The validation loss never fell below NEW's own.")


class _nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass
