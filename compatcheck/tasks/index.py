"""lm-eval's own tasks by name, without paying for its index at every start.

lm-eval scans some 14,000 YAML files (9 to 14 s) to learn which task lives where. That scan is done once per installed
version and kept as JSON in the user cache.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compatcheck.errors import require
from compatcheck.paths import cache_dir
from compatcheck.tasks import patches
from compatcheck.version import installed

_KINDS = {"TASK": "task", "PY_TASK": "task", "GROUP": "group", "TAG": "tag"}


@dataclass(frozen=True)
class IndexEntry:
    """Where a name of lm-eval lives. ``kind`` is ``task``, ``group`` or ``tag``; a tag has members and no file."""

    name: str
    kind: str
    path: Path | None
    members: tuple[str, ...] = ()


def lm_eval_tasks_dir() -> Path:
    """Folder of lm-eval's task YAMLs; found without importing lm-eval."""
    require("lm-eval's tasks", "lm_eval")
    spec = find_spec("lm_eval")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "tasks"


def is_cached() -> bool:
    """Whether :func:`load_index` need not scan lm-eval's files."""
    return _cached(lm_eval_tasks_dir()).is_file()


def _cached(root: Path) -> Path:
    return cache_dir("lm-eval-index") / f"{installed('lm-eval')}-{root.stat().st_mtime_ns}.json"


def load_index() -> dict[str, IndexEntry]:
    """Every task, group and tag that the installed lm-eval knows, from the cache if it is there."""
    root = lm_eval_tasks_dir()
    cached = _cached(root)
    try:
        rows = json.loads(cached.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        rows = _scan(root)
        temporary = cached.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(rows), encoding="utf-8")
        temporary.replace(cached)
    return {
        name: IndexEntry(name, kind, root / path if path else None, tuple(members))
        for name, (kind, path, members) in rows.items()
    }


def _scan(root: Path) -> dict[str, Any]:
    print("indexing lm-eval's tasks (once for this version, about 15 s) …", file=sys.stderr)
    from lm_eval.tasks import TaskManager

    with patches.no_warnings():
        entries = TaskManager().task_index
    return {
        name: [
            _KINDS[entry.kind.name],
            str(entry.yaml_path.relative_to(root)) if entry.yaml_path else None,
            sorted(entry.tags) if entry.kind.name == "TAG" else [],
        ]
        for name, entry in entries.items()
        if entry.kind.name in _KINDS
    }
