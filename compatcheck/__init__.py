"""compatcheck: is this model upgrade safe, instance by instance?

>>> import compatcheck
>>> c = compatcheck.diff("old/", "new/", task="samsum")  # doctest: +SKIP
>>> c.metrics["nfr"].value, c.verdict  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from compatcheck.api import diff
    from compatcheck.errors import ExitCode, InputError
    from compatcheck.evaluated import Evaluation, evaluate, load_run
    from compatcheck.finished import Diff, load

__all__ = ["Diff", "Evaluation", "ExitCode", "InputError", "__version__", "diff", "evaluate", "load", "load_run"]

_HOMES = {
    "diff": "api", "load": "finished", "Diff": "finished",
    "evaluate": "evaluated", "load_run": "evaluated", "Evaluation": "evaluated",
    "ExitCode": "errors", "InputError": "errors",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load the public names on first use, so that ``compatcheck --help`` imports nothing heavy."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"compatcheck.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'compatcheck' has no attribute {name!r}")
