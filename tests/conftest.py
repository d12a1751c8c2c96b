"""What the whole suite shares: no network, a cache of its own, and where the fixtures and the real data lie."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "fixtures"
SHARED = ROOT.parent / "shared" / "data"

for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ[name] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests run in several processes, and threads that wait for each other on busy cores cost tenfold on small matrices.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a shell starts in the background ignores interrupts, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is no part of a test. The inner loop (make quick) has a tenth of the random examples.
settings.register_profile("whole", deadline=None)
settings.register_profile("quick", max_examples=10, deadline=None)
settings.load_profile("quick" if os.environ.get("COMPATCHECK_QUICK") else "whole")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The user's cache is neither read nor written. What a module's tests share is computed without a store."""
    os.environ["COMPATCHECK_STORE"] = "off"
    os.environ["COMPATCHECK_CACHE"] = str(tmp_path_factory.mktemp("cache"))


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test computes its answers itself: none finds those that another test stored."""
    monkeypatch.setenv("COMPATCHECK_STORE", str(tmp_path_factory.getbasetemp() / f"store-{next(_numbers)}"))


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of the bundled models, adapters and data."""
    return FIXTURES


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data for measuring; not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the real data sets (../shared/data) are not here")
    return SHARED
