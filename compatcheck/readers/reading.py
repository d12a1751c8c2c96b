"""Rows out of files: JSONL, JSON lists, CSV and Parquet, in chunks, each row with its place for error messages."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from compatcheck.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_BYTES = 8 << 20
"""Text that is parsed at a time: keeps memory flat however long the file."""
CHUNK_ROWS = 20_000

Row = dict[str, Any]
Chunk = tuple[Sequence[int], list[Row]]
"""Numbers of the rows and the rows themselves."""


@dataclass(frozen=True)
class Source:
    """A file of rows. ``unit`` says what a row's number counts: a line, an item of a list, a row of a table."""

    path: Path
    unit: str
    chunks: Iterator[Chunk]

    def at(self, number: int) -> str:
        """Where a row is, as error messages name it: ``FILE:LINE``, or ``FILE: row 7``."""
        return f"{self.path}:{number}" if self.unit == "line" else f"{self.path}: {self.unit} {number}"

    def place(self, number: int) -> str:
        """The same without the file: ``line 7``."""
        return f"{self.unit} {number}"


def file_kind(path: Path) -> str | None:
    """``jsonl``, ``json``, ``csv`` or ``parquet`` by the name, None for anything else."""
    name = path.name.lower().removesuffix(".gz")
    kinds = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
    return next((kind for end, kind in kinds.items() if name.endswith(end)), None)


def read_rows(path: Path) -> Source:
    """Open a file of rows. Every error is an InputError that names file and line.

    Raised here: no such file, a name of no known kind. Raised while the chunks are read: everything else.
    """
    kind = file_kind(path)
    if kind is None:
        raise InputError(f"{path}: recorded outputs are *.jsonl[.gz], *.json, *.csv or *.parquet files")
    if not path.is_file():
        raise InputError(f"{path}: {'this is a folder, not a file' if path.is_dir() else 'no such file'}")
    if kind == "parquet":
        return Source(path, "row", _guarded(path, _parquet(path)))
    if kind == "csv":
        return Source(path, "line", _guarded(path, _csv(path)))
    if kind == "json" or _starts_a_list(path):
        return Source(path, "item", _guarded(path, _json_list(path)))
    return Source(path, "line", _guarded(path, _jsonl(path)))


def _guarded(path: Path, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Pass chunks on; turn what the operating system says into an InputError; refuse a file without rows."""
    empty = True
    try:
        for chunk in chunks:
            if chunk[1]:
                empty = False
                yield chunk
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if empty:
        raise InputError(f"{path}: no rows in this file")


def open_bytes(path: Path) -> BinaryIO:
    """Open for reading bytes, through gzip where the content (not the name) says so."""
    raw = path.open("rb")
    start = raw.read(2)
    raw.seek(0)
    return cast(BinaryIO, gzip.open(raw)) if start == b"\x1f\x8b" else raw


def _blocks(path: Path) -> Iterator[tuple[int, str]]:
    """Blocks of whole lines with the number of their first line.

    Raises InputError for bytes that are not UTF-8 and for a gzip stream that is cut off or damaged.
    """
    line, rest, first = 1, b"", True
    with open_bytes(path) as file:
        while True:
            try:
                data = file.read(CHUNK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                what = "is cut off" if isinstance(error, EOFError) else "is damaged"
                raise InputError(
                    f"{path}:{line}: the gzip stream {what} somewhere after this line; copy the file again"
                ) from None
            if first:
                data, first = data.removeprefix(b"\xef\xbb\xbf"), False
            block = rest + data
            if data:
                cut = block.rfind(b"\n") + 1
                block, rest = block[:cut], block[cut:]
            if block:
                try:
                    text = block.decode("utf-8")
                except UnicodeDecodeError as error:
                    bad = line + block.count(b"\n", 0, error.start)
                    raise InputError(
                        f"{path}:{bad}: not UTF-8 (byte 0x{block[error.start]:02x}); save the file as UTF-8"
                    ) from None
                yield line, text
                line += block.count(b"\n")
            if not data:
                return


def read_text(path: Path) -> str:
    """The whole text of a file. Raises InputError: no such file, not readable, not UTF-8, a damaged gzip stream."""
    try:
        return "".join(block for _, block in _blocks(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def _starts_a_list(path: Path) -> bool:
    try:
        with open_bytes(path) as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    except (OSError, EOFError, zlib.error):
        return False  # reading the lines meets it again and says where


def _jsonl(path: Path) -> Iterator[Chunk]:
    for start, text in _blocks(path):
        lines = text.split("\n")
        numbers: Sequence[int] = range(start, start + len(lines))
        if not lines[-1]:
            lines.pop()
            numbers = numbers[:-1]
        if not all(lines) or any(line.isspace() for line in lines):
            kept = [i for i, line in enumerate(lines) if line.strip()]
            numbers, lines = [numbers[i] for i in kept], [lines[i] for i in kept]
        yield numbers, _parse_lines(path, numbers, lines)


def _parse_lines(path: Path, numbers: Sequence[int], lines: list[str]) -> list[Row]:
    # All lines as one list is three times as fast as line by line; only a fault sends us to the lines themselves.
    try:
        rows = json.loads("[" + ",".join(lines) + "]")
        if len(rows) == len(lines) and {type(row) for row in rows} <= {dict}:
            return rows
    except (ValueError, RecursionError):
        pass
    return [_parse_line(path, number, line) for number, line in zip(numbers, lines, strict=True)]


def _parse_line(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path}:{number}: not JSON ({reason})") from None
    if not isinstance(row, dict):
        raise InputError(f"{path}:{number}: one JSON object per line is needed, not {json_kind(row)}")
    return row


def json_kind(value: Any) -> str:
    """What a JSON value is, in words, for error messages."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _json_list(path: Path) -> Iterator[Chunk]:
    text = "".join(block for _, block in _blocks(path))
    if not text.strip():
        return
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON (nested too deeply, or a number that is too long)") from None
    if not isinstance(rows, list):
        raise InputError(f"{path}: a JSON list of objects is needed, not {json_kind(rows)}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"{path}: item {number}: an object is needed, not {json_kind(row)}")
    for start in range(0, len(rows), CHUNK_ROWS):
        part = rows[start : start + CHUNK_ROWS]
        yield range(start + 1, start + 1 + len(part)), part


def _csv(path: Path) -> Iterator[Chunk]:
    """Rows of a CSV file with a header; every value is text, an empty cell is null. A row's number is its last line."""

    def lines() -> Iterator[str]:
        for _, block in _blocks(path):
            yield from io.StringIO(block, newline="")

    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default, 128 KiB, is less than some outputs
    reader = csv.reader(lines(), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        for name in header:
            if header.count(name) > 1:
                raise InputError(f"{path}:1: column '{name}' is there twice")
        numbers: list[int] = []
        rows: list[Row] = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}:{reader.line_num}: {len(cells)} cells, but the header has {len(header)}; "
                    "cells with commas or line breaks need quotes"
                )
            numbers.append(reader.line_num)
            rows.append({name: cell or None for name, cell in zip(header, cells, strict=True)})
            if len(rows) == CHUNK_ROWS:
                yield numbers, rows
                numbers, rows = [], []
        yield numbers, rows
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV ({error})") from None


def _parquet(path: Path) -> Iterator[Chunk]:
    start = 1
    for batch in parquet_batches(path):
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            raise InputError(f"{path}: not UTF-8 in a row after row {start - 1}; the file is damaged") from None
        yield range(start, start + batch.num_rows), rows
        start += batch.num_rows


def parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of at most :data:`CHUNK_ROWS` rows. Raises InputError for what is no Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without read-ahead: that would hold the row groups that were read until the end.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=CHUNK_ROWS, use_threads=False)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a readable Parquet file ({reason})") from None
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read ({reason})") from None
