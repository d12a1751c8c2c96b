"""How often the verdicts err: false PASS and false FAIL of every budget at the budget, by simulation or exact sums.

Run: python -m benchmarks.bench_statistics [--quick] [--json FILE]

Every figure is a share of samples in percent. What can be summed exactly is; the rest is drawn with a fixed seed, and
its limit is 5 % plus the Monte Carlo error of so many draws (one-sided, 95 % over the cells of a line).
docs/statistics.md holds the table and the exceptions.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binom

from benchmarks import bench_sequential, proof_verdicts
from benchmarks import statistics_parts as parts

SIZES = (30, 50, 100, 133, 300, 1000)
RATES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.10)
NOMINAL = 0.05


@dataclass(frozen=True)
class Row:
    """One line of the table: the worst share over the grid, where it was, and over how many draws (0: exact)."""

    what: str
    error: str
    share: float
    where: str
    draws: int = 0
    cells: int = 1
    exception: str = ""

    @property
    def limit(self) -> float:
        """What chance lets the worst of so many cells reach at a true share of 5 %."""
        if not self.draws:
            return NOMINAL + 1e-9
        return float(binom.ppf(1 - 0.05 / self.cells, self.draws, NOMINAL)) / self.draws

    @property
    def holds(self) -> bool:
        return self.share <= self.limit


def over_grid(what: str, judge: Callable[[int, float], tuple[float, float]], draws: int = 0) -> list[Row]:
    """Worst false PASS and false FAIL of a budget over all sizes and rates."""
    found = {(n, rate): judge(n, rate) for n in SIZES for rate in RATES}
    rows = []
    for place, error in enumerate(("false PASS", "false FAIL")):
        (n, rate), shares = max(found.items(), key=lambda item: item[1][place])
        rows.append(Row(what, error, shares[place], f"n = {n:,}, {100 * rate:g} %", draws, len(found)))
    return rows


def rates(quick: bool) -> list[Row]:
    """Budgets on a share: nfr, pfr, nfr_mc, inconsistency, agreement, btc, nfi, accuracy_new. Exact."""
    return [
        *over_grid("share, at most (nfr …)", lambda n, rate: parts.share_errors(n, rate, upper=True)),
        *over_grid("share, at least (agreement …)", lambda n, rate: parts.share_errors(n, 1 - rate, upper=False)),
    ]


def net(quick: bool) -> list[Row]:
    """net and accuracy at a fall of so much: all flips negative, and with as many flips both ways. Exact."""
    return [
        *over_grid("net, flips one way", lambda n, rate: parts.net_errors(n, rate, 0.0)),
        *over_grid("net, flips both ways", lambda n, rate: parts.net_errors(n, rate, rate)),
    ]


def relative(quick: bool) -> list[Row]:
    draws = 200 if quick else 600
    rng = np.random.default_rng(1)
    return over_grid("relative_nfr", lambda n, rate: parts.relative_errors(n, rate, draws, rng), draws)


def means(quick: bool) -> list[Row]:
    """Budgets on means; rare losses of size 1 by exact sums, with small gains beside them by draws."""
    draws = 100 if quick else 2000
    rng = np.random.default_rng(2)
    return [
        *over_grid("regression, rare losses of 1", lambda n, rate: parts.two_point_errors("mean_difference", n, rate)),
        *over_grid("mean_regression", lambda n, rate: parts.two_point_errors("mean_regression", n, rate)),
        *over_grid("mean_gain", lambda n, rate: parts.two_point_errors("mean_gain", n, rate)),
        *over_grid("score_new", lambda n, rate: parts.two_point_errors("score_new", n, rate)),
        *over_grid(
            "regression, rare losses among small changes",
            lambda n, rate: parts.mixed_errors(n, rate, draws, rng),
            draws,
        ),
    ]


def clusters(quick: bool) -> list[Row]:
    """Clusters of 10 instances that go together, by their number."""
    draws = 100 if quick else 400
    rng = np.random.default_rng(3)
    rows = []
    for what, judge in (("nfr", parts.clustered_rate_errors), ("regression", parts.clustered_mean_errors)):
        found = {count: judge(count, draws, rng) for count in (3, 5, 10, 30, 100)}
        for place, error in enumerate(("false PASS", "false FAIL")):
            count, shares = max(found.items(), key=lambda item: item[1][place])
            rows.append(Row(f"{what}, clusters of 10", error, shares[place], f"{count} clusters", draws, len(found)))
    return rows


def slices(quick: bool) -> list[Row]:
    """Any slice with an adjusted p below 0.05 where none differs."""
    draws = 100 if quick else 400
    rng = np.random.default_rng(4)
    found = {
        "single instances": parts.slice_discoveries(None, draws, rng),
        "20 clusters, slices within": parts.slice_discoveries("within", draws, rng),
        "20 clusters, slices across": parts.slice_discoveries("across", draws, rng),
        "20 clusters, slices of one each": parts.slice_discoveries("own", draws, rng),
    }
    return [Row("slices", "false discovery", share, where, draws, len(found)) for where, share in found.items()]


def families(quick: bool) -> list[Row]:
    """Twenty tasks with net:0% and nfr:2% at the budget each: any failure."""
    draws = 100 if quick else 400
    rng = np.random.default_rng(5)
    return [
        Row(f"20 tasks, {rule}", "false FAIL", parts.family_errors(rule, draws, rng), "n = 200 each", draws)
        for rule in ("net:0%", "nfr:2%")
    ]


def advice(quick: bool) -> list[Row]:
    """The same model again, with 5 % of noise each way, and a model that differs by the margin."""
    draws = 200 if quick else 600
    rng = np.random.default_rng(6)
    rows = []
    for tasks in (1, 20):
        count = draws if tasks == 1 else draws // 3
        for bump, share in parts.advice_of_the_same(tasks, count, rng).items():
            rows.append(Row("advice, the same model", bump, share, f"{tasks} tasks of 300", count, 4))
    share = parts.advice_patch_at_the_margin(draws, rng)
    rows.append(Row("advice, NFR at the margin", "patch", share, "n = 2,000", draws))
    return rows


def noise(quick: bool) -> list[Row]:
    """A budget at twice the noise is no error; NFR of the same model is not above the noise. Exact."""
    return [
        Row("noise floor", "budget at twice the noise refused", max(map(parts.noise_refusals, RATES)), "n = 100"),
        Row("noise floor", "NFR found above it", max(parts.noise_tests(100, rate) for rate in RATES), "n = 100"),
    ]


def sequential(quick: bool) -> list[Row]:
    """Budgets of `--until-decided` exactly at their value, a look every 25 up to 4,000."""
    found = bench_sequential.sequential(quick)
    return [
        Row(f"until decided, {one.budget}", error, share, "a look every 25 to 4,000", one.runs, 2 * len(found))
        for one in found
        for error, share in (("false PASS", one.false_pass), ("false FAIL", one.false_fail))
    ]


def proof(quick: bool) -> list[Row]:
    """`compatcheck fix` says "proven better" of adapters that are not: the worst number of documents for each case."""
    draws = 300 if quick else 2000
    figures = proof_verdicts.simulate(draws, sizes=(*SIZES, 3000), wrong_only=True)
    rows = []
    for case, by_size in figures.items():
        n, worst = max(((n, each["better"]) for n, each in by_size.items()), key=lambda one: one[1])
        rows.append(Row(f"fix: {case}", "false proven better", worst, f"n = {n:,}", draws, len(by_size)))
    return rows


def power(quick: bool) -> list[str]:
    """How often "about N instances would settle it" settles it; no error rate, so lines of their own."""
    draws = 200 if quick else 1000
    return parts.settled_shares(draws, np.random.default_rng(7))


SECTIONS = (proof, sequential, means, families, advice, slices, clusters, relative, net, rates, noise)


def _run(name: str, quick: bool) -> list[Row]:
    found: list[Row] = globals()[name](quick)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few draws")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    started = time.monotonic()
    rows: list[Row] = []
    print(f"| {'budget or claim':<44} | {'error':<34} | worst | limit | where |\n|---|---|---|---|---|", flush=True)
    with ProcessPoolExecutor(2) as pool:
        for found in pool.map(_run, [each.__name__ for each in SECTIONS], [arguments.quick] * len(SECTIONS)):
            rows += found
            for row in found:
                mark = "" if row.holds else " **above**"
                print(
                    f"| {row.what:<44} | {row.error:<34} | {100 * row.share:.1f} % | {100 * row.limit:.1f} % | "
                    f"{row.where}{f'; {row.draws:,} draws' if row.draws else '; exact'}{mark} |",
                    flush=True,
                )
    for line in power(arguments.quick):
        print(line, flush=True)
    above = [row for row in rows if not row.holds]
    print(f"{len(rows)} figures, {len(above)} above their limit; {math.ceil(time.monotonic() - started)} s")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([vars(row) | {"limit": row.limit} for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
