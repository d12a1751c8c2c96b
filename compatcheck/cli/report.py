"""``compatcheck report``: render a kept comparison again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compatcheck.cli import options
from compatcheck.cli.output import check_writable, emit


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with report.json and instances.parquet.")],
    format: options.Formats = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write file formats here instead of into DIR.")
    ] = None,
    quiet: options.Quiet = False,
) -> int:
    """Render a kept comparison again, in any format. Exits as the comparison did."""
    formats = options.check_formats(format)
    check_writable(out)
    from compatcheck.finished import load

    result = load(folder)
    return emit(result, formats=formats, out=out, quiet=quiet, kept=folder)
