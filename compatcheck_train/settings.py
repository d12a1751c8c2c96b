"""What the user can set about training. The defaults are the MUSCLE paper's wherever it states them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean

TRACKERS = ("tensorboard", "wandb", "trackio")
_CHOICES = {
    "tokens": ("all", "answer"),
    "schedule": ("linear", "cosine", "constant"),
    "teacher": ("auto", "online", "cache"),
    "new_teacher": ("auto", "online", "cache"),
    "alignment": ("alm", "projected"),
    "dtype": ("auto", "float32", "bfloat16"),
}


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "float": ((float, int), "a number"), "int": (int, "a whole number"), "bool": (bool, "true or false"),
    "str": (str, "text"),
}  # fmt: skip


_NOT_DECIDING = ("report_to", "cache_folder", "save_steps", "device", "shard_base")


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one training. Bad values raise :class:`InputError` when it is made."""

    strategy: str = "muscle"
    """One of ``strategies.names()``."""
    strategy_options: Mapping[str, float | int | str] = field(default_factory=dict)
    """The strategy's own options, e.g. ``{"beta": 0.1}``; its ``options`` lists them with their defaults."""

    temperature: float = 2.0
    """T of the divergence; no T² factor."""
    ce_weight: float | None = None
    """1 − λ of L' = λ·L + (1 − λ)·CE; None: what the strategy takes (0, or 0.5 for the ones with CE: the paper gives no
    value)."""
    tokens: str = "all"
    """``all``: loss on context and answer, as in the paper; ``answer``: on the answer alone."""
    context_weight: float | None = None
    """Weight of a context token where an answer token has 1; None: 1 for ``all``, 0 for ``answer``."""

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

    teacher: str = "auto"
    """``cache``: the old model runs once and is freed; ``online``: it runs beside the student in every step."""
    new_teacher: str = "auto"
    """The same for the new model: the student's base with the frozen adapter, which needs no memory of its own."""
    alignment: str = "alm"
    """How the old model is followed token by token where it tokenizes differently: ``alm`` compares likelihoods of
    chunks, ``projected`` next-token distributions over what both vocabularies have."""
    cache_folder: Path | None = None
    """Where teacher caches lie; None: the user's cache. They are keyed by content and shared between runs."""

    report_to: tuple[str, ...] = ()
    """Besides metrics.jsonl: ``tensorboard``, ``wandb``, ``trackio``."""
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        self._settle_types()
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise InputError(
                    f"{name} {value!r}: must be one of {', '.join(known)}{did_you_mean(str(value), known)}"
                )
        for name in ("temperature", "learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} {getattr(self, name)}: must be above 0")
        for name in ("epochs", "batch_size", "gradient_accumulation", "max_length", "lora_rank", "lora_alpha"):
            if not getattr(self, name) >= 1:
                raise InputError(f"{name} {getattr(self, name)}: must be at least 1")
        for name in ("max_steps", "patience", "save_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value}: must be at least 1, or left out")
        for name in ("weight_decay", "warmup_steps"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} {getattr(self, name)}: must be 0 or more")
        for name in ("ce_weight", "warmup_share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name} {value}: must be between 0 and 1")
        if self.context_weight is not None and not self.context_weight >= 0:
            raise InputError(f"context_weight {self.context_weight}: must be 0 or more")
        for name in self.report_to:
            if name not in TRACKERS:
                raise InputError(f"report_to {name!r}: must be one of {', '.join(TRACKERS)}")

    def _settle_types(self) -> None:
        """Texts become what they mean: a path, and 1e-4, which is a text in YAML files."""
        if isinstance(self.cache_folder, str):
            object.__setattr__(self, "cache_folder", Path(self.cache_folder))
        for each in fields(self):
            name, _, rest = str(each.type).partition(" | ")
            value = getattr(self, each.name)
            if name not in _KINDS or (value is None and rest == "None"):
                continue
            if name == "float" and isinstance(value, str):
                with contextlib.suppress(ValueError):
                    value = float(value)
                    object.__setattr__(self, each.name, value)
            kinds, meant = _KINDS[name]
            if not isinstance(value, kinds) or (isinstance(value, bool) and name != "bool"):
                raise InputError(f"{each.name} {value!r}: must be {meant}")

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the result: what a training is known by when it is gone on with."""
        return {k: v for k, v in asdict(self).items() if k not in _NOT_DECIDING}

    @property
    def weight_of_context(self) -> float:
        """Weight of a context token where an answer token has 1."""
        if self.context_weight is not None:
            return self.context_weight
        return 1.0 if self.tokens == "all" else 0.0

    def changed(self, **changes: Any) -> TrainSettings:
        """A copy with some settings changed.

        Raises:
            InputError: no such setting, or a bad value.
        """
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                raise InputError(f"{name}: no such training setting{did_you_mean(name, known)}")
        return replace(self, **changes)


_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {
        "epochs": 3,
        "gradient_accumulation": 1,
        "learning_rate": 1e-3,
        "warmup_steps": 20,
        "lora_rank": 16,
        "lora_alpha": 32,
    },
}
TRIAL_SHARES = {"paper": 0.2, "quick": 1.0}
"""Share of the steps that a trial of ``--strategy auto`` gets: short trainings can be tried whole."""


def preset(name: str, **changes: Any) -> TrainSettings:
    """``paper`` (the paper's hyper-parameters) or ``quick`` (small budgets), with changes.

    Raises:
        InputError: no such preset or setting, or a bad value.
    """
    if name not in _PRESETS:
        raise InputError(f"--preset {name}: must be one of {', '.join(_PRESETS)}{did_you_mean(name, _PRESETS)}")
    return TrainSettings(**_PRESETS[name]).changed(**changes)
