"""The errors a user can fix, and the exit codes every command shares."""

from __future__ import annotations

import difflib
import importlib.util
import os
import traceback
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

DEBUG = "COMPATCHECK_DEBUG"
"""Environment variable: set, tracebacks are shown as well."""


EXTRAS = {
    **dict.fromkeys(("lm_eval", "datasets"), "tasks"),
    **dict.fromkeys(("torch", "transformers", "peft", "accelerate", "safetensors", "huggingface_hub"), "models"),
    "bert_score": "models",
    "gguf": "gguf",
    "ray": "ray",
    "matplotlib": "plots",
    "tensorboard": "tensorboard",
}
"""Which extra of the package brings a library that a base installation lacks."""


class ExitCode(IntEnum):
    """Exit codes of every command (contract)."""

    OK = 0
    """Passed, or no gate was set."""
    REGRESSION = 1
    """A gate rule shows a regression."""
    USAGE = 2
    """Usage, configuration or data error."""
    INCONCLUSIVE = 3
    """The interval straddles a budget: more instances are needed."""
    INTERRUPTED = 130


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one line that says what is wrong, where (file, line, field) and how to fix it.
    The command line prints it and exits with :attr:`ExitCode.USAGE`.
    """


def require(what: str, *modules: str) -> None:
    """Check, before any work, that the libraries ``what`` needs are installed.
    Raises InputError: one is not; the message names the extra that brings it.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise InputError(not_installed(module, f"{what}: "))


def not_installed(module: str, where: str = "") -> str:
    """The line for a library of :data:`EXTRAS` that is missing."""
    return f"{where}needs {module}, which is not installed: pip install 'compatcheck[{EXTRAS[module]}]'"


def one_line(error: BaseException) -> str:
    """The first telling line of an exception's message, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3]) if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def internal_error(error: BaseException) -> str:
    """What is said of an exception that nobody foresaw: its kind, its message and the line of ours it went through."""
    here = Path(__file__).parents[1]
    trace = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    below = [(file.relative_to(here), line) for file, line in trace if file.is_relative_to(here)]
    ours = [f" ({file}:{line})" for file, line in below if file.parts[0] in ("compatcheck", "compatcheck_train")]
    where = ours[-1] if ours else ""
    kind, text = type(error).__name__, one_line(error)
    return (
        f"internal error: {kind if text == kind else f'{kind}: {text}'}{where}; run again with {DEBUG}=1 for the "
        "traceback, and report it"
    )


def traceback_wanted() -> bool:
    """Whether the user asked for tracebacks (:data:`DEBUG`)."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest of ``known``, or an empty string."""
    known = list(known)
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f" (did you mean '{lowered[close[0]]}'?)" if close else ""
