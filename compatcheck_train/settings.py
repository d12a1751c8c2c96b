"""What the user can set about training. The defaults are the MUSCLE paper's wherever it states them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.options import Training, TrainTask

TRACKERS = ("tensorboard", "wandb", "trackio")
_CHOICES = {
    "tokens": ("all", "answer"),
    "schedule": ("linear", "cosine", "constant"),
    "teacher": ("auto", "online", "cache"),
    "new_teacher": ("auto", "online", "cache"),
    "alignment": ("alm", "projected"),
    "dtype": ("auto", "float32", "bfloat16"),
}
_RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("temperature learning_rate max_grad_norm", lambda v: v > 0, "above 0"),
    ("epochs batch_size gradient_accumulation max_length lora_rank lora_alpha", lambda v: v >= 1, "at least 1"),
    ("max_steps patience save_steps", lambda v: v >= 1, "at least 1, or left out"),
    ("weight_decay warmup_steps context_weight", lambda v: v >= 0, "0 or more"),
    ("ce_weight warmup_share", lambda v: 0 <= v <= 1, "between 0 and 1"),
)
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "float": ((float, int), "a number"),
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
    "str": (str, "text"),
}
_NOT_DECIDING = ("report_to", "cache_folder", "save_steps", "device", "shard_base")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Training):
    """Settings of one training. Bad values raise :class:`InputError` when it is made.

    Of those that are options too: ``temperature`` is T of the divergence, without a T² factor; ``ce_weight`` 1 − λ of
    L' = λ·L + (1 − λ)·CE (None: the strategy's own, 0 or 0.5: the paper gives none); ``tokens`` ``all`` (loss on
    context and answer, as in the paper) or ``answer``; ``context_weight`` the weight of a context token where an answer
    token has 1 (None: 1 for ``all``, 0 for ``answer``); ``teacher`` ``cache`` (the old model runs once and is freed) or
    ``online`` (it runs beside the student in every step)."""

    strategy: str = "muscle"
    strategy_options: Mapping[str, float | int | str] = field(default_factory=dict)

    learning_rate: float = 1e-4
    schedule: str = "linear"
    """How the rate falls after warm-up, to zero; the paper does not say."""
    warmup_steps: int = 500
    warmup_share: float = 0.1
    """Warm-up takes at most this share of all steps."""
    epochs: int = 10
    max_steps: int | None = None
    """Optimiser steps at most; ends in the middle of an epoch if need be."""
    batch_size: int = 8
    """Documents in one forward, per process. A choice document has as many rows as choices where they are compared."""
    gradient_accumulation: int = 8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 1024
    """Tokens of a sequence at most; what is longer loses the beginning of its context."""

    lora_rank: int = 128
    lora_alpha: int = 256
    """Shape of a fresh adapter (all linear layers). A compatibility adapter copies the shape of NEW's own."""

    seed: int = 0
    patience: int | None = None
    """Epochs without a better validation loss after which training stops; None: never."""
    save_steps: int | None = None
    """Optimiser steps between two checkpoints, besides one per epoch."""
    bf16: bool = False
    """Compute in bfloat16 (autocast); weights and optimiser stay as they are."""
    dtype: str = "auto"
    """Of the base's weights. ``auto``: float32 on a CPU, else the checkpoint's own (bfloat16 for float16)."""
    gradient_checkpointing: bool = False
    shared_prefix: bool = True
    """Compute once what the choices of a document have in common, where the model is known to allow it."""
    device: str | None = None
    shard_base: bool = False
    """Several processes: each holds a piece of the base's layers (FSDP), the adapter is whole on all of them.
    ``accelerate launch --use_fsdp`` asks for the same."""

    new_teacher: str = "auto"
    """``teacher`` for the new model: the student's base with the frozen adapter, which needs no memory of its own."""
    alignment: str = "alm"
    """How the old model is followed token by token where it tokenizes differently: ``alm`` compares likelihoods of
    chunks, ``projected`` next-token distributions over what both vocabularies have."""
    cache_folder: Path | None = None
    """Where teacher caches lie; None: the user's cache. They are keyed by content and shared between runs."""
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.cache_folder, str):
            object.__setattr__(self, "cache_folder", Path(self.cache_folder))
        for each in fields(self):
            self._check_type(each.name, *str(each.type).partition(" | ")[::2])
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                hint = did_you_mean(str(value), known)
                raise InputError(f"{name} {value!r}: must be one of {', '.join(known)}{hint}")
        for names, fits, meant in _RANGES:
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not fits(value):
                    raise InputError(f"{name} {value}: must be {meant}")
        for name in self.report_to:
            if name not in TRACKERS:
                raise InputError(f"report_to {name!r}: must be one of {', '.join(TRACKERS)}")

    def _check_type(self, name: str, kind: str, rest: str) -> None:
        """A text becomes the number that it means: YAML reads 1e-4 as a text."""
        value = getattr(self, name)
        if kind not in _TYPES or (value is None and rest == "None"):
            return
        if kind == "float" and isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
                object.__setattr__(self, name, value)
        types, meant = _TYPES[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"):
            raise InputError(f"{name} {value!r}: must be {meant}")

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the result: a training is resumed with these alone unchanged."""
        return {k: v for k, v in asdict(self).items() if k not in _NOT_DECIDING}

    @property
    def weight_of_context(self) -> float:
        if self.context_weight is not None:
            return self.context_weight
        return 1.0 if self.tokens == "all" else 0.0

    def changed(self, **changes: Any) -> TrainSettings:
        """A copy with some settings changed; InputError for an unknown name or a bad value."""
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                raise InputError(f"{name}: no such training setting{did_you_mean(name, known)}")
        return replace(self, **changes)


_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {"epochs": 3, "gradient_accumulation": 1, "learning_rate": 1e-3, "warmup_steps": 20}
    | {"lora_rank": 16, "lora_alpha": 32},
}
TRIAL_SHARES = {"paper": 0.2, "quick": 1.0}
"""Share of the steps that a trial of ``--strategy auto`` gets: short trainings can be tried whole."""


def preset(name: str, **changes: Any) -> TrainSettings:
    """``paper`` (the paper's hyper-parameters) or ``quick`` (small budgets), with changes; InputError for bad ones."""
    if name not in _PRESETS:
        raise InputError(f"--preset {name}: must be one of {', '.join(_PRESETS)}{did_you_mean(name, _PRESETS)}")
    return TrainSettings(**_PRESETS[name]).changed(**changes)


def settings_of(chosen: TrainTask) -> TrainSettings:
    """The preset with what the options of a command change; ``set`` comes last."""
    names = ["seed", "device", "trust_remote_code", *(f.name for f in fields(Training) if isinstance(chosen, Training))]
    given = {name: getattr(chosen, name) for name in names} | {
        "strategy_options": getattr(chosen, "strategy_args", None) or {}
    }
    return preset(chosen.preset, **given | dict(chosen.set or {}))
