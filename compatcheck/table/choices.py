"""What lm-eval's filters and choice metrics give: for a task that just ran, and for samples read from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

NO_MATCH = "[invalid]"
"""What lm-eval's regex filters give where nothing matched; here that is "no answer"."""
HASH_LENGTH = 16
"""Digits of lm-eval's SHA-256 hashes that are kept."""
OWN_FIELD = "compatcheck"
"""Field of a row that ``compatcheck export`` wrote: the record's columns that lm-eval's fields cannot hold."""


def predicted_choices(
    loglikelihoods: np.ndarray[Any, Any],
    choices: Sequence[str],
    unconditional: np.ndarray[Any, Any] | None = None,
) -> dict[str, str]:
    """The choice that each of lm-eval's metrics takes: the highest log-likelihood (``acc``), per character
    (``acc_norm``), per UTF-8 byte (``acc_bytes``), or less the unconditional one (``acc_mutual_info``).

    ``loglikelihoods`` and ``unconditional`` have shape (choices,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # an empty choice
        scores = {
            "acc": loglikelihoods,
            "acc_norm": loglikelihoods / np.array([float(len(choice)) for choice in choices]),
            "acc_bytes": loglikelihoods / np.array([float(len(choice.encode())) for choice in choices]),
        }
    if unconditional is not None:
        scores["acc_mutual_info"] = loglikelihoods - unconditional
    return {metric: choices[int(np.argmax(values))] for metric, values in scores.items()}
