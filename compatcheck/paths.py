"""The folder of what may be thrown away, and paths as users write and read them."""

from __future__ import annotations

import os
from pathlib import Path

from compatcheck.errors import InputError


def cache_dir(*parts: str) -> Path:
    """Folder in the user's cache (``COMPATCHECK_CACHE`` overrides it), made if missing."""
    import platformdirs

    root = os.environ.get("COMPATCHECK_CACHE") or platformdirs.user_cache_dir("compatcheck")
    folder = Path(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def from_here(path: Path) -> Path:
    """The path as seen from the current folder, where it lies in there."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def user_path(text: str | os.PathLike[str]) -> Path:
    """A path as the user wrote it, ``~`` and ``~name`` included.
    Raises InputError: no such user, or a character that no path can hold.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise InputError(f"{text}: no home folder of that user is known; write the path without '~'") from None
    if "\0" in str(path):
        raise InputError(f"{str(text)!r}: no path can hold a null character")
    return path
