"""Several candidates against one OLD: which keeps the budgets, the matrix, and every answer to what flipped.

One content, drawn on the terminal, as Markdown and as a page. Texts of models go through each drawing's own escape.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from compatcheck.compare.candidates import (
    Answer,
    Candidates,
    Row,
    candidates_to_dict,
    names_of_comparisons,
    rows_of,
)
from compatcheck.compare.result import name_of
from compatcheck.errors import InputError
from compatcheck.report import content, figures, html
from compatcheck.report import markdown as marked
from compatcheck.report.embedded import payload_of_several
from compatcheck.report.sections import Table
from compatcheck.report.text import NO_ANSWER, safe_text, trim_middle

TERMINAL_ROWS, MARKDOWN_ROWS, PAGE_ROWS = 3, 10, 3
"""Instances of a comparison that are shown, those that most candidates break first; the page lists all below them."""
TEXT_LIMIT = {"terminal": 200, "markdown": 300, "page": 1_000}
SHORT = 30
"""Characters of answers that stand in narrow columns; as in candidates.js."""
WHOLE = 20_000
"""Characters of a text where an instance is asked for."""
_SIGNS = {"negative_flip": "−", "positive_flip": "+", "changed": "~", "tied": "~", "old_preferred": "−",
          "new_preferred": "+"}  # fmt: skip


def verdict_line(several: Candidates) -> tuple[str, str]:
    """The verdict word, and which candidates keep every budget."""
    word = figures.VERDICT_WORDS.get(several.verdict, several.verdict.upper())
    every = figures.plural(len(several.results), "candidate")
    if several.verdict == "none":
        return word, f"{every}; set a budget with --fail-on to have them judged"
    kept = [name for name, one in zip(several.names, several.results, strict=True) if one.verdict == "pass"]
    which = ": " + ", ".join(kept) if kept else ""
    return word, f"{len(kept)} of {every} {'keeps' if len(kept) == 1 else 'keep'} every budget{which}"


def summary(several: Candidates) -> Table:
    """A row a candidate: its number, by which the matrix names it, its verdict and why."""
    rows = [
        (f"{number}", name, one.verdict, content.verdict_line(one)[1])
        for number, (name, one) in enumerate(zip(several.names, several.results, strict=True), 1)
    ]
    return Table((("#", "number"), ("candidate", "name"), ("verdict", "verdict"), ("why", "text")), tuple(rows))


class Line(NamedTuple):
    """One comparison of the matrix in words."""

    name: str
    n: str
    old: str
    """OLD's score; empty where its answers are the reference."""
    rate: str
    """What ``cells`` have besides the score."""
    cells: list[tuple[str, str, str] | None]
    """Of every candidate score, rate and verdict; None where it was not compared."""


def lines(several: Candidates) -> list[Line]:
    """The matrix, a line a comparison."""
    cells = {(cell.candidate, name_of(cell.task, cell.filter, cell.metric)): cell for cell in several.cells}
    found = []
    for name in names_of_comparisons(several):
        own = [cells.get((candidate, name)) for candidate in several.names]
        first = next(cell for cell in own if cell is not None)
        kind, changes = _score_name(several, name), first.changed is not None
        old = "" if changes else figures.estimate(f"{kind}_old", first.score_old)
        said = [
            None if cell is None else
            (
                figures.estimate(f"{kind}_new", cell.score_new), figures.estimate("nfr", cell.changed or cell.nfr),
                cell.verdict,
            )
            for cell in own
        ]  # fmt: skip
        found.append(Line(name, f"{first.n:,}", old, "changed" if changes else "NFR", said))
    return found


def matrix(several: Candidates) -> Table:
    """Two rows a comparison: scores, OLD's and every candidate's; below them their NFR and what budgets say."""
    rows: list[tuple[str, ...]] = []
    for line in lines(several):
        rates = [_rate(cell[1], cell[2]) if cell else "not compared" for cell in line.cells]
        rows.append((line.name, line.n, line.old, *(cell[0] if cell else "–" for cell in line.cells)))
        rows.append((line.rate, "", "", *rates))
    columns = (("comparison", "name"), ("n", "number"), ("OLD", "number"))
    return Table((*columns, *((f"{number}", "number") for number in range(1, len(several.names) + 1))), tuple(rows))


def _rate(rate: str, verdict: str) -> str:
    return rate if verdict == "none" else f"{rate} {figures.VERDICT_SYMBOLS[verdict]}"


def budgets(several: Candidates, comparison: str) -> Table:
    """What the budgets of every candidate say of one comparison."""
    rows = [
        (f"{number}", gate.rule, gate.verdict, gate.reason)
        for number, result in enumerate(several.results, 1)
        for one in result.comparisons if one.name == comparison
        for gate in one.gates
    ]  # fmt: skip
    return Table((("#", "number"), ("budget", "name"), ("verdict", "verdict"), ("reason", "text")), tuple(rows))


def _score_name(several: Candidates, comparison: str) -> str:
    each = (one for result in several.results for one in result.comparisons if one.name == comparison)
    means = (one.kind == "smooth" if one.reference is None else "similarity" in one.metrics for one in each)
    return "score" if any(means) else "accuracy"


def notes(several: Candidates) -> list[str]:
    """What is said of each candidate, with its number where it is not said of all; first what bears on the figures."""
    said: dict[str, list[int]] = {}
    every = list(enumerate(several.results, 1))
    settings = [(n, one.differences.sentence) for n, one in every if one.differences and one.differences.found]
    missing = [(n, note) for n, one in every for note in content.missing_rows(one)]
    for number, note in [*settings, *missing, *((n, note) for n, one in every for note in one.notes)]:
        said.setdefault(note, []).append(number)

    def whose(of: set[int]) -> str:
        return "" if len(of) == len(every) else f"candidate{'s' * (len(of) > 1)} {', '.join(map(str, sorted(of)))}: "

    return [f"{whose(set(of))}{note}" for note, of in said.items()]


def flips(several: Candidates, most: int) -> Iterator[tuple[str, list[Row], int]]:
    """Of every comparison that has any the instances that flip, at most so many, and how many there are."""
    for name in names_of_comparisons(several):
        rows = [row for row in rows_of(several, name) if row.flipped]
        if rows:
            yield name, rows[:most], len(rows)


def answer_text(answer: Answer | None) -> tuple[str, str]:
    """The sign of a flip (empty without), and the answer."""
    if answer is None:
        return "", "not compared"
    return _SIGNS.get(answer.quadrant or "", ""), NO_ANSWER if answer.text is None else answer.text


def to_json(several: Candidates, *, folder: Path | None = None) -> str:
    """report.json, the contract ``compatcheck.report/2``: strict JSON without instances; ``folder`` is not used."""
    del folder
    return json.dumps(candidates_to_dict(several), indent=2, ensure_ascii=True, allow_nan=False)


def terminal(
    several: Candidates,
    *,
    width: int | None = None,
    color: bool | None = None,
    quiet: bool = False,
    folder: Path | None = None,
    encoding: str | None = None,
) -> str:
    """The report as text of at most ``width`` columns; ``quiet`` gives the verdict line alone."""
    from rich.text import Text

    from compatcheck.report import terminal as drawn

    width = drawn.terminal_width() if width is None else width
    color = drawn.wants_color() if color is None else color
    word, said = verdict_line(several)
    sign = figures.VERDICT_SYMBOLS.get(several.verdict, "·")
    head = Text.assemble((f"{sign} {word}", drawn.STYLES.get(several.verdict, "bold")), "  ", safe_text(said))
    if quiet:
        return drawn.render_parts([head], width=width, color=color, encoding=encoding, soft_wrap=True)
    parts: list[Any] = [head, "", drawn.draw(summary(several), padding=1)]
    parts += [Text(f"! {safe_text(note)}", style=drawn.STYLES["warning"]) for note in notes(several)]
    parts += [Text(f"\nMatrix, OLD {safe_text(several.old.reference)}", style="bold")]
    parts += [drawn.draw(matrix(several), padding=1)]
    for name, rows, count in flips(several, TERMINAL_ROWS):
        parts.append(Text(f"\n{safe_text(name)}: {figures.plural(count, 'instance')} flip, first {len(rows)}", "bold"))
        parts += [Text(line) for row in rows for line in [*row_lines(row, TEXT_LIMIT["terminal"]), ""]]
    if folder is not None:
        command = f"compatcheck report {shlex.quote(str(folder))} --candidate 1"
        parts += [Text("\nNext", style="bold"), Text(f"one candidate in full: {safe_text(command)}")]
    return drawn.render_parts(parts, width=width, color=color, encoding=encoding)


def row_lines(row: Row, limit: int) -> list[str]:
    """One instance with every answer, in lines for a terminal."""

    def shown(text: str) -> str:
        return safe_text(trim_middle(text, limit))

    named = [(name, text) for name, text in (("input", row.input), ("target", row.target)) if text is not None]
    lines = [shown(row.doc_id), *(f"  {name:<7}{shown(text)}" for name, text in named)]
    lines.append(f"  {'OLD':<7}{shown(NO_ANSWER if row.old is None else row.old)}")
    for number, answer in enumerate(row.answers, 1):
        sign, text = answer_text(answer)
        lines.append(f"  {f'{sign}{number}':<7}{shown(text)}")
    return lines


def shown_rows(
    several: Candidates, *, task: str | None = None, doc_id: str | None = None, search: str = "", limit: int = 20
) -> str:
    """The instances that flip with any candidate, or the one named, with every answer; at most so many.

    Raises:
        InputError: no comparison of that name, or no such instance.
    """
    names = [name for name in names_of_comparisons(several) if task in (None, name, *name.split("/"))]
    if not names:
        raise InputError(f"--task {task}: no comparison here; there are {', '.join(names_of_comparisons(several))}")
    words = search.lower().split()
    found = []
    for name in names:
        for row in rows_of(several, name):
            lines = row_lines(row, WHOLE)
            held = "\n".join(lines).lower()
            if (row.flipped if doc_id is None else row.doc_id == doc_id) and all(word in held for word in words):
                found.append("\n".join([safe_text(name), *lines]))
    if not found:
        raise InputError(f"{'no instance flips' if doc_id is None else f'{doc_id}: no such instance'} here")
    more = [f"{len(found) - limit:,} more of {len(found):,}: raise --limit"] if len(found) > limit else []
    return "\n\n".join([*found[:limit], *more])


def _blocks(several: Candidates) -> list[str]:
    """Blocks of Markdown."""
    word, said = verdict_line(several)
    blocks = [
        f"## {marked.EMOJI.get(several.verdict, '')} compatcheck: {marked.prose(word)}",
        f"**{marked.prose(said)}**",
        marked.draw(summary(several)),
        *(f"> [!NOTE]\n> {marked.prose(note)}" for note in notes(several)),
        f"### Matrix, OLD {marked.escape(several.old.reference)}",
        marked.draw(matrix(several)),
    ]
    for name, rows, count in flips(several, MARKDOWN_ROWS):
        lines = [line for row in rows for line in [*row_lines(row, TEXT_LIMIT["markdown"]), ""]]
        title = f"{marked.escape(name)}: {figures.plural(count, 'instance')} flip, first {len(rows)}"
        body = "\n".join(marked.preformatted(line) for line in lines).rstrip()
        blocks.append(f"<details>\n<summary>{title}</summary>\n\n<pre>\n{body}\n</pre>\n\n</details>")
    signatures = dict.fromkeys(one.signature for result in several.results for one in result.comparisons)
    return [*blocks, *(f"<sub>{marked.escape(each)}</sub>" for each in signatures)]


def markdown(several: Candidates, *, folder: Path | None = None) -> str:
    """The report as Markdown that fits into a comment; where it does not, the instances are left out from the last."""
    del folder
    blocks, room = [], marked.MAX_CHARACTERS - 100
    for block in _blocks(several):
        room -= len(block) + 2
        if room < 0:
            blocks.append("*The rest is left out: see report.json and the HTML report.*")
            break
        blocks.append(block)
    return "\n\n".join(blocks) + "\n"


def page(several: Candidates, *, folder: Path | None = None) -> str:
    """One HTML file that needs nothing else, with a list of all instances."""
    del folder
    names, packed = names_of_comparisons(several), payload_of_several(several)
    known = {one.name: one for result in several.results for one in result.comparisons}
    failed = Counter(name_of(each.task, each.filter, each.metric) for each in several.cells if each.verdict == "fail")
    worse = {name: [row for row in rows_of(several, name) if row.broken] for name in names}
    first = max(
        names, key=lambda name: (failed[name], max((row.broken for row in worse[name]), default=0), len(worse[name]))
    )
    return html.page_of(
        "candidates.html.j2", several=several, version=several.version, lines=lines(several), shown_rows=PAGE_ROWS,
        worse=worse[first], first=names.index(first), payload=packed[0], remarks=packed[1],
        plain=lambda text: trim_middle(safe_text(text, multiline=True), TEXT_LIMIT["page"]), no_answer=NO_ANSWER,
        comparisons=[known[name] for name in names], row_address=lambda name, row: html.address(known[name], row),
        budgets=budgets, signatures=_signatures, candidates=json.dumps([safe_text(name) for name in several.names]),
        short=lambda row: all(len(text or "") <= SHORT for text in (row.target, row.old, *_texts(row))),
        **html.scripts_of("candidates.js"), **_words(several),
    )  # fmt: skip


def _texts(row: Row) -> list[str | None]:
    return [None if answer is None else answer.text for answer in row.answers]


def _signatures(several: Candidates, comparison: str) -> list[str]:
    every = (one for result in several.results for one in result.comparisons if one.name == comparison)
    return list(dict.fromkeys(one.signature for one in every))


def fragment(several: Candidates) -> str:
    """A compact summary for a notebook cell."""
    return html.page_of("candidates_cell.html.j2", several=several, **_words(several))


def _words(several: Candidates) -> dict[str, Any]:
    word, said = verdict_line(several)
    return {
        "word": word, "said": said, "summary": summary(several), "matrix": matrix(several), "notes": notes(several),
        "answer_text": answer_text,
    }  # fmt: skip
