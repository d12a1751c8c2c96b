"""``compatcheck tasks``: list the tasks, or show one."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this task (any name or YAML file).")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="List lm-eval's tasks, groups and tags too.")] = False,
    search: Annotated[str | None, typer.Option(help="List every name that contains this text.")] = None,
) -> None:
    """List the bundled tasks and lm-eval's, or show how one is prompted and scored."""
    from compatcheck.tasks import catalogue

    if name is not None:
        typer.echo(catalogue.show(name))
    elif all or search:
        typer.echo("\n".join(catalogue.listing(search or "")))
    else:
        typer.echo(catalogue.overview())
