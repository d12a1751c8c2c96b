"""``compatcheck cache``: what lies in the response store, and how it is made smaller."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from compatcheck.cli.options import TextOrJson, check_format
from compatcheck.cli.output import print_line
from compatcheck.errors import InputError
from compatcheck.text import aligned

if TYPE_CHECKING:
    from compatcheck.evaluation.store.upkeep import Overview, Removed

app = typer.Typer(
    name="cache",
    help="Answers of models that were kept, so that nothing is computed twice: show them, or throw them away.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Store = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The store in DIR.  \\[default: COMPATCHECK_STORE, or the user's cache]"),
]
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@app.command("info")
def info(store: Store = None, format: TextOrJson = "terminal") -> None:
    """Where the store is, how large, and what is in it by model and task."""
    check_format(format)
    from compatcheck.evaluation.store.upkeep import overview

    found = overview(_folder(store))
    _show(found.notes, format, _as_text(found), {
        "path": str(found.path), "bytes": found.bytes, "answers": found.answers,
        "set_aside": [str(path) for path in found.set_aside], "entries": [asdict(entry) for entry in found.entries],
    })  # fmt: skip


@app.command("clear")
def clear(store: Store = None, format: TextOrJson = "terminal") -> None:
    """Throw away every stored answer, and stores that were set aside as damaged."""
    check_format(format)
    from compatcheck.evaluation.store import upkeep

    _report(upkeep.clear(_folder(store)), format)


@app.command("prune")
def prune(
    older_than: str | None = Option(None, metavar="AGE", help="Not used for this long: 30d, 12h, 2w, 90m."),
    max_size: str | None = Option(None, metavar="SIZE", help="Down to this size, oldest use first: 500MB, 2GB."),
    store: Store = None,
    format: TextOrJson = "terminal",
) -> None:
    """Throw away what was not used lately, or what is too much."""
    check_format(format)
    if older_than is None and max_size is None:
        raise InputError("cache prune: say --older-than AGE (30d), --max-size SIZE (2GB), or both")
    age = parse_age(older_than) if older_than is not None else None
    size = parse_size(max_size) if max_size is not None else None
    from compatcheck.evaluation.store import upkeep

    _report(upkeep.prune(_folder(store), age, size), format)


def parse_age(text: str) -> float:
    """Seconds of ``30d``, ``12h``, ``2w``, ``90m``. Raises InputError for none of these."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhdw])", text.strip().lower())
    if not match:
        raise InputError(f"--older-than {text}: give a number and a unit: 90m, 12h, 30d or 4w")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Bytes of ``500MB``, ``1.5 GB``, ``1000000``. Raises InputError for none of these."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", text.strip().upper())
    if not match:
        raise InputError(f"--max-size {text}: give a number and a unit: 500MB or 2GB")
    return int(float(match[1]) * (_BYTES.get(match[2]) or _BYTES[f"{match[2]}B"]))


def shown_size(count: float) -> str:
    """``1.2 MB``: powers of ten, as parse_size reads them."""
    unit = next((unit for unit in ("B", "KB", "MB", "GB") if count < 1000 * _BYTES[unit]), "TB")
    return f"{count / _BYTES[unit]:.{0 if unit == 'B' else 1}f} {unit}"


def _folder(store: Path | None) -> Path:
    from compatcheck.evaluation.store import locate
    from compatcheck.paths import user_path

    if store is not None and not user_path(store).is_dir():
        raise InputError(f"--store {store}: no such folder")
    folder = locate(store)
    if folder is None:
        raise InputError(
            "no store is kept (COMPATCHECK_STORE=off, or the cache cannot be written); name one with --store"
        )
    return folder


def _as_text(found: Overview) -> str:
    from compatcheck.report.text import safe_text

    lines = [f"{found.path}: {found.answers:,} answers, {shown_size(found.bytes)}"]
    lines += [f"set aside as damaged: {path.name}" for path in found.set_aside]
    rows: list[tuple[str, ...]] = [("model", "task", "engine", "answers", "text", "oldest", "newest", "last used")]
    for entry in found.entries:
        days = (
            time.strftime("%Y-%m-%d %H:%M", time.localtime(each)) for each in (entry.oldest, entry.newest, entry.used)
        )
        names = (safe_text(each) for each in (entry.model, entry.task, entry.engine))
        rows.append((*names, f"{entry.answers:,}", shown_size(entry.bytes), *days))
    return "\n".join([*lines, "", *aligned(rows, "<<<>><<<")] if found.entries else lines)


def _report(removed: Removed, format: str) -> None:
    files = f" and {removed.files} files set aside" if removed.files else ""
    sizes = f"{shown_size(removed.bytes_before)} before, {shown_size(removed.bytes_after)} now"
    values = {name: value for name, value in asdict(removed).items() if name != "notes"}
    _show(removed.notes, format, f"removed {removed.answers:,} answers{files} ({sizes})", values)


def _show(notes: Sequence[str], format: str, text: str, values: dict[str, Any]) -> None:
    for note in notes:
        print_line(note)
    typer.echo(json.dumps(values, indent=2) if format == "json" else text)
