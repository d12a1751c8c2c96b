"""``tasks``, ``plan``, ``init``, ``doctor``, ``demo``: commands that prepare a comparison."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from compatcheck.cli.options import Quiet, TextOrJson, check_format, parse_rate, progress, speaker
from compatcheck.cli.output import check_writable, emit
from compatcheck.errors import ExitCode


def tasks(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this task (any name or YAML file).")
    ] = None,
    all: Annotated[bool, typer.Option("--all", metavar="", help="List lm-eval's tasks, groups and tags too.")] = False,
    search: Annotated[str | None, typer.Option(metavar="TEXT", help="List every name that contains this text.")] = None,
) -> None:
    """List the bundled tasks and lm-eval's, or show how one is prompted and scored."""
    from compatcheck.tasks import catalogue

    if name is not None:
        typer.echo(catalogue.show(name))
    elif all or search:
        typer.echo("\n".join(catalogue.listing(search or "")))
    else:
        typer.echo(catalogue.overview())


def plan(
    nfr: Annotated[str, typer.Option(metavar="RATE", help="The budget: --fail-on nfr:RATE.")] = "2%",
    expected: Annotated[
        str | None, typer.Option(metavar="RATE", help="NFR thought to be true.  \\[default: half the budget]")
    ] = None,
    flip_rate: Annotated[str, typer.Option(metavar="RATE", help="NFR + PFR thought to be true.")] = "10%",
    fall: Annotated[
        str | None, typer.Option(metavar="RATE", help="Fall of accuracy to be seen.  \\[default: the budget]")
    ] = None,
    power: Annotated[str, typer.Option(metavar="RATE", help="With what probability.")] = "80%",
    n: Annotated[
        list[int] | None, typer.Option("--n", metavar="N", help="Say what N instances can show; repeatable.")
    ] = None,
    sequential: Annotated[
        bool,
        typer.Option("--sequential", metavar="", help="Say what to expect of diff --until-decided, by simulation."),
    ] = False,
    rate: Annotated[
        list[str] | None,
        typer.Option(metavar="RATE", help="With --sequential: a true NFR to simulate; repeatable."),
    ] = None,
    step: Annotated[int, typer.Option(metavar="N", help="With --sequential: documents between two looks.")] = 25,
    max: Annotated[int, typer.Option(metavar="N", help="With --sequential: documents that there are.")] = 10_000,
    seed: Annotated[int, typer.Option(metavar="N", help="With --sequential: of the simulation.")] = 1234,
    format: TextOrJson = "terminal",
) -> None:
    """How many instances are needed to judge a budget, and what N instances can show."""
    check_format(format)
    from compatcheck.report.summaries import plan_json, plan_text, sequential_plan_text

    budget = parse_rate("--nfr", nfr)
    if sequential:
        from compatcheck.compare.plan import make_sequential_plan

        rates = [parse_rate("--rate", each) for each in rate or []]
        expectation = make_sequential_plan(budget, rates, step=step, most=max, seed=seed)
        typer.echo(plan_json(expectation) if format == "json" else sequential_plan_text(expectation))
        return
    from compatcheck.compare.plan import make_plan

    made = make_plan(
        budget,
        expected=None if expected is None else parse_rate("--expected", expected),
        flip_rate=parse_rate("--flip-rate", flip_rate),
        fall=None if fall is None else parse_rate("--fall", fall),
        power=parse_rate("--power", power),
        at=n or (),
    )
    typer.echo(plan_json(made) if format == "json" else plan_text(made))


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write; the project's root.")] = Path(),
    old: Annotated[str, typer.Option(metavar="REF", help="OLD of the first check.")] = "old.jsonl",
    new: Annotated[str, typer.Option(metavar="REF", help="NEW of the first check.")] = "new.jsonl",
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the first check.")] = "upgrade",
    github: Annotated[bool, typer.Option("--github", metavar="", help="Write a GitHub Actions workflow too.")] = False,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace files that are there.")] = False,
) -> None:
    """Write compatcheck.toml with comments; `compatcheck diff` without arguments then runs its checks."""
    from compatcheck import scaffold

    for path in scaffold.write(folder, name=name, old=old, new=new, github=github, force=force):
        typer.echo(f"wrote {path}")
    typer.echo("name OLD and NEW there, then run: compatcheck diff")


def doctor(format: TextOrJson = "terminal") -> int:
    """Say what is installed, which engine would be taken, cache and disk, and how to fix each problem.

    Exits with 2 where there is a problem.
    """
    check_format(format)
    from compatcheck import doctor
    from compatcheck.report.text import safe_text

    findings = doctor.examine()
    problems = sum(each.state == "problem" for each in findings)
    if format == "json":
        typer.echo(json.dumps({"schema": "compatcheck.doctor/1", "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        marks = {"ok": "ok", "note": "--", "problem": "!!"}
        for each in findings:
            typer.echo(f"{marks[each.state]}  {each.topic:<13} {safe_text(each.text)}")
            if each.mend:
                typer.echo(f"{'':>18}-> {safe_text(each.mend)}")
        typer.echo(f"{problems or 'no'} problem{'' if problems == 1 else 's'}")
    return ExitCode.USAGE if problems else ExitCode.OK


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the reports are kept.")] = Path("demo-report"),
    recorded: Annotated[
        bool,
        typer.Option("--recorded", metavar="", help="Compare the recorded outputs even where the models are here."),
    ] = False,
    quiet: Quiet = False,
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
    result = demo.run(speaker(quiet), progress(quiet), recorded=recorded)
    emit(result, formats=["terminal", "markdown", "html"], out=out, quiet=quiet, exit_zero=True)
    if not quiet:
        print(f"open {out / 'report.html'} in a browser", file=sys.stderr)
    return ExitCode.OK
