"""Where compatcheck keeps what it may throw away."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir(*parts: str) -> Path:
    """Folder in the user's cache (``COMPATCHECK_CACHE`` overrides it), made if missing."""
    import platformdirs

    root = os.environ.get("COMPATCHECK_CACHE") or platformdirs.user_cache_dir("compatcheck")
    folder = Path(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
