"""Hugging Face ``datasets`` saved with ``save_to_disk``: a folder of Arrow files with plain rows.

A ``Dataset`` is ``state.json`` (which names the Arrow stream files), ``dataset_info.json`` and the files; a
``DatasetDict`` is ``dataset_dict.json`` and one such folder a split. Read with pyarrow: the library is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from compatcheck.errors import InputError, did_you_mean
from compatcheck.readers.recording import Record
from compatcheck.table.reading import CHUNK_ROWS, Chunk, Source, read_json, shortest

_DICT, _STATE = "dataset_dict.json", "state.json"
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""How a whole Arrow stream ends; one that was cut between two batches reads like a shorter one."""


def read_source(path: Path, part: str | None) -> Source:
    """The rows of a data set; ``part`` is the split of a ``DatasetDict``.

    Raises InputError: no saved data set, a split that is missing or not named, files that are missing or damaged.
    """
    folder = _split(path, part)
    state = Record(read_json(folder / _STATE), str(folder / _STATE))
    names = [
        Record(entry, f"{state.place}: `_data_files`[{i}]").need("filename", "a text")
        for i, entry in enumerate(state.need("_data_files", "a list"))
    ]
    for name in names:
        if Path(name).name != name:
            raise state.fail(f"`filename` is {name!r:.80}, but it must name a file in this folder")
        if not (folder / name).is_file():
            raise state.fail(f"the file {name} it names is not there; copy the whole folder")
    if not names:
        raise InputError(f"{folder}: no rows in this data set")
    return Source(folder, "row", _chunks(folder, names))


def _split(path: Path, part: str | None) -> Path:
    if not path.is_dir():
        raise InputError(f"{path}: a data set on disk is a folder that save_to_disk wrote")
    if (path / _DICT).is_file():
        about = Record(read_json(path / _DICT), str(path / _DICT))
        splits = [str(name) for name in about.need("splits", "a list")]
        if part is None and len(splits) == 1:
            part = splits[0]
        if part is None:
            raise InputError(f"{path}: several splits; name one as {path}#SPLIT: {', '.join(splits)}")
        if part not in splits:
            hint = did_you_mean(part, splits)
            raise InputError(f"{path}: no split '{part}'{hint}; splits there: {', '.join(splits) or 'none'}")
        path = path / part
    elif part is not None:
        raise InputError(f"{path}: one data set without splits (no {_DICT}); leave out '#{part}'")
    if not (path / _STATE).is_file():
        raise InputError(f"{path}: no {_STATE}, which save_to_disk writes")
    return path


def _chunks(folder: Path, names: Sequence[str]) -> Iterator[Chunk]:
    import pyarrow as pa

    start = 1
    for name in names:
        if not _is_whole(folder / name):
            raise InputError(f"{folder / name}: the Arrow file is cut off; copy it again")
        try:
            with pa.OSFile(str(folder / name)) as file, pa.ipc.open_stream(file) as reader:
                for batch in reader:
                    batch.validate(full=True)
                    for piece in range(0, batch.num_rows, CHUNK_ROWS):
                        rows = shortest(batch.slice(piece, CHUNK_ROWS)).to_pylist()
                        yield range(start, start + len(rows)), rows
                        start += len(rows)
        except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{folder / name}: not a readable Arrow file, after row {start - 1} ({reason})") from None
    if start == 1:
        raise InputError(f"{folder}: no rows in this data set")


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(_END)))
            return file.read() == _END
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
