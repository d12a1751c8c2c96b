"""Margins of choices: how far ahead a choice is of the next one, what became of that, and the flips that this predicts.

The margin is that of OLD's choice: its log-likelihood less that of its best rival, in OLD and, for the same choice, in
NEW, where it is negative once NEW chooses otherwise. The prediction takes every change of a margin that was seen to be
as likely at every margin of OLD's: the share of all pairs (OLD's margin of one instance, change of another) whose sum
is negative. Where flips are fewer than predicted, changes are smaller where margins are small; where they are more, NEW
moved just the close ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Margins:
    """Margins of ``n`` choices in nats, means and medians, and shares of choices that flip."""

    n: int
    mean_old: float
    mean_new: float
    median_old: float
    median_new: float
    spread: float  # standard deviation of NEW's margin less OLD's
    changed: int  # choices that are others in NEW
    changed_predicted: float  # the share of n that changes of that size would make, whatever the margin
    negative_flips: int
    nfr_predicted: float


@dataclass(frozen=True)
class TieCount:
    """Flips of one direction by how sure the models were of their choices: the margin of OLD or of NEW is below the
    threshold, neither is, or one is not known and the other not below it."""

    near: int
    confident: int
    unknown: int = 0


@dataclass(frozen=True)
class NearTies:
    """Which flips were close, by the margin between the log-likelihoods of the two likeliest choices, in nats."""

    threshold: float
    negative: TieCount
    positive: TieCount


class Known(NamedTuple):
    """Instances of which both sides' margins are known, each of shape (n,): OLD's and NEW's margin, whether NEW chooses
    otherwise, whether OLD was right, and whether NEW no longer is."""

    before: Floats
    after: Floats
    moved: Flags
    right: Flags
    worse: Flags


def known_margins(old: Iterable[Any], new: Iterable[Any], right: Flags, worse: Flags) -> Known:
    """Margins of instances from their choices' log-likelihoods on both sides; ``right`` says where OLD was right and
    ``worse`` where NEW no longer is. Left out is who has fewer than two finite ones on a side."""
    known, margins = np.zeros(len(right), dtype=np.bool_), np.zeros((len(right), 3), dtype=np.float64)
    for place, (one, other) in enumerate(zip(old, new, strict=True)):
        found = _margin(one, other)
        if found is not None:
            known[place], margins[place] = True, found
    margins = margins[known]
    return Known(margins[:, 0], margins[:, 1], margins[:, 2] == 1, right[known], worse[known])


def of_choices(known: Known) -> Margins | None:
    """What they come to; None where none is known."""
    before, after, moved, right, worse = known
    if not len(before):
        return None
    change = after - before
    flips = flipped(before, change)
    return Margins(
        n=len(before),
        mean_old=float(before.mean()),
        mean_new=float(after.mean()),
        median_old=float(np.median(before)),
        median_new=float(np.median(after)),
        spread=float(change.std()),
        changed=int(moved.sum()),
        changed_predicted=float(flips.mean()),
        negative_flips=int(worse.sum()),
        nfr_predicted=float(flips[right].sum() / len(flips)),
    )


def flipped(margin: Floats, change: Floats) -> Floats:
    """For every margin the share of all changes that make it negative."""
    below = np.searchsorted(np.sort(change), -margin, side="left")
    return (below / len(change)).astype(np.float64)


def _margin(old: Any, new: Any) -> tuple[float, float, bool] | None:
    """The margin of OLD's choice on both sides, and whether NEW chooses otherwise."""
    if not (isinstance(old, Sequence | np.ndarray) and isinstance(new, Sequence | np.ndarray)):
        return None
    if len(old) != len(new) or len(old) < 2 or any(value is None for value in (*old, *new)):
        return None
    one, other = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    choice = int(one.argmax())
    margins = [float(values[choice] - np.delete(values, choice).max()) for values in (one, other)]
    return margins[0], margins[1], int(other.argmax()) != choice
