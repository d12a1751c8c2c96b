"""The blocks of the terminal report: quadrant picture, metric table, slices, flips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compatcheck.compare.result import Comparison, Slice
from compatcheck.report import figures, looks, trust
from compatcheck.report.rows import Instance
from compatcheck.report.text import safe_text, trim_middle
from compatcheck.report.worddiff import Segment, trim_segments, word_diff

STYLES: Mapping[str, str] = {
    "pass": "bold green",
    "fail": "bold red",
    "inconclusive": "bold yellow",
    "none": "bold",
    "warning": "yellow",
    "negative_flip": "red",
    "positive_flip": "green",
    "both_correct": "",
    "both_wrong": "dim",
    "unchanged": "dim",
    "delete": "red",
    "insert": "green",
    "cut": "dim italic",
}
BAR = 24
SLICE_BAR = 18
TEXT_LIMIT = 300
"""Characters of one text of a flip that are shown before equal stretches are cut."""
WHOLE_LIMIT = 20_000
"""The same where an instance is shown alone: in full, but for texts that no one reads to their end."""


def heading(title: str, *, rule: bool = False) -> Text:
    """A blank line and a title."""
    line = f"\n{'─' * 3} {title} {'─' * 3}" if rule else f"\n{title}"
    return Text(line, style="bold")


def quadrant_picture(comparison: Comparison) -> Table:
    """Old × new as a two-by-two picture (discrete), or the three groups with bars (smooth)."""
    return _groups(comparison) if comparison.kind == "smooth" else _two_by_two(comparison)


def _cell(comparison: Comparison, quadrant: str) -> Text:
    count = comparison.quadrants.get(quadrant, 0)
    style = STYLES[quadrant]
    text = Text.assemble(
        (f"{figures.QUADRANT_SYMBOLS[quadrant]} {figures.QUADRANT_LABELS[quadrant]}", style),
        "\n",
        (f"{count:,}", f"bold {style}".strip()),
        f"  {figures.share(count, comparison.n)}",
    )
    bounds = figures.interval("nfr", figures.quadrant_estimate(comparison, quadrant))
    text.append(f"\n{figures.level(comparison)}: {bounds}" if bounds else "\n", style="dim")
    return text


def _two_by_two(comparison: Comparison) -> Table:
    table = Table(box=box.SQUARE, show_lines=True, header_style="dim", padding=(0, 1))
    table.add_column(Text(f"n = {comparison.n:,}", style="dim"), style="dim", vertical="middle")
    table.add_column("new right", min_width=24)
    table.add_column("new wrong", min_width=24)
    table.add_row("old right", _cell(comparison, "both_correct"), _cell(comparison, "negative_flip"))
    table.add_row("old wrong", _cell(comparison, "positive_flip"), _cell(comparison, "both_wrong"))
    return table


def _groups(comparison: Comparison) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column(f"n = {comparison.n:,}")
    table.add_column("count", justify="right")
    table.add_column("share", justify="right")
    table.add_column(f"{figures.level(comparison)} interval")
    table.add_column("")
    for quadrant in figures.groups(comparison):
        count = comparison.quadrants.get(quadrant, 0)
        symbol, style = figures.QUADRANT_SYMBOLS[quadrant], STYLES[quadrant]
        length = round(BAR * count / comparison.n) if comparison.n else 0
        table.add_row(
            Text(f"{symbol} {figures.QUADRANT_LABELS[quadrant]}", style=style),
            f"{count:,}",
            figures.share(count, comparison.n),
            figures.interval("nfr", figures.quadrant_estimate(comparison, quadrant)),
            Text(symbol * max(length, 1 if count else 0), style=style),
        )
    return table


def metric_table(comparison: Comparison) -> RenderableType:
    """The change of the headline score, then every metric with its interval and denominator, then the tests."""
    parts: list[RenderableType] = []
    change = figures.headline_change(comparison)
    if change:
        parts.append(Text.assemble(safe_text(change.label), "  ", (change.short, "bold"), f"  {change.delta}"))
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, show_header=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column(f"{figures.level(comparison)} interval")
    table.add_column("of", style="dim")
    for name, figure in comparison.metrics.items():
        if change and name == change.difference:
            continue  # said above
        info = figures.metric_info(name)
        if figure.value is None:
            table.add_row(safe_text(info.label), "undefined", Text(safe_text(figure.why or ""), style="dim"), "")
            continue
        table.add_row(
            safe_text(info.label),
            figures.estimate(name, figure),
            figures.interval(name, figure),
            trust.beside(comparison, name, figure),
        )
    parts.append(table)
    for name, p in comparison.tests.items():
        parts.append(Text(f"{figures.TEST_LABELS.get(name, safe_text(name))}: {figures.p_value(p)}"))
    return Group(*parts)


def look_tables(comparison: Comparison) -> list[RenderableType]:
    """How the bounds of every budget went while instances came in."""
    parts: list[RenderableType] = [Text(looks.drawn(comparison), style="dim")]
    for path in comparison.sequential.paths if comparison.sequential is not None else ():
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
        table.add_column("n", justify="right")
        table.add_column("value", justify="right")
        table.add_column(f"{figures.level(comparison)} bounds at every look")
        table.add_column("• value  | budget", no_wrap=True)
        for row in looks.rows(path):
            table.add_row(row.n, row.value, row.bounds, row.track)
        parts.extend([Text(f"\n{safe_text(looks.title(path))}", style="bold"), table])
    return [*parts, ""]


def slice_table(slices: Iterable[Slice]) -> Table:
    """One line a slice with a bar of its flips, as ``git diff --stat`` draws changes."""
    slices = list(slices)
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column("slice", overflow="fold", max_width=24)
    table.add_column("n", justify="right")
    table.add_column("NFR", justify="right")
    lost = any(part.lost is not None for part in slices)
    if lost:
        table.add_column("1−BTC", justify="right")
    table.add_column("adj. p", justify="right")
    table.add_column("+ better  - worse", no_wrap=True)
    most = max((part.positive_flips + part.negative_flips for part in slices), default=0)
    for part in slices:
        total = part.positive_flips + part.negative_flips
        scale = min(1.0, SLICE_BAR / most) if most else 0.0
        plus = round(part.positive_flips * scale) or int(part.positive_flips > 0)
        minus = round(part.negative_flips * scale) or int(part.negative_flips > 0)
        table.add_row(
            Text(trim_middle(safe_text(f"{part.field}={part.value}"), 40)),
            f"{part.n:,}",
            figures.estimate("nfr", part.nfr),
            *([figures.estimate("btc", part.lost)] if lost and part.lost is not None else []),
            "" if part.p_adjusted is None else figures.p_value(part.p_adjusted).removeprefix("p ").removeprefix("= "),
            Text.assemble((f"{total:,} ".rjust(6)), ("+" * plus, "green"), ("-" * minus, "red")),
        )
    return table


def flip_block(flip: Instance, kind: str, color: bool, *, whole: bool = False) -> Table:
    """One instance: what was asked, the target, and both answers with their word differences.

    Texts are cut to what a report has room for, or, where the ``whole`` is asked for, to :data:`WHOLE_LIMIT`.
    """
    limit = WHOLE_LIMIT if whole else TEXT_LIMIT
    scores = ""
    if kind == "smooth" and flip.score_old is not None and flip.score_new is not None:
        scores = f"  score {figures.number(flip.score_old, 'score')} → {figures.number(flip.score_new, 'score')}"
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", min_width=8)
    table.add_column(overflow="fold")
    table.add_row("id", Text.assemble((trim_middle(flip.doc_id, 60), "bold"), scores))
    if flip.input is not None:
        shown = trim_middle(flip.input, limit) if whole else trim_middle(flip.input.replace("\n", " ⏎ "), 150)
        table.add_row("input", Text(shown))
    if flip.target is not None:
        table.add_row("target", Text(trim_middle(flip.target, limit)))
    _pair(table, ("old", "new"), flip.shown_old, flip.shown_new, color, limit)
    if flip.response_old is not None and flip.response_new is not None:
        _pair(table, ("old text", "new text"), flip.response_old, flip.response_new, color, limit)
    if whole and flip.prompt_old is not None and flip.prompt_new is not None:
        _pair(table, ("old prompt", "new prompt"), flip.prompt_old, flip.prompt_new, color, limit)
    for name, error in (("old", flip.error_old), ("new", flip.error_new)):
        if error is not None:
            table.add_row(f"{name} failed", Text(trim_middle(error, limit), style=STYLES["warning"]))
    return table


def _pair(table: Table, names: tuple[str, str], old: str, new: str, color: bool, limit: int) -> None:
    difference = word_diff(old, new)
    nothing_shared = not any(s.kind == "equal" for s in difference.segments)
    for name, segments in zip(names, (difference.old, difference.new), strict=True):
        table.add_row(name, _marked(trim_segments(segments, limit), color, plain=nothing_shared))


def _marked(segments: tuple[Segment, ...], color: bool, *, plain: bool) -> Text:
    """Changed words in colour, or between ``[-`` ``-]`` and ``{+`` ``+}`` as git marks them.

    ``plain`` leaves the marks out: where the texts share no word, they would only repeat that they differ.
    """
    text = Text()
    for segment in segments:
        shown = segment.text
        if color or plain:
            pass
        elif segment.kind == "delete":
            shown = f"[-{shown}-]"
        elif segment.kind == "insert":
            shown = f"{{+{shown}+}}"
        text.append(shown, style=STYLES.get(segment.kind, "") if color else "")
    return text
