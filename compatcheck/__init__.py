"""compatcheck: is this model upgrade safe, instance by instance?

>>> import compatcheck
>>> c = compatcheck.diff("old/", "new/", task="samsum")  # doctest: +SKIP
>>> c.metrics["nfr"].value, c.verdict  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compatcheck.version import __version__

if TYPE_CHECKING:
    from compatcheck.api import Candidates, Diff, Evaluation, diff, evaluate, load, load_candidates, load_run
    from compatcheck.errors import ExitCode, InputError

__all__ = [
    "Candidates", "Diff", "Evaluation", "ExitCode", "InputError", "__version__", "diff", "evaluate", "load",
    "load_candidates", "load_run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load the public names on first use, so that ``compatcheck --help`` imports nothing heavy."""
    if name in __all__:
        from importlib import import_module

        home = "errors" if name in ("ExitCode", "InputError") else "api"
        return getattr(import_module(f"compatcheck.{home}"), name)
    raise AttributeError(f"module 'compatcheck' has no attribute {name!r}")
