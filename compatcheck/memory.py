"""How much memory this process can still take."""

from __future__ import annotations

from pathlib import Path

_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_memory() -> int:
    """Bytes that can still be taken: what the machine has left, and what the limits of our control groups leave."""
    import psutil

    return max(0, min(int(psutil.virtual_memory().available), *_left_in_groups(Path("/sys/fs/cgroup"))))


def _left_in_groups(root: Path, own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What every limited control group above us leaves (Linux). Pages of files that can be given back do not count."""
    found = [1 << 62]
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return found
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        top, (limit, used, pages) = (root / "memory", _V1) if controllers else (root, _V2)
        group = top / path.strip("/")
        for folder in [group, *group.parents]:
            try:
                most = (folder / limit).read_text(encoding="ascii").strip()
                stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
                taken = int((folder / used).read_text(encoding="ascii")) - int(stat.get(pages, 0))
                found.append(int(most) - max(0, taken))
            except (OSError, ValueError):  # no such file, or "max"
                pass
            if folder == top:
                break
    return found
