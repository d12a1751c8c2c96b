"""GitHub: annotations as workflow commands, the step summary, and Markdown for one comment that is updated.

Workflow commands: https://docs.github.com/actions/reference/workflow-commands-for-github-actions. A step shows ten
annotations of each kind, a step summary holds 1 MiB, a comment 65,536 characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compatcheck.compare.result import Result
from compatcheck.errors import InputError
from compatcheck.report import content, headline, markdown, sections
from compatcheck.report.instances import describe, listed_flips, report_key
from compatcheck.report.text import safe_text, trim_middle

SHOWN = 10
"""Annotations of one kind that GitHub shows per step."""
SUMMARY_LIMIT = 1024 * 1024
"""Bytes of all that one step adds to its summary; a longer one is refused as a whole."""
LEAST_ROOM = 4_096
"""Bytes below which a report is left out: it would be cut before its verdict."""
SUMMARY_FLIPS = 30
_LEVELS = {"fail": "error", "inconclusive": "warning"}


def render(result: Result, *, folder: Path | None = None) -> str:
    """Return the workflow commands, one a line: what GitHub shows as annotations of the run."""
    del folder
    return "\n".join(_annotations(result)) + "\n"


def comment(result: Result, *, folder: Path | None = None) -> str:
    """Return Markdown for a comment, its first line a hidden marker by which the comment is found and updated."""
    return f"{marker(result, folder)}\n{markdown.render(result, folder=folder)}"


def marker(result: Result, folder: Path | None = None) -> str:
    """A hidden line that stays the same from run to run of one check: see :func:`report_key`."""
    return f"<!-- compatcheck:{report_key(result, folder)} -->"


def escape_data(text: str) -> str:
    """Text for the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Text for the value of a property of a workflow command."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def _command(level: str, title: str, message: str) -> str:
    title, message = trim_middle(safe_text(title), 150), trim_middle(message, 4_000)
    return f"::{level} title={escape_property(title)}::{escape_data(safe_text(message, multiline=True))}"


def _annotations(result: Result) -> Iterator[str]:
    word = content.verdict_line(result)[0]
    level = _LEVELS.get(result.verdict, "notice")
    lines = [content.sentence(result), headline.reason(result)]
    if result.advice is not None:
        lines.append(f"release advice: {result.advice.bump}: {result.advice.reason}")
    lines += ["; ".join(content.missing_rows(result))]
    lines += [fact.text for fact in content.facts(result) if fact.label == "Differ"]
    yield _command(level, f"compatcheck: {word}", "\n".join(filter(None, lines)))
    used = {"error": 0, "warning": 0} | {level: 1}
    for verdict, kind in _LEVELS.items():
        gates = [(c, g) for c, g in content.all_gates(result) if g.verdict == verdict]
        if len(gates) == 1 and verdict == result.verdict:
            continue  # it is the verdict line already
        room = SHOWN - used[kind]
        for comparison, gate in gates if len(gates) <= room else gates[: room - 1]:
            yield _command(kind, f"{comparison.name}: {gate.rule}", gate.reason)
        if len(gates) > room:
            yield _command(kind, "compatcheck", f"{len(gates) - room + 1:,} more budgets: {verdict}; see the report")
        used[kind] += min(len(gates), room)
    # The worst flips of comparisons that break a budget, as many as are shown.
    room = SHOWN - used["warning"]
    failed = [each for each in listed_flips(result, SHOWN) if each[0].verdict == "fail"]
    for place, (comparison, flips) in enumerate(failed):
        take = room // (len(failed) - place)
        for flip in flips[:take]:
            title = f"{sections.flip_name(comparison)} in {comparison.name}: {trim_middle(flip.doc_id, 40)}"
            yield _command("warning", title, describe(flip, comparison, 400))
        room -= min(take, len(flips))


def append_summary(result: Result, path: Path, folder: Path | None = None) -> bool:
    """Append the report to the summary file of a step, cut so that the file stays within GitHub's limit.

    Returns whether there was room for anything.
    Raises InputError: the file cannot be written.
    """
    try:
        room = SUMMARY_LIMIT - (path.stat().st_size if path.exists() else 0)
        if room < LEAST_ROOM:
            return False
        text = "\n" + markdown.render(
            result, top=SUMMARY_FLIPS, folder=folder, limit=room - 512, measure=lambda part: len(part.encode())
        )
        with path.open("ab") as file:
            file.write(text.encode())
    except OSError as error:
        raise InputError(f"GITHUB_STEP_SUMMARY={path}: cannot be written ({error.strerror})") from error
    return True
