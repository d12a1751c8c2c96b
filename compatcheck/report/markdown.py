"""The report as GitHub-flavoured Markdown, fit for a pull-request comment."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from compatcheck.compare.result import Comparison, Result, Slice
from compatcheck.report import figures, head, looks, trend, trust
from compatcheck.report.hints import next_steps
from compatcheck.report.rows import Instance, small_slices, top_flips, worst_slices
from compatcheck.report.text import safe_text, trim_middle
from compatcheck.report.worddiff import Segment, trim_segments, word_diff

MAX_CHARACTERS = 60_000
"""GitHub refuses comments above 65,536 characters; flips are left out, and counted, to stay below this."""
TEXT_LIMIT = 1200
ESCAPED_LIMIT = 2000
"""Characters of one piece of running text: a name, a reason, a note."""
MAX_OVERVIEW = 100
"""Comparisons in the overview, those that matter most."""
MAX_DETAILS = 20
"""Comparisons that are shown in full."""
MAX_FLIPS = 60
"""Flips of all comparisons together, so that a report of many comparisons is made in a moment; at least one each."""
DIFF_TOKENS = 800
"""Words of one text that are compared one by one; the time grows with their square."""
EMOJI = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "none": "▫️"}


def escape(text: object) -> str:
    """Untrusted text for running Markdown and tables: marks as character references, inside ``<code>``.

    Character references are literal in Markdown, so no pipe, link, emphasis or tag is left; GitHub turns no ``@name``
    and no ``#12`` inside ``<code>`` into a link.
    """
    marks = re.compile(r"www\.|[!-$&'*:<>?@\[-`{-~]")
    return f"<code>{marks.sub(_reference, trim_middle(safe_text(text), ESCAPED_LIMIT))}</code>"


def _reference(match: re.Match[str]) -> str:
    return "www&#46;" if match[0] == "www." else f"&#{ord(match[0])};"


def preformatted(text: str) -> str:
    """Untrusted text for the inside of a ``<pre>`` block, where only HTML is read."""
    return html.escape(safe_text(text, multiline=True), quote=False)


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
    text = _document(result, top, folder)
    while measure(text) > limit and top > 0:
        top = top // 2
        text = _document(result, top, folder)
    if measure(text) <= limit:
        return text
    blocks = text.split("\n\n")
    room = limit
    kept = 0
    for block in blocks:
        room -= measure(block) + 2
        if room < 0:
            break
        kept += 1
    text = "\n\n".join(blocks[:kept])
    closing = "\n\n</details>" * (text.count("<details>") - text.count("</details>"))
    return f"{text}{closing}\n\n*The rest is left out: see report.json and the HTML report.*\n"


def _document(result: Result, top: int, folder: Path | None) -> str:
    word, reason = figures.verdict_line(result)
    blocks = [
        f"## {EMOJI.get(result.verdict, '')} compatcheck: {word}",
        prose(reason),
        _table(
            ("", "reference", "kind", "fingerprint"),
            "llll",
            [
                (name, escape(side.reference), escape(side.kind) if side.kind else "", escape(side.fingerprint))
                for name, side in (("old", result.old), ("new", result.new))
            ],
        ),
    ]
    advice = figures.advice_line(result)
    if advice is not None:
        blocks.append(f"**Release advice: {prose(advice[0])}**, {prose(advice[1])}")
    blocks.extend(f"**Rows:** {prose(line)}" for line in head.coverage(result))
    if (differ := head.differ(result)) is not None:
        blocks.append(f"**Settings:** {prose(differ)}")
    blocks.extend(f"> [!NOTE]\n> {prose(note)}" for note in result.notes)
    if len(result.comparisons) > 1:
        blocks.extend(["### Overview", _overview(result)])
    if trends := trend.lines(result, figures.most_important(result, MAX_DETAILS)):
        blocks.append("**Blessed runs**\n\n" + "\n".join(f"- {escape(name)}: {escape(line)}" for name, line in trends))
    for comparison in figures.most_important(result, MAX_DETAILS):
        blocks.extend(_comparison(comparison, len(result.comparisons) > 1, top))
    if len(result.comparisons) > MAX_DETAILS:
        blocks.append(f"{len(result.comparisons) - MAX_DETAILS:,} more comparisons are in the overview alone.")
    blocks.extend(
        f"{prose(hint.why)} {escape(hint.command)}" if hint.command else prose(hint.why)
        for hint in next_steps(result, folder)
    )
    return "\n\n".join(blocks) + "\n"


def prose(text: str) -> str:
    """A sentence that may hold untrusted text: as :func:`escape`, but in the running font where it is plain words."""
    clean = safe_text(text)
    return clean if all(c.isalnum() or c in " ,.:;%()–−+-→Δ" for c in clean) and "www." not in clean else escape(text)


def _table(header: tuple[str, ...], align: str, rows: Sequence[tuple[str, ...]]) -> str:
    marks = [{"l": ":--", "r": "--:"}[a] for a in align]
    lines = [header, tuple(marks), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _overview(result: Result) -> str:
    rows = []
    for comparison in figures.most_important(result, MAX_OVERVIEW):
        change = figures.headline_change(comparison)
        verdict = figures.comparison_verdict(comparison)
        word = "" if verdict == "none" else f"{EMOJI[verdict]} {figures.VERDICT_WORDS[verdict]}"
        cells = (escape(comparison.name), f"{comparison.n:,}", change.short if change else "")
        rows.append((*cells, _rate(comparison, "nfr"), _rate(comparison, "pfr"), word))
    table = _table(("comparison", "n", "old → new", "NFR", "PFR", "verdict"), "lrrrrl", rows)
    left = len(result.comparisons) - len(rows)
    return f"{table}\n\n{left:,} more comparisons are in report.json." if left else table


def _rate(comparison: Comparison, name: str) -> str:
    figure = comparison.metrics.get(name)
    return figures.estimate(name, figure) if figure else ""


def _comparison(comparison: Comparison, named: bool, top: int) -> list[str]:
    blocks = [f"### {escape(comparison.name)}"] if named else []
    if comparison.gates:
        blocks.append(
            _table(
                ("budget", "verdict", "reason"),
                "lll",
                [
                    (escape(figures.rule_text(g)), f"{EMOJI.get(g.verdict, '')} {g.verdict}", prose(g.reason))
                    for g in comparison.gates
                ],
            )
        )
    blocks.extend(_looks(comparison))
    blocks.append(_quadrants(comparison))
    blocks.append(_metrics(comparison))
    blocks.extend(f"**{name}:** {prose(sentence)}" for name, sentence in trust.remarks(comparison))
    remarks = figures.pairing_remarks(comparison)
    if remarks:
        listed = "; ".join(prose(remark) for remark in remarks)
        blocks.append(f"**Pairing:** {comparison.pairing.paired:,} pairs; {listed}")
    worst = worst_slices(comparison, 8)
    if worst:
        hidden = len(comparison.slices) - len(worst) - small_slices(comparison)
        more = f" ({hidden} more in report.json)" if hidden else ""
        tests = trust.slice_tests(comparison)
        body = "\n\n".join(part for part in (_slices(worst), f"<sub>{tests}</sub>" if tests else "") if part)
        blocks.append(_details(f"Worst slices{more}", body))
    of = comparison.quadrants.get("negative_flip", 0)
    flips = top_flips(comparison, top)
    if flips:
        body = "\n\n".join(_flip(flip, comparison.kind) for flip in flips)
        blocks.append(_details(f"Negative flips, worst {len(flips)} of {of:,}", body))
    elif of:
        blocks.append(f"{of:,} negative flips, left out for length: see the HTML report.")
    blocks.append(f"<sub>{escape(comparison.signature)}</sub>")
    return blocks


def _details(title: str, body: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"


def _quadrants(comparison: Comparison) -> str:
    def cell(quadrant: str) -> str:
        count = comparison.quadrants.get(quadrant, 0)
        bounds = figures.interval("nfr", figures.quadrant_estimate(comparison, quadrant))
        text = f"{count:,} · {figures.share(count, comparison.n)}"
        return f"{figures.QUADRANT_LABELS[quadrant]}: {text}{f' ({bounds})' if bounds else ''}"

    if comparison.kind == "smooth":
        rows = [tuple(cell(quadrant).split(": ", 1)) for quadrant in figures.groups(comparison)]
        return _table((f"n = {comparison.n:,}", f"share ({figures.level(comparison)} interval)"), "ll", rows)
    return _table(
        (f"n = {comparison.n:,}", "new right", "new wrong"),
        "lll",
        [
            ("old right", cell("both_correct"), f"**{cell('negative_flip')}**"),
            ("old wrong", cell("positive_flip"), cell("both_wrong")),
        ],
    )


def _metrics(comparison: Comparison) -> str:
    rows = []
    for name, figure in comparison.metrics.items():
        label = prose(figures.metric_info(name).label)
        if figure.value is None:
            rows.append((label, "undefined", prose(figure.why or ""), ""))
        else:
            value, of = figures.estimate(name, figure), trust.beside(comparison, name, figure)
            rows.append((label, value, figures.interval(name, figure), of))
    table = _table(("metric", "value", f"{figures.level(comparison)} interval", "of"), "lrll", rows)
    tests = [f"{figures.TEST_LABELS.get(k, prose(k))}: {figures.p_value(p)}" for k, p in comparison.tests.items()]
    change = figures.headline_change(comparison)
    head = f"**{prose(change.label)} {change.short}**  {change.delta}" if change else ""
    return "\n\n".join(part for part in (head, _details("All metrics", "\n\n".join([table, *tests]))) if part)


def _looks(comparison: Comparison) -> list[str]:
    """How the bounds went while instances came in, folded away."""
    if comparison.sequential is None:
        return []
    tables = []
    for path in comparison.sequential.paths:
        rows = [(row.n, row.value, row.bounds) for row in looks.rows(path)]
        header = ("n", "value", f"{figures.level(comparison)} bounds at every look")
        tables.append(f"{prose(looks.title(path))}\n\n{_table(header, 'rrl', rows)}")
    return [looks.drawn(comparison), _details("Bounds over instances", "\n\n".join(tables))]


SLICE_BAR = 10
"""Squares of the longest bar."""


def _bar(part: Slice, most: int) -> str:
    """Negative and positive flips of a slice as squares; the longest bar has :data:`SLICE_BAR`."""
    scale = min(1.0, SLICE_BAR / most) if most else 0.0
    worse, better = part.negative_flips, part.positive_flips
    return "🟥" * (round(worse * scale) or int(worse > 0)) + "🟩" * (round(better * scale) or int(better > 0))


def _slices(slices: list[Slice]) -> str:
    most = max((part.positive_flips + part.negative_flips for part in slices), default=0)
    rows = [
        (
            escape(trim_middle(f"{part.field}={part.value}", 60)),
            f"{part.n:,}",
            f"{part.negative_flips:,}",
            f"{part.positive_flips:,}",
            figures.estimate("nfr", part.nfr),
            figures.interval("nfr", part.nfr),
            "" if part.lost is None else figures.estimate("btc", part.lost),
            "" if part.p_adjusted is None else figures.p_value(part.p_adjusted).removeprefix("p ").removeprefix("= "),
            _bar(part, most),
        )
        for part in slices
    ]
    header = ("slice", "n", "worse", "better", "NFR", "interval", "1−BTC", "adjusted p", "flips")
    return _table(header, "lrrrrlrll", rows)


def _flip(flip: Instance, kind: str) -> str:
    difference = word_diff(flip.shown_old, flip.shown_new, DIFF_TOKENS)
    lines = []
    if flip.input is not None:
        lines.append(f"input     {preformatted(trim_middle(flip.input, TEXT_LIMIT))}")
    if flip.target is not None:
        lines.append(f"target    {preformatted(trim_middle(flip.target, TEXT_LIMIT))}")
    lines.append(f"old       {_marked(trim_segments(difference.old, TEXT_LIMIT))}")
    lines.append(f"new       {_marked(trim_segments(difference.new, TEXT_LIMIT))}")
    if flip.response_old is not None and flip.response_new is not None:
        response = word_diff(flip.response_old, flip.response_new, DIFF_TOKENS)
        lines.append(f"old text  {_marked(trim_segments(response.old, TEXT_LIMIT))}")
        lines.append(f"new text  {_marked(trim_segments(response.new, TEXT_LIMIT))}")
    score = ""
    if kind == "smooth" and flip.score_old is not None and flip.score_new is not None:
        score = f" · {figures.number(flip.score_old, 'score')} → {figures.number(flip.score_new, 'score')}"
    body = "\n".join(lines)
    return f"{escape(trim_middle(flip.doc_id, 80))}{score}\n\n<pre>\n{body}\n</pre>"


def _marked(segments: tuple[Segment, ...]) -> str:
    tags = {"delete": "del", "insert": "ins", "cut": "i"}
    parts = []
    for segment in segments:
        tag, text = tags.get(segment.kind), preformatted(segment.text)
        parts.append(f"<{tag}>{text}</{tag}>" if tag else text)
    return "".join(parts)
