"""Other backends of lm-eval, really run: its own client for servers, and the one that answers at random."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.engines import open_engine
from compatcheck.errors import InputError
from tests.engines.conftest import choices, prompts
from tests.engines.endpoint.servers import Model, serving

PAIRS = [("The red bird", [" sings", " falls over"]), ("A house by the", [" river", " and"])]
TEXTS: list[tuple[str, dict[str, Any]]] = [("The red bird", {"until": ["."], "max_gen_toks": 6})]


@pytest.fixture
def folder(fixtures: Path) -> Path:
    return fixtures / "models" / "base-v1"


def open_completions(url: str, folder: Path, **more: Any) -> Any:
    if importlib.util.find_spec("tenacity") is None:
        pytest.skip("lm-eval's clients for servers need tenacity, which is not installed")
    arguments = {"model": "tiny", "tokenizer": str(folder), "base_url": f"{url}/completions", "max_retries": 1} | more
    return open_engine("local-completions", folder, batch_size=1, engine_args=arguments)


def test_lm_evals_client_for_servers_agrees_with_hf(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here: Any = open_engine("hf", folder)
    expected, texts = here.loglikelihood(choices(PAIRS)), here.generate_until(prompts(TEXTS))
    capsys.readouterr()
    with serving(type("Tiny", (Model,), {"folder": folder, "_loaded": None, "least": 1})) as server:
        engine = open_completions(server.url, folder)
        found = engine.loglikelihood(choices(PAIRS))
        told = open_completions(server.url, folder, tokenized_requests=False).generate_until(prompts(TEXTS))
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert told == texts
    assert "Requesting" not in capsys.readouterr().err, "bars of the backend's own"
    assert engine.identity["engine"] == "local-completions"


def test_a_backend_that_fails_says_so_in_one_line(folder: Path) -> None:
    engine = open_completions("http://127.0.0.1:9/v1", folder)
    with pytest.raises(
        InputError, match=r"--engine local-completions: failed while scoring choices: .*refused"
    ) as told:
        engine.loglikelihood(choices(PAIRS))
    assert "\n" not in str(told.value)


def test_a_key_among_the_arguments_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="--engine-arg auth_token: would stand in reports") as told:
        open_completions("http://127.0.0.1:9/v1", folder, auth_token="sk-secret")
    assert "sk-secret" not in str(told.value)


def test_answers_at_random(fixtures: Path, folder: Path) -> None:
    diff = compatcheck.diff(
        folder, fixtures / "models" / "base-v2", task=["piqa", "gsm8k"], data=fixtures / "data", limit=10,
        num_fewshot=0, engine="dummy",
    )  # fmt: skip
    assert {comparison.n for comparison in diff.comparisons} == {10}
    assert diff.old.engine["engine"] == "dummy"
    assert any("answered by lm-eval's 'dummy' backend" in note for note in diff.notes)
