"""What comes back from a server, whole and streamed: text, reasoning, calls, tokens, seconds."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from compatcheck.engines.endpoint.engine import EndpointEngine
from compatcheck.engines.endpoint.received import text_of
from compatcheck.models.client import RequestFailed
from compatcheck.models.endpoints import Endpoint
from compatcheck.models.events import Reader
from compatcheck.similarity.structured import calls
from tests.engines.endpoint.scripted import Reply, Scripted
from tests.engines.endpoint.servers import serving

WEATHER = {"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}}
TIME = {"name": "time", "arguments": {}}
REPLIES = {
    "plain": Reply("The answer is 4.", tokens=(11, 6)),
    "thinking": Reply("4", "Two and two, so four.", tokens=(12, 9)),
    "other field": Reply("4", "Hm.", reasoning_field="reasoning"),
    "cut": Reply("The answ", finish_reason="length", tokens=(3, 2)),
    "cut while thinking": Reply(None, "Let me see", finish_reason="length", tokens=(3, 4)),
    "one call": Reply(None, tool_calls=[WEATHER], finish_reason="tool_calls", tokens=(30, 20)),
    "two calls": Reply("I look.", "Which tool?", tool_calls=[WEATHER, TIME], finish_reason="tool_calls"),
    "declined": Reply(None, refusal="I can't help with that."),
    "stops": Reply("4\n\nQuestion: what else?", tokens=(5, 8)),
    "uncounted": Reply("ok"),
}


def _ask(url: str, prompts: list[str], until: list[str] | None = None, **options: Any) -> tuple[list[Any], Any]:
    engine = EndpointEngine([Endpoint(url, "new")], **options)
    arguments = {"until": until or [], "max_gen_toks": 32}
    requests = [
        Instance("generate_until", {}, (prompt, dict(arguments)), number, ("t", number, 1))
        for number, prompt in enumerate(prompts)
    ]
    return engine.generate_until(requests), engine


class Server(Scripted):
    @staticmethod
    def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
        if asked == "busy" and before == 0:
            return Reply(status=429, error={"message": "slow down"}, headers={"Retry-After": "0.1"})
        return REPLIES.get(asked, Reply(asked))


@pytest.mark.parametrize("stream", [False, True])
def test_everything_that_came_is_there(stream: bool) -> None:
    with serving(Server) as server:
        found, engine = _ask(server.url, list(REPLIES), ["\n\n"], engine_args={"api": "chat", "stream": stream})
        sent = [body for path, body in server.asked if path.endswith("completions")]
    assert engine.failures == {}
    assert all(body.get("stream", False) is stream for body in sent)
    for name, answer in zip(REPLIES, found, strict=True):
        reply, about = REPLIES[name], answer.about
        assert about.reasoning == reply.reasoning, name
        assert about.tool_calls == (reply.tool_calls or None), name
        assert (about.prompt_tokens, about.output_tokens) == (reply.tokens or (None, None)), name
        assert about.finish_reason == reply.finish_reason, name
        assert about.latency is not None and about.latency > 0
        assert (about.latency_first is not None) is stream, name
        if reply.tool_calls:
            assert calls(answer) == reply.tool_calls
            assert answer.startswith(reply.text or "[")
        else:
            assert answer == (reply.text or reply.refusal or "").partition("\n\n")[0], name


def test_the_first_token_comes_before_the_last_and_earlier_tries_do_not_count() -> None:
    class Slow(Server):
        @staticmethod
        def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
            if before == 0:
                return Reply(status=429, headers={"Retry-After": "0.8"})
            return Reply("abcdefghi", pause=0.05)

    with serving(Slow) as server:
        began = time.perf_counter()
        (answer,), _ = _ask(server.url, ["a"], engine_args={"api": "chat", "stream": True, "backoff": 0.01})
        took = time.perf_counter() - began
    first, last = answer.about.latency_first, answer.about.latency
    assert 0.1 <= first < last  # after the piece that has the role alone, two pauses
    assert last - first >= 0.1  # two further pieces
    assert took - last >= 0.8


def test_a_server_that_does_not_count_streams_is_asked_without() -> None:
    class Uncounted(Server):
        counts_streams = False

    with serving(Uncounted) as server:
        (answer,), engine = _ask(server.url, ["plain"], engine_args={"api": "chat", "stream": True})
    assert (answer, engine.failures) == ("The answer is 4.", {})
    assert answer.about.latency_first is not None and answer.about.output_tokens is None


def test_completions_stream_too() -> None:
    class Completing(Server):
        completes = True

    with serving(Completing) as server:
        (answer,), _ = _ask(server.url, ["plain"], engine_args={"stream": True})
    assert (answer, answer.about.output_tokens) == ("The answer is 4.", 6)
    assert answer.about.latency_first is not None


def test_a_server_that_streams_nothing_answers_whole() -> None:
    class Whole(Server):
        streams = False

    with serving(Whole) as server:
        (answer,), _ = _ask(server.url, ["thinking"], engine_args={"api": "chat", "stream": True})
    assert (answer, answer.about.reasoning, answer.about.latency_first) == ("4", "Two and two, so four.", None)


def test_a_stream_that_ends_before_its_answer_is_a_failure() -> None:
    class Ends(Server):
        @staticmethod
        def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
            return Reply("half an ans", finish_reason=None) if asked == "half" else Reply("whole")

    with serving(Ends) as server:
        found, engine = _ask(server.url, ["whole", "half"], engine_args={"api": "chat", "stream": True, "retries": 0})
    assert found == ["whole", ""]
    assert engine.failures == {("t", 1): "the stream ended before its answer did"}


def _events(*lines: str) -> Any:
    reader = Reader(lambda text: text)
    for byte in "".join(f"{line}\n" for line in lines).encode():
        reader.feed(bytes([byte]), 1.0)  # as small pieces as a network may make of it
    return reader.finish(2.0)


def test_events_are_read_whatever_pieces_they_come_in() -> None:
    found = _events(
        ": a remark", 'data: {"a":', 'data: "ü"}', "", "event: x", "data:1\r", "\r", "data: [DONE]", "", "data: 2", ""
    )
    assert (list(found), found.ended) == ([(1.0, {"a": "ü"}), (1.0, 1)], True)
    assert _events("data: {", "") is None


@pytest.mark.parametrize(
    "lines",
    [
        ('data: {"error": {"message": "overloaded"}}', ""),
        ("data: 7", ""),
        ("",),
        ('data: {"choices": [{"delta": {"content": "a"}}]}', ""),
        ('data: {"choices": [{"delta": null}]}', "", 'data: {"choices": "x"}', ""),
        ('data: {"choices": [{"delta": {"content": "half"}, "finish_reason": "error"}]}', ""),
        ('data: {"choices": [{"delta": {"content": "half"}, "error": {"code": 502}}]}', "", "data: [DONE]", ""),
    ],
)
def test_a_stream_without_an_answer_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(RequestFailed):
        text_of(_events(*lines), True, ())


@pytest.mark.parametrize(
    ("message", "text", "reasoning", "made"),
    [
        ({"content": [{"type": "thinking", "thinking": [{"text": "h"}]}, {"type": "text", "text": "4"}]},
         "4", "h", None),
        ({"content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
         '[{"name": "f", "arguments": {"a": 1}}]', None, [{"name": "f", "arguments": {"a": 1}}]),
        ({"content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{broken"}}]},
         '[{"name": "f", "arguments": "{broken"}]', None, [{"name": "f", "arguments": "{broken"}]),
        ({"content": "", "tool_calls": [{"function": {"name": "f", "arguments": ""}}, 7, None]},
         '[{"name": "f", "arguments": {}}]', None, [{"name": "f", "arguments": {}}]),
        ({"content": "a", "tool_calls": [], "reasoning_content": ""}, "a", None, None),
        ({"content": "a", "reasoning_content": {"odd": 1}, "tool_calls": "odd"}, "a", None, None),
    ],
)  # fmt: skip
def test_messages_of_other_servers(message: dict[str, Any], text: str, reasoning: str | None, made: Any) -> None:
    found = text_of({"choices": [{"message": message}], "usage": {"prompt_tokens": "7"}}, True, ())
    assert (found, found.about.reasoning, found.about.tool_calls) == (text, reasoning, made)
    assert found.about.prompt_tokens is None


@pytest.mark.parametrize(
    ("said", "tokens"), [(5, 5), (5.0, 5), (5.5, None), (-1, None), (True, None), (float("inf"), None), (None, None)]
)
def test_tokens_are_whole_numbers(said: Any, tokens: int | None) -> None:
    answer = {"choices": [{"message": {"content": "yes"}}], "usage": {"completion_tokens": said}}
    assert text_of(answer, True, ()).about.output_tokens == tokens


@pytest.mark.parametrize("places", [(0, 0, 0), (None, None, None), (0, 1, 1)])
def test_streamed_calls_are_told_apart_by_their_ids_whatever_place_they_name(places: tuple[int | None, ...]) -> None:
    """Some servers name place 0 of every call, or none."""

    def piece(place: int | None, arguments: str, **call: str) -> dict[str, Any]:
        about = {"function": {"arguments": arguments, **({"name": call["id"][1:]} if call else {})}, **call}
        return {"delta": {"tool_calls": [about if place is None else {"index": place, **about}]}}

    pieces = [piece(places[0], '{"n": 1}', id="cf"), piece(places[1], '{"n"', id="cg"), piece(places[2], ": 2}")]
    chunks = [*pieces, {"delta": {}, "finish_reason": "tool_calls"}]
    lines = [line for each in chunks for line in (f"data: {json.dumps({'choices': [each]})}", "")]
    found = text_of(_events(*lines), True, ()).about.tool_calls
    assert found == [{"name": "f", "arguments": {"n": 1}}, {"name": "g", "arguments": {"n": 2}}]


def test_pieces_of_other_choices_are_no_part_of_the_first() -> None:
    said = [
        f'data: {{"choices": [{{"index": {n}, "delta": {{"content": "{text}"}}, "finish_reason": {reason}}}]}}'
        for n, text, reason in ((1, "no", "null"), (0, "yes", '"stop"'), (1, "pe", '"length"'))
    ]
    found = text_of(_events(*(line for each in said for line in (each, ""))), True, ())
    assert (str(found), found.about.finish_reason) == ("yes", "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_answers_with_another_model_is_noted(stream: bool) -> None:
    class Falls(Server):
        @staticmethod
        def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
            return Reply("yes", model="small" if asked == "hard" else model)

    with serving(Falls) as server:
        _, engine = _ask(server.url, ["easy", "hard", "hard too"], engine_args={"api": "chat", "stream": stream})
    said = [note for note in engine.notes if "the server says of answers that" in note]
    assert len(said) == 1 and "that small gave them" in said[0]
