"""Loading models, and the proof that nothing was left out. Every engine and the training load here.

transformers fills what a checkpoint lacks with random numbers and goes on with a warning. Here that is refused, in one
line that names the likely cause.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, one_line
from compatcheck.models.quiet import quiet

LOAD_ERRORS = (OSError, ValueError, TypeError, AttributeError, ImportError, KeyError, RuntimeError, AssertionError)
"""What transformers raises for a model that it cannot load."""
_WRAPPERS = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, DataParallel and FSDP put before the names of weights, saved without unwrapping."""
_SHOWN = 3


@contextmanager
def listening(notes: list[str]) -> Iterator[None]:
    """What transformers and PEFT warn of meanwhile is added to ``notes``, one line each, and printed nowhere."""

    def keep(text: str) -> None:
        sentence = one_line(Warning(text))
        known = ("LOAD REPORT", "You passed `quantization_config`")  # is read, not shown; is what lm-eval passes on
        if not any(each in sentence for each in known) and sentence not in notes:
            notes.append(sentence)

    logger = logging.getLogger("transformers")
    handlers, propagates = logger.handlers, logger.propagate
    keeper = logging.Handler(logging.WARNING)
    keeper.emit = lambda record: keep(record.getMessage())  # type: ignore[method-assign]
    logger.handlers, logger.propagate = [keeper], False
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", UserWarning)
            yield
    finally:
        logger.handlers, logger.propagate = handlers, propagates
    for warning in heard:
        theirs = re.search(r"[/\\](peft|transformers)[/\\]", warning.filename)
        if theirs and issubclass(warning.category, UserWarning):
            keep(str(warning.message))


class Checked:
    """An Auto class of transformers whose ``from_pretrained`` refuses a checkpoint that is not taken whole.

    ``unused`` gets a sentence on weights that the model has no place for; without it they are refused."""

    def __init__(self, auto_class: Any, name: str, unused: Callable[[str], None] | None = None) -> None:
        self._class, self._name, self._unused = auto_class, name, unused

    def from_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        model, info = self._class.from_pretrained(*args, output_loading_info=True, **kwargs)
        check_weights(self._name, info, self._unused)
        _keep_apart(model)
        return model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._class, name)


def _keep_apart(model: Any) -> None:
    """transformers leaves head and embeddings apart where a checkpoint holds two that differ, whatever its config says;
    the config is made to say so, or a later ``tie_weights()`` (lm-eval calls it) would throw the head away."""
    parts = (model.get_input_embeddings(), model.get_output_embeddings())
    one, other = (getattr(part, "weight", None) for part in parts)
    if model.config.is_encoder_decoder or one is None or other is None or one is other:
        return
    if "meta" not in (one.device.type, other.device.type):
        set_tied(model, False)


def set_tied(model: Any, tied: bool) -> None:
    """Have the configuration say whether head and embeddings are one matrix, where it says so at all."""
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "tie_word_embeddings", tied) != tied:
            config.tie_word_embeddings = tied


def wrapper_of(names: Collection[str]) -> str | None:
    """What a wrapper (torch.compile, FSDP ...) put before the names of saved weights."""
    return next((wrapper for wrapper in _WRAPPERS if any(wrapper in name for name in names)), None)


def check_weights(name: str, info: Mapping[str, Any], unused: Callable[[str], None] | None = None) -> None:
    """Refuse a model whose weights are not exactly those of its files, by transformers' own account of the loading.
    Raises InputError: weights are missing, of another shape, or have no place in the model."""
    missing, unexpected = sorted(info.get("missing_keys") or ()), sorted(info.get("unexpected_keys") or ())
    mismatched = sorted(key if isinstance(key, str) else str(key[0]) for key in info.get("mismatched_keys") or ())
    if mismatched:
        raise InputError(f"{name}: {named(mismatched)} of another shape in its files than config.json says")
    if missing:
        cause = "they were not saved, or config.json is another model's"
        if unexpected:
            cause = f"its files hold {named(unexpected)} instead"
        if wrapper := wrapper_of(unexpected):
            cause = f"the names in its files carry '{wrapper}': save the unwrapped model again"
        raise InputError(f"{name}: its files lack {named(missing)}, which would be filled with random numbers; {cause}")
    if errors := info.get("error_msgs"):
        raise InputError(f"{name}: {one_line(Warning(next(iter(errors))))}")
    if unexpected:
        said = f"{name}: its files hold {named(unexpected)} that the model of its config.json has no place for"
        if unused is None:
            raise InputError(
                f"{said}; load it with the class it was saved from, or say --engine-arg unused_weights=true if they "
                "are not needed"
            )
        unused(said)


def named(keys: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(list(keys)[:_SHOWN])
    return shown if len(keys) <= _SHOWN else f"{shown} and {len(keys) - _SHOWN} more"


def load_causal(path: str | Path, **kwargs: Any) -> Any:
    """A causal language model as its files hold it; ``kwargs`` are those of transformers' ``from_pretrained``. Raises
    InputError: it cannot be loaded, or its weights are not whole."""
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            return Checked(AutoModelForCausalLM, str(path)).from_pretrained(path, **kwargs)
    except LOAD_ERRORS as error:
        raise InputError(f"{path}: cannot be loaded: {one_line(error)}") from error


def not_finite(model: Any) -> list[str]:
    """Names of the weights that hold NaN or infinity. Attention may turn them into numbers that mean nothing."""
    import torch

    return [
        name
        for name, one in model.named_parameters()
        if type(one.data) is torch.Tensor  # packed numbers of a quantised weight cannot be summed
        if one.is_floating_point() and one.element_size() > 1 and one.device.type != "meta"
        if not bool(one.detach().sum(dtype=torch.float32).isfinite()) and not bool(one.detach().isfinite().all())
    ]
