"""The result of a comparison: immutable data that every report renders and nothing computes on.

Its JSON form is the ``compatcheck.report/1`` contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from compatcheck.compare.differences import Differences
from compatcheck.compare.overview import Overview

SCHEMA = "compatcheck.report/1"

QUADRANTS = ("both_correct", "positive_flip", "negative_flip", "both_wrong")
"""Quadrants of a discrete metric, in the order they are shown."""
SMOOTH_GROUPS = ("positive_flip", "negative_flip", "unchanged")
"""Groups of a smooth metric: the gain is above, below or within the dead-band."""

INSTANCE_COLUMNS = (
    "task", "doc_id", "filter", "metric", "input", "target", "prediction_old", "prediction_new", "response_old",
    "response_new", "score_old", "score_new", "gain", "quadrant", "changed", "error_old", "error_new", "doc_hash",
)  # fmt: skip
"""Columns of ``Comparison.instances`` in their order; any further column is a slice field."""
PROMPT_COLUMNS = ("prompt_old", "prompt_new")
"""Further columns where the models were given different texts: the whole of them, null where they are equal."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and its denominator. Proportions and means, never percent.

    ``value`` is None where the figure is undefined, and ``why`` then says the reason.
    ``low`` and ``high`` bound the two-sided 95 % interval; ``lower`` and ``upper`` are the one-sided 95 % bounds
    that gates judge by. ``count`` / ``of`` are numerator and denominator (for means ``count`` is None or the
    number of instances averaged).
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int | None = None
    of: int | None = None
    why: str | None = None
    lower: float | None = None
    upper: float | None = None
    effective: float | None = None
    """How many independent instances the interval counts with, where instances are grouped in clusters."""
    one_sided: Callable[[float], tuple[float, float]] | None = field(default=None, repr=False, compare=False)
    """``lower`` and ``upper`` at another confidence, for several budgets judged together; not kept in files."""


@dataclass(frozen=True)
class Pairing:
    """How many rows found their partner, and what happened to the rest. Nothing is skipped silently."""

    paired: int
    """Pairs that were scored."""
    only_old: int = 0
    only_new: int = 0
    duplicates: int = 0
    target_changed: int = 0
    """Same id, other content: not scored."""
    errors_old: int = 0
    errors_new: int = 0
    """Pairs not scored because that side has an error (a pair with both counts in both)."""
    no_answer_old: int = 0
    no_answer_new: int = 0
    """Scored pairs in which that side gave no answer."""
    key: str = "id"
    """What rows were paired by: ``id`` or ``content hash``."""
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The first few ids behind ``only_old``, ``only_new`` and ``target_changed``, where there are any."""
    rows_old: int | None = None
    rows_new: int | None = None
    """Rows of each side; None in a report that was kept before they were counted."""
    no_answer_both: int = 0
    """Scored pairs in which neither side gave an answer: they show nothing."""
    cut_off_old: int | None = None
    cut_off_new: int | None = None
    """Scored pairs in which that side's answer ended at the greatest number of tokens; None where it is not known."""

    @property
    def larger(self) -> int:
        """Rows of the larger side."""
        seen = self.paired + self.target_changed + max(self.errors_old, self.errors_new)
        return max(self.rows_old or 0, self.rows_new or 0) or seen + max(self.only_old, self.only_new)

    @property
    def missing(self) -> int:
        """Rows of the larger side that show nothing: not scored, or without an answer on both sides."""
        return self.larger - self.paired + self.no_answer_both


@dataclass(frozen=True)
class Reading:
    """What a comparison would be if its scores were read otherwise: ``way`` names the options of that."""

    way: tuple[str, ...]
    changed_old: int
    changed_new: int
    """Scores of each side that would be others, of ``of`` scored pairs."""
    of: int
    quadrants: Mapping[str, int]
    metrics: Mapping[str, Estimate] = field(repr=False, default_factory=dict)
    """Empty where the reading is only a hint."""


@dataclass(frozen=True)
class Absent:
    """A task and filter that one side lacks."""

    side: str
    """The side that has it, ``old`` or ``new``."""
    task: str
    filter: str
    rows: int


@dataclass(frozen=True)
class Slice:
    """One value of a slice field: its size, its flips, and whether it differs from the rest."""

    field: str
    value: str
    n: int
    positive_flips: int
    negative_flips: int
    nfr: Estimate
    p: float | None = None
    """p-value of "this slice flips negatively more often than the rest" (Fisher's exact test, one-sided)."""
    p_adjusted: float | None = None
    """The same after Benjamini–Hochberg over all slices of the comparison."""
    lost: Estimate | None = None
    """1 − BTC: of what OLD had right, the share that NEW has wrong. NFR grows with OLD's accuracy, this does not. None
    for a smooth metric."""


@dataclass(frozen=True)
class ClusterCount:
    """By which field instances are grouped, in how many clusters, and how many instances the largest holds."""

    field: str
    count: int
    largest: int


@dataclass(frozen=True)
class TieCount:
    """Flips of one direction by how sure the models were of their choices."""

    near: int
    """The margin of OLD or of NEW is below the threshold."""
    confident: int
    """Neither is."""
    unknown: int = 0
    """A margin is not known, and the other one is not below the threshold."""


@dataclass(frozen=True)
class NearTies:
    """Which flips hang on a hair, by the margin between the log-likelihoods of the two likeliest choices, in nats."""

    threshold: float
    negative: TieCount
    positive: TieCount


@dataclass(frozen=True)
class NoiseFloor:
    """What flips between runs of the same model, without any change of it.

    ``metrics`` holds rates by their names in ``Comparison.metrics``, and ``flips``, which is NFR + PFR: pooled over
    ``reruns`` pairs of runs with ``n`` instances each (rounded mean).
    """

    source: str
    """How it was measured, in words."""
    reruns: int
    n: int
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Gate:
    """The judgement of one budget. ``verdict`` is ``pass``, ``fail`` or ``inconclusive``."""

    rule: str
    verdict: str
    reason: str
    needed_n: int | None = None
    """How many instances would settle an inconclusive rule with 80 % power; None where it is settled or unknowable."""
    tier: str = "critical"
    """``critical``: it bears on the verdict; ``advisory``: it is shown."""


@dataclass(frozen=True)
class Look:
    """A budget's figure after ``n`` instances, with one-sided bounds that hold at all looks together."""

    n: int
    value: float | None
    lower: float
    upper: float


@dataclass(frozen=True)
class BoundPath:
    """How the bounds of a budget's figure went while instances came in."""

    rule: str
    threshold: float
    verdict: str
    decided_at: int | None
    """After how many instances; None where it was not decided."""
    looks: tuple[Look, ...]
    """Not every look: each has about a tenth more instances than the one before it, and the last is the last."""
    unit: str = "share"
    """``share``, ``points`` (a difference of shares) or ``score``."""


@dataclass(frozen=True)
class Sequential:
    """How an evaluation went that was judged after every ``step`` documents, and stopped when it was decided."""

    step: int
    used: int
    """Documents that were evaluated, or rows that were drawn."""
    available: int
    """Documents that there are."""
    seed: int
    """Of the order in which they were drawn."""
    paths: tuple[BoundPath, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two runs paired on one (task, filter, metric).

    ``instances`` has one row per pair (errors included, with null quadrant; rows whose target changed left out) and
    the columns of ``instances.parquet``: :data:`INSTANCE_COLUMNS`, then slice fields. ``gain`` is how much better NEW
    scored, so it is positive for an improvement whichever way the metric points; ``changed`` says whether the
    predictions differ, and is null where it cannot be known.
    """

    task: str
    filter: str
    metric: str
    kind: str
    signature: str
    n: int
    pairing: Pairing
    quadrants: Mapping[str, int]
    metrics: Mapping[str, Estimate]
    tests: Mapping[str, float | None]
    instances: pd.DataFrame = field(repr=False, compare=False)
    slices: tuple[Slice, ...] = ()
    gates: tuple[Gate, ...] = ()
    confidence: float = 0.95
    """Level of all intervals and one-sided bounds."""
    overview: Overview | None = None
    """Where the comparison was too large to hold all of its instances: what a report shows of them all.

    ``instances`` then are the most telling ones alone: see :mod:`compatcheck.compare.telling`.
    """
    noise: NoiseFloor | None = None
    """What flips between reruns of OLD; None where it was not measured."""
    clusters: ClusterCount | None = None
    """The clusters that intervals and tests count by; None where every instance counts by itself."""
    score_range: tuple[float, float] | None = None
    """Of a smooth metric: the range its scores are taken to have; a bound on a mean allows for losses of that size."""
    near_ties: NearTies | None = None
    """Of a choice by log-likelihoods how many flips are near ties; None where they are not known."""
    readings: tuple[Reading, ...] = ()
    """Other readings of the scores that would change many of them, and that nobody has decided about."""
    sequential: Sequential | None = None
    """Where the gate was judged after every step: how it went; None where the number of instances was fixed."""

    @property
    def name(self) -> str:
        """``task/filter/metric``, leaving out a filter that is none."""
        middle = "" if self.filter in ("none", "") else f"{self.filter}/"
        return f"{self.task}/{middle}{self.metric}"

    @property
    def rows(self) -> int:
        """How many instances there are, at hand or not."""
        return len(self.instances) if self.overview is None else self.overview.rows

    @property
    def negative_flips(self) -> pd.DataFrame:
        """The instances that got worse, worst first."""
        worse = self.instances[self.instances["quadrant"] == "negative_flip"]
        return worse.sort_values("gain", kind="stable")

    def with_gates(self, gates: tuple[Gate, ...]) -> Comparison:
        return replace(self, gates=gates)


@dataclass(frozen=True)
class Side:
    """OLD or NEW as the report names it."""

    reference: str
    fingerprint: str
    kind: str = ""
    engine: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Advice:
    """Which part of the model's version number to raise, from the same figures as the verdict.

    ``bump`` is ``patch``, ``minor``, ``major`` or ``undecided``.
    """

    bump: str
    reason: str


@dataclass(frozen=True)
class BlessedScore:
    """The mean score of a blessed run on one (task, filter, metric), with its interval and the number of instances."""

    task: str
    filter: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    kind: str = ""
    """``discrete`` or ``smooth``; empty where the history does not say."""


@dataclass(frozen=True)
class BlessedRun:
    """A run that was blessed under the name that OLD has: ``name`` is ``@main~1``, ``time`` UTC as ISO 8601."""

    name: str
    time: str
    reference: str
    verdict: str = "none"
    forced: bool = False
    """Blessed although its gate failed."""
    scores: tuple[BlessedScore, ...] = ()


@dataclass(frozen=True)
class Stored:
    """All instances of a result as a Parquet file, with the columns of ``instances.parquet``."""

    path: Path
    owner: object = None
    """Keeps the file for as long as somebody holds this, where it is a temporary one."""


@dataclass(frozen=True)
class Result:
    """Everything a report shows.

    ``verdict`` is ``pass``, ``fail``, ``inconclusive``, or ``none`` where no budget was set.
    """

    old: Side
    new: Side
    comparisons: tuple[Comparison, ...]
    verdict: str = "none"
    version: str = ""
    notes: tuple[str, ...] = ()
    """Sentences the user should read: fallbacks taken, rows set aside, an outdated setting."""
    command: str = ""
    """The command line that made it, for repeating it; may be empty."""
    advice: Advice | None = None
    """Release advice; None in a report that was kept before there was any."""
    differences: Differences | None = None
    """What OLD and NEW differ in besides the model; None in a report that was kept before it was looked at."""
    absent: tuple[Absent, ...] = ()
    """Tasks and filters that one side lacks."""
    history: tuple[BlessedRun, ...] = ()
    """Where OLD is a blessed baseline: what was blessed under its name up to it, oldest first."""
    earlier_looks: tuple[int, ...] = ()
    """After how many instances the same budgets were found open before, where their number was fixed each time."""
    stored: Stored | None = field(default=None, repr=False, compare=False)
    """Where all instances lie on disk; None where they are all at hand."""
