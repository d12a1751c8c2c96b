"""``compatcheck init``: a commented settings file, and a CI workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write; the project's root.")] = Path(),
    old: Annotated[str, typer.Option(help="OLD of the first check.")] = "old.jsonl",
    new: Annotated[str, typer.Option(help="NEW of the first check.")] = "new.jsonl",
    name: Annotated[str, typer.Option(help="Name of the first check.")] = "upgrade",
    github: Annotated[bool, typer.Option("--github", help="Write a GitHub Actions workflow too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write compatcheck.toml with comments; `compatcheck diff` without arguments then runs its checks."""
    from compatcheck import scaffold

    for path in scaffold.write(folder, name=name, old=old, new=new, github=github, force=force):
        typer.echo(f"wrote {path}")
    typer.echo("name OLD and NEW there, then run: compatcheck diff")
