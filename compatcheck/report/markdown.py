"""The report as GitHub-flavoured Markdown, fit for a pull-request comment."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compatcheck.compare.result import Comparison, Result
from compatcheck.report import content, figures, headline, looks, sections, themes, trend
from compatcheck.report.instances import Instance, telling_flips, which_flips
from compatcheck.report.text import safe_text, trim_middle
from compatcheck.report.worddiff import Segment, side_by_side, trim_segments

MAX_CHARACTERS = 60_000
"""GitHub refuses comments above 65,536 characters; flips are left out, and counted, to stay below this."""
TEXT_LIMIT = 1200
ESCAPED_LIMIT = 2000
"""Characters of one piece of running text: a name, a reason, a note."""
SHOWN = 3
"""Flips of a comparison that are not folded away."""
NOTES = 3
"""Notes at the top; more of them are folded away."""
MAX_OVERVIEW = 100
"""Comparisons in the overview, those that matter most."""
MAX_DETAILS = 20
"""Comparisons that are shown in full."""
MAX_FLIPS = 60
"""Flips of all comparisons together, so that a report of many comparisons is made in a moment; at least one each."""
DIFF_TOKENS = 800
"""Words of one text that are compared one by one; the time grows with their square."""
EMOJI = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "none": "▫️"}
_TAGS = {"delete": "del", "insert": "ins", "cut": "i"}


def escape(text: object) -> str:
    """Untrusted text for running Markdown and tables: marks as character references, inside ``<code>``.

    Character references are literal in Markdown, so no pipe, link, emphasis or tag is left; GitHub turns no ``@name``
    and no ``#12`` inside ``<code>`` into a link.
    """
    shown = re.sub(
        r"www\.|[!-$&'*:<>?@\[-`{-~]",
        lambda match: "www&#46;" if match[0] == "www." else f"&#{ord(match[0])};",
        trim_middle(safe_text(text), ESCAPED_LIMIT),
    )
    return f"<code>{shown}</code>"


def prose(text: str) -> str:
    """A sentence that may hold untrusted text: as :func:`escape`, but in the running font where it is plain words."""
    clean = safe_text(text)
    words = re.sub(r"(?<=\w)_(?=\w)", "", clean)  # within a word it is no emphasis
    plain = all(c.isalnum() or c in " ,.:;%()'–−+-→Δ×=<" for c in words) and "www." not in words
    return clean.replace("<", "&lt;") if plain else escape(text)


def verdict(name: str) -> str:
    """A verdict in a table."""
    return f"{EMOJI.get(name, '')} {prose(figures.VERDICT_WORDS.get(name, name))}" if name else ""


def preformatted(text: str) -> str:
    """Untrusted text for the inside of a ``<pre>`` block, where only HTML is read."""
    return html.escape(safe_text(text, multiline=True), quote=False)


def draw(table: sections.Table) -> str:
    """A table of the report, without the columns that only a page or a terminal can draw."""
    table = table.without("whisker", "track")
    lines = [
        [heading for heading, _ in table.columns],
        ["--:" if kind in ("number", "value", "worse", "better") else ":--" for _, kind in table.columns],
        *([_cell(kind, value, table.most) for (_, kind), value in zip(table.columns, row, strict=False)]
          for row in table.rows),
    ]  # fmt: skip
    width = len(table.columns)
    return "\n".join("| " + " | ".join([*line, *[""] * (width - len(line))]) + " |" for line in lines)


def _cell(kind: str, value: Any, most: int) -> str:
    if kind == "flips":
        worse, better = sections.bar(value, most, 10)
        return f"{value[0]:,} − / {value[1]:,} + {'🟥' * worse}{'🟩' * better}"
    if kind == "name":
        return escape(trim_middle(value, 200))
    if kind == "verdict":
        return verdict(value)
    return prose(value[0] if kind == "metric" else value)


def render(
    result: Result,
    *,
    top: int = 10,
    folder: Path | None = None,
    limit: int = MAX_CHARACTERS,
    measure: Callable[[str], int] = len,
) -> str:
    """Return the report as Markdown of at most about ``limit`` characters, or what ``measure`` counts.

    ``top`` is how many negative flips are shown per comparison; where they do not fit, fewer are, and it is said.
    """
    top = min(top, max(MAX_FLIPS // max(len(result.comparisons), 1), 1))
    blocks = _document(result, top, folder)
    while measure("\n\n".join(blocks)) >= limit and top > 0:
        top = top // 2
        blocks = _document(result, top, folder)
    text = "\n\n".join(blocks)
    if measure(text) < limit:
        return text + "\n"
    kept, blocks, room = [], text.split("\n\n"), limit
    for block in blocks:
        room -= measure(block) + 2
        if room < 0:
            break
        kept.append(block)
    text = "\n\n".join(kept)
    closing = "\n\n</details>" * (text.count("<details>") - text.count("</details>"))
    return f"{text}{closing}\n\n*The rest is left out: see report.json and the HTML report.*\n"


def head(result: Result) -> list[str]:
    """The facts at the top of a report."""
    return [
        f"**{fact.label}: {prose(fact.strong)}**, {prose(fact.text)}" if fact.strong
        else f"**{fact.label}:** {prose(fact.text)}"
        for fact in content.facts(result)
    ]  # fmt: skip


def _document(result: Result, top: int, folder: Path | None) -> list[str]:
    word = content.verdict_line(result)[0]
    sides = tuple((name, s.reference, s.kind, s.fingerprint) for name, s in (("old", result.old), ("new", result.new)))
    steps = content.next_steps(result, folder)
    first, several = headline.worst_comparison(result), len(result.comparisons) > 1
    name = headline.plain_name(result.comparisons[first], result) if several else ""
    blocks = [
        f"## {EMOJI.get(result.verdict, '')} compatcheck: {prose(word)}",
        f"**{prose(content.sentence(result))}**",
        f"old {escape(result.old.shown)} → new {escape(result.new.shown)}",
        *head(result),
        *(f"**Next:** {prose(why)}{f' {escape(command)}' if command else ''}" for why, command in steps),
        *(f"> [!NOTE]\n> {prose(note)}" for note in content.notes(result)[:NOTES]),
        *(_broke(result.comparisons[first], top, name) if result.comparisons else []),
    ]
    if notes := content.notes(result)[NOTES:]:
        blocks.append(
            _details(figures.plural(len(notes), "more note"), "\n".join(f"- {prose(note)}" for note in notes))
        )
    shown = content.most_important(result, MAX_DETAILS)
    if several:
        blocks += ["### Overview", draw(content.overview(content.most_important(result, MAX_OVERVIEW)))]
        if (left := len(result.comparisons) - MAX_OVERVIEW) > 0:
            blocks.append(f"{left:,} more comparisons are in report.json.")
    if trends := trend.lines(result, shown):
        blocks.append("**Blessed runs**\n\n" + "\n".join(f"- {escape(name)}: {escape(line)}" for name, line in trends))
    for comparison in shown:
        if several:
            blocks.append(f"### {escape(comparison.name)}")
            if comparison is not result.comparisons[first]:
                blocks += _broke(comparison, top)
        blocks += _comparison(comparison)
    if (left := len(result.comparisons) - MAX_DETAILS) > 0:
        blocks.append(f"{left:,} more comparisons are in the overview alone.")
    columns = (("", "text"), *((each, "name") for each in ("reference", "kind", "fingerprint")))
    return [*blocks, draw(sections.Table(columns, sides))]


def _broke(comparison: Comparison, top: int, name: str = "") -> list[str]:
    """The flips to look at first, the rest folded away, and what kinds there are."""
    of = comparison.first_count
    flips = [_flip(flip, comparison) for flip in telling_flips(comparison, top)]
    first, rest, kind = flips[:SHOWN], flips[SHOWN:], f"{sections.flip_name(comparison).capitalize()}s"
    where = f" in {prose(name)}" if name else ""
    title = f"**{sections.first_shown(comparison)}{where}: {which_flips(comparison, len(first))}**"
    blocks = [title, *first] if first else []
    if rest:
        blocks.append(_details(f"{kind} {SHOWN + 1} to {len(flips)} of {of:,}", *rest))
    elif of and not first:
        blocks.append(f"{of:,} {kind.lower()}, left out for length: see the HTML report.")
    if kinds := sections.kinds(comparison):
        blocks.append(f"**Kinds of failure:** {prose(kinds)}")
    return [*blocks, *(f"**{name}:** {prose(said)}" for name, said in themes.lines(comparison))]


def _comparison(comparison: Comparison) -> list[str]:
    blocks = [draw(sections.gates(comparison))] if comparison.gates else []
    if comparison.sequential is not None:
        tables = (
            f"{prose(looks.path_title(path))}\n\n{draw(looks.looks(comparison, path))}"
            for path in comparison.sequential.paths
        )
        blocks += [looks.drawn(comparison), _details("Bounds over instances", *tables)]
    blocks.append(_quadrants(comparison))
    parts = [each for each in sections.details(comparison) if each.table is not None]
    tables = (
        "\n\n".join([f"**{part.title}**", draw(part.table), *([prose(part.note)] if part.note else [])])
        for part in parts
        if part.table is not None
    )
    tests = (prose(line) for line in sections.tests(comparison))
    blocks.append(_details(", ".join(part.title for part in parts) or "Metrics", *tables, *tests))
    blocks += [f"**{name}:** {prose(sentence)}" for name, sentence in sections.remarks(comparison)]
    if remarks := sections.pairing_remarks(comparison):
        listed = "; ".join(prose(remark) for remark in remarks)
        blocks.append(f"**Pairing:** {comparison.pairing.paired:,} pairs; {listed}")
    slices = sections.slices(comparison, 8)
    if slices.table.rows:
        more = f" ({slices.more} more in report.json)" if slices.more else ""
        note = [f"<sub>{slices.note}</sub>"] if slices.note else []
        blocks.append(_details(f"{sections.slices_title(comparison)}{more}", draw(slices.table), *note))
    return [*blocks, f"<sub>{escape(comparison.signature)}</sub>"]


def _details(title: str, *blocks: str) -> str:
    return "\n\n".join([f"<details>\n<summary>{title}</summary>", *blocks, "</details>"])


def _quadrants(comparison: Comparison) -> str:
    cells = sections.quadrants(comparison)
    bounds = [f" ({cell.interval})" if cell.interval else "" for cell in cells]
    texts = [f"{cell.n:,} · {cell.share}{bound}" for cell, bound in zip(cells, bounds, strict=True)]
    n = f"n = {comparison.n:,}"
    if sections.shape(comparison) == "column":
        lines = [[n, f"share ({figures.level(comparison)} interval)"], [":--", ":--"]]
        lines += [[cell.label, text] for cell, text in zip(cells, texts, strict=True)]
    else:
        shown = [f"{cell.label}: {text}" for cell, text in zip(cells, texts, strict=True)]
        lines = [[n, "new right", "new wrong"], [":--"] * 3]
        lines += [["old right", shown[0], f"**{shown[1]}**"], ["old wrong", *shown[2:]]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _flip(flip: Instance, comparison: Comparison) -> str:
    lines = [
        f"{name:<10}{preformatted(trim_middle(text, TEXT_LIMIT))}"
        for name, text in (("input", flip.input), ("target", flip.target)) if text is not None
    ]  # fmt: skip
    for suffix, old, new in flip.pairs():
        sides = zip(("old", "new"), side_by_side(old, new, DIFF_TOKENS), strict=True)
        for name, segments in ((f"{side}{suffix}", segments) for side, segments in sides):
            lines.append(f"{name:<10}" + "".join(map(_marked, trim_segments(segments, TEXT_LIMIT))))
    change = flip.score_change(comparison)
    about = [*([change] if change else []), *map(prose, sections.kinds_of(flip))]
    title = " · ".join([escape(trim_middle(flip.doc_id, 80)), *about])
    return "\n".join([f"{title}\n\n<pre>", *lines, "</pre>"])


def _marked(segment: Segment) -> str:
    tag, text = _TAGS.get(segment.kind), preformatted(segment.text)
    return f"<{tag}>{text}</{tag}>" if tag else text
