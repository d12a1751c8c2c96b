"""Untrusted text made safe to show, and trimming that says how much it leaves out.

Model outputs, file names and error messages can hold terminal escapes, text that runs backwards, characters that
cannot be encoded, or commands to a GitHub runner. Every renderer passes what it did not write itself through
:func:`safe_text`.
"""

from __future__ import annotations

import os
import re

# C0 and C1 controls, DEL, bidirectional marks and overrides, line separators, invisible format characters that can hide
# a difference or carry hidden text (zero-width space, word joiner, byte-order mark, soft hyphen, interlinear, tags),
# surrogates. Zero-width joiners and variation selectors stay: emoji and several scripts need them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
NO_ANSWER = "∅ no answer"
"""Shown for a null prediction."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    long = f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return _SHORT.get(match[0], long)


def safe_text(text: object, *, multiline: bool = False) -> str:
    """``text`` with every control, bidirectional, invisible or unencodable character as a visible escape.

    ``multiline`` keeps line feeds and turns tabs into four spaces; otherwise they are shown as ``\\n`` and ``\\t``.
    The result can be encoded as UTF-8 and moves no cursor. It may still hold HTML, Markdown or rich markup: these are
    escaped by the renderer that gives them a meaning.
    """
    string = text if isinstance(text, str) else str(text)
    if not multiline:
        return _HIDDEN.sub(_escape, string)
    string = string.replace("\r\n", "\n").replace("\t", "    ")
    return "\n".join(_HIDDEN.sub(_escape, line) for line in string.split("\n"))


def left_out(count: int) -> str:
    """What stands where ``count`` characters are not shown."""
    return f"… {count:,} character{'' if count == 1 else 's'} left out …"


def trim_middle(text: str, limit: int) -> str:
    """``text``, or its beginning and end with a note of how many characters of the middle are not shown.

    ``limit`` bounds the characters that are kept, not the note. Text that is not longer than ``limit`` plus a note's
    length is kept whole: the note would take as much room.
    """
    if len(text) <= limit + 28:
        return text
    head = (limit + 1) // 2
    tail = limit - head
    return f"{text[:head]}{left_out(len(text) - limit)}{text[len(text) - tail :] if tail else ''}"


# What a GitHub Actions runner takes for a command in the output of a step: a line that begins with "::", blanks before
# it or none, and "##[" anywhere.
_COMMAND = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
_JSON = ("#\\u0023[", ":")  # every line of JSON begins with a quotation mark, a bracket or a figure
_SPELLINGS = {"json": _JSON, "sarif": _JSON, "text": ("#\\x23[", "\\x3a")}


def on_a_runner() -> bool:
    """Whether this is a GitHub Actions job, where output is searched for commands."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def shield(text: str, token: str) -> str:
    """Text that may hold anything, so wrapped that the runner takes no line of it for a command.

    ``token`` is random, so that the text cannot end the protection itself.
    """
    return f"::stop-commands::{token}\n{text}\n::{token}::"


def defuse(text: str, format: str) -> str:
    """What a format prints, so spelled that no line of it is a command; a program that reads it finds the same.

    JSON, XML, HTML and Markdown can spell a character in another way. ``text`` is a single line for people, in which
    the character becomes a visible escape.
    """
    mark, colon = _SPELLINGS.get(format, ("&#35;#[", "&#58;"))
    return _COMMAND.sub(lambda found: f"{found[1]}{colon}", text.replace("##[", mark))
