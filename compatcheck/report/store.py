"""A result on disk: report.json and instances.parquet, and the files of further formats beside them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError
from compatcheck.report.formats import find_format
from compatcheck.report.stored import copy_file, is_streamed, telling_instances

if TYPE_CHECKING:
    import pandas as pd

    from compatcheck.compare.result import Result

REPORT = "report.json"
INSTANCES = "instances.parquet"


def save(result: Result, folder: Path, formats: Sequence[str] = ()) -> None:
    """Write report.json and instances.parquet to ``folder``, and the file of each of ``formats`` that has one.

    Everything is rendered first, written beside its place and then moved, so that a failure leaves the folder as it
    was. Files of the same names are replaced.

    Raises:
        InputError: an unknown format, or a folder that cannot be written.
    """
    folder = Path(folder)
    kept = {}
    for format in [find_format(name) for name in dict.fromkeys(["json", *formats])]:
        if format.file_name is not None:
            kept[format.file_name] = format.contents(result, folder)
    writers: dict[str, Callable[[Path], object]] = {INSTANCES: partial(_write_instances, result)}
    for file_name, contents in kept.items():
        writers[file_name] = partial(_write, contents)
    _write_all(folder, writers)


def _write(contents: bytes, path: Path) -> None:
    path.write_bytes(contents)


def _write_instances(result: Result, path: Path) -> None:
    from compatcheck.compare.serialise import join_instances

    if result.stored is not None:
        copy_file(result.stored.path, path)
        return
    frame = join_instances(result)
    try:
        frame.to_parquet(path, index=False)
    except UnicodeEncodeError:  # Parquet is UTF-8, JSON input can hold lone surrogates: these become visible escapes
        texts = [name for name in frame.columns if frame[name].dtype == object]
        frame = frame.assign(**{name: frame[name].map(_encodable) for name in texts})
        frame.to_parquet(path, index=False)


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _write_all(folder: Path, writers: dict[str, Callable[[Path], object]]) -> None:
    made: list[Path] = []
    beside: Path | None = None
    try:
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".report-", dir=folder))
        for name, write in writers.items():
            write(beside / name)
        for name in writers:
            (beside / name).replace(folder / name)
        shutil.rmtree(beside)
    except BaseException as error:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise InputError(f"{folder}: cannot be written ({reason}); name another folder") from error
        raise


def load(folder: Path) -> Result:
    """Read a result that :func:`save` wrote.

    Raises:
        InputError: a missing file, another schema, or contents that are damaged or do not belong together.
    """
    from compatcheck.compare.result import Stored
    from compatcheck.compare.serialise import result_from_dict

    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder}: {what}; name a folder that compatcheck diff --out wrote")
    data = _read_json(folder / REPORT)
    streamed = is_streamed(data)
    instances = (telling_instances if streamed else _read_instances)(_existing(folder / INSTANCES))
    try:
        result = result_from_dict(data, instances)
        return replace(result, stored=Stored(folder / INSTANCES)) if streamed else result
    except InputError as error:
        raise InputError(f"{folder / REPORT}: {error}") from error


def read_report(folder: Path) -> dict[str, Any]:
    """The report.json of a folder as it stands there.

    Raises:
        InputError: there is none, or it is no JSON object.
    """
    return _read_json(Path(folder) / REPORT)


def _missing(path: Path) -> InputError:
    return InputError(f"{path.parent}: has no {path.name}; name a folder that compatcheck diff --out wrote")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise _missing(path)
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        where = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)
        raise InputError(f"{where}: cannot be read as JSON ({error}); run the comparison again") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a {type(data).__name__} in place of a report; run the comparison again")
    return data


def _read_instances(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as Parquet ({reason}); run the comparison again") from error
