"""How far figures can be trusted, in words that all renderers share: noise floor."""

from __future__ import annotations

from compatcheck.compare.result import Comparison, Estimate, NearTies, NoiseFloor, TieCount
from compatcheck.report import figures
from compatcheck.report.rows import LEAST, small_slices


def beside(comparison: Comparison, name: str, figure: Estimate) -> str:
    """What stands beside a figure: its denominator, and the noise floor of the same figure where it was measured."""
    of = figures.denominator(figure)
    noise = comparison.noise.metrics.get(name) if comparison.noise is not None else None
    if noise is None or noise.value is None or name not in ("nfr", "pfr", "nfr_mc", "inconsistency", "agreement"):
        return of
    return f"{of}{'; ' if of else ''}noise {figures.estimate(name, noise)}"


def remarks(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Headings with a sentence each. The sentences may hold text of the user's; pass them through ``safe_text``."""
    found = []
    if comparison.noise is not None:
        found.append(("Noise floor", noise_sentence(comparison.noise)))
    if comparison.near_ties is not None:
        found.append(("Near ties", near_tie_sentence(comparison.near_ties)))
    if comparison.clusters is not None:
        groups = comparison.clusters
        found.append(
            (
                "Clusters",
                f"intervals and tests count {groups.count:,} clusters by '{groups.field}' (the largest has "
                f"{groups.largest:,} instances), not {comparison.n:,} single instances",
            )
        )
    return tuple(found)


def near_tie_sentence(ties: NearTies) -> str:
    """How many flips hang on a hair, and how many are confident."""

    def shown(word: str, count: TieCount) -> str:
        total = count.near + count.confident + count.unknown
        unknown = f", {count.unknown:,} unknown" if count.unknown else ""
        return f"{count.near:,} of {total:,} {word} flips, {count.confident:,} confident{unknown}"

    return (
        f"{shown('negative', ties.negative)}; {shown('positive', ties.positive)} "
        f"(near: old or new prefers its choice by less than {ties.threshold:g} nats)"
    )


def slice_tests(comparison: Comparison) -> str:
    """What the figures of the slices stand for: how many tests, chosen how, and what is left out."""
    if not comparison.slices:
        return ""
    parts = []
    if tests := sum(part.p is not None for part in comparison.slices):
        parts.append(
            f"{tests:,} tests, one a slice: does it flip negatively more often than the rest? p adjusted over all of "
            "them (Benjamini–Hochberg); rates and intervals are not adjusted for selection: the worst of many look "
            "worse than they are"
        )
    if small := small_slices(comparison):
        which = "slice has" if small == 1 else "slices have"
        parts.append(f"{small:,} {which} fewer than {LEAST} instances: in report.json")
    return ". ".join(parts)


def noise_sentence(noise: NoiseFloor) -> str:
    """The flips that are there without any change, with their interval and denominator, and how they were measured."""

    def shown(name: str) -> str:
        figure = noise.metrics[name]
        if figure.value is None:
            return "undefined"
        return f"{figures.estimate(name, figure)} ({figures.interval(name, figure)}, {figures.denominator(figure)})"

    return f"without any change NFR {shown('nfr')}, PFR {shown('pfr')}: {noise.source}"
