"""Putting adapters on a base, and switching between them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, one_line


@contextmanager
def without_bars() -> Iterator[None]:
    """transformers draws no bars of its own while weights are loaded."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class Adapters:
    """A base with any number of PEFT adapters on it, unmerged; at most one active at a time."""

    def __init__(self, base: Any, folders: Mapping[str, str | Path]) -> None:
        """Load all adapters.

        Raises:
            InputError: an adapter that cannot be read or does not fit the base.
        """
        self.base = base
        self.active: str | None = None
        self._peft: Any = None
        for name, folder in folders.items():
            self._load(name, str(folder))
        if folders:
            self.activate(next(iter(folders)))

    def _load(self, name: str, folder: str) -> None:
        from peft import PeftModel

        try:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                if self._peft is None:
                    self._peft = PeftModel.from_pretrained(self.base, folder, adapter_name=name)
                else:
                    self._peft.load_adapter(folder, adapter_name=name)
        except Exception as error:  # peft lets many kinds through, from safetensors' own to TypeError
            raise InputError(f"{folder}: adapter cannot be put on its base: {one_line(error)}") from error
        for warning in heard:
            if "missing adapter keys" in str(warning.message):
                raise InputError(f"{folder}: adapter does not fit its base: {one_line(Warning(warning.message))}")

    @property
    def names(self) -> list[str]:
        return [] if self._peft is None else list(self._peft.peft_config)

    @property
    def model(self) -> Any:
        """The model to call: with the active adapter, or the base alone."""
        return self.base if self.active is None else self._peft

    @property
    def learns_prompts(self) -> bool:
        """Whether the active adapter puts virtual tokens before the text."""
        return self.active is not None and bool(self._peft.peft_config[self.active].is_prompt_learning)

    def activate(self, name: str | None) -> None:
        """Use one adapter, or none.

        Raises:
            InputError: no adapter of that name.
        """
        if name is not None and name not in self.names:
            known = ", ".join(map(repr, self.names)) or "none"
            raise InputError(f"no adapter named {name!r} is loaded; loaded: {known}")
        tuner: Any = getattr(self._peft, "base_model", None)
        if name is None:
            if hasattr(tuner, "disable_adapter_layers"):
                tuner.disable_adapter_layers()
        else:
            self._peft.set_adapter(name)
            if hasattr(tuner, "enable_adapter_layers"):
                tuner.enable_adapter_layers()
        self.active = name
