"""Answers that come piece by piece: server-sent events, each with the time at which it came."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


class Events(list[tuple[float, Any]]):
    """The JSON values of a stream, each with the seconds since it was asked for."""

    ended = False
    """Whether the stream said that it is at its end (``[DONE]``)."""

    def first(self, wanted: Callable[[Any], bool]) -> float | None:
        """When the first value came that is ``wanted``; None where none did."""
        return next((seconds for seconds, value in self if wanted(value)), None)


class Reader:
    """Reads bytes as they come. ``clean`` is applied to every text before it is read as JSON."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._left = b""
        self._data: list[str] = []
        self._events = Events()
        self._broken = False

    def feed(self, part: bytes, seconds: float) -> None:
        """Take further bytes."""
        *lines, self._left = (self._left + part).split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"), seconds)

    def finish(self, seconds: float) -> Events | None:
        """All events, one without an empty line behind it among them; None where one of them is no JSON."""
        self._line(self._left.rstrip(b"\r"), seconds)
        self._line(b"", seconds)
        return None if self._broken else self._events

    def _line(self, line: bytes, seconds: float) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" ").decode("utf-8", errors="replace"))
        elif not line and self._data:
            text, self._data = "\n".join(self._data), []
            if text.strip() == "[DONE]":
                self._events.ended = True
            elif not self._events.ended and not self._broken:
                try:
                    self._events.append((seconds, json.loads(self._clean(text))))
                except (ValueError, RecursionError):
                    self._broken = True
