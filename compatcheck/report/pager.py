"""Paging through instances with single keys: what is drawn and what a key does. The terminal itself is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from compatcheck.compare.kinds import KINDS
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
  f            next kind of failure
  ?            this help              q  quit
"""
_KEYS = {
    "discrete": ("negative_flip", "positive_flip", "both_wrong", "both_correct"),
    "smooth": ("negative_flip", "positive_flip", "unchanged", "unchanged"),
    "changes": ("changed", "changed", "unchanged", "unchanged"),
    "preferences": ("old_preferred", "new_preferred", "tied", "unchanged"),
}
"""What the keys 1 to 4 choose, by the groups there are."""
_FOOT = "n next  p previous  1-4 quadrant  / search  ? help  q quit"


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
    kind: str | None = None
    places: list[Place] = field(default_factory=list)

    def run(self, screen: Screen) -> None:
        """Draw and obey until ``q``."""
        self._select()
        while True:
            body, room = self._body(screen), max(screen.size()[1] - 3, 1)
            screen.draw(self._page(body, room, screen.size()[0]))
            key = screen.key()
            if key in ("q", "Q", "\x04", ""):
                return
            if self.helping:
                self.helping = False
            elif key in (" ", "down", "b", "up"):
                self._scroll(key, len(body), room)
            else:
                self._obey(key, screen)

    def _select(self) -> None:
        chosen = self.comparisons if self.only is None else [self.comparisons[self.only]]
        self.places = select(self.result, chosen, self.quadrant, self.search, kind=self.kind)
        self.at = self.top = 0

    def _obey(self, key: str, screen: Screen) -> None:
        steps = {"n": 1, "j": 1, "right": 1, "p": -1, "k": -1, "left": -1}
        kinds = {figures.kind(self.result.comparisons[place]) for place in self.comparisons}
        groups = _KEYS[kinds.pop() if len(kinds) == 1 else "discrete"]
        filters = {"0": "flips", "a": "all", "e": "error", **dict(zip("1234", groups, strict=True))}
        if key in steps:
            self._move(self.at + steps[key])
        elif key in ("g", "G"):
            self._move(0 if key == "g" else len(self.places) - 1)
        elif key in ("?", "h"):
            self.helping = True
        elif key in filters or key in ("t", "/", "f"):
            self.quadrant = filters.get(key, self.quadrant)
            if key == "f":
                self.kind = self._next_kind()
                self.quadrant = "flips" if self.kind is None else "negative_flip"
            if key == "t":
                following = 0 if self.only is None else self.only + 1
                self.only = following if following < len(self.comparisons) else None
            if key == "/":
                self.search = screen.line("search: ").strip()
            self._select()

    def _next_kind(self) -> str | None:
        """The kind of failure after the present one, of those that there are; None after the last."""
        chosen = self.comparisons if self.only is None else [self.comparisons[self.only]]
        there = {each.kind for place in chosen for each in self.result.comparisons[place].kinds or ()}
        kinds = [None, *(kind for kind in KINDS if kind in there)]
        return kinds[(kinds.index(self.kind) + 1) % len(kinds)] if self.kind in kinds else None

    def _move(self, to: int) -> None:
        if 0 <= to < len(self.places):
            self.at, self.top = to, 0

    def _scroll(self, key: str, lines: int, room: int) -> None:
        step = max(room - 1, 1) if key in (" ", "b") else 1
        most = max(lines - room, 0)
        if key == " " and self.top >= most:
            self._move(self.at + 1)  # at the end of an instance a page down is the next one
        else:
            self.top = min(self.top + step, most) if key in (" ", "down") else max(self.top - step, 0)

    def _body(self, screen: Screen) -> list[str]:
        if self.helping:
            return HELP.split("\n")
        if not self.places:
            return ["", f"  No instance: {self._what()}.", "", "  Press 0 for all flips, a for all, / to search again."]
        return instance_text(self.result, self.places[self.at], screen.size()[0], self.color).rstrip("\n").split("\n")

    def _what(self) -> str:
        known = {**figures.QUADRANT_LABELS, "flips": "flips", "all": "all instances", "error": "not scored"}
        parts = [known[self.quadrant], *([KINDS[self.kind]] if self.kind else [])]
        if self.only is not None:
            parts.append(safe_text(self.result.comparisons[self.comparisons[self.only]].name))
        return ", ".join([*parts, *([f'with "{safe_text(self.search)}"'] if self.search else [])])

    def _page(self, body: list[str], room: int, width: int) -> list[str]:
        self.top = min(self.top, max(len(body) - room, 0))
        shown = body[self.top : self.top + room]
        below = len(body) - self.top - len(shown)
        count = f"{self.at + 1:,} of {len(self.places):,}" if self.places else "none"
        foot = f"{_FOOT}{f'   ↓ {below} more lines' if below else ''}"
        return [f"{count} · {self._what()}"[:width], *shown, *[""] * (room - len(shown)), foot[:width]]
