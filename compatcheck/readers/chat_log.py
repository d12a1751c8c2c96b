"""Logs of requests and responses of a chat API as JSON lines, and the output of batch jobs.

A row holds a response (``response``, ``output``, ``completion`` or ``result``, in it perhaps ``body``; or the row is
one) and perhaps the request (``request``, ``input`` or ``body``, or ``messages`` in the row itself). A row of OpenAI's
batch output is ``{"id", "custom_id", "response": {"status_code", "body"}, "error"}``, of Anthropic's
``{"custom_id", "result": {"type", "message"}}``; their prompts stand in the batch's input file, which is looked for
beside the output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.readers.chat import answer, asked, first_of, right
from compatcheck.readers.recording import Record, Recording, fingerprint, labels, only_model, records, seconds
from compatcheck.table.reading import Row, read_rows
from compatcheck.text import text_hash

_RESPONSE, _REQUEST = ("response", "output", "completion", "result"), ("request", "input", "body")
_TARGET = ("target", "expected", "ideal", "reference", "gold", "expected_output")
_LATENCY = {"latency": 1, "latency_s": 1, "duration": 1, "latency_ms": 1000, "duration_ms": 1000, "response_ms": 1000}
_COST = ("cost", "response_cost", "total_cost", "usage.cost")
_SAID = {"choices", "output", "content"}
"""What a response to a question has, one of them."""
_TAKEN = {*_RESPONSE, *_REQUEST, *_TARGET, *_LATENCY, *_COST, "id", "custom_id", "error", "score", "object", "created"}


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One row per request. ``part`` is a model, where the log holds several."""
    source = read_rows(path)
    recording = Recording(source, (), task or "chat")
    items = list(records(source))
    prompts = _batch_input(path, [record for _, record in items], recording)
    recording.items = only_model(_items(items, prompts, recording), part, path)
    return [recording]


def _items(items: Sequence[tuple[int, Record]], prompts: Mapping[str, Any], recording: Recording) -> Iterator[Any]:
    several = 0
    for number, record in items:
        batched = first_of(record.value, ("response.body", "response.status_code", "result.type")) is not None
        custom = record.name("custom_id") if batched or "custom_id" in record.value else None
        request = first_of(record.value, _REQUEST)
        request = record.value if request is None or "messages" in record.value else request
        row, body = _answered(record), _body(record)
        question = prompts.get(custom) if custom is not None else _question(request)
        if question is None and custom is None:
            record.need("messages", "a list")
        row |= _known(record, custom, question)
        several += first_of({"body": body}, ("body.choices.1",)) is not None
        model = first_of({"body": body, "request": request, "row": record.value}, ("body.model", "request.model"))
        yield model if isinstance(model, str) else "", (number, row, record.value)
    if several:
        recording.notes.append(f"{several:,} responses have several choices; the first of each is compared")


def _known(record: Record, custom: str | None, question: Any) -> Row:
    """What is known besides the answer: id, input, target, score, latency, cost and labels."""
    row: Row = {} if question is None else {"input": asked(question)}
    row["id"] = fingerprint(question) if custom is None else custom  # any other id is one that a server made
    row["doc_hash"] = f"asked:{row['id']}" if custom is None else f"id:{text_hash(custom)}"
    target = first_of(record.value, _TARGET)
    row |= {} if target is None else {"target": right(target)}
    row |= {"score": record.value["score"]} if "score" in record.value else {}
    row |= seconds(record, _LATENCY)
    cost = first_of(record.value, _COST)
    row |= {} if cost is None else {"cost": cost}
    told = {key: value for key, value in record.value.items() if key not in _TAKEN and not isinstance(value, list)}
    return row | {key: value for key, value in labels(told).items() if key not in row and not key.startswith("usage")}


def _body(record: Record) -> Any:
    """The response itself, whatever it is wrapped in; None where there is none."""
    if "choices" in record.value or record.value.get("object") == "response":
        return record.value
    found = first_of(record.value, _RESPONSE)
    found = found.get("body", found.get("message", found)) if isinstance(found, dict) else found
    if found is None and "messages" in record.value:  # a conversation that ends with the answer
        turns = record.need("messages", "a list")
        return turns[-1] if turns and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant" else None
    return found


def _question(request: Any) -> Any:
    """The messages or the prompt of a request; of a conversation what stands before the answer."""
    if not isinstance(request, Mapping):
        return request
    found = first_of(request, ("messages", "prompt", "input", "body.messages", "body.input", "body.prompt"))
    if isinstance(found, list) and found and isinstance(found[-1], Mapping) and found[-1].get("role") == "assistant":
        found = found[:-1]
    shown = {"tools": request["tools"], "messages": found} if request.get("tools") else found
    return None if found is None else shown


def _answered(record: Record) -> Row:
    """The answer, or the error of a request that failed."""
    wrapped = record.value.get("response")
    status = wrapped.get("status_code") if isinstance(wrapped, dict) else None
    kind = first_of(record.value, ("result.type",))
    body = _body(record)
    paths = ("error.message", "error", "response.body.error.message", "result.error.error.message", "response.error")
    error = first_of(record.value, paths)
    failed = (isinstance(status, int) and status >= 400) or kind in ("errored", "expired", "canceled")
    if failed or (error is not None and not isinstance(body, Mapping)) or (error is not None and "choices" not in body):
        return {"error": error if isinstance(error, str) and error else json.dumps(error or kind or f"HTTP {status}")}
    if body is None:
        raise record.fail(f"no response (fields: {', '.join(map(str, record.value))[:300]})")
    if isinstance(body, Mapping) and body.keys() & {"data", "results"} and not body.keys() & _SAID:
        raise record.fail("embeddings and moderations are no answers; completions and responses are compared")
    said = answer(body)
    broken = first_of(body, ("choices.0.error",)) if isinstance(body, Mapping) else None
    broken = broken or (ending if (ending := said.get("finish_reason")) in ("error", "abort") else None)
    return {"error": broken if isinstance(broken, str) else json.dumps(broken)} if broken else said


def _batch_input(path: Path, items: Sequence[Record], recording: Recording) -> dict[str, Any]:
    """Prompts by ``custom_id`` of the input file beside the output; empty where none is there, or several differ."""
    if not items or not all("custom_id" in item.value and "body" not in item.value for item in items):
        return {}
    wanted = {item.name("custom_id") for item in items}
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(path.parent.glob("*.jsonl*")):
        prompts = {} if file == path else _prompts(file)
        if wanted <= set(prompts):
            found.setdefault(fingerprint([prompts[name] for name in sorted(wanted)]), prompts)
    if len(found) > 1:
        recording.notes.append("several input files lie beside the batch's output; their prompts are left out")
    elif not found:
        recording.notes.append("no input file of the batch lies beside its output; the answers stand without prompts")
    return next(iter(found.values())) if len(found) == 1 else {}


def _prompts(file: Path) -> dict[str, Any]:
    """Of a batch's input file the prompts by ``custom_id``; empty for any other file."""
    try:
        prompts: dict[str, Any] = {}
        for _, record in records(read_rows(file)):
            if not record.value.keys() >= {"custom_id", "body"} and "params" not in record.value:
                return {}
            prompts[record.name("custom_id")] = _question(first_of(record.value, ("body", "params")))
        return prompts
    except InputError:
        return {}
