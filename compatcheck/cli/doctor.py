"""``compatcheck doctor``: what is installed, and what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from compatcheck.errors import ExitCode, InputError

_MARKS = {"ok": "ok", "note": "--", "problem": "!!"}


def command(format: Annotated[str, typer.Option(help="terminal or json.")] = "terminal") -> int:
    """Say what is installed, which engine would be taken, cache and disk, and how to mend each problem.

    Exits with 2 where there is a problem.
    """
    if format not in ("terminal", "json"):
        raise InputError(f"--format {format}: must be terminal or json")
    from compatcheck import doctor
    from compatcheck.report.text import safe_text

    findings = doctor.examine()
    problems = sum(each.state == "problem" for each in findings)
    if format == "json":
        typer.echo(json.dumps({"schema": "compatcheck.doctor/1", "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        for each in findings:
            typer.echo(f"{_MARKS[each.state]}  {each.topic:<13} {safe_text(each.text)}")
            if each.mend:
                typer.echo(f"{'':>18}-> {safe_text(each.mend)}")
        typer.echo(f"{problems or 'no'} problem{'' if problems == 1 else 's'}")
    return ExitCode.USAGE if problems else ExitCode.OK
