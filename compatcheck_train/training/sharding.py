"""FSDP of what is not trained: the base's layers lie in pieces, one on each process, and come together when used.

The adapter is small and stays whole on every process, so that checkpoints, resuming and saving are those of one. Its
gradients are averaged here: the wrapper that does it for whole models would send the pieces around.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from compatcheck.errors import InputError
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training.head import decoder_of
from compatcheck_train.training.processes import count

_VARIABLE = "ACCELERATE_USE_FSDP"


def active(settings: TrainSettings) -> bool:
    """Whether several processes are to split the base, by the settings or by ``accelerate launch --use_fsdp``."""
    from accelerate.utils import parse_flag_from_env

    return count() > 1 and (settings.shard_base or bool(parse_flag_from_env(_VARIABLE)))


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """Accelerate does not see that FSDP is asked for: it would split the adapter too."""
    kept = os.environ.pop(_VARIABLE, None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ[_VARIABLE] = kept


def shard(model: Any, device: torch.device) -> None:
    """Split the layers of a causal language model, with or without PEFT around it, over all processes; what is left
    (embeddings, output layer, adapters) goes to ``device`` whole.

    Each layer goes to the device by itself, so that the whole model never lies there.

    Raises:
        InputError: the architecture does not say which modules its layers are.
    """
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


def same_start(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Every process takes the first one's weights."""
    for parameter in parameters:
        torch.distributed.broadcast(parameter.data, 0)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """The mean over all processes, in one message."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    flat = parameters_to_vector(gradients)
    torch.distributed.all_reduce(flat)
    vector_to_parameters(flat / count(), gradients)
