"""The samples that bench_statistics judges: each function gives shares of wrong verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from compatcheck.advice import advise
from compatcheck.compare import Comparison, Estimate, NoiseFloor, Pairing, compare
from compatcheck.compare.clusters import Clusters, clustered_rate
from compatcheck.compare.intervals import exact, net_below, newcombe, rate, relative, z_values
from compatcheck.compare.means import MeanOf, mean_below, mean_gain
from compatcheck.compare.noise import above_noise
from compatcheck.compare.result import QUADRANTS
from compatcheck.compare.tally import figures
from compatcheck.gate import judge, parse_rules, settle
from compatcheck.records import Metric, TaskRun

LEVEL = 0.95
Errors = tuple[float, float]
"""False PASS, false FAIL."""


def counted(verdicts: list[str]) -> Errors:
    return verdicts.count("pass") / len(verdicts), verdicts.count("fail") / len(verdicts)


def likely(n: int, chance: float, tail: float = 1e-8) -> range:
    """All counts but the hopelessly unlikely."""
    return range(int(binom.ppf(tail, n, chance)), int(binom.ppf(1 - tail, n, chance)) + 1)


def share_errors(n: int, budget: float, upper: bool) -> Errors:
    """A share whose true value is the budget, summed over all counts."""
    found = dict.fromkeys(("pass", "fail", "inconclusive"), 0.0)
    for count in likely(n, budget):
        found[settle(upper, budget, *exact(count, n, LEVEL))] += float(binom.pmf(count, n, budget))
    return found["pass"], found["fail"]


def net_errors(n: int, fall: float, better: float) -> Errors:
    """PFR − NFR = −fall with PFR = ``better``, summed over the counts of both flips; 70 % of the rest are right."""
    passed = failed = 0.0
    for negative in likely(n, better + fall, 1e-6):
        first = float(binom.pmf(negative, n, better + fall))
        for positive in likely(n - negative, better / (1 - better - fall), 1e-6) if better else [0]:
            chance = first * float(binom.pmf(positive, n - negative, better / (1 - better - fall)))
            if chance < 1e-9:
                continue
            rest = n - positive - negative
            passed += chance * (net_below(positive, negative, n, -fall) <= 1 - LEVEL)
            upper = newcombe(0.7 * rest, positive, negative, 0.3 * rest, z_values(LEVEL)[1])[1]
            failed += chance * (upper < -fall)
    return passed, failed


def relative_errors(n: int, flips: float, draws: int, rng: np.random.Generator) -> Errors:
    """OLD is right in 70 %, and as many flip either way."""
    shares = np.array([0.7 - flips, flips, flips, 0.3 - flips])
    budget = flips / (0.7 * 0.3)
    verdicts = []
    for both, better, worse, wrong in rng.multinomial(n, shares, draws):
        bounds = relative((int(both), int(better), int(worse), int(wrong)), LEVEL, 500, 0)
        verdicts.append(settle(True, budget, bounds.lower, bounds.upper))
    return counted(verdicts)


def two_point_errors(name: str, n: int, share: float) -> Errors:
    """Means of scores of which ``share`` are at one end of the range, and all others at the other; n is at least 30."""
    passed = failed = 0.0
    for count in likely(n, share):
        values = np.repeat([1.0, 0.0], [count, n - count])
        at: MeanOf
        if name == "mean_difference":
            upper, budget, bounds = False, -share, mean_gain(-values, 1.0)(LEVEL)
        elif name == "mean_regression":
            at = MeanOf.of(values, (0.0, 1.0))
            upper, budget, bounds = True, share, at(LEVEL)
        else:  # a mean that must be at least so much
            at = MeanOf.of(1 - values, (0.0, 1.0))
            upper, budget, bounds = False, 1 - share, at(LEVEL)
        verdict = settle(upper, budget, *bounds)
        passed += float(binom.pmf(count, n, share)) * (verdict == "pass")
        failed += float(binom.pmf(count, n, share)) * (verdict == "fail")
    return passed, failed


def mixed_errors(n: int, share: float, draws: int, rng: np.random.Generator) -> Errors:
    """Losses of 1 in ``share`` of the instances, and changes of standard deviation 0.02 in all others.

    A bound clears the budget where its p-value there is at most 5 %, which is quicker than to find the bound.
    """
    once, passed, failed = np.ones(n + 1), 0, 0
    for _ in range(draws):
        gain = np.where(rng.random(n) < share, -1.0, rng.normal(0, 0.02, n))
        passed += mean_below(np.append(gain, -1.0), once, -share) <= 1 - LEVEL
        failed += mean_below(np.append(-gain, -1.0), once, share) <= 1 - LEVEL
    return passed / draws, failed / draws


def clustered_rate_errors(count: int, draws: int, rng: np.random.Generator) -> Errors:
    """NFR of 5 % in clusters of 10 with a correlation of 0.2 within; at the budget."""
    codes = np.repeat(np.arange(count), 10)
    every = np.ones(len(codes), dtype=bool)
    verdicts = []
    for _ in range(draws):
        down = rng.random(len(codes)) < np.repeat(rng.beta(0.2, 3.8, count), 10)
        figure = rate(int(down.sum()), len(codes), LEVEL)
        figure = clustered_rate(figure, down, every, Clusters("g", codes, count), LEVEL)
        assert figure.lower is not None and figure.upper is not None
        verdicts.append("inconclusive" if count < 5 else settle(True, 0.05, figure.lower, figure.upper))
    return counted(verdicts)


def clustered_mean_errors(count: int, draws: int, rng: np.random.Generator) -> Errors:
    """A mean gain of −0.02 in clusters of 10 that move together; through the comparison and the gate."""
    rules, passage = parse_rules(["regression:0.02"]), [f"p{n // 10}" for n in range(10 * count)]
    verdicts = []
    for _ in range(draws if count < 100 else draws // 4):
        gain = np.repeat(rng.normal(-0.02, 0.1, count), 10) + rng.normal(0, 0.02, 10 * count)
        before = np.full(len(gain), 0.5)
        old, new = run(before, "smooth", passage=passage), run(before + gain, "smooth")
        verdicts.append(judge([compare(old, new, metric="m", cluster_by="passage", resamples=100)], rules)[1])
    return counted(verdicts)


def run(scores: NDArray[Any], kind: str, **columns: object) -> TaskRun:
    records = pd.DataFrame({"doc_id": [f"d{n:05d}" for n in range(len(scores))], "score:m": scores, **columns})
    return TaskRun("t", "none", (Metric("m", kind),), records)


def slice_discoveries(where: str | None, draws: int, rng: np.random.Generator) -> float:
    """400 instances of which 8 % flip, in 5 slices that have nothing to do with it."""
    n, found = 400, 0
    for _ in range(draws):
        chance = np.full(n, 0.08) if where is None else np.repeat(rng.beta(0.4, 4.6, 20), 20)
        topic = rng.integers(0, 5, n)
        if where == "within":
            topic = np.repeat(rng.permutation(20) % 4, 20)
        if where == "own":
            topic = np.repeat(np.arange(20), 20)
        down = rng.random(n) < chance
        columns = {"passage": [f"p{k // 20}" for k in range(n)], "topic": [f"t{k}" for k in topic]}
        old, new = run(np.ones(n), "discrete", **columns), run(1.0 - down, "discrete")
        cluster_by = None if where is None else "passage"
        made = compare(old, new, metric="m", slice_by=["topic"], cluster_by=cluster_by, resamples=100)
        found += any(each.p_adjusted is not None and each.p_adjusted < 0.05 for each in made.slices)
    return found / draws


def discrete(both: int, better: int, worse: int, wrong: int, task: str = "t") -> Comparison:
    """A comparison with these counts, without its instances."""
    counts = dict(zip(QUADRANTS, map(int, (both, better, worse, wrong)), strict=True))
    metrics, tests = figures(counts, None, None, confidence=LEVEL, resamples=100, seed=0)
    n = sum(counts.values())
    return Comparison(task, "none", "m", "discrete", "", n, Pairing(n), counts, metrics, tests, pd.DataFrame())


def several(n: int, shares: tuple[float, float], tasks: int, rng: np.random.Generator) -> Iterator[Comparison]:
    """Comparisons of ``tasks`` tasks with these shares of positive and negative flips."""
    better, worse = shares
    for place in range(tasks):
        both, up, down, wrong = rng.multinomial(n, [0.7 - worse, better, worse, 0.3 - better])
        yield discrete(both, up, down, wrong, f"t{place}")


def family_errors(rule: str, draws: int, rng: np.random.Generator) -> float:
    """20 tasks of 200 at the budget; a failure depends on the failing bound alone, so no other is computed."""
    worse, n, rules, failed = (0.05 if rule.startswith("net") else 0.02), 200, parse_rules([rule]), 0
    for _ in range(draws):
        tasks = []
        for place, (both, up, down, wrong) in enumerate(
            rng.multinomial(n, [0.7 - worse, worse, worse, 0.3 - worse], 20)
        ):
            at = partial(_upper, (int(both), int(up), int(down), int(wrong)))
            net = Estimate((up - down) / n, -1.0, 1.0, int(up - down), n, lower=-1.0, upper=at(LEVEL)[1], one_sided=at)
            counts = {"nfr": down, "pfr": up, "accuracy_old": both + down, "accuracy_new": both + up}
            metrics = {"net": net, **{name: rate(int(count), n, LEVEL) for name, count in counts.items()}}
            tasks.append(
                Comparison(f"t{place}", "none", "m", "discrete", "", n, Pairing(n), {}, metrics, {}, pd.DataFrame())
            )
        failed += judge(tasks, rules)[1] == "fail"
    return failed / draws


def _upper(counts: tuple[int, int, int, int], confidence: float) -> tuple[float, float]:
    return -1.0, newcombe(*counts, z_values(confidence)[1])[1]


def with_noise(comparison: Comparison, chance: float, rng: np.random.Generator) -> Comparison:
    """The comparison with a noise floor measured by one rerun on as many instances."""
    n = comparison.n
    counts = rng.binomial(n, chance, 2)
    rates = {name: rate(int(count), n, LEVEL) for name, count in zip(("nfr", "pfr"), counts, strict=True)}
    p = above_noise(comparison.metrics["nfr"], rates["nfr"], 1)
    tests = {**comparison.tests, "noise_p": p}
    return replace(comparison, noise=NoiseFloor("1 rerun", 1, n, rates), tests=tests)


def advice_of_the_same(tasks: int, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Reruns with 5 % of noise each way: "minor" and "major" are wrong."""
    bumps: Counter[str] = Counter()
    for _ in range(draws):
        bumps[
            advise([with_noise(each, 0.05, rng) for each in several(300, (0.05, 0.05), tasks, rng)], "none").bump
        ] += 1
    return {bump: bumps[bump] / draws for bump in ("minor", "major")}


def advice_patch_at_the_margin(draws: int, rng: np.random.Generator) -> float:
    """NFR at the margin of 1 % above no noise: "patch" is wrong."""
    made = (next(iter(several(2000, (0.005, 0.01), 1, rng))) for _ in range(draws))
    return sum(advise([each], "none").bump == "patch" for each in made) / draws


def noise_refusals(chance: float, n: int = 100) -> float:
    """Of measurements of the noise, those that show it to be beyond twice its true value."""
    return float(sum(binom.pmf(k, n, chance) for k in likely(n, chance) if exact(k, n, LEVEL)[0] > 2 * chance))


def noise_tests(n: int, chance: float) -> float:
    """NFR of the same model found above the noise floor of one rerun, at 5 %."""
    found = 0.0
    for again in likely(n, chance, 1e-6):
        for new in likely(n, chance, 1e-6):
            p = above_noise(Estimate(None, count=new, of=n), Estimate(None, count=again, of=n), 1)
            found += float(binom.pmf(again, n, chance) * binom.pmf(new, n, chance)) * (p is not None and p <= 0.05)
    return found


def settled_shares(draws: int, rng: np.random.Generator) -> list[str]:
    """The share of samples of the named size that settle the budget rightly, the observed rate being the true one."""
    lines = []
    for rule, shares, n, right in (
        ("nfr:2%", (0.01, 0.01), 100, "pass"),
        ("nfr:2%", (0.03, 0.03), 100, "fail"),
        ("net:-2%", (0.05, 0.05), 100, "pass"),
        ("net:-1%", (0.02, 0.05), 100, "fail"),
    ):
        better, worse = (round(n * share) for share in shares)
        rules = parse_rules([rule])
        (judged,), _ = judge([discrete(70 - worse, better, worse, 30 - better)], rules)
        needed = judged.gates[0].needed_n
        assert needed is not None
        found = sum(judge([next(iter(several(needed, shares, 1, rng)))], rules)[1] == right for _ in range(draws))
        lines.append(f"power: {rule} at NFR {shares[1]:.0%}: {needed:,} named by n = {n}, {found / draws:.0%} {right}")
    return lines
