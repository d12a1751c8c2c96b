"""A server on loopback whose models answer as a script says: streamed or whole, with tools, reasoning and refusals."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.engines.endpoint.servers import Handler


@dataclass
class Reply:
    """What a model answers. ``pieces`` of the text are streamed with ``pause`` seconds before each."""

    text: str | None = ""
    reasoning: str | None = None
    reasoning_field: str = "reasoning_content"
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    """As the metric ``tool_call`` reads them; sent as OpenAI's API does."""
    finish_reason: str | None = "stop"
    tokens: tuple[int, int] | None = None
    """Of prompt and answer, as ``usage`` has them; None where the server does not count."""
    refusal: str | None = None
    pause: float = 0.0
    status: int = 200
    error: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    """Which model it says that answered."""

    def message(self) -> dict[str, Any]:
        made = [
            {"id": f"call_{n}", "type": "function", "function": {**call, "arguments": json.dumps(call["arguments"])}}
            for n, call in enumerate(self.tool_calls)
        ]
        further = {self.reasoning_field: self.reasoning, "tool_calls": made, "refusal": self.refusal}
        return {"role": "assistant", "content": self.text, **{k: v for k, v in further.items() if v}}

    def named(self) -> dict[str, Any]:
        return {} if self.model is None else {"model": self.model}

    def usage(self) -> dict[str, Any]:
        if self.tokens is None:
            return {}
        prompt, written = self.tokens
        return {"usage": {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}}


class Scripted(Handler):
    """``script`` gets the model, the last message (or the prompt), the request and how often that was asked before."""

    models: ClassVar[tuple[str, ...]] = ("old", "new")
    streams = True
    counts_streams = True
    """Whether it takes ``stream_options``."""
    completes = False
    """Whether it has /completions too."""
    script: Callable[[str, str, dict[str, Any], int], Reply]

    def get(self) -> None:
        self.send(200, {"data": [{"id": name, "owned_by": "tests"} for name in self.models]})

    def post(self, body: dict[str, Any]) -> None:
        chat = self.path == "/v1/chat/completions"
        if not chat and not (self.completes and self.path == "/v1/completions"):
            return self.send(404, {"error": {"message": "Not Found"}})
        asked = body["messages"][-1]["content"] if chat else body["prompt"]
        with self.server.lock:
            before = self.server.tries[f"{body['model']}|{asked}"]
            self.server.tries[f"{body['model']}|{asked}"] += 1
        if body.get("stream") and not self.counts_streams and "stream_options" in body:
            return self.send(400, {"error": {"message": "unknown field stream_options"}})
        reply = type(self).script(body["model"], asked, body, before)
        if reply.status != 200:
            return self.send(reply.status, {"error": reply.error or {"message": "no"}}, reply.headers)
        if body.get("stream") and self.streams:
            return self.stream(reply, chat, "stream_options" in body)
        time.sleep(reply.pause)
        said = {"message": reply.message()} if chat else {"text": reply.text}
        return self.send(
            200,
            {"choices": [{"index": 0, **said, "finish_reason": reply.finish_reason}], **reply.usage(), **reply.named()},
        )

    def stream(self, reply: Reply, chat: bool, counted: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for delta in self.deltas(reply) if chat else ({"text": piece} for piece in _pieces(reply.text or "")):
            time.sleep(reply.pause)
            choice = {"index": 0, **({"delta": delta} if chat else delta), "finish_reason": None}
            self.event({"choices": [choice], **reply.named()})
        if reply.finish_reason is not None:
            ended = {"delta": {}} if chat else {"text": ""}
            self.event({"choices": [{"index": 0, **ended, "finish_reason": reply.finish_reason}]})
            if counted:
                self.event({"choices": [], **reply.usage()})
            self.wfile.write(b"data: [DONE]\n\n")

    def deltas(self, reply: Reply) -> Iterator[dict[str, Any]]:
        message = reply.message()
        yield {"role": "assistant", "content": ""}
        for name in (reply.reasoning_field, "content", "refusal"):
            for piece in _pieces(message.get(name) or ""):
                yield {name: piece}
        for number, call in enumerate(message.get("tool_calls", ())):
            arguments = call["function"].pop("arguments")
            yield {"tool_calls": [{"index": number, **call, "function": {**call["function"], "arguments": ""}}]}
            for piece in _pieces(arguments):
                yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}

    def event(self, value: Any) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()


def _pieces(text: str) -> list[str]:
    """The text in pieces of three characters."""
    return [text[start : start + 3] for start in range(0, len(text), 3)]
