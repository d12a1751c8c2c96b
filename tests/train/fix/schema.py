"""The schema of fix_report.json as docs/fix.md states it, and what of a report does not keep to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOC = Path(__file__).parents[3] / "docs" / "fix.md"
_ESTIMATE = {"value": "number?", "low": "number?", "high": "number?", "count": "integer?", "of": "integer?"}
_STANDING = {"name": "text", "n": "integer", "nfr": "number", "pfr": "number", "score": "number"} | {
    "nfr_of_new": "number", "score_of_new": "number", "score_error": "number", "fall": "number?",
}  # fmt: skip


def documented() -> dict[str, str]:
    """Path -> type. ``[]`` is any element of a list, ``*`` any key."""
    text = DOC.read_text(encoding="utf-8")
    table = text.split("<!-- fix_report -->")[1].split("<!-- /fix_report -->")[0]
    found: dict[str, str] = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        keys = re.findall(r"`([^`]+)`", cells[0])
        if len(cells) > 1 and keys:
            found |= dict.fromkeys(keys, cells[1])
    same = {
        key.replace("training.", f"{other}."): kind
        for key, kind in found.items()
        for other in ("control", "first_stage")
        if key.startswith("training.")
    }
    return {**same, **found}


def fits(value: Any, kind: str) -> bool:
    if kind.endswith((" or null", "?")):
        return value is None or fits(value, kind.removesuffix(" or null").removesuffix("?"))
    if kind == "text":
        return isinstance(value, str)
    if kind == "list of text":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "object":
        return isinstance(value, dict)
    parts = {"estimate": _ESTIMATE, "standing": _STANDING}[kind]
    if not isinstance(value, dict) or not parts.keys() <= value.keys():
        return False
    if kind == "estimate" and (value["value"] is None) != ("why" in value) and value["value"] is None:
        return False
    return all(fits(value[key], each) for key, each in parts.items())


def places(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a report with its path, ``[]`` for elements."""
    yield path, value
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for each in value:
            yield from places(each, f"{path}[]")


def pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.escape(path).replace(r"\*", r"[^.\[\]]+"))


def problems(report: dict[str, Any], complete: bool = True) -> list[str]:
    """What differs between a report and the documentation; ``complete``: every documented key must occur."""
    rules = [(key, pattern(key), kind) for key, kind in documented().items()]
    seen: set[str] = set()
    wrong: list[str] = []
    for path, value in places(report):
        mine = [(key, kind) for key, rule, kind in rules if rule.fullmatch(path)]
        seen |= {key for key, _ in mine}
        wrong += [f"{path}: no {kind}: {value!r}" for _, kind in mine if not fits(value, kind)]
        if not mine and not isinstance(value, dict | list) and not _inside(path, rules):
            wrong.append(f"{path}: not documented")
    if complete:
        wrong += [f"{key}: documented, and not in the report" for key, _, _ in rules if key not in seen]
    return wrong


def _inside(path: str, rules: list[tuple[str, re.Pattern[str], str]]) -> bool:
    """Whether the value is a part of an estimate, a standing, or an object or list documented as a whole."""
    above, _, last = path.removesuffix("[]").rpartition(".")
    for _, rule, kind in rules:
        if kind == "list of text" and rule.fullmatch(path.removesuffix("[]")):
            return True
        if kind in ("estimate", "standing") and rule.fullmatch(above):
            return last in (_ESTIMATE if kind == "estimate" else _STANDING) or last == "why"
    return path.startswith("settings.") or (".changes." in path and path.startswith("trials[]"))
