"""A kept comparison that this one adds instances to: what that does to the error rate of the verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from compatcheck.compare.result import Result
from compatcheck.errors import InputError
from compatcheck.report.store import read_report


def with_earlier_looks(result: Result, folder: Path | None) -> Result:
    """The result with a note where ``folder`` keeps an inconclusive verdict on fewer instances of the same budgets.

    A verdict for a number of instances that was fixed beforehand does not hold when instances are added until it
    decides. What was seen earlier stays known however often the comparison is kept again.
    """
    if folder is None or result.verdict == "none" or any(each.sequential for each in result.comparisons):
        return result
    try:
        kept = read_report(folder)
    except InputError:
        return result  # nothing is kept there, or nothing that can be read
    if not _same(result, kept):
        return result
    now, then = sum(each.n for each in result.comparisons), sum(each["n"] for each in kept["comparisons"])
    looks = [each for each in kept.get("earlier_looks", ()) if each < now]
    if kept["verdict"] == "inconclusive" and then < now:
        looks.append(then)
    if not looks:
        return result
    before = ", ".join(f"{each:,}" for each in dict.fromkeys(looks))
    note = (
        f"these budgets were open after {before} instances, as {folder} keeps it, and are judged again after {now:,}: "
        "a verdict for a fixed number of instances errs more often than 1 in 20 when instances are added until it "
        "decides; --until-decided gives one that holds at every look"
    )
    return replace(result, earlier_looks=tuple(dict.fromkeys(looks)), notes=(note, *result.notes))


def _same(result: Result, kept: Any) -> bool:
    """Whether both judge the same budgets of the same pair, neither of them sequentially."""
    try:
        pair = all(
            side.reference == other["reference"] or (side.fingerprint and side.fingerprint == other["fingerprint"])
            for side, other in ((result.old, kept["old"]), (result.new, kept["new"]))
        )
        mine = {(each.task, each.filter, each.metric, gate.rule) for each in result.comparisons for gate in each.gates}
        theirs = {
            (each["task"], each["filter"], each["metric"], gate["rule"])
            for each in kept["comparisons"]
            for gate in each["gates"]
        }
        return pair and mine == theirs and not any(each.get("sequential") for each in kept["comparisons"])
    except (KeyError, TypeError, AttributeError):
        return False
