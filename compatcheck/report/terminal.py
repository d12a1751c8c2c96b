"""The report on a terminal: the verdict first, then what explains it, then what to run next."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from compatcheck.compare.result import Comparison, Result
from compatcheck.report import content, figures, headline, looks, sections, themes, trend
from compatcheck.report.instances import Instance, telling_flips, which_flips
from compatcheck.report.text import safe_text, trim_middle
from compatcheck.report.worddiff import Segment, side_by_side, trim_segments

STYLES: Mapping[str, str] = {
    "pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "none": "bold", "warning": "yellow",
    "negative_flip": "red", "positive_flip": "green", "worse": "red", "better": "green", "both_correct": "",
    "both_wrong": "dim", "unchanged": "dim", "changed": "yellow", "tied": "yellow", "new_preferred": "green",
    "old_preferred": "red", "delete": "red", "insert": "green", "cut": "dim italic",
}  # fmt: skip
MAX_DETAILS = 4
"""Comparisons shown in full; with more, those that matter most are, and the overview names the rest."""
SHOWN = 3
"""Negative flips of the comparison that matters most."""
TEXT_LIMIT = 600
"""Characters of one text of a flip that are shown before equal stretches are cut."""
NOTES = 3
"""Notes at the top; more of them are at the end."""
WHOLE_LIMIT = 20_000
"""The same where an instance is shown alone: in full, but for texts that no one reads to their end."""
_PLAIN = str.maketrans("─│┌┬┐├┼┤└┴┘→–−×Δ✓✗·…⏎∅", "-|+++++++++>--xdvx.~/-")
"""One plain character for each sign the report uses, so that the layout stays."""


def render(
    result: Result,
    *,
    width: int | None = None,
    color: bool | None = None,
    quiet: bool = False,
    top: int | None = None,
    folder: Path | None = None,
    encoding: str | None = None,
) -> str:
    """Return the report as text of at most ``width`` columns that ends with a line feed.

    What is not given is taken from standard output: ``width`` is the terminal's, between 60 and 120, or 80 where there
    is none; ``color`` is on for a terminal unless ``NO_COLOR`` is set or ``TERM`` is ``dumb``. Without colour the text
    holds no escape sequence at all, and words and signs carry what colour would. ``quiet`` gives the verdict line
    alone. ``top`` is how many negative flips are shown of the comparison that matters most; of each other one is.
    ``folder`` is where the result is kept, for the next command. Where ``encoding`` lacks line-drawing
    characters and arrows, plain ones stand in; any other character it lacks is shown as an escape.
    """
    width = terminal_width() if width is None else width
    color = wants_color() if color is None else color
    if quiet:
        line = _verdict(result, content.verdict_line(result)[1])
        if (missing := content.missing_rows(result)) and "show nothing" not in line.plain:
            line.append(f"  ({safe_text('; '.join(missing))})", style="dim")
        return render_parts([line], width=width, color=color, encoding=encoding, soft_wrap=True)
    return render_parts(
        _parts(result, color, SHOWN if top is None else top, folder, width), width=width, color=color, encoding=encoding
    )


def render_parts(
    parts: Iterable[RenderableType], *, width: int, color: bool, encoding: str | None = None, soft_wrap: bool = False
) -> str:
    """Print parts one below the other into text of at most ``width`` columns, unless it is to wrap ``soft``ly."""
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=width, force_terminal=color, color_system="256" if color else None, no_color=not color,
        legacy_windows=False, markup=False, emoji=False, highlight=False, force_jupyter=False, force_interactive=False,
    )  # fmt: skip
    for part in parts:
        console.print(part, soft_wrap=soft_wrap)
    text = buffer.getvalue()
    if not color:
        text = "\n".join(line.rstrip() for line in text.split("\n"))
    try:
        "".join(map(chr, _PLAIN)).encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _is_terminal() -> bool:
    return bool(getattr(sys.stdout, "isatty", lambda: False)())


def terminal_width() -> int:
    """Columns of the terminal, between 60 and 120; 80 where there is none."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, 60), 120) if _is_terminal() else 80


def wants_color() -> bool:
    """Whether standard output is a terminal that shows colours, and the user has not refused them."""
    return _is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _verdict(result: Result, said: str) -> Text:
    word = f"{figures.VERDICT_SYMBOLS.get(result.verdict, '·')} {content.verdict_line(result)[0]}"
    return Text.assemble((safe_text(word), STYLES.get(result.verdict, "bold")), "  ", safe_text(said))


def _heading(title: str) -> Text:
    return Text(f"\n{title}", style="bold")


def _parts(result: Result, color: bool, top: int, folder: Path | None, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = [_verdict(result, content.sentence(result)), "", _facts(result)]
    parts.extend(_next(content.next_steps(result, folder), width))
    notes = content.notes(result)
    parts.extend(_note(note) for note in notes[:NOTES])
    if len(notes) > NOTES:
        parts.append(Text(f"! {figures.plural(len(notes) - NOTES, 'more note')} at the end", "dim"))
    several = len(result.comparisons) > 1
    first = headline.worst_comparison(result)
    if result.comparisons:
        where = f" in {headline.plain_name(result.comparisons[first], result)}" if several else ""
        parts.extend(_broke(result.comparisons[first], color, top, where))
    if several:
        parts.extend([_heading("Overview"), draw(content.overview(result.comparisons, narrow=True), padding=1)])
    shown = content.most_important(result, MAX_DETAILS)
    if trends := trend.lines(result, shown):
        parts.append(_heading("Blessed runs"))
        parts.extend(Text.assemble((f"{safe_text(name)}  ", "dim"), safe_text(line)) for name, line in trends)
    for comparison in shown:
        if several:
            parts.append(_heading(f"{'─' * 3} {safe_text(comparison.name)} {'─' * 3}"))
            if comparison is not result.comparisons[first]:
                parts.extend(_broke(comparison, color, min(top, 1)))
        parts.extend(_comparison(comparison, several))
    if len(shown) < len(result.comparisons):
        rest = len(result.comparisons) - len(shown)
        parts.append(Text(f"\n{rest} more comparisons are in the overview alone.", style="dim"))
    parts.extend([_heading("Notes")] if len(notes) > NOTES else [])
    parts.extend(_note(note) for note in notes[NOTES:])
    parts.append(_heading("Signature"))
    parts.extend(Text(safe_text(comparison.signature), style="dim") for comparison in shown)
    return parts


def _note(note: str) -> Text:
    return Text(f"! {safe_text(note)}", style=STYLES["warning"])


def _facts(result: Result) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", min_width=6)
    table.add_column(overflow="fold")
    for name, side in (("old", result.old), ("new", result.new)):
        about = "  ".join(part for part in (safe_text(side.kind), safe_text(side.fingerprint)[:19]) if part)
        table.add_row(name, Text.assemble(safe_text(side.shown), (f"  {about}", "dim")))
    for fact in content.facts(result):
        strong = (f"{safe_text(fact.strong)}  " if fact.strong else "", "bold")
        table.add_row(fact.label.lower().split()[-1], Text.assemble(strong, safe_text(fact.text)))
    return table


def _next(steps: Sequence[content.Step], width: int) -> list[RenderableType]:
    """What to do, each command in lines of its own that can be pasted."""
    parts: list[RenderableType] = []
    for step in steps:
        parts.append(Text.assemble(("next   ", "dim"), f"{step.why}{':' if step.command else ''}"))
        if step.command:
            parts.append(Text(content.folded(safe_text(step.command), width), style="bold", overflow="fold"))
    return parts


def _broke(comparison: Comparison, color: bool, top: int, where: str = "") -> list[RenderableType]:
    """The flips to look at first, in full, and what kinds there are."""
    flips = telling_flips(comparison, top)
    if not flips:
        return []
    title = f"{sections.first_shown(comparison)}{safe_text(where)}: {which_flips(comparison, len(flips))}"
    parts: list[RenderableType] = [_heading(title)]
    for flip in flips:
        parts.extend([flip_block(flip, comparison, color), ""])
    if kinds := sections.kinds(comparison):
        parts.append(Text.assemble(("Kinds of failure  ", "bold"), safe_text(kinds)))
    parts.extend(Text.assemble((f"{name}  ", "bold"), safe_text(said)) for name, said in themes.lines(comparison))
    return parts


def _comparison(comparison: Comparison, named: bool) -> list[RenderableType]:
    parts: list[RenderableType] = [""]
    if named or len(comparison.gates) > 1 or any(gate.tier != "critical" for gate in comparison.gates):
        for verdict, rule, reason in sections.gates(comparison).rows:  # a single critical one is the verdict line
            word = f"{figures.VERDICT_SYMBOLS.get(verdict, '·')} {figures.VERDICT_WORDS.get(verdict, verdict)}"
            style = STYLES.get(verdict, "bold")
            parts.append(Text.assemble((safe_text(word), style), f"  {safe_text(rule)}  {safe_text(reason)}"))
        parts.extend([""] if comparison.gates else [])
    if comparison.sequential is not None:
        parts.append(Text(looks.drawn(comparison), style="dim"))
        for path in comparison.sequential.paths:
            parts.append(_heading(safe_text(looks.path_title(path))))
            parts.append(draw(looks.looks(comparison, path)))
        parts.append("")
    parts.append(_quadrants(comparison))
    parts.extend(Text(safe_text(line)) for line in sections.tests(comparison))
    for section in sections.details(comparison):
        if section.table is not None:
            plain = section.table.columns[0][1] == "metric"
            parts.extend([_heading(section.title), draw(section.table, "id", "its probability", header=not plain)])
        if section.note:
            head = "" if section.table is not None else f"\n{section.title}  "
            parts.append(Text.assemble((head, "bold"), safe_text(section.note)))
    if remarks := sections.pairing_remarks(comparison):
        head = f"\nPairing  {comparison.pairing.paired:,} pairs; "
        parts.append(Text.assemble((head, "bold"), safe_text("; ".join(remarks))))
    slices = sections.slices(comparison, 6)
    if slices.table.rows:
        parts.append(_heading(f"{sections.slices_title(comparison)}{f' ({slices.more} more)' if slices.more else ''}"))
        parts.append(draw(slices.table, "figures"))
    if slices.note:
        parts.append(Text(slices.note if slices.table.rows else f"\nSlices  {slices.note}", style="dim"))
    return parts


def _quadrants(comparison: Comparison) -> Table:
    """Old × new as a two-by-two picture (discrete), or the three groups with bars (smooth)."""
    cells, level, n = sections.quadrants(comparison), figures.level(comparison), f"n = {comparison.n:,}"
    if sections.shape(comparison) == "column":
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
        for heading in (n, "count", "share", f"{level} interval", ""):
            table.add_column(heading, justify="right" if heading in ("count", "share") else "left")
        for cell in cells:
            bar = cell.symbol * max(round(24 * cell.part), 1 if cell.n else 0)
            label, style = f"{cell.symbol} {cell.label}", STYLES[cell.name]
            table.add_row(Text(label, style), f"{cell.n:,}", cell.share, cell.interval, Text(bar, style))
        return table
    table = Table(box=box.SQUARE, show_lines=True, header_style="dim", padding=(0, 1))
    table.add_column(Text(n, style="dim"), style="dim", vertical="middle")
    table.add_column("new right", min_width=24)
    table.add_column("new wrong", min_width=24)
    shown = []
    for cell in cells:
        style = STYLES[cell.name]
        count = (f"{cell.n:,}", f"bold {style}".strip())
        text = Text.assemble((f"{cell.symbol} {cell.label}\n", style), count, f"  {cell.share}\n")
        shown.append(text.append(f"{level}: {cell.interval}" if cell.interval else "", style="dim"))
    table.add_row("old right", *shown[:2])
    table.add_row("old wrong", *shown[2:])
    return table


def draw(found: sections.Table, *drop: str, header: bool = True, padding: int = 2) -> Table:
    """A table of the report without the kinds of columns in ``drop``; bars of flips as ``git diff --stat`` has them."""
    found = found.without("whisker", *drop)
    table = Table(box=None, padding=(0, padding, 0, 0), show_edge=False, header_style="dim", show_header=header)
    for heading, kind in found.columns:
        heading = "+ better  - worse" if kind == "flips" else heading
        right = kind in ("number", "value", "worse", "better")
        table.add_column(
            heading, justify="right" if right else "left", overflow="fold", no_wrap=kind in ("flips", "track")
        )
    for row in found.rows:
        cells = [_cell(kind, value, found.most) for (_, kind), value in zip(found.columns, row, strict=False)]
        table.add_row(*cells)
    return table


def _cell(kind: str, value: Any, most: int) -> Text:
    if kind == "flips":
        minus, plus = sections.bar(value, most, 18)
        return Text.assemble(f"{sum(value):,} ".rjust(6), ("+" * plus, "green"), ("-" * minus, "red"))
    if kind == "metric":
        return Text(safe_text(value[0]))
    if kind == "name":
        return Text(trim_middle(safe_text(value), 40))
    shown = figures.VERDICT_WORDS.get(value, value) if kind == "verdict" else value
    return Text(safe_text(shown), style=STYLES.get(value if kind == "verdict" else kind, ""))


def flip_block(flip: Instance, comparison: Comparison, color: bool, *, whole: bool = False) -> Table:
    """One instance: what was asked, the target, and both answers with their word differences.

    Texts are cut to what a report has room for, or, where the ``whole`` is asked for, to :data:`WHOLE_LIMIT`.
    """
    limit = WHOLE_LIMIT if whole else TEXT_LIMIT
    change = flip.score_change(comparison)
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", min_width=8)
    table.add_column(overflow="fold")
    about = "".join(f"  {each}" for each in [f"score {change}" if change else "", *sections.kinds_of(flip)] if each)
    table.add_row("id", Text.assemble((trim_middle(flip.doc_id, 60), "bold"), (about, "dim")))
    if flip.input is not None:
        table.add_row("input", Text(trim_middle(flip.input, limit)))
    if flip.target is not None:
        table.add_row("target", Text(trim_middle(flip.target, limit)))
    for suffix, old, new in flip.pairs(prompts=whole):
        before, after = side_by_side(old, new)
        for name, segments in ((f"old{suffix}", before), (f"new{suffix}", after)):
            table.add_row(name, _marked(trim_segments(segments, limit), color))
    for name, error in (("old", flip.error_old), ("new", flip.error_new)):
        if error is not None:
            table.add_row(f"{name} failed", Text(trim_middle(error, limit), style=STYLES["warning"]))
    return table


def _marked(segments: tuple[Segment, ...], color: bool) -> Text:
    """Changed words in colour, or between ``[-`` ``-]`` and ``{+`` ``+}`` as git marks them."""
    text = Text()
    for segment in segments:
        before, after = {"delete": ("[-", "-]"), "insert": ("{+", "+}")}.get(segment.kind, ("", ""))
        if color:
            before = after = ""
        text.append(f"{before}{segment.text}{after}", style=STYLES.get(segment.kind, "") if color else "")
    return text
