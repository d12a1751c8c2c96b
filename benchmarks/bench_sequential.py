"""Error rates and run lengths of the gate that looks after every 25 documents, by seeded simulation.

Run as ``python -m benchmarks.bench_sequential [--quick] [--json FILE]``; about three minutes on one core. Every error
rate is measured where it is largest, exactly at the budget, and has to be at most 5 % beyond Monte-Carlo error.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from compatcheck.compare.plan import make_sequential_plan
from compatcheck.compare.sequential import MeanEvidence, log_evidence
from compatcheck.compare.significance import holm

ALPHA = 0.05
NEED = -math.log(ALPHA)
STEP, MOST = 25, 4000
LOOKS = np.arange(STEP, MOST + 1, STEP)
BUDGETS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)
FAMILY = 10
"""Budgets of a run whose failures have to hold together."""


@dataclass(frozen=True)
class Row:
    """How often a budget of this kind is wrongly passed and wrongly failed at any look; proportions of ``runs``."""

    budget: str
    false_pass: float
    false_fail: float
    runs: int

    @property
    def holds(self) -> bool:
        """Whether both are at most 5 % beyond three standard errors of the simulation."""
        return max(self.false_pass, self.false_fail) <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / self.runs)


Values = Callable[[np.random.Generator], np.ndarray]


def rates(runs: int) -> list[Row]:
    """NFR at its budget, a look every 25 up to 4,000."""
    rows = []
    for place, budget in enumerate(BUDGETS):
        counts = np.random.default_rng([1, place]).binomial(STEP, budget, size=(runs, len(LOOKS))).cumsum(axis=1)
        above, below = log_evidence(counts, LOOKS, budget)
        rows.append(_first(f"nfr:{100 * budget:g}%", below >= NEED, above >= NEED))
    return rows


def family(runs: int) -> list[Row]:
    """Ten tasks with NFR at a budget of 2 %: how often any of them fails, and how often all of them pass."""
    counts = np.random.default_rng(2).binomial(STEP, 0.02, size=(runs, FAMILY, len(LOOKS))).cumsum(axis=2)
    above, below = log_evidence(counts, LOOKS, 0.02)
    p_values = np.exp(-above.max(axis=2))  # what the evidence is at its greatest, whenever that is
    failed = [min(holm(list(each))) <= ALPHA for each in p_values]
    passed = (below >= NEED).any(axis=2).all(axis=1)
    return [Row(f"{FAMILY} x nfr:2%, any fails / all pass", float(passed.mean()), float(np.mean(failed)), runs)]


def means(runs: int) -> list[Row]:
    """Budgets on means at their true value."""

    def three(negative: float, positive: float) -> Values:
        def values(draw: np.random.Generator) -> np.ndarray:
            dice = draw.random(MOST)
            return np.where(dice < negative, -1.0, np.where(dice < negative + positive, 1.0, 0.0))

        return values

    def smooth(draw: np.random.Generator) -> np.ndarray:
        return draw.beta(4, 6, MOST) - draw.beta(4.2, 5.8, MOST)

    def heavy(draw: np.random.Generator) -> np.ndarray:
        return -np.where(draw.random(MOST) < 0.02, draw.random(MOST), 0.0)

    kinds: list[tuple[str, Values, float]] = [
        ("net:-1%, 1 % negative flips alone", three(0.01, 0), -0.01),
        ("net:-2%, 6 % against 4 % flips", three(0.06, 0.04), -0.02),
        ("net:0%, 5 % against 5 % flips", three(0.05, 0.05), 0.0),
        ("regression:0.02, scores spread", smooth, -0.02),
        ("regression:0.01, one in fifty loses", heavy, -0.01),
    ]
    rows = []
    for place, (name, values, mean) in enumerate(kinds):
        draw = np.random.default_rng([3, place])
        keeps, breaks = np.zeros((runs, len(LOOKS)), dtype=bool), np.zeros((runs, len(LOOKS)), dtype=bool)
        for run in range(runs):
            gathered, drawn = MeanEvidence(mean, -1, 1), values(draw)
            for look, n in enumerate(LOOKS):
                gathered.add(drawn[n - STEP : n])
                above, below = gathered.evidence()
                keeps[run, look], breaks[run, look] = above >= NEED, below >= NEED
        rows.append(_first(name, keeps, breaks))
    return rows


def _first(name: str, keeps: np.ndarray, breaks: np.ndarray) -> Row:
    """What each run says first; shape (runs, looks)."""
    never = keeps.shape[1]
    passed, failed = (np.where(each.any(axis=1), each.argmax(axis=1), never) for each in (keeps, breaks))
    return Row(name, float((passed < failed).mean()), float((failed < passed).mean()), len(keeps))


def sequential(quick: bool = False) -> list[Row]:
    """All rows."""
    runs = 1000 if quick else 10_000
    return [*rates(runs), *family(runs // 10), *means(60 if quick else 600)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    given = parser.parse_args()
    rows = sequential(given.quick)
    print("| at the budget, a look every 25 up to 4,000 | false pass | false fail | runs |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.budget} | {row.false_pass:.1%} | {row.false_fail:.1%} | {row.runs:,} |")
    plan = make_sequential_plan(0.02, [0.002, 0.005, 0.01, 0.03, 0.04, 0.06, 0.1])
    print("\n| true NFR, budget 2 % | median | 9 of 10 |\n|---|---|---|")
    for each in plan.table:
        print(f"| {each.rate:.1%} | {each.median or '–'} | {each.ninety or '–'} |")
    if given.json:
        found = {"errors": [asdict(row) for row in rows], "expected": asdict(plan)}
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    broken = [row.budget for row in rows if not row.holds]
    if broken:
        raise SystemExit(f"above {ALPHA:.0%}: {', '.join(broken)}")


if __name__ == "__main__":
    main()
