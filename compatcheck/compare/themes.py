"""Themes: what a judge says that NEW's answers of a group of negative flips share, and whether held-out flips bear it
out. Which flips are read is chosen here; :mod:`compatcheck.themes` has the judge read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from compatcheck.schema import WHERE_KNOWN

THEME_COLUMN = "failure_theme"
NAMED = 8
"""Flips of a group that the judge is shown to name a theme: half of them, and at most so many."""
HELD_OUT = 24
"""Flips of a group on which a theme is tested, at most."""
LEAST = 6
"""Fewer held-out flips show nothing: five that agree have p = 0.03 by themselves, and there are other themes."""
GROUPS = 8
"""Groups of flips that are read in all comparisons together, the largest."""


@dataclass(frozen=True)
class Sides:
    """Pairs of answers by which of both a theme's description is true of, by the judge, in both orders alike."""

    new: int  # of NEW's alone
    old: int
    tied: int  # of both or neither, or another one when the order was swapped
    unreadable: int  # a reply held no verdict: not counted above

    @property
    def read(self) -> int:
        return self.new + self.old + self.tied


@dataclass(frozen=True)
class Theme:
    """What a judge proposed of one group of flips, and what held-out flips say of it.

    ``p`` is of the one-sided sign test of ``held_out.new`` against ``held_out.old``, ``p_adjusted`` the same after Holm
    over all themes that were tested in a result; None, with the reason, where too few pairs could be read.
    """

    name: str
    description: str
    kind: str | None  # the kind of failure of the group; None where small kinds are one group
    flips: int  # of the group, with two different texts
    named: int  # of these, the ones the judge was shown to name the theme
    held_out: Sides
    elsewhere: Sides | None  # as many pairs that did not flip and whose texts differ; None where there are none
    holds: bool = False
    p: float | None = None
    p_adjusted: float | None = None
    why: str | None = field(default=None, metadata=WHERE_KNOWN)


@dataclass(frozen=True)
class Themes:
    """The themes of a comparison, those that hold first, and in sentences which flips have none and why."""

    judge: str
    found: tuple[Theme, ...] = ()
    notes: tuple[str, ...] = ()


class Pair(NamedTuple):
    """One instance with two different texts; ``row`` is its place in ``Comparison.instances``."""

    row: int
    input: str | None
    target: str | None
    old: str
    new: str


class Group(NamedTuple):
    """Flips of one kind of failure, or of all small kinds together: some to name a theme, others to test it, and pairs
    that did not flip."""

    kind: str | None
    flips: int
    named: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    elsewhere: tuple[Pair, ...]


def grouped(
    instances: pd.DataFrame, flips: pd.Series, rest: pd.Series, kinds: pd.Series | None, seed: int
) -> tuple[list[Group], int]:
    """The groups of the flips that are large enough to name a theme and to test it, and how many flips are in none.

    ``flips`` and ``rest`` mark rows: what got worse, and what did not flip. Which pairs are chosen depends on ``seed``,
    not on the order of the rows.
    """
    rng = np.random.default_rng([seed, 2])
    pairs, others = _pairs(instances, flips), _pairs(instances, rest)
    found: dict[str | None, list[Pair]] = {}
    for pair in pairs:
        kind = None if kinds is None or pd.isna(kinds.iloc[pair.row]) else str(kinds.iloc[pair.row])
        found.setdefault(kind, []).append(pair)
    large = {kind: each for kind, each in found.items() if kind is not None and len(each) >= 2 * LEAST}
    small = [pair for kind, each in found.items() if kind not in large for pair in each]
    by_size: list[tuple[str | None, list[Pair]]] = sorted(large.items(), key=lambda each: (-len(each[1]), each[0]))
    by_size += [(None, small)] if len(small) >= 2 * LEAST else []
    groups = []
    for kind, each in by_size:
        drawn = [each[place] for place in rng.permutation(len(each))]
        named, held_out = drawn[: min(len(drawn) // 2, NAMED)], drawn[min(len(drawn) // 2, NAMED) :][:HELD_OUT]
        beside = [others[place] for place in rng.permutation(len(others))[: len(held_out)]]
        groups.append(Group(kind, len(each), tuple(named), tuple(held_out), tuple(beside)))
    return groups, 0 if len(small) >= 2 * LEAST else len(small)


def _pairs(instances: pd.DataFrame, chosen: pd.Series) -> list[Pair]:
    """The chosen rows with two different texts, in the order of their ids; the whole text where it is known."""
    part = instances[chosen.fillna(False).to_numpy(dtype=bool)]
    found = []
    for row, each in zip(np.flatnonzero(chosen.fillna(False)), part.to_dict("records"), strict=True):
        old, new = (_text(each, f"response_{side}") or _text(each, f"prediction_{side}") for side in ("old", "new"))
        if old and new and old.strip() != new.strip():
            pair = Pair(int(row), _text(each, "input"), _text(each, "target"), old, new)
            found.append((str(each["doc_id"]), pair))
    return [pair for _, pair in sorted(found, key=lambda each: each[0])]


def _text(row: Mapping[Any, Any], name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) and value.strip() else None
