"""Paging through instances with single keys: what is drawn and what a key does. The terminal itself is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from compatcheck.compare.result import Result
from compatcheck.report import figures
from compatcheck.report.browse import Place, instance_text, select
from compatcheck.report.text import safe_text

HELP = """
  n  →  j      next instance          1  negative flips     3  both wrong, or unchanged
  p  ←  k      previous instance      2  positive flips     4  both correct
  space  ↓     further down           0  both kinds of flips      a  all      e  not scored
  b  ↑         further up             t  next comparison
  g  G         first, last            /  search; empty clears it
  ?            this help              q  quit
"""


class Screen(Protocol):
    """A terminal: its size in columns and rows, drawing a page, reading a key and a line."""

    def size(self) -> tuple[int, int]: ...
    def draw(self, lines: list[str]) -> None: ...
    def key(self) -> str: ...
    def line(self, prompt: str) -> str: ...


@dataclass
class Pager:
    """The state of paging: which instances, where in them, how far down the page."""

    result: Result
    comparisons: list[int]
    quadrant: str = "flips"
    search: str = ""
    color: bool = True
    only: int | None = None
    """Place in ``comparisons`` of the one that is shown; None for all."""
    at: int = 0
    top: int = 0
    helping: bool = False
    places: list[Place] = field(default_factory=list)

    def run(self, screen: Screen) -> None:
        """Draw and obey until ``q``."""
        self._select()
        while True:
            page = self._page(screen)
            screen.draw(page)
            key = screen.key()
            if key in ("q", "Q", "\x04", ""):
                return
            self._obey(key, screen)

    def _select(self) -> None:
        chosen = self.comparisons if self.only is None else [self.comparisons[self.only]]
        self.places = select(self.result, chosen, self.quadrant, self.search)
        self.at = self.top = 0

    def _obey(self, key: str, screen: Screen) -> None:
        if self.helping:
            self.helping = False
            return
        moves: dict[str, Callable[[], int]] = {
            "n": lambda: self.at + 1, "j": lambda: self.at + 1, "right": lambda: self.at + 1,
            "p": lambda: self.at - 1, "k": lambda: self.at - 1, "left": lambda: self.at - 1,
            "g": lambda: 0, "G": lambda: len(self.places) - 1,
        }  # fmt: skip
        if key in moves:
            self._move(moves[key]())
        elif key in (" ", "down", "b", "up"):
            self._scroll(key in (" ", "down"), key in (" ", "b"), screen)
        elif key in "1234":
            self._filter(self._quadrants()[int(key) - 1])
        elif key in "0ae":
            self._filter({"0": "flips", "a": "all", "e": "error"}[key])
        elif key == "t":
            count = len(self.comparisons)
            self.only = 0 if self.only is None else None if self.only + 1 == count else self.only + 1
            self._select()
        elif key == "/":
            self.search = screen.line("search: ").strip()
            self._select()
        elif key in ("?", "h"):
            self.helping = True

    def _quadrants(self) -> tuple[str, str, str, str]:
        kinds = {self.result.comparisons[place].kind for place in self.comparisons}
        rest = ("both_wrong", "both_correct") if kinds != {"smooth"} else ("unchanged", "unchanged")
        return ("negative_flip", "positive_flip", *rest)

    def _filter(self, quadrant: str) -> None:
        self.quadrant = quadrant
        self._select()

    def _move(self, to: int) -> None:
        if 0 <= to < len(self.places):
            self.at, self.top = to, 0

    def _scroll(self, down: bool, page: bool, screen: Screen) -> None:
        room = self._room(screen)
        step = max(room - 1, 1) if page else 1
        most = max(len(self._body(screen)) - room, 0)
        if down and self.top >= most and page:
            self._move(self.at + 1)  # at the end of an instance a page down is the next one
        else:
            self.top = min(self.top + step, most) if down else max(self.top - step, 0)

    def _room(self, screen: Screen) -> int:
        return max(screen.size()[1] - 3, 1)

    def _body(self, screen: Screen) -> list[str]:
        if self.helping:
            return HELP.split("\n")
        if not self.places:
            return ["", f"  No instance: {self._what()}.", "", "  Press 0 for all flips, a for all, / to search again."]
        return instance_text(self.result, self.places[self.at], screen.size()[0], self.color).rstrip("\n").split("\n")

    def _what(self) -> str:
        known = {**figures.QUADRANT_LABELS, "flips": "flips", "all": "all instances", "error": "not scored"}
        parts = [known[self.quadrant]]
        if self.only is not None:
            parts.append(safe_text(self.result.comparisons[self.comparisons[self.only]].name))
        if self.search:
            parts.append(f'with "{safe_text(self.search)}"')
        return ", ".join(parts)

    def _page(self, screen: Screen) -> list[str]:
        width = screen.size()[0]
        room = self._room(screen)
        body = self._body(screen)
        self.top = min(self.top, max(len(body) - room, 0))
        shown = body[self.top : self.top + room]
        below = len(body) - self.top - len(shown)
        count = f"{self.at + 1:,} of {len(self.places):,}" if self.places else "none"
        head = f"{count} · {self._what()}"
        foot = (
            f"n next  p previous  1-4 quadrant  / search  ? help  q quit{f'   ↓ {below} more lines' if below else ''}"
        )
        return [head[:width], *shown, *[""] * (room - len(shown)), foot[:width]]
