"""Answers of models, kept as they arrive: never paid for twice, never lost. See docs/store.md."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from compatcheck.errors import InputError
from compatcheck.paths import user_path

if TYPE_CHECKING:
    from compatcheck.evaluation.store.database import Store

VARIABLE = "COMPATCHECK_STORE"
"""Environment variable with the folder of the store, or ``off``."""

Where = str | os.PathLike[str] | bool | None
"""A folder; None or True for the usual place; False for no store."""


def locate(where: Where = None) -> Path | None:
    """The folder of the store: the one given, else ``COMPATCHECK_STORE``, else one in the user's cache; None for none.
    Raises InputError: what was given is no folder and cannot be made one."""
    if where is False:
        return None
    given = os.environ.get(VARIABLE) if where is None or where is True else where
    if isinstance(given, str) and given.lower() == "off" and given is not where:
        return None
    if not given:
        from compatcheck.paths import cache_dir

        try:
            return cache_dir("responses")
        except OSError:
            return None  # a home that cannot be written: there is nothing to read there either
    folder = user_path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if folder.is_file() else f"cannot be made a folder ({error.strerror})"
        raise InputError(f"--store {folder}: {reason}; name a folder, or say --no-store") from None
    return folder


def open_store(where: Where = None) -> AbstractContextManager[Store | None]:
    """The store, or None where none is wanted, to be used in a ``with``. A damaged one is set aside and said. Raises
    InputError: what was given is no folder and cannot be made one."""
    folder = locate(where)
    if folder is None:
        return nullcontext()
    from compatcheck.evaluation.store.database import Store

    return Store(folder)
