"""Discrete metrics: everything that follows from the four quadrants and from which predictions differ.

With BC, PF, NF and BW the counts of both correct, positive flip, negative flip and both wrong. NFR and PFR are those
of Echterhoff et al. 2024 (MUSCLE), relative NFR of Yan et al. 2021, BTC and BEC of Srivastava et al. 2020, NFI of Cai
et al. 2022. The denominator is all scored pairs, except for BTC, BEC, NFI and PFI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from compatcheck.compare.intervals import Counts, difference, net_bounds, rate, relative, relative_bounds
from compatcheck.compare.result import QUADRANTS, Estimate

NO_PREDICTIONS = "no predictions were recorded, only scores"
NO_OLD_RIGHT = "the old model has no correct answer"
NO_NEW_WRONG = "the new model has no wrong answer"


class Rate(NamedTuple):
    """Of the pairs in the groups ``of`` (of all where empty) those in ``groups``, and those in ``if_changed`` whose
    predictions differ; where ``same``, those whose predictions do not. ``why`` says why it may be undefined."""

    groups: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    if_changed: tuple[str, ...] = ()
    same: bool = False
    why: str = "no pair could be scored"


RATES = {
    "accuracy_old": Rate(("both_correct", "negative_flip")),
    "accuracy_new": Rate(("both_correct", "positive_flip")),
    "nfr": Rate(("negative_flip",)),
    "pfr": Rate(("positive_flip",)),
    # A negative flip is a change of answer by definition, so NFR_mc is never below NFR, even where a scorer judged
    # the same text differently.
    "nfr_mc": Rate(("negative_flip",), if_changed=("both_wrong",)),
    "inconsistency": Rate(if_changed=("both_wrong",)),
    "btc": Rate(("both_correct",), ("both_correct", "negative_flip"), why=NO_OLD_RIGHT),
    "bec": Rate(("both_wrong",), ("positive_flip", "both_wrong"), why="the old model has no wrong answer"),
    "nfi": Rate(("negative_flip",), ("negative_flip", "both_wrong"), why=NO_NEW_WRONG),
    "pfi": Rate(("positive_flip",), ("both_correct", "positive_flip"), why="the new model has no correct answer"),
    "agreement": Rate(same=True),
    "both_correct_changed": Rate(if_changed=("both_correct",)),
}
"""Every rate by its name."""
_CHANGED = ("changed", "new_preferred", "old_preferred", "tied")
CHANGE_RATES = {"agreement": Rate(("unchanged",)), "changed": Rate(_CHANGED)}
"""Where OLD's answers are the reference."""
PREFERENCE_RATES = CHANGE_RATES | {
    # A reader would notice what a judge prefers whichever of both it is shown first.
    "noticed": Rate(("new_preferred", "old_preferred")),
    "preferred_new": Rate(("new_preferred",)),
    "preferred_old": Rate(("old_preferred",)),
    "tied": Rate(("tied",)),
}
"""The same with a judge."""


@dataclass(frozen=True)
class Changes:
    """Among the scored pairs, how many have different predictions: in all, both wrong, both correct."""

    changed: int
    both_wrong: int = 0
    both_correct: int = 0

    def plus(self, other: Changes | None, sign: int = 1) -> Changes:
        """With those of further pairs, or without them where ``sign`` is −1."""
        more = other or Changes(0)
        return Changes(
            self.changed + sign * more.changed,
            self.both_wrong + sign * more.both_wrong,
            self.both_correct + sign * more.both_correct,
        )


def discrete_metrics(
    quadrants: Mapping[str, int], changes: Changes | None, *, confidence: float, resamples: int, seed: int
) -> dict[str, Estimate]:
    """All discrete metrics; ``changes`` is None where no predictions were recorded."""
    counts = tuple(int(quadrants[name]) for name in QUADRANTS)
    n, found = sum(counts), {}
    for name, each in RATES.items():
        if name == "btc":
            found["net"] = _net(counts, confidence)
            found["relative_nfr"] = _relative_nfr(counts, confidence, resamples, seed)
        if changes is None and (each.if_changed or each.same):
            found[name] = Estimate(None, of=n, why=NO_PREDICTIONS)
            continue
        count = sum(int(quadrants[group]) for group in each.groups)
        if changes is not None:
            count += sum(getattr(changes, group) for group in each.if_changed)
            count += n - changes.changed if each.same else 0
        of = sum(int(quadrants[group]) for group in each.of or QUADRANTS)
        found[name] = rate(count, of, confidence, each.why)
    return found


def _net(counts: Counts, confidence: float) -> Estimate:
    _, pf, nf, _ = counts
    n = sum(counts)
    if n == 0:
        return Estimate(None, of=0, why="no pair could be scored")
    low, high, lower, upper = difference(counts, confidence)
    return Estimate((pf - nf) / n, low, high, pf - nf, n, lower, upper, one_sided=partial(net_bounds, counts))


def _relative_nfr(counts: Counts, confidence: float, resamples: int, seed: int) -> Estimate:
    bc, _, nf, bw = counts
    n = sum(counts)
    if n == 0:
        return Estimate(None, of=0, why="no pair could be scored")
    if bc + nf == 0 or nf + bw == 0:
        return Estimate(None, count=nf, of=n, why=NO_OLD_RIGHT if bc + nf == 0 else NO_NEW_WRONG)
    low, high, lower, upper = relative(counts, confidence, resamples, seed)
    value = nf * n / ((bc + nf) * (nf + bw))
    return Estimate(value, low, high, nf, n, lower, upper, one_sided=partial(relative_bounds, counts, resamples, seed))
