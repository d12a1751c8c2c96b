"""Several processes of one fix: all of them train; the first one alone evaluates and writes, and tells the others.

FSDP of what is not trained: the base's layers lie in pieces, one on each process, and come together when used. The
adapter is small and stays whole on every process, so that checkpoints, resuming and saving are those of one. Its
gradients are averaged here: the wrapper that does it for whole models would send the pieces around.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as group
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from compatcheck.engines.hf.head import decoder_of
from compatcheck.errors import InputError
from compatcheck_train.settings import TrainSettings

T = TypeVar("T")
PATIENCE = timedelta(weeks=1)
"""How long the others wait while the first one evaluates; the usual ten or thirty minutes are too few."""
TAKING_OVER = ("DEEPSPEED", "MEGATRON_LM")
_FSDP = "ACCELERATE_USE_FSDP"
_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
_LAUNCHERS = ("TORCHELASTIC_", "ACCELERATE_", "PMI_", "OMPI_COMM_", "MV2_COMM_")


def open_accelerator(settings: TrainSettings, out: Path) -> Any:
    """Accelerate's view of the machine: one process, or those that ``accelerate launch`` or torchrun started.

    InputError where it is set up for an engine that takes over the training."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, parse_flag_from_env

    _refuse([name for name in TAKING_OVER if parse_flag_from_env(f"ACCELERATE_USE_{name}")])
    # Accelerate keeps one state per process; a training after another may compute in another precision.
    AcceleratorState._reset_state(reset_partial_state=int(os.environ.get("WORLD_SIZE", "1")) == 1)
    fsdp = os.environ.pop(_FSDP, None)  # seeing it, Accelerate would split the adapter too
    try:
        accelerator = Accelerator(
            cpu=settings.device == "cpu",
            mixed_precision="bf16" if settings.bf16 else "no",
            log_with=list(settings.report_to) or None,
            project_dir=str(out),
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=False), InitProcessGroupKwargs(timeout=PATIENCE),
            ],
        )  # fmt: skip
    finally:
        if fsdp is not None:
            os.environ[_FSDP] = fsdp
    _refuse([name for name in TAKING_OVER if name == accelerator.distributed_type.value])
    if group.is_available() and group.is_initialized():  # one fix trains several times
        atexit.unregister(_close)
        atexit.register(_close)
    return accelerator


def _refuse(found: list[str]) -> None:
    for name in found:
        raise InputError(
            f"accelerate is configured for {name}, which takes over weights and optimiser; only the small adapter "
            "is trained here: configure FSDP to split the base over processes, else MULTI_GPU or MULTI_CPU"
        )


def _close() -> None:
    if group.is_initialized():
        group.destroy_process_group()


def count() -> int:
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def first(work: Callable[[], T]) -> T:
    """Do it in the first process; every process gets what it returned, or the InputError it raised."""
    if count() == 1:
        return work()
    told: list[tuple[T | None, str | None]] = [(None, None)]
    failure: BaseException | None = None
    if group.get_rank() == 0:
        try:
            with _alone():
                told = [(work(), None)]
        except InputError as error:
            told = [(None, str(error))]
        except BaseException as error:
            told, failure = [(None, f"the first process failed: {type(error).__name__}: {error}")], error
    group.broadcast_object_list(told, src=0)
    if failure is not None:
        raise failure
    found, refusal = told[0]
    if refusal is not None:
        raise InputError(refusal)
    return found  # type: ignore[return-value]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """The first process as if it were the only one: engines would share out the documents among all of them."""
    from accelerate.state import AcceleratorState, PartialState

    variables = {k: v for k, v in os.environ.items() if k in _LAUNCHER or k.startswith(_LAUNCHERS)}
    states = [(each, dict(each._shared_state)) for each in (PartialState, AcceleratorState)]
    try:
        for name in variables:
            del os.environ[name]
        for each, _ in states:
            each._shared_state.clear()
        yield
    finally:
        os.environ.update(variables)
        for each, kept in states:
            each._shared_state.clear()
            each._shared_state.update(kept)


def sharded(settings: TrainSettings) -> bool:
    """Whether several processes are to split the base, by the settings or by ``accelerate launch --use_fsdp``."""
    from accelerate.utils import parse_flag_from_env

    return count() > 1 and (settings.shard_base or bool(parse_flag_from_env(_FSDP)))


def shard(model: Any, device: torch.device) -> None:
    """Split the layers of a causal language model, with or without PEFT around it, over all processes; what is left
    (embeddings, output layer, adapters) goes to ``device`` whole. Each layer goes there by itself, so that the whole
    model never does. InputError where the architecture does not say which modules its layers are."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    adapters = list(getattr(model, "peft_config", ()))
    inner = model.get_base_model() if adapters else model
    decoder = decoder_of(inner)
    kinds = set(getattr(inner, "_no_split_modules", None) or ())
    layers = [module for module in decoder.modules() if type(module).__name__ in kinds]
    if not layers:
        raise InputError(
            f"{type(inner).__name__}: does not say what its layers are, so its weights cannot be split over processes; "
            "leave FSDP and shard_base out"
        )
    mesh = init_device_mesh(device.type, (count(),))
    whole = {p for name, p in model.named_parameters() if any(f".{adapter}." in name for adapter in adapters)}
    split = {p for layer in layers for p in layer.parameters()} - whole
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    fully_shard(decoder, mesh=mesh, ignored_params={p for p in decoder.parameters() if p not in split})
    model.to(device)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """The mean over all processes, in one message."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    flat = parameters_to_vector(gradients)
    group.all_reduce(flat)
    vector_to_parameters(flat / count(), gradients)
