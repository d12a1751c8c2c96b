"""The errors a user can mend, and the exit codes every command shares."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


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

    The message is one line that says what is wrong, where (file, line, field) and how to mend it.
    The command line prints it and exits with :attr:`ExitCode.USAGE`.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest of ``known``, or an empty string."""
    known = list(known)
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f" (did you mean '{lowered[close[0]]}'?)" if close else ""
