"""The report on a terminal: the verdict first, then what explains it, then what to run next."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from compatcheck.compare.result import Comparison, Gate, Result, Side
from compatcheck.report import figures, head, trend, trust
from compatcheck.report.hints import folded, next_steps
from compatcheck.report.rows import small_slices, top_flips, worst_slices
from compatcheck.report.terminal_parts import (
    STYLES,
    flip_block,
    heading,
    look_tables,
    metric_table,
    quadrant_picture,
    slice_table,
)
from compatcheck.report.text import safe_text, trim_middle

NAME_WIDTH = 28
"""Longer names of comparisons would wrap in the overview at 80 columns."""
MAX_DETAILS = 4
"""Comparisons shown in full; with more, those that matter most are, and the overview names the rest."""


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
    alone. ``top`` is how many negative flips are shown per comparison, by default three of a single one and one of
    each of several. ``folder`` is where the result is kept, for the next command. Where ``encoding`` lacks line-drawing
    characters and arrows, plain ones stand in; any other character it lacks is shown as an escape.
    """
    width = terminal_width() if width is None else width
    color = wants_color() if color is None else color
    if quiet:
        line = verdict_text(result)
        if brief := head.in_brief(result):
            line.append(f"  ({safe_text(brief)})", style="dim")
        return render_parts([line], width=width, color=color, encoding=encoding, soft_wrap=True)
    count = top if top is not None else 3 if len(result.comparisons) == 1 else 1
    return render_parts(_parts(result, color, count, folder, width), width=width, color=color, encoding=encoding)


def render_parts(
    parts: Iterable[RenderableType], *, width: int, color: bool, encoding: str | None = None, soft_wrap: bool = False
) -> str:
    """Print parts one below the other into text of at most ``width`` columns, unless it is to wrap ``soft``ly."""
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=width,
        force_terminal=color,
        color_system="256" if color else None,
        no_color=not color,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        force_jupyter=False,
        force_interactive=False,
    )
    for part in parts:
        console.print(part, soft_wrap=soft_wrap)
    text = buffer.getvalue()
    if not color:
        text = "\n".join(line.rstrip() for line in text.split("\n"))
    return _encodable(text, encoding)


def _is_terminal() -> bool:
    return bool(getattr(sys.stdout, "isatty", lambda: False)())


def terminal_width() -> int:
    """Columns of the terminal, between 60 and 120; 80 where there is none."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, 60), 120) if _is_terminal() else 80


def wants_color() -> bool:
    """Whether standard output is a terminal that shows colours, and the user has not refused them."""
    return _is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _encodable(text: str, encoding: str) -> str:
    try:
        "".join(map(chr, _PLAIN)).encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def verdict_text(result: Result) -> Text:
    """The verdict line."""
    word, reason = figures.verdict_line(result)
    symbol = figures.VERDICT_SYMBOLS.get(result.verdict, "·")
    style = STYLES.get(result.verdict, "bold")
    return Text.assemble((f"{symbol} {word}", style), "  ", safe_text(reason))


def _parts(result: Result, color: bool, top: int, folder: Path | None, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = [verdict_text(result), ""]
    parts.append(_sides(result))
    parts.extend(Text(f"! {safe_text(note)}", style=STYLES["warning"]) for note in result.notes)
    shown = figures.most_important(result, MAX_DETAILS)
    if len(result.comparisons) > 1:
        parts.extend([heading("Overview"), _overview(result)])
    if trends := trend.lines(result, shown):
        parts.append(heading("Blessed runs"))
        parts.extend(Text.assemble((f"{safe_text(name)}  ", "dim"), safe_text(line)) for name, line in trends)
    for comparison in shown:
        parts.extend(_comparison(comparison, len(result.comparisons) > 1, color, top))
    if len(shown) < len(result.comparisons):
        rest = len(result.comparisons) - len(shown)
        parts.append(Text(f"\n{rest} more comparisons are in the overview alone.", style="dim"))
    parts.append(heading("Signature"))
    parts.extend(Text(safe_text(comparison.signature), style="dim") for comparison in shown)
    hints = next_steps(result, folder)
    if hints:
        parts.append(heading("Next"))
    for hint in hints:
        parts.append(Text(f"{hint.why}{':' if hint.command else ''}"))
        if hint.command:
            parts.append(Text(folded(hint.command, width), style="bold", overflow="fold"))
    return parts


def _sides(result: Result) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, side in (("old", result.old), ("new", result.new)):
        table.add_row(name, Text.assemble(safe_text(side.reference), (f"  {_about(side)}", "dim")))
    advice = figures.advice_line(result)
    if advice is not None:
        table.add_row("advice", Text.assemble((safe_text(advice[0]), "bold"), f"  {safe_text(advice[1])}"))
    for line in head.coverage(result):
        table.add_row("rows", safe_text(line))
    if (differ := head.differ(result)) is not None:
        table.add_row("settings", safe_text(differ))
    return table


def _about(side: Side) -> str:
    fingerprint = safe_text(side.fingerprint)
    return "  ".join(part for part in (safe_text(side.kind), trim_middle(fingerprint, 19)[:19]) if part)


def _overview(result: Result) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
    table.add_column("comparison", overflow="fold")
    table.add_column("n", justify="right")
    table.add_column("old → new", justify="right")
    table.add_column("NFR", justify="right")
    table.add_column("PFR", justify="right")
    if figures.all_gates(result):
        table.add_column("verdict")
    for comparison in result.comparisons:
        verdict = figures.comparison_verdict(comparison)
        label = "" if verdict == "none" else figures.VERDICT_WORDS[verdict]
        change = figures.headline_change(comparison)
        nfr, pfr = comparison.metrics.get("nfr"), comparison.metrics.get("pfr")
        cells = (
            Text(safe_text(_short_name(comparison, result))),
            f"{comparison.n:,}",
            change.short if change else "",
            Text(figures.estimate("nfr", nfr) if nfr else "", style=STYLES["negative_flip"]),
            Text(figures.estimate("pfr", pfr) if pfr else "", style=STYLES["positive_flip"]),
            Text(label, style=STYLES.get(verdict, "")),
        )
        table.add_row(*cells[: len(table.columns)])
    return table


def _short_name(comparison: Comparison, result: Result) -> str:
    """The name, without the metric where it is long and the task and filter have no other."""
    alike = [c for c in result.comparisons if (c.task, c.filter) == (comparison.task, comparison.filter)]
    if len(comparison.name) <= NAME_WIDTH or len(alike) > 1:
        return comparison.name
    return comparison.name.removesuffix(f"/{comparison.metric}")


def _comparison(comparison: Comparison, named: bool, color: bool, top: int) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if named:
        parts.append(heading(safe_text(comparison.name), rule=True))
    parts.append("")
    if named or len(comparison.gates) > 1 or any(gate.tier != "critical" for gate in comparison.gates):
        # A single critical one is the verdict line already.
        parts.extend(_gate(gate) for gate in comparison.gates)
        parts.extend([""] if comparison.gates else [])
    if comparison.sequential is not None:
        parts.extend(look_tables(comparison))
    parts.extend([quadrant_picture(comparison), heading("Metrics"), metric_table(comparison)])
    for name, sentence in trust.remarks(comparison):
        parts.append(Text.assemble((f"\n{name}  ", "bold"), safe_text(sentence)))
    remarks = figures.pairing_remarks(comparison)
    if remarks:
        head = (f"\nPairing  {comparison.pairing.paired:,} pairs; ", "bold")
        parts.append(Text.assemble(head, "; ".join(safe_text(remark) for remark in remarks)))
    worst = worst_slices(comparison)
    if worst:
        hidden = len(comparison.slices) - len(worst) - small_slices(comparison)
        parts.extend([heading(f"Worst slices{f' ({hidden} more)' if hidden else ''}"), slice_table(worst)])
    if tests := trust.slice_tests(comparison):
        parts.append(Text(tests if worst else f"\nSlices  {tests}", style="dim"))
    flips = top_flips(comparison, top)
    if flips:
        of = comparison.quadrants.get("negative_flip", len(flips))
        parts.append(heading(f"Negative flips, worst {len(flips)} of {of:,}"))
        parts.extend(Padding(flip_block(flip, comparison.kind, color), (0, 0, 1, 0)) for flip in flips[:-1])
        parts.append(Group(flip_block(flips[-1], comparison.kind, color)))
    return parts


def _gate(gate: Gate) -> Text:
    symbol = figures.VERDICT_SYMBOLS.get(gate.verdict, "·")
    word = figures.VERDICT_WORDS.get(gate.verdict, gate.verdict)
    return Text.assemble(
        (f"{symbol} {word}", STYLES.get(gate.verdict, "bold")),
        f"  {safe_text(figures.rule_text(gate))}  {safe_text(gate.reason)}",
    )
