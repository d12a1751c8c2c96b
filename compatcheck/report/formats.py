"""The formats of the report by name, and the one function that renders any of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from compatcheck.errors import InputError, did_you_mean

if TYPE_CHECKING:  # importing compare loads pandas and scipy, which an error message does not need
    from compatcheck.compare.candidates import Candidates
    from compatcheck.compare.result import Result


@dataclass(frozen=True)
class Format:
    """Where a format is rendered (imported when it is first used) and the file it is kept in."""

    module: str
    file_name: str | None
    """None for the one that is only printed."""
    mark: bytes = b""
    """Stands near the beginning of every file of this format that we write, and of no other."""
    kept_as: str = "render"
    """The function of the module that makes the contents of the file."""
    made_by: str = "render"
    """The function of the module that makes what is printed."""
    printed: bool = True
    """Whether it can be printed: a picture in bytes cannot."""
    several: str = ""
    """The function of :mod:`compatcheck.report.candidates` that renders several candidates; empty where none does."""

    def contents(self, result: Result | Candidates, folder: Path) -> bytes:
        """The format as it is kept in a file of ``folder``; text ends with a line feed."""
        make = of_several(self) if is_several(result) else getattr(import_module(self.module), self.kept_as)
        made: str | bytes = make(result, folder=folder)
        return made if isinstance(made, bytes) else (made.removesuffix("\n") + "\n").encode("utf-8")


_HERE = "compatcheck.report"
FORMATS: Mapping[str, Format] = {
    "terminal": Format(f"{_HERE}.terminal", None, several="terminal"),
    "json": Format(f"{_HERE}.formats", "report.json", b"compatcheck.report/", kept_as="to_json", several="to_json"),
    "markdown": Format(f"{_HERE}.markdown", "report.md", b" compatcheck: ", several="markdown"),
    "html": Format(f"{_HERE}.html", "report.html", b'content="compatcheck', several="page"),
    "junit": Format(f"{_HERE}.junit", "junit.xml", b'<testsuites name="compatcheck"'),
    "junit-flips": Format(
        f"{_HERE}.junit", "junit.xml", b'<testsuites name="compatcheck"', kept_as="with_flips", made_by="with_flips"
    ),
    "github": Format(f"{_HERE}.github", "github.md", b"<!-- compatcheck:", kept_as="comment"),
    "sarif": Format(f"{_HERE}.sarif", "compatcheck.sarif", b'"name": "compatcheck"'),
    "png": Format(f"{_HERE}.pictures", "report.png", b"compatcheck", kept_as="png", printed=False),
    "svg": Format(f"{_HERE}.pictures", "report.svg", b"compatcheck"),
}


def find_format(name: str) -> Format:
    """The format of that name.
    Raises InputError: there is none.
    """
    if name not in FORMATS:
        raise InputError(f"format {name}: unknown format{did_you_mean(name, FORMATS)}; known: {', '.join(FORMATS)}")
    return FORMATS[name]


def is_several(result: Result | Candidates) -> TypeGuard[Candidates]:
    """Whether it is of several candidates; importing their class loads pandas."""
    return hasattr(result, "results")


def of_several(format: Format) -> Callable[..., str]:
    """What renders several candidates in a format.
    Raises InputError: it is one for a single candidate.
    """
    if not format.several:
        name = next(name for name, each in FORMATS.items() if each is format)
        known = ", ".join(name for name, each in FORMATS.items() if each.several)
        raise InputError(
            f"format {name}: is of one candidate (compatcheck report DIR --candidate NAME --format {name}); of several "
            f"there are {known}"
        )
    return lambda *given, **options: getattr(import_module(f"{_HERE}.candidates"), format.several)(*given, **options)


def render(result: Result | Candidates, format: str = "terminal", **options: Any) -> str:
    """Render ``result`` as text that does not end with a line feed.

    Options are those of the format's own ``render``, e.g. ``width``, ``color``, ``quiet`` for the terminal, ``top`` for
    the terminal and Markdown, ``folder`` (where the result is kept) for all that give the next command.
    Raises InputError: a format that is not in :data:`FORMATS`, or one that can only be kept in a file.
    """
    found = find_format(format)
    if not found.printed:
        raise InputError(f"format {format}: is a picture; keep it in a folder")
    if is_several(result):
        return of_several(found)(result, **options).removesuffix("\n")
    make: Any = to_json if format == "json" else getattr(import_module(found.module), found.made_by)
    text: str = make(result, **options)
    return text.removesuffix("\n")


def to_json(result: Result, *, folder: Path | None = None) -> str:
    """report.json, the contract ``compatcheck.report/1``: strict JSON (ASCII, no NaN), without the instances, which
    are in ``instances.parquet`` beside it. ``folder`` is not used."""
    from compatcheck.compare.serialise import result_to_dict

    del folder
    return json.dumps(result_to_dict(result), indent=2, ensure_ascii=True, allow_nan=False)
