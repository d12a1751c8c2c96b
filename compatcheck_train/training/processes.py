"""Several processes of one fix: all of them train; the first one alone evaluates and writes, and tells the others."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

from compatcheck.errors import InputError

T = TypeVar("T")
PATIENCE = timedelta(weeks=1)
"""How long the others wait while the first one evaluates; the usual ten or thirty minutes are too few."""
_TAKING_OVER = ("DEEPSPEED", "MEGATRON_LM")
_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
_LAUNCHERS = ("TORCHELASTIC_", "ACCELERATE_", "PMI_", "OMPI_COMM_", "MV2_COMM_")


def refuse_engine(kind: str | None = None) -> None:
    """Raise InputError where ``accelerate launch`` is set up for an engine that takes over the training, or ``kind``
    says so."""
    from accelerate.utils import parse_flag_from_env

    for name in _TAKING_OVER:
        if kind == name or parse_flag_from_env(f"ACCELERATE_USE_{name}"):
            raise InputError(
                f"accelerate is configured for {name}, which takes over weights and optimiser; only the small adapter "
                "is trained here: configure FSDP to split the base over processes, else MULTI_GPU or MULTI_CPU"
            )


def close_at_exit() -> None:
    """The group of processes is closed when the program ends: one fix trains several times."""
    import torch.distributed as group

    if group.is_available() and group.is_initialized():
        atexit.unregister(_close)
        atexit.register(_close)


def _close() -> None:
    import torch.distributed as group

    if group.is_initialized():
        group.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    import torch.distributed as group

    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def first(work: Callable[[], T]) -> T:
    """Do it in the first process; every process gets what it returned, or the InputError it raised."""
    import torch.distributed as group

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
