"""What every report says at its top: how many rows were compared, and what differs besides the model.

All of it may hold names of the user's: pass it through ``safe_text``.
"""

from __future__ import annotations

from compatcheck.compare.result import Comparison, Pairing, Result
from compatcheck.report.figures import share

SHOWN = 3
"""Comparisons of which the coverage is told one by one."""


def coverage(result: Result) -> tuple[str, ...]:
    """How many rows were compared, and what became of the others; one sentence for each task where something is off."""
    parts = _parts(result)
    found = [(name, gaps(pairing)) for name, pairing in parts]
    off = [f"{f'{name}: ' if len(parts) > 1 else ''}{said}" for name, said in found if said]
    more = [f"and {len(off) - SHOWN} more tasks"] if len(off) > SHOWN else []
    lines = [*off[:SHOWN], *more, *lacking(result)]
    if not lines and parts:
        rows = sum(pairing.larger for _, pairing in parts)
        lines = [f"all {rows:,} rows of both sides were compared"]
    return tuple(lines)


def in_brief(result: Result) -> str:
    """What is off with the rows in one line, for the verdict line; empty where nothing is."""
    found = [(name, gaps(pairing)) for name, pairing in _parts(result)]
    off = [f"{name}: {said}" if len(found) > 1 else said for name, said in found if said]
    more = [f"and {len(off) - SHOWN} more tasks"] if len(off) > SHOWN else []
    return "; ".join([*off[:SHOWN], *more, *lacking(result)])


def gaps(p: Pairing) -> str:
    """Rows that were not compared, and of those that were the ones that show little; empty where there are none."""
    lost = [
        f"{count:,} {what}"
        for count, what in (
            (p.only_old, "only in old"),
            (p.only_new, "only in new"),
            (p.target_changed, "with changed content"),
            (p.errors_old, "in error in old"),
            (p.errors_new, "in error in new"),
        )
        if count
    ]
    weak = [
        f"{what}: {old or 0:,} old, {new or 0:,} new"
        for what, old, new in (
            ("no answer", p.no_answer_old, p.no_answer_new),
            ("cut off", p.cut_off_old, p.cut_off_new),
        )
        if old or new
    ]
    if not (lost or weak):
        return ""
    whole = f"{p.paired:,} of {p.larger:,} rows compared ({share(p.paired, p.larger)})"
    return "; ".join([f"{whole}: {', '.join(lost)}" if lost else f"{p.paired:,} rows compared", *weak])


def lacking(result: Result) -> list[str]:
    """Tasks and filters of one side alone, with their rows."""
    said = [f"{one.task} ({one.filter}) only in {one.side}: {one.rows:,} rows" for one in result.absent[:SHOWN]]
    return said + ([f"and {len(result.absent) - SHOWN} more of one side"] if len(result.absent) > SHOWN else [])


def differ(result: Result) -> str | None:
    """What OLD and NEW differ in besides the model; None in a report that was kept before it was looked at."""
    return None if result.differences is None else result.differences.sentence


def _parts(result: Result) -> list[tuple[str, Pairing]]:
    """The pairing of each task and filter, once for all of its metrics."""
    each: dict[tuple[str, str], Comparison] = {}
    for comparison in result.comparisons:
        each.setdefault((comparison.task, comparison.filter), comparison)
    named = {key: key[0] if key[1] in ("none", "") else "/".join(key) for key in each}
    return [(named[key], comparison.pairing) for key, comparison in each.items()]
