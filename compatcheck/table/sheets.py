"""Rows of tables with a header: CSV in all its dialects, and the sheets of a workbook."""

from __future__ import annotations

import csv
import html
import io
import itertools
import posixpath
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.table import files
from compatcheck.text import plain_number

CHUNK_ROWS = 20_000
Row = dict[str, Any]
Chunk = tuple[Sequence[int], list[Row]]
"""Numbers of the rows and the rows themselves."""


FORMULA_SAFE = "formula_safe"
"""Column of an exported CSV file in which texts that a spreadsheet would run have an apostrophe before them."""
_RUNS = re.compile(r"'*[=+\-@\t\r＝＋－＠]")


def formula_safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula; :func:`_as_it_was` gives it back. Numbers stay as they are."""
    return "'" + text if _RUNS.match(text) and plain_number(text) is None else text


def _as_it_was(text: str) -> str:
    return text[1:] if text.startswith("'") and _RUNS.match(text) else text


def csv_rows(path: Path, notes: list[str]) -> Iterator[Chunk]:
    """Rows of a CSV file with a header; every value is text, an empty cell is null. A row's number is its last line."""

    def lines() -> Iterator[str]:
        for _, block in files.blocks(path, notes):
            yield from io.StringIO(block, newline="")

    csv.field_size_limit(min(sys.maxsize, files.most_bytes()))  # the default, 128 KiB, is less than some outputs
    text = lines()
    first = next((line for line in text if line.strip()), None)
    if first is None:
        return
    outside = "".join(first.split('"')[::2])
    delimiter = max(",;\t|", key=outside.count)
    spaced = (delimiter + " ") in outside
    reader = csv.reader(itertools.chain([first], text), strict=True, delimiter=delimiter, skipinitialspace=spaced)
    try:
        header = [name.strip() for name in next(reader)]
        for name in header:
            if name and header.count(name) > 1:
                raise InputError(f"{path}:1: column '{name}' is there twice")
        safe = FORMULA_SAFE in header
        if safe:
            header = [_as_it_was(name) if name != FORMULA_SAFE else "" for name in header]
        named = [(name, place) for place, name in enumerate(header) if name]
        numbers: list[int] = []
        rows: list[Row] = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                mark = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[delimiter]
                raise InputError(
                    f"{path}:{reader.line_num}: {len(cells)} cells, but the header has {len(header)}; "
                    f"cells with {mark} or line breaks need quotes"
                )
            if safe:
                cells = [_as_it_was(cell) for cell in cells]
            numbers.append(reader.line_num)
            rows.append({name: cells[place] or None for name, place in named})
            if len(rows) == CHUNK_ROWS:
                yield numbers, rows
                numbers, rows = [], []
        yield numbers, rows
    except csv.Error as error:
        if "field larger than field limit" in str(error):
            raise files.too_large(f"{path}:{reader.line_num}", "a cell") from None
        raise InputError(f"{path}:{reader.line_num}: not CSV ({error})") from None


def sheet_rows(path: Path, part: str | None) -> tuple[str | None, Chunk]:
    """The rows of a workbook's sheet, and its name where ``part`` names it; the first row has the names."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError:
        raise InputError(f"{path}: reading Excel needs python-calamine: pip install python-calamine") from None
    files.check_pointer(path)
    try:
        book = CalamineWorkbook.from_path(str(path))
        sheets = {name: _cells(book.get_sheet_by_name(name)) for name in book.sheet_names}
    except (CalamineError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable workbook ({str(error).splitlines()[0]})") from None
    filled = {name: cells for name, cells in sheets.items() if any(any(c != "" for c in row) for row in cells)}
    if part is not None and part in filled:
        name = part
    elif len(filled) > 1:
        raise InputError(f"{path}: several sheets; name one as {path}#SHEET: {', '.join(filled)}")
    elif not filled:
        raise InputError(f"{path}: no rows in this file")
    else:
        name = next(iter(filled))
    head, *body = filled[name]
    header = [str(cell).strip() for cell in head]
    twice = next((one for one in header if one and header.count(one) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: row 1: column '{twice}' is there twice")
    for row, column in _never_calculated(path, name):
        if 0 < row < len(filled[name]) and column < len(header) and header[column] and filled[name][row][column] == "":
            raise InputError(
                f"{path}: row {row + 1}: `{header[column]}` is a formula that was never calculated; open and save the "
                "workbook, or write a text that begins with = as a text"
            )
    numbers, rows = [], []
    for number, cells in enumerate(body, 2):
        if any(cell != "" for cell in cells):
            numbers.append(number)
            rows.append({one: None if cell == "" else cell for one, cell in zip(header, cells, strict=True) if one})
    return (name if name == part else None), (numbers, rows)


def _cells(sheet: Any) -> list[list[Any]]:
    """All cells of a sheet; below the names every cell of merged ones has what is shown in them."""
    cells: list[list[Any]] = sheet.to_python(skip_empty_area=False)
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or () if cells else ():
        for row in cells[top : bottom + 1] if top else ():
            row[left : right + 1] = [cells[top][left]] * len(row[left : right + 1])
    return cells


_FORMULA = re.compile(rb'<c r="([A-Z]+)(\d+)"(?![^>]* t="str")[^>]*><f[^>]*(?:/>|>[^<]*</f>)(?:<v ?/>|<v></v>)?</c>')


def _never_calculated(path: Path, name: str) -> Iterator[tuple[int, int]]:
    """Row and column, from 0 on, of a sheet's formulas without a value: the program that wrote it had none."""
    try:
        with zipfile.ZipFile(path) as archive:
            for found in _FORMULA.finditer(archive.read(_member(archive, name))):
                column = 0
                for letter in found[1]:
                    column = 26 * column + letter - 64
                yield int(found[2]) - 1, column - 1
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, EOFError, KeyError):
        return  # another kind of workbook


def _member(archive: zipfile.ZipFile, name: str) -> str:
    """The file of a sheet in its workbook. Raises KeyError: there is none."""
    sheets = {one["name"]: value for one in _tags(archive, "xl/workbook.xml", "sheet")
              for key, value in one.items() if key.endswith(":id")}  # fmt: skip
    files_of = {one["Id"]: one["Target"] for one in _tags(archive, "xl/_rels/workbook.xml.rels", "Relationship")}
    return posixpath.normpath(posixpath.join("/xl", files_of[sheets[name]])).lstrip("/")


def _tags(archive: zipfile.ZipFile, member: str, name: str) -> Iterator[dict[str, str]]:
    """The attributes of every element of a name in an XML file."""
    for tag in re.findall(rf"<(?:\w+:)?{name}\s[^>]*>", archive.read(member).decode("utf-8", "replace")):
        yield {key: html.unescape(value) for key, value in re.findall(r'([\w:]+)="([^"]*)"', tag)}
