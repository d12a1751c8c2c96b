from __future__ import annotations

import gc
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compatcheck.errors import InputError
from compatcheck.scratch import PREFIX, Scratch, nearest_folder, sweep

MAKE = (
    "import sys\n"
    "from pathlib import Path\n"
    "from compatcheck.scratch import Scratch\n"
    "scratch = Scratch(Path(sys.argv[1]))\n"
    "scratch.path('rows').write_text('much')\n"
    "print('made', flush=True)\n"
)


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_nothing_is_made_before_it_is_used(tmp_path: Path) -> None:
    Scratch(tmp_path)
    assert left(tmp_path) == []


def test_a_folder_goes_when_closed_and_when_nobody_holds_it(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    first, second = scratch.path("rows"), scratch.path("rows")
    assert first != second
    first.write_text("a")
    assert [name.startswith(PREFIX) for name in left(tmp_path)] == [True]
    scratch.close()
    assert left(tmp_path) == []
    scratch.path("rows").write_text("again")
    del scratch, first, second
    gc.collect()
    assert left(tmp_path) == []


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError", "import os, signal; os.kill(os.getpid(), 2)"])
def test_a_folder_goes_with_the_process(end: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MAKE + end, tmp_path], capture_output=True, text=True)
    assert done.stdout == "made\n"
    assert left(tmp_path) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    wait = [sys.executable, "-c", MAKE + "import time; time.sleep(60)", tmp_path]
    with subprocess.Popen(wait, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (folder,) = left(tmp_path)
        assert sweep(tmp_path) == 0, "its process lives"
        process.send_signal(signal.SIGKILL)
    assert left(tmp_path) == [folder]
    scratch = Scratch(tmp_path)
    mine = scratch.folder.name
    assert mine != folder
    assert left(tmp_path) == [mine]


def test_the_parent_may_not_exist_yet(tmp_path: Path) -> None:
    assert nearest_folder(tmp_path / "a" / "b") == tmp_path
    assert Scratch(tmp_path / "a").folder.parent == tmp_path


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "gone")
    scratch.parent = tmp_path / "gone"
    with pytest.raises(InputError, match=r"gone: no temporary files can be written here \(No such file"):
        scratch.path("rows")


def test_room_is_asked_for(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.require(1, "a byte")
    with pytest.raises(InputError, match=r"^/.*: a library needs about 1,000,000,000,000\.0 GB of disk and [\d,.]+ GB"):
        scratch.require(10**21, "a library")


def test_a_disk_that_fills_up_is_one_line(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    message = r"temporary files cannot be written or read \(No space left on device\)"
    with pytest.raises(InputError, match=message), scratch.writing():
        raise OSError(28, "No space left on device")
