"""Temporary files of work that is larger than memory: room for them is checked first, and none stays behind."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from compatcheck.errors import InputError
from compatcheck.paths import user_path

if TYPE_CHECKING:
    import duckdb

PREFIX = ".compatcheck-scratch-"
_LOCK = ".lock"


class Scratch:
    """A hidden folder for temporary files, made when it is first used.

    It is removed when it is closed, when nothing refers to it any more, and when the process ends. A killed process
    cannot remove its own: that is done by the next one that makes a scratch folder in the same place.

    Args:
        parent: where to make it; by default the system's folder for temporary files (``TMPDIR``). It counts against
            memory where that is a RAM disk.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self.parent = nearest_folder(parent) if parent is not None else Path(tempfile.gettempdir())
        self._folder: Path | None = None
        self._remove: Callable[[], object] = lambda: None
        self._used = 0

    @property
    def folder(self) -> Path:
        """The folder, made if missing. Raises InputError where it cannot be made."""
        if self._folder is None:
            try:
                sweep(self.parent)
                self._folder, lock = _make(self.parent)
            except OSError as error:
                raise InputError(
                    f"{self.parent}: no temporary files can be written here ({error.strerror}); "
                    "name another folder with TMPDIR or --out"
                ) from error
            self._remove = weakref.finalize(self, _remove, self._folder, lock)
        return self._folder

    def path(self, name: str) -> Path:
        """A path in the folder that was not given out before."""
        self._used += 1
        return self.folder / f"{self._used:05d}-{name}"

    def require(self, needed: int, what: str) -> None:
        """Raise InputError where the disk has fewer than ``needed`` bytes free."""
        free = shutil.disk_usage(self.parent).free
        if free < needed:
            raise InputError(
                f"{self.parent}: {what} needs about {needed / 1e9:,.1f} GB of disk and {free / 1e9:,.1f} GB are free; "
                "make room, or name a folder on another disk with TMPDIR or --out"
            )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the operating system says of the temporary files (a full disk) into an InputError."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise InputError(
                f"{self.parent}: temporary files cannot be written or read ({reason}); make room, or name a folder on "
                "another disk with TMPDIR or --out"
            ) from error

    def close(self) -> None:
        """Remove the folder and what is in it."""
        self._remove()
        self._folder, self._remove = None, lambda: None


@contextlib.contextmanager
def database(scratch: Scratch | None, rows: int = 0) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory; with a scratch folder in 128 MB and 24 bytes for each of ``rows``, the rest of it there."""
    import duckdb

    if scratch is None:
        with _in_memory().cursor() as connection:
            yield connection
        return
    config: dict[str, Any] = {
        "threads": 1,
        "memory_limit": f"{128 + 24 * rows // 10**6}MB",
        "temp_directory": str(scratch.folder / "database"),
    }
    with duckdb.connect(config=config) as connection:
        yield connection


@functools.cache
def _in_memory() -> duckdb.DuckDBPyConnection:
    """One for the whole process: opening one takes as long as a hundred joins of few rows."""
    import duckdb

    return duckdb.connect(config={"threads": 1})


def nearest_folder(path: Path) -> Path:
    """``path``, or the nearest folder above it that exists."""
    path = user_path(path).absolute()
    while not path.is_dir():
        path = path.parent
    return path


def sweep(parent: Path) -> int:
    """Remove scratch folders whose process is gone; returns how many."""
    removed = 0
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("rb+") as lock:
            if _lock(lock):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    return removed


def _make(parent: Path) -> tuple[Path, IO[bytes]]:
    # Locked before it gets the name that others look for, so that nobody takes it for one that was left behind.
    folder = Path(tempfile.mkdtemp(prefix=".compatcheck-new-", dir=parent))
    lock = (folder / _LOCK).open("wb")
    _lock(lock)
    return folder.rename(folder.with_name(folder.name.replace(".compatcheck-new-", PREFIX))), lock


def _lock(file: IO[bytes]) -> bool:
    """Whether this process now holds the lock, which ends with the process however it ends."""
    if os.name == "nt":
        return False  # an open file cannot be removed there, and the system cleans its own temporary folder
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(folder: Path, lock: IO[bytes]) -> None:
    lock.close()
    shutil.rmtree(folder, ignore_errors=True)
