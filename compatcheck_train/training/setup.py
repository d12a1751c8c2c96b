"""Before the first step: devices, and where each teacher comes from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compatcheck.engines.progress import Progress
from compatcheck.errors import InputError
from compatcheck.references import Reference
from compatcheck_train.loss.strategies import Strategy
from compatcheck_train.settings import TrainSettings
from compatcheck_train.teachers import CachedTeacher, OnlineTeacher, Teacher, Wants, build, cache_key, estimate_bytes
from compatcheck_train.teachers import cache as kept
from compatcheck_train.teachers.online import frozen, model_states
from compatcheck_train.training import sharding
from compatcheck_train.training.batches import Plan
from compatcheck_train.training.models import dtype_of, load_old
from compatcheck_train.training.processes import PATIENCE, close_at_exit, refuse_engine
from compatcheck_train.training.student import Trainee

Note = Callable[[str], None]
BY_POSITION = frozenset({"old-states", "old-facts"})
"""What a strategy may ask of the old model at the student's own positions."""
_DISK_SHARE = 0.8
"""Share of the free disk that ``auto`` fills at most."""


def open_accelerator(settings: TrainSettings, out: Path) -> Any:
    """Accelerate's view of the machine: one process, or those that ``accelerate launch`` or torchrun started."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    refuse_engine()
    device = settings.device
    # Accelerate keeps one state per process; a training after another may compute in another precision.
    AcceleratorState._reset_state(reset_partial_state=int(os.environ.get("WORLD_SIZE", "1")) == 1)
    with sharding.unseen():
        accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision="bf16" if settings.bf16 else "no",
            log_with=list(settings.report_to) or None,
            project_dir=str(out),
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=False), InitProcessGroupKwargs(timeout=PATIENCE),
            ],
        )  # fmt: skip
    refuse_engine(accelerator.distributed_type.value)
    close_at_exit()
    return accelerator


def same_tokens(plan: Plan, twin: Plan) -> bool:
    """Whether both tokenizers give every text of the training the same tokens."""
    return all(
        a.ids == b.ids
        for mine, theirs in zip(plan.items, twin.items, strict=True)
        for first, second in zip(mine, theirs, strict=True)
        for a, b in zip(first.rows, second.rows, strict=True)
    )


def wants(strategy: Strategy, side: str, aligned: bool = False) -> Wants:
    """What a strategy asks of a teacher; ``aligned``: the old model's states come from elsewhere."""
    return Wants(
        f"{side}-states" in strategy.needs and not aligned,
        bool(strategy.needs & {f"{side}-facts", f"{side}-sums"}),
    )


def settle_old(
    reference: Reference, plan: Plan, wanted: Wants, settings: TrainSettings, accelerator: Any, note: Note,
    progress: Progress | None,
) -> Teacher | None:  # fmt: skip
    """The old model as a teacher: cached (it is loaded, run once and freed) or online; None where nothing is asked."""
    if not wanted:
        return None
    device, split = accelerator.device, sharding.active(settings)

    def open_teacher() -> OnlineTeacher:
        model = load_old(reference, settings, "cpu" if split else device)
        if split:
            sharding.shard(model, device)
        inner = model.get_base_model() if reference.adapter is not None else model
        head = frozen(inner, "old" if reference.adapter is not None else None)
        return OnlineTeacher(model_states(inner, accelerator.autocast, settings.shared_prefix), head, plan, wanted)

    config = _config(reference)
    need = estimate_bytes(
        plan, wanted, config["hidden_size"], config["vocab_size"], dtype_of(reference, settings).itemsize
    )
    if not _cached(settings.teacher, need, settings, "the old model", note):
        return open_teacher()
    key = cache_key(reference.fingerprint(), plan, wanted, _numbers(reference, settings), device.type)
    folder = kept.folder_of(key, settings.cache_folder)
    if not kept.complete(folder):
        note(f"The old model runs once; what it gives takes {_size(need)} in {folder}.")
    build(
        open_teacher, folder, plan, wanted, rank=accelerator.process_index, world=accelerator.num_processes,
        wait=accelerator.wait_for_everyone, progress=progress, together=split,
    )  # fmt: skip
    return CachedTeacher(folder, plan, wanted, device)


def settle_new(trainee: Trainee, reference: Reference, accelerator: Any, note: Note, progress: Progress | None) -> None:
    """NEW as a teacher: its states cached, or the student's base with the frozen adapter in every step."""
    strategy, settings, plan = trainee.strategy, trainee.settings, trainee.plan
    wanted = wants(strategy, "new")
    if not wanted:
        return
    head = trainee.new_head
    need = estimate_bytes(plan, wanted, head.weight.shape[1], 0, head.weight.element_size())
    if not _cached(settings.new_teacher, need, settings, "the new model", note):
        trainee.new = trainee.new_online(wanted)
        return
    key = cache_key(reference.fingerprint(), plan, wanted, _numbers(reference, settings), accelerator.device.type)
    folder = kept.folder_of(key, settings.cache_folder)
    if not kept.complete(folder):
        note(f"The new model runs once too; what it gives takes {_size(need)} in {folder}.")
    build(
        lambda: trainee.new_online(wanted), folder, plan, wanted, rank=accelerator.process_index,
        world=accelerator.num_processes, wait=accelerator.wait_for_everyone, progress=progress, label="new model",
        together=sharding.active(settings),
    )  # fmt: skip
    trainee.new = CachedTeacher(folder, plan, wanted, accelerator.device, head)


def _cached(how: str, need: int, settings: TrainSettings, who: str, note: Note) -> bool:
    """Whether a teacher is cached: as asked for, or where it is used more than once and the disk holds it."""
    if how == "online":
        return False
    root = settings.cache_folder if settings.cache_folder is not None else kept.cache_dir("teacher")
    free = kept.free_bytes(root)
    if need <= free * _DISK_SHARE:
        return True
    if how == "cache":
        raise InputError(
            f"{root}: caching {who} takes {_size(need)}, {_size(free)} are free; give another cache folder"
        )
    note(f"Caching {who} would take {_size(need)} of {_size(free)} free disk, so it runs in every step.")
    return False


def _numbers(reference: Reference, settings: TrainSettings) -> str:
    return f"{dtype_of(reference, settings)}{'+bf16' * settings.bf16}{'+shared' * settings.shared_prefix}"


def _config(reference: Reference) -> dict[str, Any]:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(reference.base).get_text_config()
    return {"hidden_size": config.hidden_size, "vocab_size": config.vocab_size}


def _size(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
