"""Conversations: what is one, and how it reads as plain text, in a report, or for a template that wants texts alone."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

Turn = dict[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_LONGEST = 4 << 20
"""Texts longer than that are not looked into for a conversation."""
_PLAIN = {"system": "", "developer": "", "user": "User: ", "assistant": "Assistant: "}


def turns_in(value: Any) -> list[Turn] | None:
    """The messages that a value is: a list of them, an object that holds one, one message, or the text of these as JSON
    or as Python writes it (which is what a template or a spreadsheet makes of a list). None for anything else."""
    if isinstance(value, str):
        text = value.strip()
        if not (text[:1] in "[{" and text[-1:] in "]}" and "role" in text and len(text) <= _LONGEST):
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                return None
    if isinstance(value, Mapping) and isinstance(value.get("messages"), Sequence):
        value = value["messages"]
    elif isinstance(value, Mapping) and value.get("role") in ROLES and "content" in value:
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    if not all(isinstance(one, Mapping) and isinstance(one.get("role"), str) for one in value):
        return None
    # Parquet and data sets of the hub give every turn the keys of all
    return [{str(key): each for key, each in one.items() if each is not None or key == "content"} for one in value]


def fault_in(turns: Sequence[Turn]) -> str | None:
    """What is wrong with a conversation, in a few words; None where nothing is."""
    for number, turn in enumerate(turns, 1):
        content = turn.get("content")
        if turn["role"] not in ROLES:
            return f"message {number} has the role '{turn['role']}'; roles are {', '.join(ROLES)}"
        if isinstance(content, list):
            if not all(isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in content):
                return f"message {number} has a part of its content without a `type`"
        elif content is None:
            if not turn.get("tool_calls"):
                return f"message {number} ({turn['role']}) has no content"
        elif not isinstance(content, str):
            return f"message {number} has a content that is neither text nor a list of parts"
    return None


def asked_and_answer(turns: Sequence[Turn]) -> tuple[list[Turn], list[Turn]]:
    """The conversation up to what is to be answered (the last turn that is not the assistant's), and what follows."""
    end = max((place for place, turn in enumerate(turns, 1) if turn["role"] != "assistant"), default=0)
    return list(turns[:end]), list(turns[end:])


def with_system(turns: Sequence[Turn], system: str | None) -> list[Turn]:
    """The conversation with this system message in place of the one it begins with; None leaves it as it is."""
    if system is None:
        return list(turns)
    rest = list(turns[1:] if turns and turns[0]["role"] in ("system", "developer") else turns)
    return [{"role": "system", "content": system}, *rest]


def others_in(turns: Sequence[Turn]) -> list[str]:
    """Kinds of content that are no text: ``image_url`` …"""
    parts = [part for turn in turns if isinstance(turn.get("content"), list) for part in turn["content"]]
    return list(dict.fromkeys(str(part["type"]) for part in parts if not _is_text(part)))


def in_texts(turns: Sequence[Turn]) -> list[Turn]:
    """The conversation as the templates of local models read it: contents are texts, arguments of calls objects."""
    found = []
    for turn in turns:
        turn = {**turn, "role": "system" if turn["role"] == "developer" else turn["role"]}
        if isinstance(turn.get("content"), list):
            turn["content"] = text_of(turn)
        if turn.get("tool_calls"):
            turn["tool_calls"] = [_with_object(call) for call in turn["tool_calls"]]
            turn["content"] = turn.get("content") or ""
        found.append(turn)
    return found


def _with_object(call: Any) -> Any:
    inner = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("arguments"), str):
        return call
    try:
        return {**call, "function": {**inner, "arguments": json.loads(inner["arguments"] or "{}")}}
    except ValueError:
        return call


def text_of(turn: Turn) -> str:
    """The text of one turn. What is no text stands there in brackets."""
    content = turn.get("content")
    if isinstance(content, list):
        content = "".join(part["text"] if _is_text(part) else f"[{_what(part)}]" for part in content)
    calls = json.dumps(turn["tool_calls"], ensure_ascii=False, default=str) if turn.get("tool_calls") else ""
    return "\n".join(part for part in (content or "", calls) if part)


def _is_text(part: Mapping[str, Any]) -> bool:
    return part["type"] in ("text", "input_text", "output_text") and isinstance(part.get("text"), str)


def _what(part: Mapping[str, Any]) -> str:
    inner = part.get(part["type"])
    address = inner.get("url") if isinstance(inner, Mapping) else inner
    if not isinstance(address, str):
        return str(part["type"])
    if address.startswith("data:"):
        kind = address[5:].partition(";")[0]
        return f"{part['type']}: {kind[:40]}, {max(1, len(address) * 3 // 4096)} kB"
    return f"{part['type']}: {address[:200]}"


def plain(turns: Sequence[Turn]) -> str:
    """A conversation for a model without a chat template.

    One message of the user is its text alone, with the system's above it. Several turns are divided by empty lines,
    each after ``User:`` or ``Assistant:``, and the last line is ``Assistant:``.
    """
    said = [turn for turn in turns if turn["role"] not in ("system", "developer")]
    if len(said) == 1:
        return "\n\n".join(text_of(turn) for turn in turns)
    lines = [_PLAIN.get(turn["role"], f"{turn['role'].title()}: ") + text_of(turn) for turn in turns]
    return "\n\n".join([*lines, "Assistant:"])


def shown(turns: Sequence[Turn]) -> str:
    """A conversation as a report shows it: every turn after its role."""
    return "\n".join(f"{turn['role']}: {text_of(turn)}" for turn in turns)
