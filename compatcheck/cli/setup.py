"""``tasks``, ``plan``, ``init``, ``doctor``, ``demo``: commands that prepare a comparison."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import typer
from typer import Argument, Option

from compatcheck.cli.options import Quiet, TextOrJson, check_format, progress, speaker
from compatcheck.cli.output import check_writable, emit, print_untrusted
from compatcheck.errors import ExitCode


def tasks(
    name: str | None = Argument(None, metavar="[NAME]", help="Show this task (any name or YAML file)."),
    all: bool = Option(False, "--all", metavar="", help="List lm-eval's tasks, groups and tags too."),
    search: str | None = Option(None, metavar="TEXT", help="List every name that contains this text."),
) -> None:
    """List the bundled tasks and lm-eval's, or show how one is prompted and scored."""
    from compatcheck.report.text import safe_text
    from compatcheck.tasks import catalogue

    if name is not None:
        print_untrusted("\n".join(safe_text(line) for line in catalogue.show(name).splitlines()))
    elif all or search:
        typer.echo("\n".join(catalogue.listing(search or "")))
    else:
        typer.echo(catalogue.overview())


def plan(
    nfr: str = Option("2%", metavar="RATE", help="The budget: --fail-on nfr:RATE."),
    expected: str | None = Option(None, metavar="RATE", help="NFR thought to be true.  \\[default: half the budget]"),
    flip_rate: str = Option("10%", metavar="RATE", help="NFR + PFR thought to be true."),
    fall: str | None = Option(None, metavar="RATE", help="Fall of accuracy to be seen.  \\[default: the budget]"),
    power: str = Option("80%", metavar="RATE", help="With what probability."),
    n: list[int] | None = Option(None, "--n", metavar="N", help="Say what N instances can show; repeatable."),
    sequential: bool = Option(
        False, "--sequential", metavar="", help="What diff --until-decided would take, simulated."
    ),
    rate: list[str] | None = Option(None, metavar="RATE", help="With --sequential: a true NFR; repeatable."),
    step: int = Option(25, metavar="N", help="With --sequential: documents between two looks."),
    max: int = Option(10000, metavar="N", help="With --sequential: documents that there are."),
    seed: int = Option(1234, metavar="N", help="With --sequential: of the simulation."),
    format: TextOrJson = "terminal",
) -> None:
    """How many instances are needed to judge a budget, and what N instances can show."""
    check_format(format)
    from compatcheck.compare.plan import make_plan, make_sequential_plan
    from compatcheck.gate import parse_share
    from compatcheck.report.summaries import plan_json, plan_text, sequential_plan_text

    budget = parse_share("--nfr", nfr)
    if sequential:
        rates = [parse_share("--rate", each) for each in rate or []]
        expectation = make_sequential_plan(budget, rates, step=step, most=max, seed=seed)
        typer.echo(plan_json(expectation) if format == "json" else sequential_plan_text(expectation))
        return
    given = {"expected": expected, "flip_rate": flip_rate, "fall": fall, "power": power}
    shares = {
        name: parse_share(f"--{name.replace('_', '-')}", text) for name, text in given.items() if text is not None
    }
    made = make_plan(budget, **shares, at=n or ())
    typer.echo(plan_json(made) if format == "json" else plan_text(made))


def init(
    folder: Path = Argument(Path(), metavar="[DIR]", help="Where to write; the project's root."),
    old: str = Option("old.jsonl", metavar="REF", help="OLD of the first check."),
    new: str = Option("new.jsonl", metavar="REF", help="NEW of the first check."),
    name: str = Option("upgrade", metavar="NAME", help="Name of the first check."),
    github: bool = Option(False, "--github", metavar="", help="Write GitHub workflows: pull requests, weekly drift."),
    gitlab: bool = Option(False, "--gitlab", metavar="", help="Write the same jobs for GitLab."),
    prompts: bool = Option(False, "--prompts", metavar="", help="Write an example of own prompts, and a check of it."),
    force: bool = Option(False, "--force", metavar="", help="Replace files that are there."),
) -> None:
    """Write compatcheck.toml with comments; `compatcheck diff` without arguments then runs its checks."""
    from compatcheck import scaffold

    asked = {"github": github, "gitlab": gitlab, "prompts": prompts, "force": force}
    for path in scaffold.write(folder, name=name, old=old, new=new, **asked):
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
            if each.fix:
                typer.echo(f"{'':>18}-> {safe_text(each.fix)}")
        typer.echo(f"{problems or 'no'} problem{'' if problems == 1 else 's'}")
    return ExitCode.USAGE if problems else ExitCode.OK


def demo(
    out: Path = Option(Path("demo-report"), metavar="DIR", help="Where the reports are kept."),
    recorded: bool = Option(False, "--recorded", metavar="", help="Recorded outputs even where models are here."),
    quiet: Quiet = False,
) -> int:
    """Compare two tiny trained models on four tasks, and one with a changed prompt, offline; write every report.

    Exits with 0.
    """
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
        print("one of the models, asked with prompts that begin with 'Be brief.':", file=sys.stderr)
    changed = demo.changed_prompt(speaker(quiet), progress(quiet), recorded=recorded)
    emit(changed, formats=["terminal", "markdown", "html"], out=out / "changed-prompt", quiet=True, exit_zero=True)
    if not quiet:
        print(f"open {out / 'report.html'} in a browser", file=sys.stderr)
    return ExitCode.OK
