"""``compatcheck demo``: see the main job done, offline, in a minute."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from compatcheck.cli import options
from compatcheck.cli.output import check_writable, emit
from compatcheck.errors import ExitCode


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the reports are kept.")] = Path("demo-report"),
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Compare the recorded outputs even where the models are here.")
    ] = False,
    quiet: options.Quiet = False,
) -> int:
    """Compare two tiny trained models on four tasks, offline, and write every report. Exits with 0."""
    check_writable(out)
    from compatcheck import demo

    models = demo.has_models() and not recorded
    # Matrices of a million parameters gain nothing from a second thread, and wait for it on a busy machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not quiet and not models:
        print(
            "comparing recorded outputs of the fixture models\n"
            "(the models travel with the source: clone the repository and run `make demo`)",
            file=sys.stderr,
        )
    result = demo.run(options.speaker(quiet), options.progress(quiet), recorded=recorded)
    emit(result, formats=["terminal", "markdown", "html"], out=out, quiet=quiet, exit_zero=True)
    if not quiet:
        print(f"open {out / 'report.html'} in a browser", file=sys.stderr)
    return ExitCode.OK
