"""The terminal as a screen for the pager: single keys, an alternate screen that leaves the scrollback as it was."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import Any

_KEYS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"} | {
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left", "\x1b[5~": "b", "\x1b[6~": " ",
    "\r": "n", "\n": "n",
}  # fmt: skip


def is_interactive() -> bool:
    """Whether there is a terminal to page on, for reading keys and for drawing."""
    if os.environ.get("TERM") == "dumb" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        import termios  # noqa: F401
    except ImportError:  # Windows: the instances are printed
        return False
    return True


class TerminalScreen:
    """Standard input and output while :func:`opened` holds them."""

    def __init__(self, file: int, settings: list[Any]) -> None:
        self._file, self._settings = file, settings
        self._waiting: list[str] = []

    def size(self) -> tuple[int, int]:
        columns, rows = get_terminal_size((80, 24))
        return max(columns, 20), max(rows, 5)

    def draw(self, lines: list[str]) -> None:
        sys.stdout.write("\x1b[H\x1b[2J" + "\n".join(lines))
        sys.stdout.flush()

    def key(self) -> str:
        """The next key by name, or the character it types; empty where the input has ended."""
        if not self._waiting:
            self._waiting = _split(os.read(self._file, 64).decode("utf-8", "replace")) or [""]
        key = self._waiting.pop(0)
        return _KEYS.get(key, key)

    def line(self, prompt: str) -> str:
        """A line typed with the terminal's own editing; what was typed ahead of the prompt counts."""
        import termios

        ahead, self._waiting = "".join(self._waiting), []
        typed, ended, rest = ahead.replace("\r", "\n").partition("\n")
        if ended:
            self._waiting = _split(rest)
            return typed
        sys.stdout.write(f"\n{prompt}{ahead}")
        sys.stdout.flush()
        raw = termios.tcgetattr(self._file)
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._settings)
        try:
            text = ahead.encode()
            while not text.endswith(b"\n") and (more := os.read(self._file, 1024)):
                text += more
        finally:
            termios.tcsetattr(self._file, termios.TCSADRAIN, raw)
        return text.decode("utf-8", "replace").rstrip("\r\n")


def _split(text: str) -> list[str]:
    """Keys that arrived together."""
    found = []
    while text:
        found.append(next((key for key in _KEYS if text.startswith(key)), text[0]))
        text = text[len(found[-1]) :]
    return found


@contextmanager
def opened() -> Iterator[TerminalScreen]:
    """Take the terminal, and give it back as it was whatever happens."""
    import termios
    import tty

    file = sys.stdin.fileno()
    settings = termios.tcgetattr(file)
    sys.stdout.write("\x1b[?1049h")
    try:
        tty.setcbreak(file)
        yield TerminalScreen(file, settings)
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, settings)
        sys.stdout.write("\x1b[?1049l")
        sys.stdout.flush()
