"""Untrusted text made safe to show, and trimming that never hides what differs.

Model outputs, file names and error messages can hold terminal escapes, text that runs backwards or characters that
cannot be encoded. Every renderer passes what it did not write itself through :func:`safe_text`.
"""

from __future__ import annotations

import re

# C0 and C1 controls, DEL, bidirectional marks and overrides, line separators, invisible format characters that can hide
# a difference or carry hidden text (zero-width space, word joiner, byte-order mark, soft hyphen, interlinear, tags),
# surrogates. Zero-width joiners and variation selectors stay: emoji and several scripts need them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def safe_text(text: object, *, multiline: bool = False) -> str:
    """Return ``text`` with every control, bidirectional, invisible or unencodable character as a visible escape.

    ``multiline`` keeps line feeds and turns tabs into four spaces; otherwise they are shown as ``\\n`` and ``\\t``.
    The result can be encoded as UTF-8 and moves no cursor. It may still hold HTML, Markdown or rich markup: these are
    escaped by the renderer that gives them a meaning.
    """
    string = text if isinstance(text, str) else str(text)
    if multiline:
        string = string.replace("\r\n", "\n").replace("\t", "    ")
        return _HIDDEN.sub(lambda m: m[0] if m[0] == "\n" else _escape(m[0]), string)
    return _HIDDEN.sub(lambda m: _escape(m[0]), string)


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
