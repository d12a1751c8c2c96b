"""``compatcheck show``: page through the instances of a kept comparison."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from compatcheck.cli.output import print_untrusted


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with report.json and instances.parquet.")],
    doc_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Show this instance alone.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Only this comparison: task, filter or metric, or task/filter/metric.")
    ] = None,
    quadrant: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="flips, negative_flip, positive_flip, both_correct, both_wrong, unchanged, error, all.",
        ),
    ] = "flips",
    search: Annotated[str, typer.Option(metavar="WORDS", help="Only instances that hold all these words.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many where they are printed.", min=1)] = 20,
    width: Annotated[int | None, typer.Option(help="Columns.  [default: the terminal's, else 80]", min=40)] = None,
) -> None:
    """Page through flips with their word differences, negative ones first; prints them where there is no terminal.

    Keys: n and p next and previous, 1-4 the quadrants, / search, ? help, q quit.
    """
    from compatcheck.cli.screen import is_interactive, opened
    from compatcheck.finished import load
    from compatcheck.report import browse, terminal
    from compatcheck.report.pager import Pager

    quadrant = browse.check_filter(quadrant)
    result = load(folder)
    comparisons = browse.choose_comparisons(result, task)
    for each in (result.comparisons[place] for place in comparisons):
        if len(each.instances) < each.rows:
            print(f"{each.name}: {len(each.instances):,} of {each.rows:,} instances can be shown", file=sys.stderr)
    color = terminal.wants_color()
    if doc_id is None and is_interactive():
        with opened() as screen:
            Pager(result, comparisons, quadrant, search, color).run(screen)
        return
    if doc_id is not None:
        places = browse.find_id(result, comparisons, doc_id)
    else:
        places = browse.select(result, comparisons, quadrant, search)
    if not places:
        words = f" with '{search}'" if search else ""
        print(f"{folder}: no instance is in '{quadrant}'{words}", file=sys.stderr)
        return
    shown = places if doc_id is not None else places[:limit]
    columns = width or terminal.terminal_width()
    print_untrusted("\n".join(browse.instance_text(result, place, columns, color) for place in shown).rstrip("\n"))
    if len(shown) < len(places):
        print(f"{len(places) - len(shown):,} more of {len(places):,}: raise --limit", file=sys.stderr)
