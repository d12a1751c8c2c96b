"""How much memory is left: the least of the machine's and of what every control group above us allows."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from compatcheck import memory


def group(folder: Path, most: str, used: int, pages: int, names: tuple[str, str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(most + "\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {pages}\n")


@pytest.mark.parametrize(
    ("line", "below", "names"),
    [
        ("0::/a/b\n", "", memory._V2),
        ("7:cpu,cpuacct:/x\n5:memory:/a/b\n", "memory", memory._V1),
    ],
    ids=["v2", "v1"],
)
def test_the_limit_of_any_group_above_us_counts(
    line: str, below: str, names: tuple[str, str, str], tmp_path: Path
) -> None:
    own = tmp_path / "cgroup"
    own.write_text(line)
    root = tmp_path / "sys"
    group(root / below / "a" / "b", "max", 10, 0, names)
    assert min(memory._left_in_groups(root, own)) == 1 << 62
    group(root / below / "a", "1000", 900, 500, names)  # of what is used, files' pages can be given back
    assert min(memory._left_in_groups(root, own)) == 600
    group(root / below / "a" / "b", "700", 500, 0, names)
    assert min(memory._left_in_groups(root, own)) == 200
    group(root / below, "100", 90, 0, names)
    assert min(memory._left_in_groups(root, own)) == 10
    assert memory._left_in_groups(root, tmp_path / "none") == [1 << 62]


def test_this_machine_has_some() -> None:
    assert 1 << 20 < memory.available_memory() <= psutil.virtual_memory().total
