"""What was blessed under a name, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from compatcheck.report.text import safe_text


class Entry(Protocol):
    """A line of the history: :class:`compatcheck.baselines.Blessed`."""

    @property
    def time(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def forced(self) -> bool: ...
    @property
    def scores(self) -> Sequence[Mapping[str, Any]]: ...


def render_history(name: str, entries: Sequence[Entry]) -> str:
    """Newest first, as ``@name~k``: when, what, the verdict it was blessed with, and its scores."""
    if not entries:
        return f"@{name}: nothing was blessed under this name"
    lines = []
    for back, entry in enumerate(reversed(entries)):
        label = f"@{name}" + (f"~{back}" if back else "")
        verdict = "first" if back == len(entries) - 1 and entry.verdict == "none" else entry.verdict
        forced = ", forced" if entry.forced else ""
        lines.append(f"{label}  {entry.time[:16].replace('T', ' ')}  {safe_text(entry.reference)}  ({verdict}{forced})")
        for score in entry.scores:
            where = "/".join(str(score[key]) for key in ("task", "filter", "metric") if score[key] not in ("none", ""))
            value = "undefined" if score["value"] is None else f"{score['value']:.4f}"
            lines.append(f"    {safe_text(where)}  {value}  of {score['n']:,}")
    return "\n".join(lines)
