"""A server that does everything wrong: what becomes of each request is checked exactly."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from compatcheck.engines.endpoint.engine import EndpointEngine
from compatcheck.errors import InputError
from compatcheck.models import client
from compatcheck.models.endpoints import Endpoint
from tests.engines.conftest import prompts
from tests.engines.endpoint.servers import Hostile, Server, serving

KEY = "sk-a-secret-of-the-tests-0123456789"
ARGS = {"retries": 2, "backoff": 0.01, "timeout": 0.6}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("COMPATCHECK_API_KEY", KEY)
    with serving(Hostile) as server:
        yield server


def engine(server: Server, in_flight: int = 8, **more: Any) -> EndpointEngine:
    return EndpointEngine([Endpoint(server.url, "m")], batch_size=in_flight, engine_args={**ARGS, **more})


def ask(asked: EndpointEngine, texts: list[str]) -> list[str]:
    return asked.generate_until(prompts([(text, {"until": ["\n"], "max_gen_toks": 5}) for text in texts]))


EXPECTED = {
    "good 0": None,
    "slow 1": None,
    "busy:1 2": None,
    "busy:2 3": None,
    "busy 4": "HTTP 429: rate limit reached (rate_limit_exceeded) (3 tries)",
    "busy-until:1 5": None,
    "busy-all-day 6": "HTTP 429: daily limit; the server asks to wait 86400 s",
    "broken:1 7": None,
    "broken 8": "HTTP 500 (3 tries)",
    "malformed:2 9": None,
    "malformed 10": "the answer is not JSON (application/json) (3 tries)",
    "nested 11": "the answer is not JSON (application/json) (3 tries)",
    "cut:1 12": None,
    "cut 13": "connection failed: Server disconnected without sending a response (3 tries)",
    "cut-short:2 14": None,
    "text 15": None,
    "page 16": "the answer is not JSON (text/html) (3 tries)",
    "empty:1 24": None,
    "empty 17": "the answer holds no choices (3 tries)",
    "textless 18": "the answer holds no text (3 tries)",
    "other 19": "the answer holds no choices (3 tries)",
    "silent:1 20": None,
    "silent 21": "no answer within 0.6 s (2 tries)",
    "refusing 22": "HTTP 400: prompt too long [31m (you sent Bearer ***)",
    "moved 23": "HTTP 307",
}


def test_every_misbehaviour_ends_as_it_should(server: Server) -> None:
    asked = engine(server)
    texts = ask(asked, list(EXPECTED))
    expected = {("task", number): why for number, why in enumerate(EXPECTED.values()) if why}
    assert asked.failures == expected
    good = [f"said: {text}" if why is None else "" for text, why in EXPECTED.items()]
    assert texts == good
    tries = {text: server.tries[text] for text in EXPECTED}
    assert tries["busy-until:1 5"] == 2 and tries["busy-all-day 6"] == 1
    assert tries["malformed 10"] == 3 and tries["silent 21"] == 2 and tries["refusing 22"] == 1
    assert tries["moved 23"] == 1


def test_a_huge_answer_is_not_read_to_its_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_BYTES", 1 << 20)
    asked = engine(server, timeout=20)
    assert ask(asked, ["good", "huge"]) == ["said: good", ""]
    assert asked.failures == {("task", 1): "the answer is longer than 1 MiB"}
    assert server.tries["huge"] == 1


def test_what_the_server_asks_to_wait_is_waited_by_all(server: Server) -> None:
    asked = engine(server, in_flight=1)
    assert ask(asked, ["good", "busy-until:1", "good 2"]) == ["said: good", "said: busy-until:1", "said: good 2"]
    first, second = server.times["busy-until:1"]
    assert second - first >= 0.4
    assert not asked.failures


def test_no_more_requests_at_once_than_asked_for(server: Server) -> None:
    ask(engine(server, in_flight=5), [f"slow {number}" for number in range(21)])
    assert server.most == 5
    assert server.paths()["/v1/completions"] == 21


def test_the_key_is_sent_and_stands_nowhere_else(server: Server) -> None:
    asked = engine(server)
    ask(asked, ["good", "refusing", "refusing 2"])
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    kept = f"{asked.notes}{asked.failures}{asked.identity}{asked.tokenizer_name}{vars(asked)}"
    assert "Bearer ***" in kept
    assert KEY not in kept


def canary(monkeypatch: pytest.MonkeyPatch, behaviour: str) -> None:
    monkeypatch.setattr(Hostile, "canary", behaviour)


def test_no_access_stops_at_the_first_request_and_names_the_variable(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary(monkeypatch, "denied")
    with pytest.raises(InputError, match=r"#m: no access \(HTTP 401: Incorrect .*\*\*\*\); check the key") as told:
        ask(engine(server), [f"denied {number}" for number in range(50)])
    assert KEY not in str(told.value)
    assert server.paths()["/v1/completions"] == 2, "the first and the trivial one"


def test_an_unknown_model_stops_with_the_names_of_the_known(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    canary(monkeypatch, "unknown")
    with pytest.raises(InputError, match=r"#m: HTTP 404: The model `m` does not exist.*; the model is listed"):
        ask(engine(server, api="completions"), [f"unknown {number}" for number in range(50)])
    assert server.paths()["/v1/completions"] == 2


def test_nobody_there_is_an_error_after_the_first_requests() -> None:
    with serving(Hostile) as gone:
        url = gone.url
    asked = EndpointEngine([Endpoint(url, "m")], engine_args=ARGS)
    with pytest.raises(InputError, match=r"#m: even a trivial request fails: connection failed: .*\(3 tries\)"):
        ask(asked, [f"good {number}" for number in range(80)])


def test_when_the_first_eight_fail_and_a_trivial_one_too_the_rest_is_not_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary(monkeypatch, "refusing")
    with pytest.raises(InputError, match="even a trivial request fails: HTTP 400: prompt too long"):
        ask(engine(server, in_flight=2), [f"refusing {number}" for number in range(60)])
    assert 9 <= server.paths()["/v1/completions"] <= 20


def test_a_server_that_breaks_down_later_is_given_up_and_says_how_far_it_came(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary(monkeypatch, "broken")
    texts = ["good 1", "good 2", *(f"broken {number}" for number in range(100))]
    with pytest.raises(InputError, match=r"#m: stopped answering after 2 answers: even a trivial .* HTTP 500$"):
        ask(engine(server, in_flight=4, retries=0), texts)
    assert server.paths()["/v1/completions"] < 60


@pytest.mark.parametrize("behaviour", ["refusing", "broken", "unknown", "denied"])
def test_what_is_left_of_a_run_may_fail_as_a_whole(server: Server, behaviour: str) -> None:
    asked = engine(server, retries=0, api="completions")
    assert ask(asked, [f"{behaviour} {number}" for number in range(70)]) == [""] * 70
    assert len(asked.failures) == 70
    assert 71 <= server.paths()["/v1/completions"] <= 74, "a few trivial requests say that the server is well"


def test_documents_that_fail_by_themselves_never_stop_the_rest(server: Server) -> None:
    texts = ["good", *(f"refusing {number}" for number in range(80)), "good again"]
    asked = engine(server)
    assert ask(asked, texts)[-1] == "said: good again"
    assert len(asked.failures) == 80


def test_an_interruption_ends_at_once_and_leaves_no_thread(server: Server) -> None:
    asked = engine(server, in_flight=4, timeout=60)
    before = threading.active_count()

    class Stop(KeyboardInterrupt):
        pass

    class Interrupting:
        """Stands for the terminal: Ctrl-C while requests are under way."""

        def start(self, label: str, total: float, done: float = 0) -> None:
            self.count = itertools.count(1)

        def advance(self, instances: float, tokens: int | None = None) -> None:
            if next(self.count) == 2:
                raise Stop

        def finish(self) -> None:
            pass

    asked.progress = Interrupting()
    started = time.monotonic()
    with pytest.raises(Stop):
        ask(asked, ["good", "good 2", *(f"silent {number}" for number in range(8))])
    assert time.monotonic() - started < 5
    assert not [thread for thread in threading.enumerate() if "portal" in thread.name]
    assert before <= threading.active_count() + 1


def test_answers_are_handed_to_the_store_in_the_callers_thread_and_failures_never(server: Server) -> None:
    kept: list[tuple[Any, Any, Any]] = []

    class Hook:
        def add_partial(self, attribute: str, request: Any, answer: Any) -> None:
            kept.append((attribute, request[0], answer))
            assert threading.current_thread() is threading.main_thread()

    asked = engine(server)
    asked.set_cache_hook(Hook())
    ask(asked, ["good", "refusing", "empty"])
    assert kept == [("generate_until", "good", "said: good")]


def test_another_model_starts_without_the_failures_of_the_first(server: Server) -> None:
    asked = EndpointEngine([Endpoint(server.url, "m"), Endpoint(server.url, "n")], engine_args=ARGS)
    ask(asked, ["good", "refusing"])
    assert asked.failures
    asked.activate("n")
    assert not asked.failures
    assert asked.identity["model"] == "n"
    with pytest.raises(InputError, match="'x' is none of the models asked for: m, n"):
        asked.activate("x")
