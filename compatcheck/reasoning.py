"""What a thinking model wrote before its answer, told apart from the answer by the marks of known families."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = "think|thinking|thought|reasoning|seed:think"
_MARK = re.compile(
    rf"<(?P<close>/)?(?P<name>{_NAMES})>"  # DeepSeek, Qwen, Gemma, EXAONE, Seed
    r"|\[(?P<close2>/)?(?P<name2>(?-i:THINK))\]"  # Mistral
    r"|◁(?P<close3>/)?(?P<name3>think)▷"  # Kimi
    r"|<\|(?P<close4>START|END)_(?P<name4>THINKING)\|>"  # Command
    r"|<\|(?P<close5>begin|end)_of_(?P<name5>thought)\|>",  # Sky, OpenThinker
    re.IGNORECASE,
)
_CHANNEL = "<|channel|>"
"""Harmony, of gpt-oss: every message says which channel it is for."""
_HARMONY = re.compile(r"<\|(start|channel|message|end|return|call|constrain)\|>")
_PLAIN_HARMONY = "assistantfinal"
"""What is left of the marks before the answer where special tokens were left out."""
SEEN = rf"(?i)</(?:{_NAMES})>|\[/THINK\]|<think>|<\|channel\|>analysis|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>"
"""A pattern (RE2) of marks that show that a text holds reasoning."""


@dataclass(frozen=True)
class Split:
    """A text in its parts; ``unfinished``: it ended within its reasoning."""

    answer: str
    reasoning: str | None = None
    unfinished: bool = False


@dataclass(frozen=True)
class _Mark:
    start: int
    end: int
    family: str
    closes: bool


def split(text: str) -> Split:
    """Tell answer and reasoning apart; a text without known marks is all answer.

    Reasoning stands between marks that open and close at the beginning of the text or of a line, outside code fences;
    or before a mark that closes what the prompt opened. One that is opened and never closed goes on to the end.
    """
    if _CHANNEL in text:
        return _of_channels(text)
    if text.startswith("analysis") and (_PLAIN_HARMONY in text or text[8:9].isupper()):
        thought, ended, answer = text.removeprefix("analysis").partition(_PLAIN_HARMONY)
        return Split(answer.strip(), thought.strip() or None, not ended)
    marks = [_mark(found) for found in _MARK.finditer(text)]
    if not marks:
        return Split(text)
    said: list[str] = []
    thoughts: list[str] = []
    at = place = 0
    unfinished = False
    if marks[0].closes and text[marks[0].start - 1 : marks[0].start] != "`":
        thoughts.append(text[: marks[0].start])
        at, place = marks[0].end, 1
    while place < len(marks) and not unfinished:
        mark = marks[place]
        if mark.closes or not _begins(text, at, mark.start):
            place += 1
            continue
        end = _closing(marks, place)
        unfinished = end is None
        said.append(text[at : mark.start])
        thoughts.append(text[mark.end : len(text) if end is None else marks[end].start])
        at, place = (len(text), place) if end is None else (marks[end].end, end + 1)
    if not thoughts:
        return Split(text)
    return Split("".join([*said, text[at:]]).strip(), _joined(thoughts), unfinished)


def _mark(found: re.Match[str]) -> _Mark:
    parts = [value for name, value in found.groupdict().items() if value and name.startswith("close")]
    names = [value for name, value in found.groupdict().items() if value and name.startswith("name")]
    closes = bool(parts) and parts[0].lower() in ("/", "end")
    return _Mark(*found.span(), found[0][0] + names[0].lower(), closes)


def _begins(text: str, at: int, start: int) -> bool:
    """Whether a mark stands where reasoning begins: first on its line, and not in a fenced block of code."""
    line = text[max(at, text.rfind("\n", at, start) + 1) : start]
    return not line.strip() and text.count("```", at, start) % 2 == 0


def _closing(marks: list[_Mark], place: int) -> int | None:
    """The mark that closes what the mark at ``place`` opens: that of the same depth, else the last of its family."""
    depth, last = 0, None
    for number in range(place, len(marks)):
        if marks[number].family == marks[place].family:
            depth += -1 if marks[number].closes else 1
            last = number if marks[number].closes else last
            if depth == 0:
                return number
    return last


def _joined(thoughts: list[str]) -> str | None:
    return "\n\n".join(stripped for each in thoughts if (stripped := each.strip())) or None


def _of_channels(text: str) -> Split:
    """Of harmony's messages ``final`` is the answer and a call of a tool is one; the other channels are reasoning."""
    parts = _HARMONY.split(text)
    answers, thoughts = [], []
    head, channel = "", ""
    for mark, body in [("message", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]:
        if mark == "channel":
            head, channel = body, (body.split() or [""])[0]
        elif mark == "message" and body.strip():
            tool = re.search(r"to=(?:functions\.)?([\w.-]+)", head)
            if channel == "final" or not channel:
                answers.append(body)
            elif tool is not None:
                answers.append(f'<tool_call>{{"name": "{tool[1]}", "arguments": {body.strip()}}}</tool_call>')
            else:
                thoughts.append(body)
        elif mark in ("end", "return", "call", "start"):
            head = "" if mark != "start" else head
    return Split("\n".join(answers).strip(), _joined(thoughts), not answers)
