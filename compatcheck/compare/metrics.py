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


@dataclass(frozen=True)
class Changes:
    """Among the scored pairs, how many have different predictions: in all, both wrong, both correct."""

    changed: int
    both_wrong: int = 0
    both_correct: int = 0


def discrete_metrics(
    quadrants: Mapping[str, int], changes: Changes | None, *, confidence: float, resamples: int, seed: int
) -> dict[str, Estimate]:
    """All discrete metrics; ``changes`` is None where no predictions were recorded."""
    bc, pf, nf, bw = (int(quadrants[name]) for name in QUADRANTS)
    counts = (bc, pf, nf, bw)
    n = bc + pf + nf + bw

    def share(count: int, of: int = n, why: str = "no pair could be scored") -> Estimate:
        return rate(count, of, confidence, why)

    def of_changes(count: int) -> Estimate:
        return share(count) if changes is not None else Estimate(None, of=n, why=NO_PREDICTIONS)

    old_correct, old_wrong = bc + nf, pf + bw
    new_correct, new_wrong = bc + pf, nf + bw
    seen = changes or Changes(0)
    return {
        "accuracy_old": share(old_correct),
        "accuracy_new": share(new_correct),
        "nfr": share(nf),
        "pfr": share(pf),
        # A negative flip is a change of answer by definition, so NFR_mc is never below NFR, even where a scorer judged
        # the same text differently.
        "nfr_mc": of_changes(nf + seen.both_wrong),
        "inconsistency": of_changes(seen.both_wrong),
        "net": _net(counts, confidence),
        "relative_nfr": _relative_nfr(counts, confidence, resamples, seed),
        "btc": share(bc, old_correct, "the old model has no correct answer"),
        "bec": share(bw, old_wrong, "the old model has no wrong answer"),
        "nfi": share(nf, new_wrong, "the new model has no wrong answer"),
        "pfi": share(pf, new_correct, "the new model has no correct answer"),
        "agreement": of_changes(n - seen.changed),
        "both_correct_changed": of_changes(seen.both_correct),
    }


def _net(counts: Counts, confidence: float) -> Estimate:
    _, pf, nf, _ = counts
    n = sum(counts)
    if n == 0:
        return Estimate(None, of=0, why="no pair could be scored")
    low, high, lower, upper = difference(counts, confidence)
    one_sided = partial(net_bounds, counts)
    return Estimate((pf - nf) / n, low, high, pf - nf, n, lower=lower, upper=upper, one_sided=one_sided)


def _relative_nfr(counts: Counts, confidence: float, resamples: int, seed: int) -> Estimate:
    bc, _, nf, bw = counts
    n = sum(counts)
    if n == 0:
        return Estimate(None, of=0, why="no pair could be scored")
    if bc + nf == 0:
        return Estimate(None, count=nf, of=n, why="the old model has no correct answer")
    if nf + bw == 0:
        return Estimate(None, count=nf, of=n, why="the new model has no wrong answer")
    value = nf * n / ((bc + nf) * (nf + bw))
    low, high, lower, upper = relative(counts, confidence, resamples, seed)
    one_sided = partial(relative_bounds, counts, resamples, seed)
    return Estimate(value, low, high, nf, n, lower=lower, upper=upper, one_sided=one_sided)
