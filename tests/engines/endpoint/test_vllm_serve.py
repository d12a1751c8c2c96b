"""A real ``vllm serve`` on loopback, with LoRA modules: what users have."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.engines import open_engine
from compatcheck.engines.endpoint.engine import EndpointEngine
from compatcheck.errors import InputError
from compatcheck.models.endpoints import Endpoint, locate
from tests.engines.conftest import choices, prompts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.xdist_group("vllm-serve"),
]
KEY = "sk-a-secret-of-the-tests-0123456789"
START_SECONDS = 600
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
PAIRS = [
    ("Question: How do you open a jar?\nAnswer:", [" Turn the lid.", " Break the jar with a hammer."]),
    ("Question: How do you open a j", ["ar and a door?", "ar?"]),  # a token spans the boundary
    ("The bird in the tree ", ["sings.", "sleeps at night."]),
]


def processes_of(session: int) -> list[str]:
    """Command names of the living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, its_session = rest.split()[:4]
        if int(its_session) == session and state != "Z":
            found.append(name)
    return found


def _end_with_us() -> None:
    """In the child: SIGTERM when the test process dies in whatever way (Linux's PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@pytest.fixture(scope="module")
def url(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with base-v2 as ``base`` and two adapters as ``gsm8k`` and ``piqa``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("vllm-serve")
    (folder / "template.jinja").write_text(TEMPLATE)
    adapters = fixtures / "adapters"
    # The module is what `vllm serve` runs; the command itself does not start in the build for the CPU. Adapters at the
    # output layer are left out: with them that build cannot return log-probabilities of a prompt.
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(fixtures / "models" / "base-v2"),
        "--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
        "--max-model-len", "1024", "--enforce-eager", "--chat-template", str(folder / "template.jinja"),
        "--enable-lora", "--max-loras", "3", "--max-lora-rank", "16",
        "--lora-target-modules", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
        "--lora-modules", f"gsm8k={adapters / 'gsm8k-v2'}", f"piqa={adapters / 'piqa-v2'}",
    ]  # fmt: skip
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": KEY}
    log = folder / "server.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True, preexec_fn=_end_with_us
        )
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-3000:]}")
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(60)
        if processes_of(server.pid):
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(60)
        until = time.monotonic() + 30
        while processes_of(server.pid) and time.monotonic() < until:
            time.sleep(0.2)
        assert not processes_of(server.pid), "the server left processes behind"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATCHECK_API_KEY", KEY)


def test_models_are_listed_and_a_key_is_needed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"has 3 models, name one as .*: base, gsm8k, piqa"):
        locate(url)
    with pytest.raises(InputError, match=r"has no model gsmk \(did you mean 'gsm8k'\?\)"):
        locate(f"{url}#gsmk")
    found = locate(f"{url}#gsm8k")
    assert found.card["parent"] == "base"
    time.sleep(1.1)  # vLLM says the time of the answer
    assert locate(f"{url}#gsm8k").fingerprint() == found.fingerprint()
    monkeypatch.setenv("COMPATCHECK_API_KEY", "wrong")
    with pytest.raises(InputError, match=r"no access .HTTP 401.; check the key in the environment"):
        locate(f"{url}#gsm8k")


@pytest.mark.parametrize("adapter", [None, "piqa"])
def test_scores_are_those_of_the_hf_engine(adapter: str | None, url: str, fixtures: Path) -> None:
    adapters = {adapter: fixtures / "adapters" / f"{adapter}-v2"} if adapter else {}
    here: Any = open_engine("hf", fixtures / "models" / "base-v2", adapters)
    expected = here.loglikelihood(choices(PAIRS))
    engine = EndpointEngine([Endpoint(url, adapter or "base")])
    found = engine.loglikelihood(choices(PAIRS))
    assert not engine.failures
    assert not any("approximate" in note for note in engine.notes)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=2e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_two_lora_modules_as_old_and_new(url: str, fixtures: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"data": fixtures / "data", "limit": 24, "num_fewshot": 0}
    old, new = f"{url}#gsm8k", f"{url}#piqa"
    served = compatcheck.diff(old, new, task=["gsm8k", "piqa"], **arguments)
    adapters = fixtures / "adapters"
    here = compatcheck.diff(
        adapters / "gsm8k-v2", adapters / "piqa-v2", task=["gsm8k", "piqa"], engine="hf", **arguments
    )
    for mine, theirs in zip(served.comparisons, here.comparisons, strict=True):
        assert mine.name == theirs.name
        assert mine.quadrants == theirs.quadrants
        assert mine.instances["prediction_new"].tolist() == theirs.instances["prediction_new"].tolist()
        for name in ("output_tokens_old", "output_tokens_new", "prompt_tokens_new") if mine.task == "gsm8k" else ():
            assert mine.instances[name].tolist() == theirs.instances[name].tolist()
    assert served["strict-match"].quadrants["negative_flip"] > 5, "the wrong adapter cannot do sums"
    served.save(tmp_path / "out")
    kept = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert KEY.encode() not in kept


def test_chat_generates_and_cannot_score(url: str) -> None:
    engine = EndpointEngine([Endpoint(url, "base")])
    wish = {"until": ["\n"], "max_gen_toks": 12}
    plain = engine.generate_until(prompts([("The bird in the tree", wish)]))
    conversation = engine.apply_chat_template([{"role": "user", "content": "The bird in the tree"}])
    assert engine.generate_until(prompts([(conversation, wish)])) == plain != [""]
    with pytest.raises(InputError, match="a chat API cannot score"):
        engine.loglikelihood(choices([(conversation, [" sings"])]))


def test_a_prompt_that_is_too_long_is_an_error_of_its_own(url: str) -> None:
    engine = EndpointEngine([Endpoint(url, "base")])
    wish = {"until": [], "max_gen_toks": 4}
    texts = engine.generate_until(prompts([("The bird", wish), ("The bird " * 2000, wish)]))
    assert texts[0] != "" and texts[1] == ""
    assert list(engine.failures) == [("task", 1)]
    assert "HTTP 400" in engine.failures["task", 1] and "1024" in engine.failures["task", 1]
