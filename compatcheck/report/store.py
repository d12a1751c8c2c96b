"""A result on disk: report.json and instances.parquet, and the files of further formats beside them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, one_line
from compatcheck.report.formats import FORMATS, Format, find_format, is_several
from compatcheck.schema import read_object

if TYPE_CHECKING:
    import pandas as pd

    from compatcheck.compare.candidates import Candidates
    from compatcheck.compare.result import Result

REPORT = "report.json"
INSTANCES = "instances.parquet"
_READY = ".report-ready"
"""A folder in the folder: files that are whole and on their way to their places."""
_KEYS = ("task", "filter", "metric")
_OTHER_KINDS = {**dict.fromkeys(("score_old", "score_new", "gain"), "number"), "changed": "boolean"}
"""Columns of instances.parquet that hold no text."""
_AGAIN = "run the comparison again"
GROUP_ROWS = 20_000
"""Instances of one row group: a whole one is held, encoded, until it is written."""


def save(result: Result | Candidates, folder: Path, formats: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Write report.json and instances.parquet to ``folder``, and the file of each of ``formats`` that has one.

    Everything is rendered first, written beside its place and then put in place as one: whatever happens, even to the
    process, the files are all of the one result or all of the other: what the folder holds in further formats is
    rendered anew. Files of ours are replaced, those of others where ``overwrite`` says so.
    Raises InputError: an unknown format, or a folder that cannot be written or holds files of others.
    """
    folder = Path(folder)
    check_folder(folder, formats, overwrite=overwrite)
    writers: dict[str, Callable[[Path], object]] = {INSTANCES: partial(_write_instances, result)}
    chosen, gone = _kept_formats(formats), list[Path]()
    for format in FORMATS.values():  # of an older result
        path = folder / (format.file_name or "")
        if (
            path.is_file()
            and format.file_name not in {each.file_name for each in chosen}
            and _is_ours(path, format.mark)
        ):
            if is_several(result) and not format.several:
                gone.append(path)
            else:
                chosen.append(format)
    for format in chosen:
        contents = format.contents(result, folder)
        writers[str(format.file_name)] = partial(Path.write_bytes, data=contents)
    _write_all(folder, writers)
    for path in gone:
        path.unlink(missing_ok=True)


def check_folder(folder: Path, formats: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Raise InputError where a folder holds a file of others under a name of ours, or a folder under one."""
    for format in _kept_formats(formats):
        path = folder / str(format.file_name)
        if path.is_dir():
            raise InputError(f"{path}: is a folder, where the report would be kept; name another folder")
        if not overwrite and path.exists() and not _is_ours(path, format.mark):
            raise _foreign(path)
    alone = (folder / INSTANCES).exists() and not any((folder / name).exists() for name in (REPORT, _READY))
    if alone and not overwrite:
        raise _foreign(folder / INSTANCES)


def _kept_formats(names: Sequence[str]) -> list[Format]:
    found = (find_format(name) for name in dict.fromkeys(["json", *names]))
    return [format for format in found if format.file_name is not None]


def _is_ours(path: Path, mark: bytes) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return mark in file.read(65_536)
    return False


def _foreign(path: Path) -> InputError:
    return InputError(f"{path}: was not written by compatcheck; name another folder, or replace it with --overwrite")


def _write_instances(result: Result | Candidates, path: Path) -> None:
    from compatcheck.compare.candidates import Candidates, join_candidates
    from compatcheck.compare.serialise import join_instances

    if not isinstance(result, Candidates) and result.stored is not None:
        with contextlib.suppress(OSError):  # on the same disk without a copy: it is never written again
            os.link(result.stored.path, path)
            return
        shutil.copyfile(result.stored.path, path)
        return
    frame = join_candidates(result) if isinstance(result, Candidates) else join_instances(result)
    try:
        frame.to_parquet(path, index=False, row_group_size=GROUP_ROWS)
    except UnicodeEncodeError:  # Parquet is UTF-8, JSON input can hold lone surrogates: these become visible escapes
        texts = [name for name in frame.columns if frame[name].dtype == object]
        frame = frame.assign(**{name: frame[name].map(_encodable) for name in texts})
        frame.to_parquet(path, index=False, row_group_size=GROUP_ROWS)


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _write_all(folder: Path, writers: dict[str, Callable[[Path], object]]) -> None:
    made: list[Path] = []
    beside: Path | None = None
    with contextlib.ExitStack() as claimed:
        try:
            made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            with _held(folder):
                _settle(folder)
                beside = Path(tempfile.mkdtemp(prefix=".report-", dir=folder))
                claimed.enter_context(_held(beside, wait=False))
            for name, write in writers.items():
                write(beside / name)
            with _held(folder):
                _settle(folder)
                beside.rename(folder / _READY)  # what happens from here on is finished by whoever comes next
                beside = None
                _settle(folder)
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


def _settle(folder: Path) -> None:
    """Put in place what a process was about to when it was killed, and remove what others left behind."""
    ready = folder / _READY
    if ready.is_dir():
        for path in ready.iterdir():
            path.replace(folder / path.name)
            path.unlink(missing_ok=True)  # of two names of one file, renaming leaves both
        ready.rmdir()
    for left in folder.glob(".report-*"):
        with _held(left, wait=False) as gone:  # its process is
            if gone:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keep other processes from a folder; False where another one has it, or where the system has no such locks.

    A process that ends, however it ends, no longer holds any.
    """
    with contextlib.ExitStack() as stack:
        held = False
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        yield held


def load(folder: Path, candidate: str | None = None) -> Result | Candidates:
    """Read a result that :func:`save` wrote, or several candidates; of these the one with a name or number alone.
    Raises InputError: a missing file, another schema, contents that are damaged or do not belong together, or no such
    candidate.
    """
    from compatcheck.compare.candidates import SCHEMA_OF_SEVERAL, candidates_from_dict, chosen_names
    from compatcheck.compare.result import Stored
    from compatcheck.compare.serialise import result_from_dict

    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder}: {what}; name a folder that compatcheck diff --out wrote")
    with _held(folder):
        if (folder / _READY).is_dir():
            try:
                _settle(folder)
            except OSError as error:
                reason = error.strerror or str(error)
                raise InputError(f"{folder}: what was to be kept here cannot be put in place ({reason})") from error
        data = read_report(folder)
        comparisons = data.get("comparisons")
        streamed = isinstance(comparisons, list) and any(
            isinstance(one, dict) and "overview" in one for one in comparisons
        )
        path = folder / INSTANCES
        if not path.is_file():
            raise _missing(path)
        several, chosen = data.get("schema") == SCHEMA_OF_SEVERAL, list[str]()
        if several:
            with _named(folder / REPORT):
                chosen = chosen_names(data, candidate)
        instances = telling_instances(path) if streamed else _read_instances(path, chosen if candidate else ())
    with _named(folder / REPORT):
        if several:
            return candidates_from_dict(data, instances, chosen)
        result = result_from_dict(data, instances)
        return replace(result, stored=Stored(path)) if streamed else result


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong within is said of this file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_report(folder: Path) -> dict[str, Any]:
    """The report.json of a folder as it stands there.
    Raises InputError: there is none, or it is no JSON object.
    """
    path = Path(folder) / REPORT
    try:
        return read_object(path, _AGAIN)
    except FileNotFoundError as error:
        raise _missing(path) from error


def _missing(path: Path) -> InputError:
    return InputError(f"{path.parent}: has no {path.name}; name a folder that compatcheck diff --out wrote")


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be read as Parquet ({one_line(error)}); {_AGAIN}")


def _read_instances(path: Path, candidates: Sequence[str] = ()) -> pd.DataFrame:
    """All rows, or those of some candidates alone."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from compatcheck.compare.candidates import COLUMN

    try:
        schema = pq.read_schema(path)
        _check_columns(path, schema)
        only = [(COLUMN, "in", [*candidates])] if candidates and COLUMN in schema.names else None
        # texts of a damaged file may be no UTF-8, which pandas finds too late
        pq.read_table(path, filters=only).validate(full=True)
        return _plain(pd.read_parquet(path, filters=only))
    except (OSError, ValueError, TypeError, LookupError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _check_columns(path: Path, schema: Any) -> None:
    """Raise InputError for columns that are there twice, or of types that :func:`save` never writes."""
    from compatcheck.compare.result import INSTANCE_COLUMNS

    for column in schema:
        kind = _kind_of(column.type)
        expected = _OTHER_KINDS.get(column.name, "text" if column.name in INSTANCE_COLUMNS else kind)
        if kind == "other" or kind not in (expected, "null"):
            raise InputError(f"{path}: column '{column.name}' holds {column.type}, which no report has there; {_AGAIN}")
        if schema.names.count(column.name) > 1:
            raise InputError(f"{path}: has the column '{column.name}' twice; it does not belong to this report")


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Without categories, which take no value that they have not seen."""
    named = [name for name in frame.columns if frame[name].dtype == "category"]
    return frame.astype(dict.fromkeys(named, object)) if named else frame


def _kind_of(type: Any) -> str:
    import pyarrow.types as kinds

    type = type.value_type if kinds.is_dictionary(type) else type

    known = {
        "text": (kinds.is_string, kinds.is_large_string),
        "number": (kinds.is_integer, kinds.is_floating),
        "boolean": (kinds.is_boolean,),
        "null": (kinds.is_null,),
    }
    return next((name for name, tests in known.items() if any(test(type) for test in tests)), "other")


def telling_instances(path: Path) -> pd.DataFrame:
    """Of a file too large to hold the most telling instances of every comparison, as when it was written.

    Of each row group the quadrants and gains are read first, its texts only where one of its rows is chosen.
    Raises InputError: a file that is no Parquet, or not one of instances.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from compatcheck.compare.overview import WorstFlips
    from compatcheck.compare.result import INSTANCE_COLUMNS

    found: dict[tuple[str, ...], WorstFlips] = {}
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            missing = [name for name in INSTANCE_COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise InputError(f"{path}: has no column '{missing[0]}'; it does not belong to this report")
            _check_columns(path, file.schema_arrow)
            for number in range(file.num_row_groups):
                known = file.read_row_group(number, [*_KEYS, "quadrant", "gain"]).to_pandas()
                if known.empty:
                    continue
                # A row group holds rows of one comparison.
                telling = found.setdefault(tuple(known[name].iloc[0] for name in _KEYS), WorstFlips())
                if telling.wants(known["quadrant"], known["gain"].to_numpy(dtype=float)):
                    group = file.read_row_group(number)
                    group.validate(full=True)
                    telling.add(group.to_pandas(types_mapper=nullable))
                else:
                    telling.skip(len(known))
            if not found:
                return file.schema_arrow.empty_table().to_pandas()
    except (OSError, ValueError, TypeError, LookupError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    return _plain(pd.concat([telling.chosen() for telling in found.values()], ignore_index=True))


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
    if not _same_budgets(result, kept):
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


def _same_budgets(result: Result, kept: dict[str, Any]) -> bool:
    """Whether both judge the same budgets of the same pair, neither of them sequentially."""
    try:
        pair = all(
            side.reference == other["reference"] or (side.fingerprint and side.fingerprint == other["fingerprint"])
            for side, other in ((result.old, kept["old"]), (result.new, kept["new"]))
        )
        mine = {(each.task, each.filter, each.metric, gate.rule) for each in result.comparisons for gate in each.gates}
        theirs = {
            (*(each[key] for key in _KEYS), gate["rule"]) for each in kept["comparisons"] for gate in each["gates"]
        }
        return pair and mine == theirs and not any(each.get("sequential") for each in kept["comparisons"])
    except (KeyError, TypeError, AttributeError):
        return False
