"""The memory that a training holds at most, held against what is free."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch

from compatcheck.engines.hf.memory import available_bytes
from compatcheck.engines.vllm.plan import parameters, text_config
from compatcheck.models import WEIGHTS
from compatcheck.models.files import tensor_shapes
from compatcheck.references import Reference
from compatcheck_train.batches import make_items
from compatcheck_train.examples import Examples
from compatcheck_train.fix.phases import Phase
from compatcheck_train.loss import strategies
from compatcheck_train.loss.divergence import positions_at_once
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training.models import dtype_of, load_tokenizer

_OF_A_PARAMETER = 16
"""Bytes of a trained parameter: itself, its gradient and two moments, in float32."""
_WIDTHS, _INNER_WIDTHS = 12, 4.5
"""Numbers that a layer keeps of a token for its gradient, in widths of the model and of its inner layers (measured on
Llama with LoRA on every linear layer)."""
_COPIES = 5
"""Of a block of logits in float32: both teachers', the student's, their gradient, and what is being computed."""


def check_memory(
    old: Reference, new: Reference, examples: Examples, ahead: Iterable[Phase], say: Callable[[str], None]
) -> None:
    """Say where less memory is free than the trainings among the phases ahead take."""
    trainings = {phase.settings.strategy: phase.settings for phase in ahead if phase.settings is not None}
    need = max(bytes_of(old, new, settings, examples) for settings in trainings.values())
    free = available_bytes(_device(next(iter(trainings.values()))))
    if free < need:
        say(f"about {need / 1e9:.1f} GB of memory are needed to train and {free / 1e9:.1f} GB are free")


def bytes_of(old: Reference, new: Reference, settings: TrainSettings, examples: Examples) -> int:
    """What a training holds at most: the weights of one model (of both, where OLD runs in every step) and OLD's output
    layer, the adapter with its optimiser, what the longest micro-batch leaves for its gradient, a block of logits."""
    assert old.base is not None and new.base is not None
    strategy = strategies.get(settings.strategy)
    config, of_old = text_config(new.base), text_config(old.base)
    sizes = {"old": dtype_of(old, settings).itemsize, "new": dtype_of(new, settings).itemsize}
    weights = [parameters(old.base) * sizes["old"], parameters(new.base) * sizes["new"]]
    head = int(of_old["vocab_size"]) * int(of_old["hidden_size"]) * sizes["old"] * ("old-states" in strategy.needs)
    held = sum(weights) if settings.teacher == "online" and strategy.needs_old else max(weights[0], weights[1] + head)
    vocabulary, width = int(config["vocab_size"]), int(config["hidden_size"])
    inner = int(config.get("intermediate_size") or 4 * width)
    kept = width if settings.gradient_checkpointing else _WIDTHS * width + _INNER_WIDTHS * inner
    layers = int(config["num_hidden_layers"])
    activations = _tokens(new, settings, examples) * layers * kept * (2 if settings.bf16 else sizes["new"])
    place = torch.empty(0, device="cpu" if _device(settings) == "cpu" else "meta")
    logits = _COPIES * 4 * vocabulary * positions_at_once(place, vocabulary)
    return int(held + _OF_A_PARAMETER * _trained(new, settings) + activations + logits)


def _device(settings: TrainSettings) -> str:
    return settings.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _tokens(new: Reference, settings: TrainSettings, examples: Examples) -> int:
    """Of the micro-batch of the longest documents, padding included."""
    every = sorted((*examples.train, *examples.unlabelled), key=lambda each: sum(map(len, each.pairs[0])))
    rows = strategies.get(settings.strategy).rows
    items = make_items(load_tokenizer(new, settings), every[-settings.batch_size :], rows, settings.max_length)
    return sum(len(item.rows) for item in items) * max(item.length for item in items)


def _trained(new: Reference, settings: TrainSettings) -> int:
    """Parameters of NEW's adapter, or of the fresh one that it gets."""
    assert new.base is not None
    if new.adapter is not None:
        return sum(math.prod(shape) for shape in tensor_shapes(new.adapter / WEIGHTS).values())
    shapes = [shape for path in new.base.glob("*.safetensors") for shape in tensor_shapes(path).values()]
    vocabulary = int(text_config(new.base)["vocab_size"])
    return sum(settings.lora_rank * sum(shape) for shape in shapes if len(shape) == 2 and vocabulary not in shape)
