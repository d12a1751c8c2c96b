"""What a finished comparison prints and writes, the same for every command that ends in one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compatcheck.errors import ExitCode, InputError

if TYPE_CHECKING:
    from compatcheck.api import Diff

DEFAULT_FOLDER = Path("compat-report")
"""Where files go when a file format is asked for without --out."""
_FILES_ONLY = {"html"}


def check_writable(out: Path | None) -> None:
    """Say that a folder cannot be written before any work is paid for."""
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder")
    parent = out
    while not parent.exists():
        parent = parent.parent
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise InputError(f"--out {out}: {parent} is not writable ({error.strerror}); name another folder") from None


def emit(
    result: Diff,
    *,
    formats: Sequence[str],
    out: Path | None,
    quiet: bool,
    kept: Path | None = None,
    exit_zero: bool = False,
) -> int:
    """Print the report on stdout, write the files, and return the exit code of the verdict.

    ``kept`` is the folder in which the result lies already; with file formats these are written beside it.
    """
    from compatcheck import gate
    from compatcheck.report import render

    files = [name for name in formats if name != "terminal"]
    folder = out or (DEFAULT_FOLDER if set(files) & _FILES_ONLY and kept is None else None)
    if folder is None and kept is not None and files:
        folder = kept
    if folder is not None:
        result.save(folder, files)
    if quiet:
        print(render(result, "terminal", quiet=True))
    elif "terminal" in formats:
        print(render(result, "terminal", folder=folder or kept, color=None))
    elif folder is None:
        for name in files:
            print(render(result, name))
    if folder is not None and not quiet:
        names = ["report.json", "instances.parquet", *(_file_of(name) for name in files)]
        print(f"kept in {folder}: {', '.join(dict.fromkeys(names))}", file=sys.stderr)
    return int(ExitCode.OK if exit_zero else gate.exit_code(result.verdict))


def _file_of(name: str) -> str:
    from compatcheck.report import FORMATS

    return str(FORMATS[name].file_name)
