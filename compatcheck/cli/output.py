"""What a finished comparison prints and writes, the same for every command that ends in one."""

from __future__ import annotations

import errno
import os
import secrets
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from compatcheck.errors import EXTRAS, ExitCode, InputError, internal_error, not_installed, one_line, traceback_wanted
from compatcheck.paths import from_here
from compatcheck.scratch import nearest_folder

if TYPE_CHECKING:
    from compatcheck.compare.candidates import Candidates
    from compatcheck.compare.result import Result
    from compatcheck.config import Config

DEFAULT_FOLDER = Path("compat-report")
"""Where files go when a file format is asked for without --out."""
_FILES_ONLY = {"html", "png"}
_OF_THE_MACHINE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE,
    errno.ENFILE, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ESTALE,
)  # fmt: skip
"""A full disk, rights, too many open files, a file taken away while it was used: nothing that is ours to fix."""


def check_writable(out: Path | None, formats: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Say before any work is paid for that a folder cannot be written, or holds reports that are not ours."""
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder")
    parent = nearest_folder(out)
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise InputError(f"--out {out}: {parent} is not writable ({error.strerror}); name another folder") from None
    if formats:
        from compatcheck.report.store import check_folder

        check_folder(out, formats, overwrite=overwrite)


def check_formats(names: Sequence[str], junit_flips: bool = False, *, several: bool = False) -> list[str]:
    """The formats asked for, once each; ``junit_flips`` is for ``junit``.

    Raises InputError for one that is not there, or that ``several`` candidates do not have.
    """
    from compatcheck.report.formats import find_format, of_several

    if junit_flips and "junit" not in names:
        raise InputError("--junit-flips is for --format junit, which is not among the formats")
    names = ["junit-flips" if name == "junit" and junit_flips else name for name in names]
    try:
        for found in map(find_format, names):
            if several:
                of_several(found)
    except InputError as error:
        raise InputError(f"--{error}") from None
    return list(dict.fromkeys(names))


def settings(file: Path | None = None, quiet: bool = False) -> Config:
    """The settings of the project, or those of ``file``; says on stderr which file they come from."""
    from compatcheck import config

    found = config.load(file)
    if found.path is not None and not quiet:
        print_line(f"settings: {from_here(found.path)}")
    return found


def emit(
    result: Result | Candidates,
    *,
    formats: Sequence[str],
    out: Path | None,
    quiet: bool,
    kept: Path | None = None,
    exit_zero: bool = False,
    overwrite: bool = False,
) -> int:
    """Print the report on stdout, write the files, and return the exit code of the verdict.

    ``kept`` is the folder in which the result lies already; with file formats these are written beside it. A single
    text format is printed where no folder is given; several go into :data:`DEFAULT_FOLDER`. ``github`` prints its
    annotations in any case, and adds to the summary of the step where ``GITHUB_STEP_SUMMARY`` names its file.
    """
    from compatcheck import gate, report

    files = [name for name in formats if name != "terminal"]
    texts = [name for name in files if name != "github"]
    folder = out or (kept if files else None)
    if folder is None and (set(files) & _FILES_ONLY or (texts and len(formats) > 1)):
        folder = DEFAULT_FOLDER
    if folder is not None:
        report.save(result, folder, files, overwrite=overwrite)
    try:
        _print(result, formats, texts if folder is None else [], folder or kept, quiet)
        sys.stdout.flush()
    except BrokenPipeError:  # `compatcheck diff … | head`: the exit code says the verdict all the same
        if not reader_is_gone():
            raise
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if "github" in formats and summary and not hasattr(result, "results"):
        from compatcheck.report.github import append_summary

        if not append_summary(result, Path(summary), folder):
            print("GITHUB_STEP_SUMMARY: no room is left in it; the report is not added", file=sys.stderr)
    if folder is not None and not quiet:
        names = ["report.json", "instances.parquet", *(str(report.FORMATS[name].file_name) for name in files)]
        print_line(f"kept in {folder}: {', '.join(dict.fromkeys(names))}")
    return int(ExitCode.OK if exit_zero else gate.exit_code(result.verdict))


def _print(
    result: Result | Candidates, formats: Sequence[str], texts: Sequence[str], kept: Path | None, quiet: bool
) -> None:
    from compatcheck.report import render

    if quiet:
        print_spelled(render(result, "terminal", quiet=True), "text")
        return
    if "terminal" in formats:
        print_untrusted(render(result, "terminal", folder=kept, color=None))
    if "github" in formats:
        print(render(result, "github"))
    if texts:
        print_spelled(render(result, texts[0]), texts[0])


def print_untrusted(text: str) -> None:
    """Print what may hold any text of a model; on a GitHub runner so that no line of it is taken for a command."""
    from compatcheck.report.text import on_a_runner, shield

    print(shield(text, secrets.token_hex(16)) if on_a_runner() else text)


def print_spelled(text: str, format: str) -> None:
    """Print what another program may read; on a GitHub runner so spelled that no line of it is taken for a command."""
    print(_spelled(text, format))


def print_line(text: str, file: TextIO | None = None) -> None:
    """Say something in one line, on stderr where no file is given; it may quote what a file holds."""
    from compatcheck.report.text import safe_text

    print(_spelled(safe_text(" ".join(text.split())), "text"), file=file or sys.stderr, flush=True)


def print_failure(error: BaseException, where: str = "") -> None:
    """Say in one line what was raised, foreseen or not, with ``where`` before it: ``check NAME: ``."""
    if traceback_wanted():
        traceback.print_exception(error)
    if isinstance(error, InputError):
        print_line(f"error: {where}{error}")
    elif isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in EXTRAS:
        print_line(f"error: {where}" + not_installed(str(error.name).split(".")[0], "this "))
    elif isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        file = error.filename
        print_line(f"error: {where}" + (f"{file}: {error.strerror}" if file else one_line(error)))
    else:
        print_line(where + internal_error(error))


def reader_is_gone() -> bool:
    """Whether whoever reads our output has closed the pipe. Output that cannot be written is thrown away from then."""
    import select

    stream = sys.__stdout__  # after a broken pipe click puts something in place of sys.stdout that hides it
    if stream is None or not hasattr(select, "poll"):
        return False
    waiting = select.poll()
    waiting.register(stream.fileno(), 0)  # errors alone
    gone = bool(waiting.poll(0))
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return gone


def _spelled(text: str, format: str) -> str:
    from compatcheck.report.text import defuse, on_a_runner

    return defuse(text, format) if on_a_runner() else text
