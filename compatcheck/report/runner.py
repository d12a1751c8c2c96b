"""What a GitHub Actions runner takes for a command in the output of a step, and how text is printed there all the same.

A line is a command where it begins with ``::``, blanks before it or none, and where it holds ``##[`` anywhere.
"""

from __future__ import annotations

import os
import re

_START = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
_SPELLINGS = {
    "json": ("#\\u0023[", ":"),  # every line of JSON begins with a quotation mark, a bracket or a figure
    "sarif": ("#\\u0023[", ":"),
    "text": ("#\\x23[", "\\x3a"),
}
_MARKUP = ("&#35;#[", "&#58;")


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
    mark, colon = _SPELLINGS.get(format, _MARKUP)
    return _START.sub(lambda found: f"{found[1]}{colon}", text.replace("##[", mark))
