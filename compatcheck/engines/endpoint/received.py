"""What a server answers to a request for a text: the text, and what came with it.

Reasoning that the server keeps in a field of its own, tool calls, tokens and seconds go along with the text, as
:class:`compatcheck.engines.answers.About` has them. An answer that calls tools is its calls: see :func:`_with_calls`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from compatcheck.engines.answers import STOP, Generated
from compatcheck.models.client import malformed
from compatcheck.models.events import Events
from compatcheck.text import clean_surrogates

_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message in which servers keep what the model thought."""
_FAILED = frozenset({"error", "abort"})
"""Why an answer ended (``finish_reason``) where the server failed amid it: what there is of it is no answer."""
_TOKENS = {
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "output_tokens": ("completion_tokens", "output_tokens"),
}  # fmt: skip


def text_of(answer: Any, chat: bool, stops: tuple[str, ...], seconds: float | None = None) -> Generated:
    """The generated text, cut at its first stop string as lm-eval does, with what came with it.

    ``seconds`` are those from asking to the last byte. A chat answer without content (all tokens spent on reasoning) is
    an empty text; one that declines in a field of its own is what it says there. Raises RequestFailed: the answer has
    no choice or no text."""
    from lm_eval.models.utils import postprocess_generated_text

    first = None
    if isinstance(answer, Events):
        first = answer.first(lambda chunk: any(_parts(_piece(chunk))))
        answer = _assembled(answer, chat)
    choice = _ended_well(answer, first_choice(answer))
    text, reasoning, calls = choice.get("text"), _text(choice.get("reasoning")), None
    if chat:
        message = choice.get("message")
        if not isinstance(message, dict) or not message:
            raise malformed("the answer holds no message")
        text, thought = _content(message.get("content"))
        reasoning = next((said for name in _REASONING if (said := _text(message.get(name)))), thought)
        calls = _calls(message)
        text = text or (_text(message.get("refusal")) or "" if not calls else "")
    if not isinstance(text, str):
        raise malformed("the answer holds no text")
    text = clean_surrogates(text)
    cut = str(postprocess_generated_text(text, list(stops), None))
    reason = choice.get("finish_reason")
    reason = clean_surrogates(reason) if isinstance(reason, str) else None
    return Generated(
        _with_calls(cut, calls),
        STOP if reason is not None and cut != text else reason,
        reasoning=clean_surrogates(reasoning) if reasoning else None,
        tool_calls=calls,
        **_tokens(answer.get("usage")),
        latency=seconds,
        latency_first=first,
    )


def model_of(answer: Any) -> str | None:
    """The model that an answer is said to be of; None where the server does not say."""
    said = [chunk for _, chunk in answer] if isinstance(answer, Events) else [answer]
    names = (chunk.get("model") for chunk in said if isinstance(chunk, dict))
    return next((clean_surrogates(name) for name in names if isinstance(name, str) and name), None)


def first_choice(answer: Any) -> dict[str, Any]:
    """The first of ``choices``, by the numbers that they say of themselves. Raises RequestFailed: there is none."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    given = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    if not given:
        raise malformed(f"the answer holds no choices{_said(answer)}")
    return min(given, key=_later)


def _later(choice: Mapping[str, Any]) -> bool:
    return bool(choice.get("index"))


def _piece(chunk: Any) -> dict[str, Any]:
    """What a piece of a stream brings of the first choice."""
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    given = choices if isinstance(choices, list) else []
    return next((one for one in given if isinstance(one, dict) and not _later(one)), {})


def _ended_well(answer: Mapping[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    """The choice, where it is a whole answer. Raises RequestFailed: the server says, under HTTP 200, that it failed."""
    reason = choice.get("finish_reason")
    about = reason if isinstance(reason, dict) else {"type": reason}  # SGLang's is an object in some versions
    kind = about.get("type")
    if kind in _FAILED or choice.get("error") or answer.get("error"):
        why = _said(choice) or _said(answer) or _said({"error": about.get("message")})
        raise malformed(f"the server failed amid the answer ({kind or 'error'}){why}")
    return choice


def _said(answer: Any) -> str:
    """What an answer says of an error, to be put behind what is said of it here."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return f": {' '.join(str(error).split())[:160]}" if error else ""


def _text(value: Any) -> str | None:
    """A text, or the texts of a list of parts; None for anything else."""
    if isinstance(value, list):
        return "".join(said for part in value if isinstance(part, dict) and (said := _text(part.get("text")))) or None
    return value if isinstance(value, str) else None


def _content(content: Any) -> tuple[str | None, str | None]:
    """Text and reasoning in the content of a message: a text, or parts of which some may be reasoning."""
    if not isinstance(content, list):
        return (content, None) if content is not None else ("", None)
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if isinstance(part, dict):
            thought = _text(part.get("thinking")) or _text(part.get("reasoning"))
            (thoughts if thought else texts).append(thought or str(part.get("text", "")))
    return "".join(texts), "".join(thoughts) or None


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The tool calls of a message, arguments as JSON values where they are JSON; None where it makes none."""
    given = message.get("tool_calls")
    made = [each.get("function", each) for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    if not made and message.get("function_call"):  # as it was called before there were several
        made = [message["function_call"]]
    found = []
    for each in made:
        if isinstance(each, dict):
            arguments: Any = each.get("arguments")
            if isinstance(arguments, str):
                try:
                    arguments = json.loads(arguments) if arguments.strip() else {}
                except (ValueError, RecursionError):
                    arguments = clean_surrogates(arguments)
            name = clean_surrogates(str(each.get("name") or ""))
            found.append({"name": name, "arguments": {} if arguments is None else arguments})
    return found or None


def _with_calls(text: str, calls: list[dict[str, Any]] | None) -> str:
    """What is scored of an answer: its calls as a JSON list, behind its text in ``<tool_call>`` marks if it has one.

    The metric ``tool_call`` reads both; an answer that is all calls is never "no answer"."""
    if not calls:
        return text
    if not text.strip():
        return json.dumps(calls, ensure_ascii=False)
    marked = (f"<tool_call>{json.dumps(call, ensure_ascii=False)}</tool_call>" for call in calls)
    return "\n".join([text, *marked])


def _tokens(usage: Any) -> dict[str, int]:
    """Tokens read and written, as the server counts them."""
    if not isinstance(usage, dict):
        return {}
    found = {}
    for name, keys in _TOKENS.items():
        counts = [n for n in map(usage.get, keys) if isinstance(n, int | float) and not isinstance(n, bool)]
        if counts and counts[0] >= 0 and counts[0] % 1 == 0:
            found[name] = int(counts[0])
    return found


def _parts(choice: Mapping[str, Any]) -> list[Any]:
    """What of the answer a piece of a stream brings."""
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else {}
    named = ("content", "refusal", "tool_calls", "function_call", *_REASONING)
    return [choice.get("text"), *(delta.get(name) for name in named)]


def _assembled(events: Events, chat: bool) -> dict[str, Any]:
    """The answer whose pieces a server streamed, as it would have sent it whole. Raises RequestFailed: it ended before
    its answer did, or in an error."""
    said: dict[str, list[str]] = {}
    calls: list[dict[str, Any]] = []
    whole: dict[str, Any] = {}
    reason = None
    for _, chunk in events:
        if not isinstance(chunk, dict) or chunk.get("error"):
            first_choice({"error": chunk.get("error") if isinstance(chunk, dict) else chunk})
        if isinstance(chunk.get("usage"), dict):
            whole["usage"] = chunk["usage"]
        choice = _piece(chunk)
        whole |= {"error": choice["error"]} if choice.get("error") else {}
        reason = choice.get("finish_reason") or reason
        delta = choice.get("delta") if chat else choice
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name in ("tool_calls", "function_call"):
                _add_calls(calls, value if isinstance(value, list) else [{"function": value}])
            elif name in ("content", "text", "refusal", *_REASONING):
                content, thought = _content(value)
                said.setdefault(name, []).append(content or "")
                said.setdefault("reasoning", []).append(thought or "")
    if reason is None and not events.ended:
        raise malformed("the stream ended before its answer did")
    joined: dict[str, Any] = {name: "".join(parts) for name, parts in said.items()}
    if calls:
        joined["tool_calls"] = sorted(calls, key=lambda call: call["index"] or 0)
    choice = {"message": {"content": "", **joined}} if chat else {"text": "", **joined}
    return whole | {"choices": [choice | {"finish_reason": reason}]}


def _add_calls(calls: list[dict[str, Any]], pieces: list[Any]) -> None:
    """Pieces of tool calls, of which each says by a number which call it goes on with.

    Where servers number none, or all alike, a name begins a call: the next one where the number says nothing, or where
    it comes with an id of its own. An id alone does not, as some servers give every piece one."""
    for piece in pieces:
        inner = piece.get("function") if isinstance(piece, dict) else None
        if not isinstance(inner, dict):
            continue
        number, own = piece.get("index"), piece.get("id")
        number = number if isinstance(number, int) else None
        call = next((each for each in reversed(calls) if each["index"] == number), None)
        another = call is not None and inner.get("name") and call["name"]
        if call is None or (another and (number is None or (own and own != call["id"]))):
            calls.append(call := {"index": number, "id": own, "name": "", "arguments": ""})
        for name in ("name", "arguments"):
            said = inner.get(name)
            call[name] += said if isinstance(said, str) else ""
