"""Two hundred requests at once to a slow and faulty server: nothing is lost, nothing piles up, Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from compatcheck.engines.endpoint.engine import EndpointEngine
from compatcheck.models.endpoints import Endpoint
from tests.engines.conftest import prompts
from tests.engines.endpoint.servers import Hostile, serving

KINDS = ("good", "slow", "busy:1", "broken:2", "cut:1", "malformed:1", "cut-short:1", "empty:2", "refusing")
COUNT = int(os.environ.get("COMPATCHECK_LOAD", "1500"))


def test_nothing_is_lost_and_no_answer_waits_beyond_those_in_flight() -> None:
    texts = [f"{KINDS[number % len(KINDS)]} {number}" for number in range(COUNT)]
    taken = 0
    behind = threading.Semaphore(0)
    with serving(Hostile) as server:

        class Hook:
            """Slower than the server now and then, as a full disk is."""

            def add_partial(self, attribute: str, request: Any, answer: str) -> None:
                nonlocal taken
                assert answer == f"said: {request[0]}"
                taken += 1
                if taken % 300 == 0:
                    behind.acquire(timeout=0.3)
                    with server.lock:
                        done = sum(1 for text in server.tries if not text.startswith("refusing"))
                    assert done - taken <= 2 * 200, "requests are sent as their answers are taken"

        options = {"retries": 4, "backoff": 0.01, "timeout": 60}
        engine = EndpointEngine([Endpoint(server.url, "m")], batch_size=200, engine_args=options)
        engine.set_cache_hook(Hook())
        found = engine.generate_until(prompts([(text, {"until": ["\n"], "max_gen_toks": 5}) for text in texts]))
        assert server.most <= 200
        tries = dict(server.tries)
    refused = [number for number, text in enumerate(texts) if text.startswith("refusing")]
    assert sorted(number for _, number in engine.failures) == refused
    assert found == ["" if text.startswith("refusing") else f"said: {text}" for text in texts]
    again = {"busy:1": 2, "broken:2": 3, "cut:1": 2, "malformed:1": 2, "cut-short:1": 2, "empty:2": 3}
    assert [tries[text] for text in texts] == [again.get(text.split()[0], 1) for text in texts]


def test_an_interrupt_ends_it_with_two_hundred_under_way(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom compatcheck.engines.endpoint.engine import EndpointEngine\n"
        "from compatcheck.models.endpoints import Endpoint\nfrom tests.engines.conftest import prompts\n"
        "engine = EndpointEngine([Endpoint(sys.argv[1], 'm')], batch_size=200)\n"
        "asked = [(text, {}) for text in ['good', *(f'silent {n}' for n in range(400))]]\n"
        "try:\n    engine.generate_until(prompts(asked))\nexcept KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    with serving(Hostile) as server:
        root = Path(__file__).parents[3]
        ours = subprocess.Popen([sys.executable, "-c", script, server.url], cwd=root, stderr=subprocess.PIPE)
        while server.now < 200 and ours.poll() is None:
            threading.Event().wait(0.05)
        ours.send_signal(signal.SIGINT)
        _, said = ours.communicate(timeout=30)
    assert (ours.returncode, said) == (130, b"")
