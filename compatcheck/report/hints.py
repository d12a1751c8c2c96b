"""What to run next: one or two commands that fit the verdict."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from compatcheck.compare.result import Result
from compatcheck.report.figures import all_gates
from compatcheck.report.text import safe_text


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
