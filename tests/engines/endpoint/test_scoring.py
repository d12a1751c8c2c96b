"""Scores through a server that holds a real tiny model are those of the hf engine, whatever the server offers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compatcheck.engines import open_engine
from compatcheck.engines.endpoint.engine import EndpointEngine
from compatcheck.engines.endpoint.scoring import begins_at, read_echo
from compatcheck.errors import InputError
from compatcheck.models.client import RequestFailed
from compatcheck.models.endpoints import Endpoint
from tests.engines.conftest import choices, prompts
from tests.engines.endpoint.servers import Model, Server, serving

PAIRS = [
    ("the red bird", [" sings", " runs over the house", " falls"]),
    ("the red bir", ["d sings under the house", "d runs over a river"]),  # a token spans the boundary
    ("a house under the ", ["river", "a"]),  # spaces at the end belong to the continuation
    ("über the 河 bird ", ["falls über 河", "sings"]),  # characters of several tokens
]
TEXTS: list[tuple[str, dict[str, Any]]] = [
    ("the red bird", {"until": ["\n"], "max_gen_toks": 10}),
    ("a house under", {"until": ["a", "e", "i", "o", "u"], "max_gen_toks": 12}),
    ("river", {"until": [], "max_gen_toks": 3}),
]


def with_model(folder: Path, **parts: Any) -> Any:
    return serving(type("Tiny", (Model,), {"folder": folder, "_loaded": None, **parts}))


def engine(server: Server, **arguments: Any) -> EndpointEngine:
    return EndpointEngine([Endpoint(server.url, "tiny")], engine_args={"backoff": 0.01, "retries": 1, **arguments})


SPANNING = [3, 4]
"""Numbers of the requests whose answer begins inside a token."""


@pytest.mark.parametrize(
    ("parts", "paths"),
    [
        # of the probe one, of every context one, of every whole text one; of the probe two, and one of each
        ({}, {"/tokenize": 1 + 4 + 9, "/v1/completions": 2 + 9}),
        ({"least": 1}, {"/tokenize": 1 + 4 + 9, "/v1/completions": 3 + 9}),
        # the strings of tokens tell the boundary, but not where a token spans it or is a part of a character
        ({"tokenizes": False}, {"/v1/completions": 1 + 9 + 2}),
        ({"takes_ids": False}, {"/tokenize": 1, "/v1/completions": 2 + 9 + 2}),
        ({"tokenizes": False, "strings": False}, {"/v1/completions": 1 + 9 + 4}),
        ({"tokenizes": False, "strings": False, "least": 1}, {"/v1/completions": 2 + 9 + 4}),
    ],
)
def test_scores_are_those_of_the_hf_engine(
    parts: dict[str, Any], paths: dict[str, int], model_folder: Callable[[str], Path]
) -> None:
    folder = model_folder("llama")
    expected = open_engine("hf", folder).loglikelihood(choices(PAIRS))
    with with_model(folder, **parts) as server:
        asked = engine(server)
        found = asked.loglikelihood(choices(PAIRS))
        seen = server.paths()
    assert not asked.failures
    exact = [
        n for n in range(len(found)) if n not in SPANNING or ("tokenizes" not in parts and "takes_ids" not in parts)
    ]
    assert [found[n][0] for n in exact] == pytest.approx([expected[n][0] for n in exact], abs=1e-4)
    assert [found[n][1] for n in exact] == [expected[n][1] for n in exact]
    said = any("2 of 9 scored answers begin inside a token" in note for note in asked.notes)
    assert said == (len(exact) < len(found)), asked.notes
    assert {path: seen[path] for path in paths} == paths


def test_greedy_continuations_are_said_to_be(fixtures: Path) -> None:
    folder = fixtures / "models" / "base-v1"
    here: Any = open_engine("hf", folder)
    told = here.generate_until(prompts([("The capital of", {"until": ["\n"], "max_gen_toks": 4})]))[0]
    with with_model(folder) as server:
        found = engine(server).loglikelihood(choices([("The capital of", [told, " xylophone"])]))
    assert [greedy for _, greedy in found] == [True, False]


def test_texts_are_those_of_the_hf_engine_with_any_number_of_stop_strings(model_folder: Callable[[str], Path]) -> None:
    folder = model_folder("llama")
    expected = open_engine("hf", folder).generate_until(prompts(TEXTS))
    with with_model(folder) as server:
        assert engine(server).generate_until(prompts(TEXTS)) == expected
        assert sorted(len(body.get("stop", ())) for _, body in server.asked) == [0, 1, 5]


def test_a_context_is_needed_where_the_server_puts_no_start_token(model_folder: Callable[[str], Path]) -> None:
    with with_model(model_folder("llama")) as server:
        asked = engine(server)
        asked.loglikelihood(choices([("the red bird", [" sings"]), ("", ["the house"])]))
    assert asked.failures == {
        ("task", 1): "a continuation without a context needs a start token, and the server puts none before a text"
    }


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"echoes": False}, r"the answer does not echo the prompt"),
        ({"least": 2}, r"HTTP 400: max_tokens must be at least 2"),
    ],
)
def test_a_server_without_prompt_logprobs_is_refused_before_anything_is_spent(
    parts: dict[str, Any], why: str, model_folder: Callable[[str], Path]
) -> None:
    with with_model(model_folder("llama"), **parts) as server:
        with pytest.raises(InputError, match=rf"#tiny: task needs log-likelihoods, and the server returns no .*{why}"):
            engine(server).loglikelihood(choices(PAIRS))
        prompts_sent = {body["prompt"] for path, body in server.asked if path == "/v1/completions"}
    assert len(prompts_sent) == 1, "only the probe"


def test_chat_cannot_score(model_folder: Callable[[str], Path]) -> None:
    with with_model(model_folder("llama"), completes=False) as server:
        with pytest.raises(
            InputError, match="a chat API cannot score a given answer; leave --engine-arg api=chat away"
        ):
            engine(server, api="chat").loglikelihood(choices(PAIRS))
        asked = engine(server)
        conversation = asked.apply_chat_template([{"role": "user", "content": "the red bird"}])
        with pytest.raises(InputError, match="leave --apply-chat-template away"):
            asked.loglikelihood(choices([(conversation, [" sings"])]))
        assert not server.asked
        with pytest.raises(InputError, match=r"needs log-likelihoods, and .* in /completions: HTTP 404: Not Found"):
            asked.loglikelihood(choices(PAIRS))
        with pytest.raises(InputError, match="whole texts"):
            asked.loglikelihood_rolling(choices(PAIRS))


def test_a_server_with_chat_alone_is_asked_so_and_says_it(model_folder: Callable[[str], Path]) -> None:
    with with_model(model_folder("llama"), completes=False) as server:
        asked = engine(server)
        texts = asked.generate_until(prompts(TEXTS))
        explicit = engine(server, api="chat").generate_until(prompts(TEXTS))
        asked_paths = server.paths()
    assert texts == explicit
    assert asked_paths == {"/v1/completions": 1, "/v1/chat/completions": 6}
    assert any("has no /completions: every prompt was sent as one user message" in note for note in asked.notes)
    with pytest.raises(InputError, match="needs the chat API"):
        engine(server, api="completions").apply_chat_template([])


def test_a_conversation_goes_to_chat_as_it_is(model_folder: Callable[[str], Path]) -> None:
    history = [{"role": "user", "content": "the red «bird»"}, {"role": "assistant", "content": "sings"}]
    with with_model(model_folder("llama")) as server:
        asked = engine(server)
        asked.generate_until(prompts([(asked.apply_chat_template(history[:1]), {"until": ["\n"], "max_gen_toks": 2})]))
        asked.generate_until(prompts([(asked.apply_chat_template(history), {"until": ["\n"], "max_gen_toks": 2})]))
    (_, first), (_, second) = server.asked
    assert first["messages"] == history[:1]
    assert second["messages"] == history and second["continue_final_message"] is True


def test_where_the_continuation_begins() -> None:
    assert begins_at(("<s>", "the", " red", " bird"), " bird") == 3
    assert begins_at(("<s>", "the", " red", " bird"), " red bird") == 2
    assert begins_at(("the", " red", " bird"), "rd") is None
    assert begins_at(("▁the", "▁red"), " red") is None
    assert begins_at((), "x") is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"choices": [{}]}, "no logprobs"),
        ({"choices": [{"logprobs": {"tokens": ["a"]}}]}, "no tokens, token_logprobs or top_logprobs"),
        (
            {
                "choices": [
                    {"logprobs": {"tokens": ["a"], "token_logprobs": [None, -1.0], "top_logprobs": [None, None]}}
                ]
            },
            "do not fit together",
        ),
        (
            {"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": ["-1"], "top_logprobs": [None]}}]},
            "is no number",
        ),
        (
            {"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": [float("nan")], "top_logprobs": [None]}}]},
            "is no number",
        ),
        (
            {
                "choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [None]}}],
                "usage": {"prompt_tokens": 9},
            },
            "does not echo the prompt",
        ),
    ],
)
def test_answers_that_make_no_sense_are_none(answer: Any, why: str) -> None:
    with pytest.raises(RequestFailed, match=why):
        read_echo(answer, 0)
