from __future__ import annotations

from typing import Any

import pytest

from compatcheck.engines.endpoint.engine import EndpointEngine
from compatcheck.engines.endpoint.received import text_of
from compatcheck.engines.endpoint.wire import Decoding, Dialect, Messages, body_of, read_decoding
from compatcheck.errors import InputError
from compatcheck.models.client import RequestFailed
from compatcheck.models.endpoints import Endpoint
from tests.engines.conftest import prompts
from tests.engines.endpoint.servers import Handler, chat, completion, serving


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, Decoding(256, (), 0.0, None)),
        ({"until": "\n", "max_gen_toks": 7, "temperature": 0.0}, Decoding(7, ("\n",), 0.0, None)),
        ({"until": ["a", "", "a", "b"], "do_sample": False, "temperature": 0.9}, Decoding(256, ("a", "b"), 0.0, None)),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.9}, Decoding(256, (), 0.7, 0.9)),
        ({"temperature": 0.0, "top_p": 0.9, "top_k": 20, "num_beams": 1}, Decoding(256, (), 0.0, None)),
        ({"presence_penalty": 0.5}, Decoding(256, (), 0.0, None, {"presence_penalty": 0.5})),
        ({"no_repeat_ngram_size": 2}, Decoding(256, (), 0.0, None, {}, ("no_repeat_ngram_size=2",))),
        ({"no_repeat_ngram_size": 0, "repetition_penalty": 1}, Decoding(256, (), 0.0, None)),
        (
            {"do_sample": True, "temperature": 1.0, "top_k": 20, "min_p": 0.1},
            Decoding(256, (), 1.0, None, {}, ("min_p=0.1",)),
        ),
        (
            {"num_beams": 4, "length_penalty": 0.5},
            Decoding(256, (), 0.0, None, {}, ("length_penalty=0.5", "num_beams=4")),
        ),
    ],
)
def test_decoding_is_what_the_task_says(arguments: dict[str, Any], expected: Decoding) -> None:
    assert read_decoding(arguments, {"top_k": 20}) == expected


def test_bodies_of_both_formats() -> None:
    decoding = Decoding(9, ("a", "b", "c", "d", "e"), 0.7, 0.9, {"presence_penalty": 1})
    body = body_of("hello", "m", decoding, 3, {"top_k": 5}, Dialect(), chat=False)
    assert body == {
        "model": "m", "prompt": "hello", "max_tokens": 9, "temperature": 0.7, "top_p": 0.9, "presence_penalty": 1,
        "stop": ["a", "b", "c", "d", "e"], "seed": 3, "top_k": 5,
    }  # fmt: skip
    dialect = Dialect("max_completion_tokens", 4, frozenset({"seed"}))
    body = body_of("hello", "m", decoding, 3, {}, dialect, chat=True)
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 9,
        "temperature": 0.7, "top_p": 0.9, "presence_penalty": 1, "stop": ["a", "b", "c", "d"],
    }  # fmt: skip
    history = [{"role": "system", "content": "short"}, {"role": "user", "content": "«hello»"}]
    body = body_of(Messages.of(history), "m", Decoding(1, (), 0.0, None), 0, {}, Dialect(), chat=True)
    assert body == {"model": "m", "messages": history, "max_tokens": 1, "temperature": 0.0, "seed": 0}


def test_the_text_is_cut_at_the_first_stop_string() -> None:
    assert text_of(completion("one. two; three"), False, (";", ".")) == "one"
    assert text_of(chat("one\n\ntwo"), True, ("\n\n",)) == "one"
    assert text_of(chat([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), True, ()) == "ab"
    assert text_of(chat(None), True, ()) == ""


def test_the_first_of_several_choices_is_the_one_that_says_so() -> None:
    """Servers that make several at once may list them as they were done."""
    choices = [completion(text)["choices"][0] | {"index": index} for index, text in ((1, "second"), (0, "first"))]
    assert text_of({"choices": choices}, False, ()) == "first"


@pytest.mark.parametrize(
    ("answer", "in_chat", "why"),
    [
        (None, False, "no choices"),
        ({"error": {"message": "over\nloaded"}}, False, "no choices: .*over.*loaded"),
        ({"choices": ["x"]}, False, "no choices"),
        ({"choices": [{"text": 5}]}, False, "no text"),
        ({"choices": [{}]}, True, "no message"),
        (chat({"a": 1}), True, "no text"),
        (chat("half") | {"error": {"message": "gone"}}, True, "failed amid the answer .*gone"),
        ({"choices": [{"text": "half", "finish_reason": "abort"}]}, False, "failed amid the answer \\(abort\\)"),
        ({"choices": [chat("half")["choices"][0] | {"finish_reason": "error", "error": {"code": 502}}]}, True, "502"),
        ({"choices": [{"text": "half", "finish_reason": {"type": "abort", "message": "full"}}]}, False, "full"),
    ],
)
def test_answers_without_a_text(answer: Any, in_chat: bool, why: str) -> None:
    with pytest.raises(RequestFailed, match=why):
        text_of(answer, in_chat, ())


class Strict(Handler):
    """As OpenAI's own: four stop strings at most, another name for the most tokens, and here no seed."""

    def post(self, body: dict[str, Any]) -> None:
        if len(body.get("stop", [])) > 4:
            return self.send(400, {"error": {"message": "Invalid 'stop': array too long.", "code": None}})
        if "max_tokens" in body:
            return self.send(400, {"error": {"message": "Unsupported: 'max_tokens'. Use 'max_completion_tokens'"}})
        if "seed" in body:
            return self.send(422, {"detail": [{"loc": ["body", "seed"], "msg": "seed: extra field not permitted"}]})
        return self.send(200, chat("one 5 two"))


def test_a_strict_server_is_asked_as_it_wants_and_cut_here() -> None:
    with serving(Strict) as server:
        engine = EndpointEngine([Endpoint(server.url, "m")], engine_args={"api": "chat"}, batch_size=1)
        stops = ["1", "2", "3", "4", "5"]
        texts = engine.generate_until(prompts([("a", {"until": stops}), ("b", {"until": stops})]))
        assert texts == ["one ", "one "]
        assert server.paths() == {"/v1/chat/completions": 5}, "three refusals are learned from, once"
    assert any("takes no seed" in note for note in engine.notes)


def test_a_setting_that_the_api_lacks_is_said_and_one_sent_besides_is_not() -> None:
    class Plain(Handler):
        def post(self, body: dict[str, Any]) -> None:
            self.send(200, completion("x"))

    asked = prompts([("a", {"until": ["\n"], "no_repeat_ngram_size": 2})])
    with serving(Plain) as server:
        model = Endpoint(server.url, "m")
        engine = EndpointEngine([model])
        engine.generate_until(asked)
        assert f"task: {model.text} decodes without no_repeat_ngram_size=2, which" in " ".join(engine.notes)
        engine = EndpointEngine([model], engine_args={"extra_body": {"no_repeat_ngram_size": 2}})
        engine.generate_until(asked)
        assert "decodes without" not in " ".join(engine.notes)
        assert server.asked[-1][1]["no_repeat_ngram_size"] == 2
        assert engine.identity["arguments"] == {"extra_body": {"no_repeat_ngram_size": 2}}


def test_texts_sampled_several_times_have_a_seed_each() -> None:
    class Plain(Handler):
        def post(self, body: dict[str, Any]) -> None:
            self.send(200, completion(str(body["seed"])))

    with serving(Plain) as server:
        engine = EndpointEngine([Endpoint(server.url, "m")], seed=40)
        (sampled,) = prompts([("a", {"do_sample": True, "temperature": 1.0})])
        (greedy,) = prompts([("a", {})])
        assert engine.generate_until([sampled] * 3 + [greedy] * 2) == ["40", "41", "42", "40", "40"]


class Picky(Handler):
    """Names a field only where it stands (422), and refuses a text whose words are those of a field."""

    def post(self, body: dict[str, Any]) -> None:
        asked = body["messages"][-1]["content"]
        if "top_p" in body:
            said = {"detail": [{"loc": ["body", "top_p"], "msg": "Extra inputs are not permitted"}]}
            return self.send(422, said)
        if asked == "bad":
            return self.send(400, {"error": {"message": "the seed of doubt: content not allowed, stop it"}})
        return self.send(200, chat("seeded" if "seed" in body and "stop" in body else "without"))


def test_only_what_helped_is_remembered() -> None:
    with serving(Picky) as server:
        engine = EndpointEngine([Endpoint(server.url, "m")], engine_args={"api": "chat"}, batch_size=1)
        given = {"until": ["x"], "temperature": 0.5, "do_sample": True, "top_p": 0.5}
        texts = engine.generate_until(prompts([("a", given), ("bad", given), ("c", given)]))
    assert texts == ["seeded", "", "seeded"], "a refusal of the text itself takes no field away"
    assert len(engine.failures) == 1
    assert [note for note in engine.notes if "refuses" in note] == [
        f"{server.url}#m refuses top_p, so it was asked without."
    ]


@pytest.mark.parametrize(
    ("asked", "besides", "fits"),
    [
        ({"reasoning_effort": "high"}, {"reasoning_effort": "low"}, False),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}, True),
        ({"min_p": 0.1, "temperature": 1.0}, {"min_p": 0.5}, False),
        ({"repetition_penalty": 1.0}, {"repetition_penalty": 1.2}, True),  # 1 is none
        ({"tools": [{"type": "function"}]}, {"tools": []}, False),
    ],
)
def test_a_field_that_is_said_twice_is_refused_before_anything_is_sent(
    asked: dict[str, Any], besides: dict[str, Any], fits: bool
) -> None:
    class Plain(Handler):
        def post(self, body: dict[str, Any]) -> None:
            self.send(200, completion("x"))

    with serving(Plain) as server:
        engine = EndpointEngine([Endpoint(server.url, "m")], engine_args={"extra_body": besides})
        requests = prompts([("a", {"until": [], **asked})])
        if fits:
            assert engine.generate_until(requests) == ["x"]
            return
        with pytest.raises(InputError, match=f"extra_body: {next(iter(besides))} is .* say it in one place"):
            engine.generate_until(requests)
        assert server.asked == []
