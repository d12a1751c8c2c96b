"""What a chat model said, however an API or a tracing tool writes it, as fields of a plain row.

Known: OpenAI's chat completions, completions and responses, Anthropic's messages, LangChain's messages, and lists of
any of them. Tool calls become the text ``[{"name": …, "arguments": …}]``, which metric ``tool_call`` reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compatcheck.records import CALL_ARGUMENTS
from compatcheck.table.layout import MISSING, dig
from compatcheck.table.reading import Row
from compatcheck.table.values import said, text_of

_WORDS = ("output", "answer", "response", "completion", "prediction", "result", "text", "content")
"""Names under which a function that is traced gives its answer, the likeliest first."""
_USAGE = ("usage", "usage_metadata", "response_metadata.token_usage", "llm_output.token_usage")
_PROMPT, _OUTPUT = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
_ENDINGS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "max_output_tokens": "length"}
"""What other APIs call ``stop`` and ``length``."""


def answer(value: Any) -> Row:
    """The fields ``prediction`` and, where known, ``response`` (text beside tool calls), ``reasoning``,
    ``finish_reason``, ``prompt_tokens``, ``output_tokens`` and ``cost`` of what a model gave."""
    row, value = {}, parsed(value)
    if isinstance(value, Mapping):
        row = _about(value)
        value = _inside(value)
        row = _about(value) | row if isinstance(value, Mapping) else row
    text, calls, thoughts = _message(value)
    row["prediction"] = calls_text(calls) if calls else text
    if calls and text:
        row["response"] = text
    return row | ({"reasoning": thoughts} if thoughts else {})


def asked(value: Any) -> Any:
    """What a model was asked: the messages where there are any, one that stands alone as its text."""
    value = parsed(value)
    while isinstance(value, Mapping) and (inner := _first(value, ("messages", "prompt", "input"))) is not None:
        value = inner
    if isinstance(value, Mapping) and len(value) == 1:
        value = next(iter(value.values()))
    turns = value if isinstance(value, list) and all(isinstance(one, Mapping) for one in value) else []
    if len(turns) == 1 and "role" in turns[0] and isinstance(turns[0].get("content"), str):
        return turns[0]["content"]
    return said(value)


def tool_calls(found: Any) -> list[dict[str, Any]]:
    """Calls in any of the usual spellings; arguments that are JSON text become what they say."""
    calls = []
    for one in found if isinstance(found, list) else [found]:
        if not isinstance(one, Mapping):
            continue
        inner = one["function"] if isinstance(one.get("function"), Mapping) else one
        calls.append({"name": inner.get("name"), "arguments": parsed(_first(inner, CALL_ARGUMENTS, {}))})
    return calls


def is_calls(value: Any) -> bool:
    """Whether a value is a list of tool calls and nothing else."""
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        return False
    inner = [one["function"] if isinstance(one.get("function"), Mapping) else one for one in value]
    return bool(inner) and all("name" in one and set(CALL_ARGUMENTS) & set(one) for one in inner)


def right(value: Any) -> Any:
    """A target as it is where it is a text, a number or a list of them; else as :func:`answer` reads it."""
    nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict | list) for one in value))
    return answer(value)["prediction"] if nested else value


def calls_text(calls: Sequence[Mapping[str, Any]]) -> str:
    """Tool calls as the text that metric ``tool_call`` reads."""
    return json.dumps(calls, ensure_ascii=False)


def first_of(row: Mapping[str, Any], paths: Iterable[str]) -> Any:
    """The value at the first of the dotted paths that leads to one that is not null; None without any."""
    found = (dig(row, path) for path in paths)
    return next((value for value in found if value is not MISSING and value is not None), None)


def _first(value: Mapping[str, Any], names: Iterable[str], default: Any = None) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), default)


def parsed(value: Any) -> Any:
    """What a text of JSON says, an object or a list; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return inner if isinstance(inner, dict | list) else value
    return value


def _about(value: Mapping[str, Any]) -> Row:
    """How an answer ended and what it took."""
    paths = ("finish_reason", "stop_reason", "choices.0.finish_reason", "incomplete_details.reason")
    ending = first_of(value, (*paths, "response_metadata.finish_reason", "response_metadata.stop_reason"))
    row: Row = {"finish_reason": _ENDINGS.get(ending, ending)} if isinstance(ending, str) else {}
    usage = first_of(value, _USAGE)
    if isinstance(usage, Mapping):
        names = {"prompt_tokens": _PROMPT, "output_tokens": _OUTPUT, "cost": ("cost",)}
        taken = {key: _first(usage, each) for key, each in names.items()}
        row |= {key: n for key, n in taken.items() if isinstance(n, int | float) and not isinstance(n, bool)}
    return row


def _inside(value: Mapping[str, Any]) -> Any:
    """The message in an API's answer, or what else there is in the object that a function gave."""
    for path in ("choices.0.message", "choices.0.text", "generations.0.0.message", "generations.0.0.text", "message"):
        found = first_of(value, (path,))
        if isinstance(found, Mapping | str):
            return found["kwargs"] if isinstance(found, Mapping) and isinstance(found.get("kwargs"), Mapping) else found
    if isinstance(value.get("kwargs"), Mapping):
        return value["kwargs"]
    if {"content", "tool_calls"} & set(value) or ("type" in value and "text" in value):
        return value
    for name in ("output", "messages"):  # of the responses API, of a graph's state
        if isinstance(value.get(name), list):
            return value[name]
    there = {key: inner for key, inner in value.items() if inner is not None}
    if len(there) == 1:
        return parsed(next(iter(there.values())))
    named = [name for name in _WORDS if name in there]
    return parsed(there[named[0]]) if len(named) == 1 else value


def _message(value: Any) -> tuple[str | None, list[dict[str, Any]], str | None]:
    """Text, tool calls and reasoning of a message, a list of its parts, or a conversation (of which the last turn)."""
    if is_calls(value):
        return None, tool_calls(value), None
    if isinstance(value, list):
        turns = [one for one in value if isinstance(one, Mapping)]
        if turns and len(turns) == len(value) and not any("type" in one and "role" not in one for one in turns):
            return _message(turns[-1].get("message", turns[-1]))
        return _parts(value)
    if not isinstance(value, Mapping):
        return None if value is None else text_of(value), [], None
    calls = tool_calls(_first(value, ("tool_calls", "function_call"), []))
    content = value.get("content", value.get("text"))
    thoughts = _first(value, ("reasoning_content", "reasoning"))
    if "content" not in value and "text" not in value:
        text = value.get("refusal") if calls or "refusal" in value else text_of(dict(value))
        return text if isinstance(text, str) else None, calls, None
    text, more, thinking = _parts(content) if isinstance(content, list) else (content, [], None)
    if text is None and isinstance(value.get("refusal"), str):
        text = value["refusal"]
    shown = None if text is None else text_of(text)
    return shown, calls + more, thoughts if isinstance(thoughts, str) else thinking


def _parts(parts: Sequence[Any]) -> tuple[str | None, list[dict[str, Any]], str | None]:
    """The same of a list of parts, as Anthropic's messages and OpenAI's responses have it."""
    texts, calls, thoughts = [], [], []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("tool_use", "function_call", "tool_call"):
            calls += tool_calls(part)
        elif kind in ("thinking", "reasoning"):
            thoughts += [text for text in _summary(part) if text]
        elif kind == "message" and isinstance(part.get("content"), list):
            text, more, _ = _parts(part["content"])
            texts += [] if text is None else [text]
            calls += more
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            texts.append(text_of(part))
    return "".join(texts) if texts or not calls else None, calls, "\n".join(thoughts) or None


def _summary(part: Mapping[str, Any]) -> list[str]:
    inner = part.get("summary")
    found = inner if isinstance(inner, list) else []
    texts = [one.get("text") for one in found if isinstance(one, Mapping)]
    return [text for text in (*texts, part.get("thinking"), part.get("text")) if isinstance(text, str)]
