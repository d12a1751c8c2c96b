"""``report``, ``show``, ``card``: commands about a kept comparison."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer import Argument, Option

from compatcheck.cli.options import Quiet
from compatcheck.cli.output import check_formats, check_writable, emit, print_line, print_untrusted
from compatcheck.errors import ExitCode, InputError
from compatcheck.options import FORMATS

if TYPE_CHECKING:
    from compatcheck.compare.result import Result

_FORMATS = f"{', '.join(FORMATS)}; repeatable.  \\[default: terminal]"
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder with report.json and instances.parquet.")]
Chosen = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of several candidates this one, by its name or number.")
]


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Folder with report.json; with --compare several.")
    ],
    format: list[str] | None = Option(None, metavar="NAME", help=_FORMATS),
    compare: bool = Option(
        False, "--compare", metavar="", help="Show kept comparisons and runs side by side: a history with bounds."
    ),
    junit_flips: bool = Option(False, "--junit-flips", metavar="", help="In junit.xml a test case per listed flip."),
    out: Path | None = Option(None, metavar="DIR", help="Write file formats here instead of into DIR."),
    overwrite: bool = Option(False, "--overwrite", metavar="", help="Replace files that compatcheck did not write."),
    candidate: Chosen = None,
    quiet: Quiet = False,
) -> int:
    """Render a kept comparison again, in any format. Exits as the comparison did.

    Several side by side, as text or JSON: compatcheck report --compare runs/*
    """
    if compare:
        return _compare(folders, format or ["terminal"])
    if len(folders) > 1:
        raise InputError(f"{len(folders)} folders; name one, or say --compare to have them side by side")
    folder = folders[0]
    formats = check_formats(format or ["terminal"], junit_flips)
    check_writable(out, formats, overwrite=overwrite)
    from compatcheck.report import load
    from compatcheck.report.formats import is_several
    from compatcheck.results import load as load_one

    result = load(folder) if candidate is None else load_one(folder, candidate)
    if is_several(result):
        check_formats(formats, several=True)
    kept = folder if candidate is None else None  # the files of one candidate do not go beside those of all
    return emit(result, formats=formats, out=out, quiet=quiet, kept=kept, overwrite=overwrite)


def _compare(folders: Sequence[Path], formats: Sequence[str]) -> int:
    """The folders in the order in which they were named; one with named checks in it counts as each of these."""
    from compatcheck.cli.options import check_format
    from compatcheck.report import history, load
    from compatcheck.report.formats import is_several
    from compatcheck.results import load_run

    for name in formats:
        check_format(name)
    entries: list[history.Entry] = []
    for given in folders:
        alone = any((given / name).exists() for name in ("report.json", "manifest.json"))
        inside = [] if alone else sorted(path.parent for path in given.glob("*/report.json"))
        for folder in inside or [given]:
            if (folder / "manifest.json").exists():
                run = load_run(folder)
                entries += history.of_run(str(folder), run.manifest.reference, run.scores)
                continue
            result = load(folder)
            results = result.results if is_several(result) else (cast("Result", result),)
            entries += [entry for one in results for entry in history.of_result(str(folder), one)]
    print_untrusted(history.to_json(entries) if "json" in formats else history.to_text(entries))
    return int(ExitCode.OK)


def show(
    folder: Folder,
    doc_id: str | None = Argument(None, metavar="[ID]", help="Show this instance alone."),
    task: str | None = Option(None, metavar="NAME", help="Only this comparison: task/filter/metric, or a part of it."),
    quadrant: str = Option(
        "flips",
        metavar="NAME",
        help="flips, negative_flip, positive_flip, both_correct, both_wrong, unchanged, error, all; or a kind of "
        "failure: refused, format, number_scale …",
    ),
    search: str = Option("", metavar="WORDS", help="Only instances that hold all these words."),
    limit: int = Option(20, metavar="N", help="At most so many where they are printed.", min=1),
    width: int | None = Option(None, metavar="N", help="Columns.  \\[default: the terminal's, else 80]", min=40),
    candidate: Chosen = None,
) -> None:
    """Page through flips with their word differences, negative ones first; prints them where there is no terminal.

    Keys: n and p next and previous, 1-4 the quadrants, f kinds of failure, / search, ? help, q quit.
    """
    from compatcheck.cli.screen import is_interactive, opened
    from compatcheck.report import browse, terminal
    from compatcheck.report import load as load_all
    from compatcheck.report.candidates import shown_rows
    from compatcheck.report.formats import is_several
    from compatcheck.report.pager import Pager
    from compatcheck.results import load

    quadrant, kind = browse.check_filter(quadrant)
    if candidate is None and is_several(several := load_all(folder)):
        print_untrusted(shown_rows(several, task=task, doc_id=doc_id, search=search, limit=limit))
        return
    result = load(folder, candidate)
    comparisons = browse.choose_comparisons(result, task)
    for each in (result.comparisons[place] for place in comparisons):
        if len(each.instances) < each.rows:
            print_line(f"{each.name}: {len(each.instances):,} of {each.rows:,} instances can be shown")
    color = terminal.wants_color()
    if doc_id is None and is_interactive():
        with opened() as screen:
            Pager(result, comparisons, quadrant, search, color, kind=kind).run(screen)
        return
    if doc_id is not None:
        places = browse.find_id(result, comparisons, doc_id)
    else:
        places = browse.select(result, comparisons, quadrant, search, kind=kind)
    if not places:
        words = f" with '{search}'" if search else ""
        print_line(f"{folder}: no instance is in '{kind or quadrant}'{words}")
        return
    shown = places if doc_id is not None else places[:limit]
    columns = width or terminal.terminal_width()
    print_untrusted("\n".join(browse.instance_text(result, place, columns, color) for place in shown).rstrip("\n"))
    if len(shown) < len(places):
        print(f"{len(places) - len(shown):,} more of {len(places):,}: raise --limit", file=sys.stderr)


def card(
    folder: Folder,
    model: Path | None = Argument(
        None, metavar="[MODEL_FOLDER]", help="Whose README.md gets the section, not the screen."
    ),
    old: str = Option("", metavar="NAME", help="Name OLD so.  \\[default: as it was compared]"),
    new: str = Option("", metavar="NAME", help="Name NEW so.  \\[default: as it was compared]"),
    push: str = Option("", metavar="OWNER/NAME", help="Put it into the card of this model on the hub, as a commit."),
    candidate: Chosen = None,
) -> None:
    """Write verdict, release advice, quadrants and NFR of a kept comparison into a model card, with every signature.

    What stands outside the section's markers is left alone; writing it again replaces it.

    Example: compatcheck card report new-adapter --old acme/summaries-v1 --new acme/summaries-v2
    """
    from compatcheck.report import card
    from compatcheck.results import load

    result = load(folder, candidate)
    if model is None and not push:
        print_untrusted(card.section(result, old=old, new=new))
    if model is not None:
        print_line(f"kept in {card.write(result, model, old=old, new=new)}")
    if push:
        print_line(f"pushed: {card.push(result, push, old=old, new=new)}")
