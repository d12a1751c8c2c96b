"""Discrete metrics: everything that follows from the four quadrants and from which predictions differ.

With BC, PF, NF and BW the counts of both correct, positive flip, negative flip and both wrong. NFR and PFR are those
of Echterhoff et al. 2024 (MUSCLE), relative NFR of Yan et al. 2021, BTC and BEC of Srivastava et al. 2020, NFI of Cai
et al. 2022. The denominator is all scored pairs, except for BTC, BEC, NFI and PFI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from compatcheck.compare.intervals import Counts, difference, net_bounds, rate, relative, relative_bounds
from compatcheck.compare.result import QUADRANTS, Estimate

NO_PREDICTIONS = "no predictions were recorded, only scores"
NO_OLD_RIGHT = "the old model has no correct answer"
NO_NEW_WRONG = "the new model has no wrong answer"


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
    bc, pf, nf, bw = counts = tuple(int(quadrants[name]) for name in QUADRANTS)
    n = bc + pf + nf + bw

    def share(count: int, of: int = n, why: str = "no pair could be scored") -> Estimate:
        return rate(count, of, confidence, why)

    def of_changes(count: int) -> Estimate:
        return share(count) if changes is not None else Estimate(None, of=n, why=NO_PREDICTIONS)

    seen = changes or Changes(0)
    return {
        "accuracy_old": share(bc + nf),
        "accuracy_new": share(bc + pf),
        "nfr": share(nf),
        "pfr": share(pf),
        # A negative flip is a change of answer by definition, so NFR_mc is never below NFR, even where a scorer judged
        # the same text differently.
        "nfr_mc": of_changes(nf + seen.both_wrong),
        "inconsistency": of_changes(seen.both_wrong),
        "net": _net(counts, confidence),
        "relative_nfr": _relative_nfr(counts, confidence, resamples, seed),
        "btc": share(bc, bc + nf, NO_OLD_RIGHT),
        "bec": share(bw, pf + bw, "the old model has no wrong answer"),
        "nfi": share(nf, nf + bw, NO_NEW_WRONG),
        "pfi": share(pf, bc + pf, "the new model has no correct answer"),
        "agreement": of_changes(n - seen.changed),
        "both_correct_changed": of_changes(seen.both_correct),
    }


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
