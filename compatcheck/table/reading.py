"""Rows out of files: JSON lines and lists, CSV, Excel and Parquet, in chunks, each row with its place for messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.table import files
from compatcheck.table.sheets import CHUNK_ROWS, Chunk, Row, csv_rows, sheet_rows

if TYPE_CHECKING:
    import pyarrow as pa

MANY_FIELDS = 100
"""Rows with more fields are read one by one: to look for each of them in the text of all takes time by their square."""

KINDS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv", ".tab": "csv",
    ".parquet": "parquet", ".xlsx": "excel", ".xlsm": "excel", ".xls": "excel", ".ods": "excel",
}  # fmt: skip
"""What a file is by the end of its name, :data:`PACKED` left out."""
PACKED = (".gz", ".xz", ".zst", ".bz2")
_WHAT = "*.jsonl[.gz], *.json, *.csv, *.tsv, *.xlsx or *.parquet"


@dataclass(frozen=True)
class Source:
    """A file of rows. ``unit`` says what a row's number counts: a line, an item of a list, a row of a table."""

    path: Path
    unit: str
    chunks: Iterator[Chunk]
    batches: Iterator[tuple[Sequence[int], pa.RecordBatch | list[Row]]] | None = None
    """The same rows as Arrow batches where the file has them so. Either is read, once."""
    untyped: bool = False
    """Every value is a text (CSV)."""
    plain_names: bool = False
    """Fields have the names ``id``, ``target`` … that a reader of another tool's outputs gave them."""
    part: str | None = None
    """The part of the file that was asked for and chosen here: a sheet."""
    notes: list[str] = field(default_factory=list)
    """What was taken for granted, for the user; grows while the rows are read."""

    def at(self, number: int) -> str:
        """Where a row is, as error messages name it: ``FILE:LINE``, or ``FILE: row 7``."""
        return f"{self.path}:{number}" if self.unit == "line" else f"{self.path}: {self.unit} {number}"

    def place(self, number: int) -> str:
        """The same without the file: ``line 7``."""
        return f"{self.unit} {number}"


def file_kind(path: Path) -> str | None:
    """``jsonl``, ``json``, ``csv``, ``excel`` or ``parquet`` by the name, None for anything else."""
    name = path.name.lower()
    name = next((name.removesuffix(end) for end in PACKED if name.endswith(end)), name)
    return next((kind for end, kind in KINDS.items() if name.endswith(end)), None)


def read_rows(path: Path, part: str | None = None) -> Source:
    """Open a file of rows; ``part`` may be the sheet of a workbook. Every error is an InputError with file and line.

    Raised here: no such file, a name of no known kind. Raised while the chunks are read: everything else.
    """
    kind = file_kind(path)
    if kind is None:
        raise InputError(f"{path}: recorded outputs are {_WHAT} files")
    if not path.is_file():
        raise InputError(f"{path}: {'this is a folder, not a file' if path.is_dir() else 'no such file'}")
    notes: list[str] = []
    if kind == "parquet":
        return Source(path, "row", _guarded(path, _parquet(path)), _guarded(path, parquet_batches(path)))
    if kind == "excel":
        sheet, rows = sheet_rows(path, part)
        return Source(path, "row", _guarded(path, iter([rows])), part=sheet)
    if kind == "csv":
        return Source(path, "line", _guarded(path, csv_rows(path, notes)), untyped=True, notes=notes)
    start = _start(path)
    if start.startswith("[") or (kind == "json" and not _is_lines(start)):
        return Source(path, "item", _guarded(path, _json_list(path, notes)), notes=notes)
    blocks = _guarded(path, _jsonl_batches(path, notes))
    return Source(path, "line", _guarded(path, _jsonl(path, notes)), blocks, notes=notes)


def _guarded(path: Path, chunks: Iterator[Any]) -> Iterator[Any]:
    """Pass chunks on; turn what the operating system says into an InputError; refuse a file without rows."""
    empty = True
    try:
        for chunk in chunks:
            if len(chunk[0]):
                empty = False
                yield chunk
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if empty:
        raise InputError(f"{path}: no rows in this file")


def _start(path: Path) -> str:
    """The first text of a file, white space left out; empty where it cannot be read, which reading it tells."""
    try:
        return next(files.pieces(path), b"").decode("utf-8", "replace").lstrip()
    except (OSError, UnicodeDecodeError, *files.DAMAGED):
        return ""


def _is_lines(start: str) -> bool:
    """Whether a text begins with one JSON value on a line of its own, and more behind it."""
    line, _, rest = start.partition("\n")
    if not rest.strip():
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _lines(start: int, text: str) -> tuple[Sequence[int], list[str]]:
    """The lines of a block that are not blank, with their numbers."""
    lines = text.split("\n")
    numbers: Sequence[int] = range(start, start + len(lines))
    if not lines[-1]:
        lines.pop()
        numbers = numbers[:-1]
    if not all(lines) or any(line.isspace() for line in lines):
        kept = [i for i, line in enumerate(lines) if line.strip()]
        numbers, lines = [numbers[i] for i in kept], [lines[i] for i in kept]
    return numbers, lines


def _jsonl(path: Path, notes: list[str]) -> Iterator[Chunk]:
    for start, text in files.blocks(path, notes):
        numbers, lines = _lines(start, text)
        yield numbers, _parse_lines(path, numbers, lines)


def _jsonl_batches(path: Path, notes: list[str]) -> Iterator[tuple[Sequence[int], pa.RecordBatch | list[Row]]]:
    """As :func:`_jsonl`, with an Arrow batch where that surely says the same."""
    for start, text in files.blocks(path, notes):
        numbers, lines = _lines(start, text)
        batch = _arrow_of_lines(text, len(lines)) if len(lines) > 1_000 else None
        yield numbers, batch if batch is not None else _parse_lines(path, numbers, lines)


def _arrow_of_lines(text: str, count: int) -> pa.RecordBatch | None:
    """Rows of one shape without nesting, parsed by Arrow; None where Python's parser might see something else."""
    import pyarrow as pa
    import pyarrow.json as pj

    try:
        table = pj.read_json(
            pa.BufferReader(text.encode()), pj.ReadOptions(use_threads=False, block_size=max(len(text) * 4, 1 << 20))
        )
    except (pa.ArrowException, UnicodeEncodeError):
        return None
    flat = all(
        pa.types.is_string(kind) or pa.types.is_int64(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
        for kind in table.schema.types
    )
    # A field that is named as often as there are rows is in each of them, and in none twice.
    if (
        not flat
        or len(table.column_names) > MANY_FIELDS
        or len(table) != count
        or any(text.count(f'"{name}"') != count for name in table.column_names)
    ):
        return None
    return table.combine_chunks().to_batches()[0]


def _parse_lines(path: Path, numbers: Sequence[int], lines: list[str]) -> list[Row]:
    # All lines as one list is three times as fast as line by line; only a fault sends us to the lines themselves.
    try:
        text = "[" + ",".join(lines) + "]"
        rows = json.loads(text)
        if len(rows) == len(lines) and {type(row) for row in rows} <= {dict} and not _may_repeat(text, rows):
            return rows
    except (ValueError, RecursionError):
        pass
    return [_parse_line(path, number, line) for number, line in zip(numbers, lines, strict=True)]


def _may_repeat(text: str, rows: list[Row]) -> bool:
    """Whether a field might be there twice in a row: it is named more often than there are rows with it."""
    shapes: dict[tuple[str, ...], int] = {}
    for row in rows:
        shape = tuple(row)
        shapes[shape] = shapes.get(shape, 0) + 1
    if len(shapes) > 50 or any(len(shape) > MANY_FIELDS for shape in shapes):
        return True
    counts: dict[str, int] = {}
    for shape, count in shapes.items():
        for name in shape:
            counts[name] = counts.get(name, 0) + count
    for name, count in counts.items():
        plain, escaped = json.dumps(name, ensure_ascii=False), json.dumps(name)
        if text.count(plain) + (text.count(escaped) if escaped != plain else 0) > count:
            return True
    return False


class _Repeated(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Repeated(f"the field `{next(name for name in names if names.count(name) > 1)}` is there twice")
    return found


def _parse_line(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from None
    except _Repeated as error:
        raise InputError(f"{path}:{number}: {error}; say which value counts") from None
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
    name = type(value).__name__
    is_number = isinstance(value, int | float) or name == "Decimal"
    return kinds.get(type(value), "a number" if is_number else name)


def parse_json(text: str | bytes, place: object) -> Any:
    """Parse JSON text. ``place`` names it in messages. Raises InputError for what is no JSON."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}:{error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    except UnicodeDecodeError:
        raise InputError(f"{place}: not UTF-8") from None
    except _Repeated as error:
        raise InputError(f"{place}: {error}; say which value counts") from None
    except (ValueError, RecursionError):
        raise InputError(f"{place}: not JSON (nested too deeply, or a number that is too long)") from None


def read_json(path: Path) -> Any:
    """The JSON value in a file, packed or not.

    Raises InputError: no such file, cut off, not UTF-8, not JSON, empty.
    """
    text = files.read_text(path)
    if not text.strip():
        raise InputError(f"{path}: no rows in this file")
    return parse_json(text, path)


def _json_list(path: Path, notes: list[str]) -> Iterator[Chunk]:
    text = files.whole_text(path, notes)
    if not text.strip():
        return
    rows = parse_json(text, path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: a JSON list of objects is needed, not {json_kind(rows)}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"{path}: item {number}: an object is needed, not {json_kind(row)}")
    for start in range(0, len(rows), CHUNK_ROWS):
        part = rows[start : start + CHUNK_ROWS]
        yield range(start + 1, start + 1 + len(part)), part


def _parquet(path: Path) -> Iterator[Chunk]:
    for numbers, batch in parquet_batches(path):
        try:
            yield numbers, batch.to_pylist()
        except UnicodeDecodeError:
            raise InputError(f"{path}: not UTF-8 in a row after row {numbers[0] - 1}; the file is damaged") from None


def parquet_batches(path: Path) -> Iterator[tuple[Sequence[int], pa.RecordBatch]]:
    """Batches of at most :data:`CHUNK_ROWS` rows, fewer where rows are large; with the numbers of the rows.

    Raises InputError for what is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = 1
    try:
        files.check_pointer(path)
        # Without read-ahead: that would hold the row groups that were read until the end.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            rows = CHUNK_ROWS
            sample = next(file.iter_batches(batch_size=64, use_threads=False), None)
            if sample is not None and len(sample):
                rows = max(1, min(rows, 8 * files.CHUNK_BYTES // max(row_bytes(sample), 1)))
            for batch in file.iter_batches(batch_size=rows, use_threads=False):
                yield range(first, first + len(batch)), shortest(batch)
                first += len(batch)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a readable Parquet file ({reason})") from None
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read ({reason})") from None


def shortest(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with floats of 16 and 32 bits read by their digits: 0.1 as in other formats, not 0.10000000149."""
    import pyarrow as pa

    for place, one in enumerate(batch.schema):
        if pa.types.is_float32(one.type) or pa.types.is_float16(one.type):
            column = batch.column(place)
            if pa.types.is_float16(one.type):  # Arrow writes these with the digits of 32 bits
                texts = [str(value) for value in column.to_numpy(zero_copy_only=False)]
                digits = pa.array(texts, pa.string(), mask=column.is_null().to_numpy(zero_copy_only=False))
            else:
                digits = column.cast(pa.string())
            batch = batch.set_column(place, one.name, digits.cast(pa.float64()))
    return batch


def row_bytes(batch: pa.RecordBatch) -> int:
    """About the size of a row as an uncompressed table."""
    import pyarrow as pa

    decoded = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return int(sum(column.nbytes for column in decoded) / max(len(batch), 1))


MODEL_FIELDS = ("model", "model_name", "model_id", "generator", "system")
"""Where ``FILE#PART`` looks for the part without ``--model-field`` and ``FIELD=``: the first that a row has."""


def only_part(source: Source, part: str | None, model_field: str | None = None) -> Source:
    """The rows whose field of the model is the part, or of ``FIELD=VALUE`` those whose field has the value.

    Raises InputError, when they are read, for a row that lacks the field, and where no row has the value.
    """
    if part is None or part == source.part:
        return source
    return replace(source, chunks=_chosen(source, part, model_field), batches=None)


def _chosen(source: Source, part: str, field: str | None) -> Iterator[Chunk]:
    from compatcheck.table.layout import MISSING, dig

    value = part
    seen: dict[str, None] = {}
    found = False
    for numbers, rows in source.chunks:
        if field is None:
            name, separator, rest = part.partition("=")
            field, value = (
                (name, rest) if separator else (next((n for n in MODEL_FIELDS if n in rows[0]), "model"), part)
            )
        kept = []
        for number, row in zip(numbers, rows, strict=True):
            told = dig(row, field)
            if told is MISSING or told is None:
                raise InputError(
                    f"{source.at(number)}: no field `{field}`, by which #{value} chooses rows; name another one with "
                    f"--model-field, or as {source.path.name}#FIELD={value}"
                )
            name = told if isinstance(told, str) else json.dumps(told, default=str)
            seen.setdefault(name)
            if name == value:
                kept.append((number, row))
        if kept:
            found = True
            yield [number for number, _ in kept], [row for _, row in kept]
    if not found:
        there = ", ".join(list(seen)[:20])
        raise InputError(f"{source.path}: no row has `{field}` {value!r}{did_you_mean(value, seen)}; there are {there}")
