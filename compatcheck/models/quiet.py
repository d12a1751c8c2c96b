"""transformers without bars, and where wanted without a word."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(silent: bool = False) -> Iterator[None]:
    """transformers draws no bars of its own meanwhile; ``silent``: it warns of nothing either."""
    from transformers.utils import logging as transformers_logging  # which sets its level when it is first asked

    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            if silent:
                transformers_logging.set_verbosity(logging.CRITICAL)
                warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()
