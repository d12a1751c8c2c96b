"""The command line: one file a command, no logic. Here is the last catch, which needs nothing that may be missing."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from compatcheck.errors import ExitCode, internal_error, traceback_wanted

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with an :class:`~compatcheck.errors.ExitCode`.

    Whatever is raised, by a broken installation too: 1 is left to a shown regression.
    """
    gc.set_threshold(100_000)  # imports make hundreds of thousands of objects and no garbage
    try:
        from compatcheck.cli import app

        code = app.run(arguments)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BaseException as error:
        if traceback_wanted():
            sys.excepthook(type(error), error, error.__traceback__)
        print(internal_error(error), file=sys.stderr)
        code = ExitCode.USAGE
    sys.exit(int(code))
