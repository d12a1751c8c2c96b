"""A trainable copy of an adapter beside the adapter itself, on one base: equal to it to the bit, whatever its kind."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from compatcheck.errors import InputError, one_line
from compatcheck.models import CONFIG, WEIGHTS, read_config

KEPT = ("peft_version", "base_model_name_or_path", "inference_mode")
"""Settings of a saved copy that are not those of the adapter it was copied from."""


def belongs(parameter: str, adapter: str) -> bool:
    """Whether a parameter of a PEFT model, by its name, is that adapter's."""
    return f".{adapter}." in f"{parameter}."


def add_copy(wrapped: Any, name: str, copied: str, said: str) -> None:
    """Put a copy of adapter ``name`` beside it, called ``copied``, with its exact weights.

    An adapter that changed its base when it was loaded (PiSSA, OLoRA, LoftQ), or brought biases for it, did so once:
    the copy stands on that base as it is.

    Args:
        said: what the user calls the adapter.

    Raises:
        InputError: a kind of which PEFT takes one at a time.
    """
    config = copy.copy(wrapped.peft_config[name])
    config.inference_mode = False
    if hasattr(config, "init_lora_weights"):
        config.init_lora_weights = True
    if getattr(config, "bias", "none") != "none":
        config.bias = "none"
    try:
        wrapped.add_adapter(copied, config)
    except Exception as error:  # peft raises many kinds
        raise InputError(
            f"{said}: PEFT takes one adapter of this kind at a time ({one_line(error)}), so that it cannot be trained "
            "beside itself; merge it into its base and name that model"
        ) from error
    mine, others = dict(_tensors(wrapped, copied)), dict(_tensors(wrapped, name))
    if not mine.keys() <= others.keys():
        raise InputError(
            f"{said}: its layers share weights, which a copy of it does not, so that it cannot be trained beside "
            "itself; train one of another kind on the same data with `compatcheck train-task`"
        )
    for key, value in mine.items():
        value.data = others[key].data.clone()


def _tensors(wrapped: Any, adapter: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of an adapter by their names without its own."""
    for key, value in (*wrapped.named_parameters(), *wrapped.named_buffers()):
        if belongs(key, adapter):
            yield f"{key}.".replace(f".{adapter}.", ".*."), value


def complete(folder: Path, source: Path) -> None:
    """Give a saved copy what is the source's: its settings, and weights that the copy stands on without training them,
    such as biases or embeddings of the base."""
    from safetensors.torch import load_file, save_file

    own = read_config(source)
    written: Mapping[str, Any] = read_config(folder)
    settings = {**written, **{key: value for key, value in own.items() if key not in KEPT}}
    (folder / CONFIG).write_text(json.dumps(settings), encoding="utf-8")
    made, given = load_file(folder / WEIGHTS), load_file(source / WEIGHTS)
    save_file({key: made.get(key, value).contiguous() for key, value in given.items()}, folder / WEIGHTS,
              metadata={"format": "pt"})  # fmt: skip
