"""One comparison, or every check of the settings file: run, shown and kept, with one exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compatcheck import checks, config
from compatcheck.cli import options
from compatcheck.cli.output import check_writable, emit, print_failure
from compatcheck.config import Check
from compatcheck.errors import ExitCode, InputError


def run_checks(
    old: str | None, new: str | None, names: Sequence[str], file: Path | None, given: Mapping[str, Any], command: str
) -> int:
    """Compare OLD and NEW with the project's settings, or run its checks where neither is given.

    ``given`` holds the options written on the command line. A check that cannot be run does not keep the others from
    running; the exit code is then that of an error.

    Raises:
        InputError: nothing to run, or the only comparison cannot be run.
    """
    settings = config.load(file)
    if old is not None and new is None:
        raise InputError("NEW is missing: compatcheck diff OLD NEW")
    if old is not None and new is not None:
        if names:
            raise InputError("--check names a check of the settings file; leave out OLD and NEW")
        return _run(Check("", old, new, settings.options), given, command, alone=True)
    chosen = checks.choose(settings, names)
    if len(chosen) == 1:
        return _run(chosen[0], given, command, alone=True)
    codes = []
    for check in chosen:
        quiet = bool(checks.settle(check.options, given).get("quiet", False))
        print(
            f"{check.name}: " if quiet else f"\n== {check.name}: {check.old} -> {check.new}", end="" if quiet else "\n"
        )
        sys.stdout.flush()
        try:
            codes.append(_run(check, given, command, alone=False))
        except Exception as error:
            if quiet:
                print("could not be run", flush=True)
            print_failure(error, f"check {check.name}: ")
            codes.append(int(ExitCode.USAGE))
    print(_summary([check.name for check in chosen], codes))
    return checks.worst(codes)


def _run(check: Check, given: Mapping[str, Any], command: str, *, alone: bool) -> int:
    settled = checks.settle(check.options, given)
    wanted = settled.get("format")
    formats = options.check_formats([wanted] if isinstance(wanted, str) else wanted)
    out = checks.folder_of(check, settled.get("out"), alone)
    if out is None and not alone and set(formats) - {"terminal", "github"}:
        out = checks.folder_of(check, "compat-report", alone)
    quiet = bool(settled.get("quiet", False))
    check_writable(out)
    from compatcheck.finished import as_diff
    from compatcheck.report.store import with_earlier_looks

    result = checks.run(check, settled, scratch=out, say=options.speaker(quiet), progress=options.progress(quiet))
    result = as_diff(with_earlier_looks(replace(result, command=command), out))
    return emit(result, formats=formats, out=out, quiet=quiet, exit_zero=bool(settled.get("exit_zero", False)))


def _summary(names: Sequence[str], codes: Sequence[int]) -> str:
    words = {0: "passed", 1: "failed", 2: "could not be run", 3: "inconclusive"}
    parts = []
    for code, word in sorted(words.items(), key=lambda item: (item[0] != 2, item[0] != 1, item[0] != 3)):
        mine = [name for name, each in zip(names, codes, strict=True) if each == code]
        if mine:
            parts.append(f"{len(mine)} {word}" + (f" ({', '.join(mine)})" if code else ""))
    return f"{len(names)} checks: {', '.join(parts)}"
