"""Bytes and texts out of files: unpacked, decoded, in blocks of whole lines, and never more than a limit at a time."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from compatcheck.errors import InputError

CHUNK_BYTES = 8 << 20
"""Text that is parsed at a time: keeps memory flat however long the file."""
LIMIT_OPTION = "COMPATCHECK_MAX_ROW_MIB"
_LFS = b"version https://git-lfs"
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


def most_bytes() -> int:
    """How large a row may be; :data:`LIMIT_OPTION` in the environment raises it. Raises InputError for no number."""
    text = os.environ.get(LIMIT_OPTION, "64")
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
        raise InputError(f"{LIMIT_OPTION}={text}: must be a whole number of MiB")
    return int(text) << 20


def too_large(place: object, what: str, size: int | None = None) -> InputError:
    """The error of something in a file that is larger than :func:`most_bytes`, or than ``size``."""
    limit = (size or most_bytes()) >> 20
    return InputError(
        f"{place}: {what} is larger than {limit:,} MiB; {LIMIT_OPTION} in the environment raises that limit"
    )


def open_bytes(path: Path) -> BinaryIO:
    """Open for reading bytes, unpacked where the content (not the name) says it is packed.

    Raises InputError for a pointer that Git LFS left in place of the file.
    """
    raw = path.open("rb")
    start = raw.read(len(_LFS))
    raw.seek(0)
    check_pointer(path, start)
    if start[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(raw))
    if start[:6] == b"\xfd7zXZ\x00":
        return cast(BinaryIO, lzma.open(raw))
    if start[:3] == b"BZh":
        return cast(BinaryIO, bz2.open(raw))
    if start[:4] == b"\x28\xb5\x2f\xfd":
        import pyarrow as pa

        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw), "zstd")))
    return raw


def check_pointer(path: Path, start: bytes | None = None) -> None:
    """Raise InputError for a pointer of Git LFS in place of the file."""
    if start is None:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    if start.startswith(_LFS):
        raise InputError(f"{path}: a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`")


def _utf16(start: bytes) -> str | None:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(start) < 4 or b"\x00" not in start[:4]:
        return None
    return "utf-16-le" if start[1] == 0 and start[0] else "utf-16-be" if start[0] == 0 and start[1] else None


def pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a text file in pieces, without a byte order mark; UTF-16 becomes UTF-8."""
    with open_bytes(path) as file:
        data = file.read(CHUNK_BYTES)
        encoding = _utf16(data)
        if encoding is None:
            yield data.removeprefix(codecs.BOM_UTF8)
            while data:
                data = file.read(CHUNK_BYTES)
                yield data
            return
        decoder = codecs.getincrementaldecoder(encoding)()
        while data:
            yield decoder.decode(data).encode("utf-8", "surrogatepass")
            data = file.read(CHUNK_BYTES)
        yield decoder.decode(b"", final=True).encode()


def blocks(path: Path, notes: list[str]) -> Iterator[tuple[int, str]]:
    """Blocks of whole lines with the number of their first line.

    Raises InputError for bytes that are no text, for a packed stream that is cut off or damaged, and for a line that is
    larger than :func:`most_bytes`.
    """
    line, most, ascii_only = 1, most_bytes(), True
    waiting: list[bytes] = []
    incoming = pieces(path)
    while True:
        try:
            data = next(incoming, b"")
        except UnicodeDecodeError:
            raise InputError(f"{path}: not the UTF-16 that its beginning says; save the file as UTF-8") from None
        except DAMAGED as error:
            what = "is cut off" if isinstance(error, EOFError) else "is damaged"
            kind = "gzip" if isinstance(error, gzip.BadGzipFile | zlib.error) or path.suffix == ".gz" else "packed"
            raise InputError(
                f"{path}:{line}: the {kind} stream {what} somewhere after this line; copy the file again"
            ) from None
        cut = data.rfind(b"\n") + 1 if data else 0
        if data and not cut:
            waiting.append(data)
            if sum(map(len, waiting)) > most:
                raise too_large(f"{path}:{line}", "this line")
            continue
        block = b"".join([*waiting, data[:cut]])
        waiting = [data[cut:]]
        if block:
            text, ascii_only = _decoded(block, ascii_only, path, line, notes)
            yield line, text
            line += block.count(b"\n")
        if not data:
            return


_CP1252_NOTE = "not UTF-8: read as Windows-1252 (cp1252)"


def _decoded(block: bytes, ascii_only: bool, path: Path, line: int, notes: list[str]) -> tuple[str, bool]:
    """The text of a block, and whether all so far is ASCII. What is no UTF-8 may be Windows-1252, never both."""
    note = f"{path}: {_CP1252_NOTE}"
    if note not in notes:
        try:
            return block.decode("utf-8"), ascii_only and block.isascii()
        except UnicodeDecodeError as error:
            bad = error.start
        # 0xff and 0xfe are letters that hardly occur, and what damaged and binary files are full of.
        plain = ascii_only and block[:bad].isascii() and not any(byte in block for byte in (b"\xff", b"\xfe", b"\x00"))
        if not plain:
            bad_line = line + block.count(b"\n", 0, bad)
            raise InputError(f"{path}:{bad_line}: not UTF-8 (byte 0x{block[bad]:02x}); save the file as UTF-8")
    try:
        text = block.decode("cp1252")
    except UnicodeDecodeError as error:
        bad_line = line + block.count(b"\n", 0, error.start)
        raise InputError(
            f"{path}:{bad_line}: not UTF-8 (byte 0x{block[error.start]:02x}); save the file as UTF-8"
        ) from None
    if note not in notes:
        notes.append(note)
    return text, False


def read_text(path: Path) -> str:
    """The whole text of a file, of at most 16 times :func:`most_bytes`.

    Raises InputError: no such file, not readable, no text, damaged, or too large.
    """
    return whole_text(path, [])


def whole_text(path: Path, notes: list[str]) -> str:
    found, size, most = [], 0, 16 * most_bytes()
    try:
        for piece in pieces(path):
            size += len(piece)
            if size > most:
                raise too_large(path, "the text in it", most)
            found.append(piece)
    except DAMAGED as error:
        what = "is cut off" if isinstance(error, EOFError) else "is damaged"
        raise InputError(f"{path}: the packed stream {what}; copy the file again") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not the UTF-16 that its beginning says; save the file as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    return _decoded(b"".join(found), True, path, 1, notes)[0]
