"""``compatcheck plan``: how many instances an evaluation needs."""

from __future__ import annotations

from typing import Annotated

import typer

from compatcheck.cli import options
from compatcheck.errors import InputError


def command(
    nfr: Annotated[str, typer.Option(metavar="RATE", help="The budget: --fail-on nfr:RATE.")] = "2%",
    expected: Annotated[
        str | None, typer.Option(metavar="RATE", help="NFR thought to be true.  [default: half the budget]")
    ] = None,
    flip_rate: Annotated[str, typer.Option(metavar="RATE", help="NFR + PFR thought to be true.")] = "10%",
    fall: Annotated[
        str | None, typer.Option(metavar="RATE", help="Fall of accuracy to be seen.  [default: the budget]")
    ] = None,
    power: Annotated[str, typer.Option(metavar="RATE", help="With what probability.")] = "80%",
    n: Annotated[list[int] | None, typer.Option("--n", help="Say what N instances can show; repeatable.")] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Say what to expect of diff --until-decided, by simulation.")
    ] = False,
    rate: Annotated[
        list[str] | None,
        typer.Option(metavar="RATE", help="With --sequential: a true NFR to simulate; repeatable."),
    ] = None,
    step: Annotated[int, typer.Option(help="With --sequential: documents between two looks.")] = 25,
    max: Annotated[int, typer.Option(metavar="N", help="With --sequential: documents that there are.")] = 10_000,
    seed: Annotated[int, typer.Option(help="With --sequential: of the simulation.")] = 1234,
    format: Annotated[str, typer.Option(help="terminal or json.")] = "terminal",
) -> None:
    """How many instances are needed to judge a budget, and what N instances can show."""
    if format not in ("terminal", "json"):
        raise InputError(f"--format {format}: must be terminal or json")
    from compatcheck.report.summaries import plan_json, plan_text, sequential_plan_text

    if sequential:
        from compatcheck.compare.expectation import make_sequential_plan

        rates = [options.parse_rate("--rate", each) for each in rate or []]
        expectation = make_sequential_plan(options.parse_rate("--nfr", nfr), rates, step=step, most=max, seed=seed)
        typer.echo(plan_json(expectation) if format == "json" else sequential_plan_text(expectation))
        return
    from compatcheck.compare.plan import make_plan

    plan = make_plan(
        options.parse_rate("--nfr", nfr),
        expected=None if expected is None else options.parse_rate("--expected", expected),
        flip_rate=options.parse_rate("--flip-rate", flip_rate),
        fall=None if fall is None else options.parse_rate("--fall", fall),
        power=options.parse_rate("--power", power),
        at=n or (),
    )
    typer.echo(plan_json(plan) if format == "json" else plan_text(plan))
