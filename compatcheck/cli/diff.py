"""``compatcheck diff``: one comparison, or every check of the settings file, with one exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from typer import Argument, Option

from compatcheck import config, option_models, options
from compatcheck.cli.options import command_line, progress, speaker, with_options
from compatcheck.cli.output import check_formats, check_writable, emit, print_failure, print_line, settings
from compatcheck.config import Check
from compatcheck.errors import ExitCode, InputError

EXAMPLES = """Examples

recorded outputs: compatcheck diff old.csv new.csv --fail-on nfr:2%

models: compatcheck diff org/model-1b org/model-2b --task gsm8k --limit 200

adapters: compatcheck diff old-adapter base+new-adapter --task samsum --format html --out report

endpoints: compatcheck diff http://localhost:8000/v1#old http://localhost:8000/v1#new --task gsm8k

a blessed baseline: compatcheck diff @main newer-model --task samsum
"""


@with_options(options.Check)
def command(
    context: typer.Context,
    given: dict[str, Any],
    old: str | None = Argument(
        None, metavar="[OLD]", help="Model, adapter, BASE+ADAPTER, http://HOST/v1#MODEL or outputs."
    ),
    new: list[str] | None = Argument(
        None, metavar="[NEW]...", help="The same kinds; {task} stands for the task's name. Several are candidates."
    ),
    candidate: list[str] | None = Option(None, metavar="REF", help="A further NEW; repeatable."),
    check: list[str] | None = Option(None, metavar="NAME", help="This check of the settings file alone; repeatable."),
    config: Path | None = Option(
        None, metavar="FILE", help="Settings file.  \\[default: compatcheck.toml, pyproject.toml]"
    ),
) -> int:
    """Compare OLD and NEW instance by instance: quadrants, flips, gains, verdict.

    Without OLD and NEW every check of compatcheck.toml is run, with one verdict.
    """
    loaded = settings(config)
    command = command_line(context)
    news = [*(new or ()), *(candidate or ())]
    if news and old is None:
        raise InputError("--candidate names a further NEW: compatcheck diff OLD NEW --candidate NEW2")
    if old is not None and not news:
        raise InputError("NEW is missing: compatcheck diff OLD NEW")
    if old is not None:
        if check:
            raise InputError("--check names a check of the settings file; leave out OLD and NEW")
        return _run(Check("", old, news[0], loaded.options, tuple(news[1:])), given, command, alone=True)[0]
    chosen = loaded.choose(check or ())
    if len(chosen) == 1:
        return _run(chosen[0], given, command, alone=True)[0]
    return _run_all(chosen, given, command)


def _run_all(checks: Sequence[Check], given: Mapping[str, Any], command: str) -> int:
    """A check that cannot be run does not keep the others from running; the exit code is then that of an error."""
    from compatcheck.report.text import safe_text

    codes, said = dict[str, int](), dict[str, str]()
    for check in checks:
        quiet = bool(config.settle(check.options, given).get("quiet", False))
        if quiet:
            print(f"{safe_text(check.name)}: ", end="", flush=True)
        else:
            print()
            print_line(f"== {check.name}: {check.old} -> {', '.join([check.new, *check.further])}", sys.stdout)
        try:
            codes[check.name], said[check.name] = _run(check, given, command, alone=False)
        except Exception as error:
            if quiet:
                print("could not be run", flush=True)
            print_failure(error, f"check {check.name}: ")
            codes[check.name], said[check.name] = int(ExitCode.USAGE), "error"
    words = {"error": "could not be run", "fail": "failed", "inconclusive": "inconclusive", "none": "without a budget"}
    parts = []
    for verdict, word in {**words, "pass": "passed"}.items():
        mine = [name for name, each in said.items() if each == verdict]
        if mine:
            parts.append(f"{len(mine)} {word}" + (f" ({', '.join(mine)})" if verdict != "pass" else ""))
    print_line(f"{len(codes)} checks: {', '.join(parts)}", sys.stdout)
    return next(code for code in (2, 1, 3, 0) if code in codes.values())


def _run(check: Check, given: Mapping[str, Any], command: str, *, alone: bool) -> tuple[int, str]:
    """The exit code, and the verdict, which ``--exit-zero`` leaves as it is."""
    settled = config.settle(check.options, given)
    shown = option_models.build(options.Check, settled)
    formats = check_formats(shown.format, shown.junit_flips, several=bool(check.further))
    out = shown.out
    if not alone:
        if out is None and set(formats) - {"terminal", "github"}:
            out = Path("compat-report")
        out = out and out / check.name
    check_writable(out, formats, overwrite=shown.overwrite)
    from compatcheck import api
    from compatcheck.report.store import with_earlier_looks

    how = {"scratch": out, "say": speaker(shown.quiet), "progress": progress(shown.quiet)}
    how |= config.only(options.Diff, settled)
    seen: Any
    if check.further:
        seen = replace(api.diff(check.old, [check.new, *check.further], **how), command=command)
    else:
        seen = with_earlier_looks(replace(api.diff(check.old, check.new, **how), command=command), out)
    sys.stdout.flush()
    code = emit(seen, formats=formats, out=out, quiet=shown.quiet, exit_zero=shown.exit_zero, overwrite=shown.overwrite)
    return code, str(seen.verdict)
