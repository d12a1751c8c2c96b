"""``compatcheck card``: a compatibility section in a Hugging Face model card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from compatcheck.cli.output import print_untrusted


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A kept comparison, with its report.json.")],
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL_FOLDER]", help="Whose README.md gets the section; without it, it is printed."),
    ] = None,
    old: Annotated[str, typer.Option(metavar="NAME", help="Name OLD so.  [default: as it was compared]")] = "",
    new: Annotated[str, typer.Option(metavar="NAME", help="Name NEW so.  [default: as it was compared]")] = "",
    push: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="Put it into the card of this model on the hub, as a commit.")
    ] = "",
) -> None:
    """Write verdict, release advice, quadrants and NFR of a kept comparison into a model card, with every signature.

    What stands outside the section's markers is left alone; writing it again replaces it.

    Example: compatcheck card report new-adapter --old acme/summaries-v1 --new acme/summaries-v2
    """
    from compatcheck.finished import load
    from compatcheck.report import card

    result = load(folder)
    if model is None and not push:
        print_untrusted(card.section(result, old=old, new=new))
        return
    if model is not None:
        print(f"kept in {card.write(result, model, old=old, new=new)}", file=sys.stderr)
    if push:
        print(f"pushed: {card.push(result, push, old=old, new=new)}", file=sys.stderr)
