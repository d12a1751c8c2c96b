"""Two hundred requests at once to a slow and faulty server: nothing lost, memory bounded, Ctrl-C answered at once.

Some two thousand requests run with the other tests, a few seconds; ``COMPATCHECK_LOAD`` says how many: 100,000 keep a
machine busy for about five minutes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from compatcheck.engines.endpoint.engine import EndpointEngine
from compatcheck.models.endpoints import Endpoint
from tests.engines.conftest import prompts
from tests.engines.endpoint.servers import Handler, Hostile, Server, completion, serving
from tests.fuzz import served
from tests.fuzz.killed import start

REQUESTS = int(os.environ.get("COMPATCHECK_LOAD", "2000"))
AT_ONCE = 200
GOOD, PASSING, LASTING = 80, 18, 2
"""Percent of requests that are answered, that fail once and then are answered, and that always fail."""
ONCE = ("busy:1", "broken:1", "malformed:1", "cut:1", "cut-short:1", "empty:1")
ALWAYS = {"refusing": "HTTP 400: prompt too long [31m (you sent )", "broken": "HTTP 500 (3 tries)"}


class Slow(Hostile):
    """Takes its time over every answer, some tenths of a second."""

    def post(self, body: dict[str, Any]) -> None:
        time.sleep(random.Random(body["prompt"]).uniform(0.2, 0.4))
        super().post(body)


def test_two_hundred_at_once_and_nothing_is_lost() -> None:
    rng = random.Random(14)
    texts = []
    for number in range(REQUESTS):
        kind = rng.choices(["good", rng.choice(ONCE), rng.choice(list(ALWAYS))], [GOOD, PASSING, LASTING])[0]
        texts.append(f"{kind} {number}")
    texts[:20] = [f"good {number}" for number in range(20)]
    with serving(Slow) as server:
        asked = EndpointEngine(
            [Endpoint(server.url, "m")], batch_size=AT_ONCE, engine_args={"retries": 2, "backoff": 0.01, "timeout": 30}
        )
        with growing() as grown:
            said = asked.generate_until(prompts([(text, {"until": ["\n"], "max_gen_toks": 5}) for text in texts]))
    failing = {number: ALWAYS[text.split()[0]] for number, text in enumerate(texts) if text.split()[0] in ALWAYS}
    assert {number: why for (_, number), why in asked.failures.items()} == failing
    assert said == ["" if number in failing else f"said: {text}" for number, text in enumerate(texts)]
    tries = Counter({text: 3 if text.startswith("broken ") else 2 if ":1" in text else 1 for text in texts})
    assert Counter({text: server.tries[text] for text in texts}) == tries, "nothing is asked oftener than it must be"
    assert AT_ONCE // 2 < server.most <= AT_ONCE
    assert grown[-1] < (150 << 20) + 10_000 * REQUESTS, f"{grown[-1] / 1e6:.0f} MB more"


@contextlib.contextmanager
def growing() -> Iterator[list[int]]:
    """The last of the list is the most bytes that this process held meanwhile above those before. What the kernel
    counts as the most is of the process's whole life, other tests included."""
    process, done = psutil.Process(), threading.Event()
    before, most = process.memory_info().rss, [0]

    def watch() -> None:
        while not done.wait(0.02):
            most.append(max(most[-1], process.memory_info().rss - before))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


class Silent(Handler):
    """Lists its models and never answers a prompt."""

    def get(self) -> None:
        self.send(200, {"data": [{"id": "m", "owned_by": "tests"}]})

    def post(self, body: dict[str, Any]) -> None:
        self.server.over.wait(60)
        self.hang_up()


@pytest.fixture
def tasks(tmp_path: Path) -> list[str]:
    whole = served.build(tmp_path / "served")
    return ["--task", str(whole / "tinygen.yaml"), "--data", str(whole / "data")]


@pytest.mark.slow
def test_ctrl_c_is_answered_within_two_seconds(tasks: list[str], tmp_path: Path) -> None:
    with serving(Silent) as server:
        command = [sys.executable, "-m", "compatcheck", "run", f"{server.url}#m", *tasks, "--out", "out"]
        heard = functools.partial(
            signal.signal, signal.SIGINT, signal.default_int_handler
        )  # a background job ignores it
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=heard)
        try:
            while server.now == 0 and child.poll() is None:
                time.sleep(0.05)
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=2)
        finally:
            child.kill()
    assert child.returncode == 130 and "Traceback" not in errors, errors
    assert not (tmp_path / "out").exists()


class Counting(Handler):
    """Answers slowly, so that both processes ask while the other one does."""

    def get(self) -> None:
        self.send(200, {"data": [{"id": "m", "owned_by": "tests"}]})

    def post(self, body: dict[str, Any]) -> None:
        with self.server.lock:
            self.server.tries[str(body["prompt"])] += 1
        time.sleep(0.02)
        self.send(200, completion(str(body["prompt"]).split()[1]))


@pytest.fixture
def counting() -> Iterator[Server]:
    with serving(Counting) as server:
        yield server


@pytest.mark.slow
def test_two_processes_on_one_store(counting: Server, tmp_path: Path) -> None:
    """Both end alike, each prompt is asked at most twice, and a third process asks nothing."""
    from tests import tiny

    tiny.tasks(tmp_path / "many", 200)
    whole = tmp_path / "many"
    given = ["--task", str(whole / "tinygen.yaml"), "--data", str(whole / "data"), "--batch-size", "20"]
    store = ["--store", str(tmp_path / "store")]

    def run(name: str) -> tuple[int | None, str, str]:
        (tmp_path / name).mkdir()
        end = start(["run", f"{counting.url}#m", *given, *store, "--out", "out", "--quiet"], tmp_path / name)
        return end.code, end.said, end.errors

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(run, ["one", "two"]))
    assert ends == [(0, "kept in out\n", "")] * 2, ends
    asked = {prompt: tries for prompt, tries in counting.tries.items() if prompt.startswith("Question")}
    assert len(asked) == 200 and max(asked.values()) <= 2
    before = sum(counting.tries.values())
    assert run("three")[0] == 0
    assert sum(counting.tries.values()) == before
    import pandas as pd

    files = (pd.read_parquet(tmp_path / name / "out" / "records.parquet") for name in ("one", "two", "three"))
    one, two, three = (records.drop(columns=["latency", "latency_first"], errors="ignore") for records in files)
    assert one.equals(two) and one.equals(three)
