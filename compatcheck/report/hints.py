"""What to run next: one or two commands that fit the verdict."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from compatcheck.compare.result import Result
from compatcheck.report.figures import all_gates
from compatcheck.report.text import safe_text

_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""")
"""A word of a shell command as :func:`shlex.join` writes it, its quotation marks with it."""


@dataclass(frozen=True)
class Hint:
    """A command and what it is for. ``command`` is empty where there is only advice."""

    why: str
    command: str


def next_steps(result: Result, folder: Path | None = None) -> tuple[Hint, ...]:
    """Hints for the reader of a report.

    ``folder`` is where the result is kept; None where it is not kept. Text is safe to show.
    """
    hints = []
    needed = max((gate.needed_n for _, gate in all_gates(result) if gate.needed_n), default=None)
    if result.verdict == "inconclusive" and needed:
        hints.append(Hint(f"about {needed:,} instances would settle the verdict: raise --limit or add data", ""))
    if folder is not None:
        where = safe_text(shlex.quote(str(folder)))
        hints.append(Hint("browse every instance side by side", f"compatcheck report {where} --format html"))
    elif result.command:
        hints.append(
            Hint("browse every instance side by side", f"{safe_text(result.command)} --format html --out compat-report")
        )
    if result.verdict == "none":
        hints.append(Hint("set a budget, for an exit code that CI can use: add", "--fail-on nfr:2%"))
    return tuple(hints)


def folded(command: str, width: int, indent: str = "  ") -> str:
    """The command in lines of at most ``width`` characters that a shell reads as one; a longer word stays whole.

    The first line is indented by ``indent`` and those below it twice. What is no command of a shell is left as it is.
    """
    words = _WORD.findall(command)
    if " ".join(words) != command:
        return indent + command
    lines = [indent]
    for word in words:
        if lines[-1].strip() and len(lines[-1]) + len(word) + len("  \\") > width:
            lines[-1] += " \\"
            lines.append(2 * indent)
        lines[-1] += f"{' ' if lines[-1].strip() else ''}{word}"
    return "\n".join(lines)
