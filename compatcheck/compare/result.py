"""The result of a comparison: immutable data that every report renders and nothing computes on.
Its JSON form (:mod:`compatcheck.schema`) is the ``compatcheck.report/1`` contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from compatcheck.compare.differences import Differences
from compatcheck.compare.kinds import KindCount
from compatcheck.compare.looks import BoundPath, Settled
from compatcheck.compare.margins import Margins, NearTies
from compatcheck.compare.overview import Overview
from compatcheck.compare.themes import THEME_COLUMN, Themes
from compatcheck.records import ANSWER_COLUMNS, CONFIDENCE, BlessedScore, DivergentToken
from compatcheck.schema import NEEDED, NOT_KEPT, WHERE_KNOWN

SCHEMA = "compatcheck.report/1"
QUADRANTS = ("both_correct", "positive_flip", "negative_flip", "both_wrong")
"""Quadrants of a discrete metric, in the order they are shown."""
SMOOTH_GROUPS = ("positive_flip", "negative_flip", "unchanged")
"""Groups of a smooth metric: the gain is above, below or within the dead-band."""
CHANGES = ("unchanged", "changed")
"""Groups where OLD's answers are the reference: nothing says what is right."""
PREFERENCES = ("unchanged", "new_preferred", "old_preferred", "tied")
"""The same where a judge says which of two different answers is better; ``tied`` is changed and as good."""
NO_TARGETS = "OLD's answers are the reference: an answer is changed or not, nothing says which is right"
INSTANCE_COLUMNS = (
    "task", "doc_id", "filter", "metric", "input", "target", "prediction_old", "prediction_new", "response_old",
    "response_new", "score_old", "score_new", "gain", "quadrant", "changed", "error_old", "error_new", "doc_hash",
)  # fmt: skip
"""Columns of ``Comparison.instances`` in their order; any further column is a slice field."""
PROMPT_COLUMNS = ("prompt_old", "prompt_new")
"""Further columns where the models were given different texts: the whole of them, null where they are equal."""
SIDE_COLUMNS = tuple(f"{name}_{side}" for name in ANSWER_COLUMNS for side in ("old", "new"))
"""Further columns where it is known what came with the answers: reasoning, tool calls, tokens, seconds."""
KIND_COLUMN = "failure_kind"  # a further column where there are negative flips whose texts are known
FURTHER_COLUMNS = (*PROMPT_COLUMNS, *SIDE_COLUMNS, KIND_COLUMN, THEME_COLUMN)

Kind = Annotated[str, ("discrete", "smooth")]
Verdict = Annotated[str, ("pass", "fail", "inconclusive", "none")]


def name_of(task: str, filter: str, metric: str) -> str:
    """``task/filter/metric``, leaving out a filter that is none."""
    return "/".join([task, *([] if filter in ("none", "") else [filter]), metric])


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and its denominator. Proportions and means, never percent.

    ``low`` and ``high`` bound the two-sided 95 % interval; ``lower`` and ``upper`` are the one-sided 95 % bounds that
    gates judge by. ``count`` / ``of`` are numerator and denominator; of a mean, ``count`` is None or what is averaged.
    """

    value: float | None  # None where the figure is undefined; ``why`` then says the reason
    low: float | None = None
    high: float | None = None
    count: int | None = None
    of: int | None = None
    lower: float | None = None
    upper: float | None = None
    # How many independent instances the interval counts with, where instances are grouped in clusters.
    effective: float | None = field(default=None, metadata=WHERE_KNOWN)
    why: str | None = field(default=None, metadata=WHERE_KNOWN)
    # ``lower`` and ``upper`` at another confidence, for several budgets judged together.
    one_sided: Callable[[float], tuple[float, float]] | None = field(
        default=None, repr=False, compare=False, metadata=NOT_KEPT
    )


@dataclass(frozen=True)
class Pairing:
    """How many rows found their partner, and what happened to the rest. Nothing is skipped silently."""

    paired: int  # pairs that were scored
    only_old: int = 0
    only_new: int = 0
    duplicates: int = 0
    target_changed: int = 0  # same id, other content: not scored
    errors_old: int = 0  # pairs not scored because that side has an error; with both, counted in both
    errors_new: int = 0
    no_answer_old: int = 0  # scored pairs in which that side gave no answer
    no_answer_new: int = 0
    key: str = "id"  # what rows were paired by: ``id`` or ``content hash``
    # The first few ids behind ``only_old``, ``only_new`` and ``target_changed``, where there are any.
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rows_old: int | None = None  # rows of each side; None in a report that was kept before they were counted
    rows_new: int | None = None
    no_answer_both: int = 0  # scored pairs without any answer: they show nothing
    # Scored pairs in which the answer ended at the greatest number of tokens; None where it is not known.
    cut_off_old: int | None = None
    cut_off_new: int | None = None
    thinking_old: int | None = field(default=None, metadata=WHERE_KNOWN)  # of these, those within their reasoning
    thinking_new: int | None = field(default=None, metadata=WHERE_KNOWN)
    # Scored pairs in which NEW does not say how its answer ended, where others do; None where there are none.
    ends_unknown_new: int | None = field(default=None, metadata=WHERE_KNOWN)
    answers_unknown_new: int | None = field(default=None, metadata=WHERE_KNOWN)  # scored, and no answer was recorded
    targets_empty: int | None = field(default=None, metadata=WHERE_KNOWN)  # scored, answered, and no answer matches it
    targets_unread: int | None = field(default=None, metadata=WHERE_KNOWN)  # scored, of letters that are not read

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
    changed_old: int  # scores of each side that would be others, of ``of`` scored pairs
    changed_new: int
    of: int
    quadrants: Mapping[str, int]
    metrics: Mapping[str, Estimate] = field(repr=False, default_factory=dict)  # empty where it is only a hint


@dataclass(frozen=True)
class Absent:
    """A task and filter that one side lacks, or a ``metric`` of one that both have; ``side`` is the one that has it."""

    side: Annotated[str, ("old", "new")]
    task: str
    filter: str
    rows: int
    metric: str | None = field(default=None, metadata=WHERE_KNOWN)
    kind: str | None = field(default=None, metadata=WHERE_KNOWN)  # of the metric: discrete or smooth


@dataclass(frozen=True)
class Slice:
    """One value of a slice field: its size, its flips, and whether it differs from the rest.

    ``p`` is of "this slice flips negatively more often than the rest" (Fisher's exact test, one-sided), ``p_adjusted``
    the same after Benjamini–Hochberg over all slices of the comparison. ``lost`` is 1 − BTC: of what OLD had right, the
    share that NEW has wrong, which does not grow with OLD's accuracy as NFR does; None for a smooth metric.
    """

    field: str
    value: str
    n: int
    positive_flips: int
    negative_flips: int
    nfr: Estimate
    p: float | None = None
    p_adjusted: float | None = None
    lost: Estimate | None = None
    changed: Estimate | None = dataclasses.field(default=None, metadata=WHERE_KNOWN)  # with OLD as the reference
    unscored: int | None = dataclasses.field(default=None, metadata=WHERE_KNOWN)  # pairs in error, beside the ``n``
    unanswered: int | None = dataclasses.field(default=None, metadata=WHERE_KNOWN)  # of ``n`` without any answer


@dataclass(frozen=True)
class ClusterCount:
    """By which field instances are grouped, in how many clusters, and how many instances the largest holds."""

    field: str
    count: int
    largest: int


@dataclass(frozen=True)
class Divergence:
    """KL(OLD ‖ NEW) at every token of a task's texts, in nats. Its mean is the figure ``kl``, judged by documents."""

    texts: str  # what they are made of, in words
    documents: int
    tokens: int
    percentiles: Mapping[str, float]  # of the divergence over tokens: 50, 90, 99, 99.9 and max
    same_top: Estimate  # share of tokens at which both rank the same token first
    perplexity_old: float
    perplexity_new: float
    perplexity_ratio: Estimate  # NEW's over OLD's
    worst: tuple[DivergentToken, ...] = ()  # the tokens that diverge the most


@dataclass(frozen=True)
class NoiseFloor:
    """What flips between runs of the same model, without any change of it.

    ``metrics`` holds rates by their names in ``Comparison.metrics``, and ``flips``, which is NFR + PFR: pooled over
    ``reruns`` pairs of runs with ``n`` instances each (rounded mean). ``source`` says in words how it was measured.
    """

    source: str
    reruns: int
    n: int
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Gate:
    """The judgement of one budget."""

    rule: str
    verdict: Settled
    reason: str
    # How many instances would settle an inconclusive rule with 80 % power; None where it is settled or unknowable.
    needed_n: int | None = None
    tier: Annotated[str, ("critical", "advisory")] = "critical"  # whether it bears on the verdict, or is shown
    doubt: str | None = field(default=None, metadata=WHERE_KNOWN)  # why a verdict of the bounds does not stand


def worst(verdicts: Iterable[str]) -> str:
    """The verdict of several together."""
    found = set(verdicts)
    return next((name for name in ("fail", "inconclusive", "pass") if name in found), "none")


@dataclass(frozen=True)
class Beside:
    """A figure beside quality, of the ``n`` scored pairs of which both sides know it.

    ``old``, ``new`` and ``change`` (NEW − OLD) are means, or of a ``share`` proportions; ``ratio`` is by how much NEW's
    mean is above OLD's, as a share of OLD's: 0.1 is 10 % more. Undefined, with the reason, where it was not measured.
    """

    unit: Annotated[str, ("characters", "words", "tokens", "seconds", "dollars", "share")]
    n: int
    old: Estimate
    new: Estimate
    change: Estimate
    ratio: Estimate | None = field(default=None, metadata=WHERE_KNOWN)


@dataclass(frozen=True)
class Sequential:
    """How an evaluation went that was judged after every ``step`` documents, and stopped when it was decided."""

    step: int
    used: int  # documents that were evaluated, or rows that were drawn, of those available
    available: int
    seed: int  # of the order in which they were drawn
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
    kind: Kind
    signature: str
    n: int
    pairing: Pairing
    quadrants: Mapping[str, int]
    metrics: Mapping[str, Estimate]
    tests: Mapping[str, float | None]
    instances: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False, compare=False, metadata=NOT_KEPT)
    slices: tuple[Slice, ...] = field(default=(), metadata=NEEDED)
    gates: tuple[Gate, ...] = field(default=(), metadata=NEEDED)
    confidence: float = CONFIDENCE  # level of all intervals and one-sided bounds
    # Where it was too large to hold: what a report shows of all; ``instances`` are those that ``WorstFlips`` chose.
    overview: Overview | None = field(default=None, metadata=WHERE_KNOWN)
    noise: NoiseFloor | None = None  # what flips between reruns of OLD; None where it was not measured
    score_range: tuple[float, float] | None = None  # that smooth scores are taken to have; so large a loss may be
    lower_is_better: bool | None = field(default=None, metadata=WHERE_KNOWN)  # true where a smaller score is better
    near_ties: NearTies | None = None  # of a choice by log-likelihoods; None where they are not known
    clusters: ClusterCount | None = None  # what intervals and tests count by; None where every instance does by itself
    readings: tuple[Reading, ...] = ()  # that would change many scores, and that nobody has decided about
    sequential: Sequential | None = None  # None where the number of instances was fixed
    # Length, tokens, seconds, dollars, cut off, refused; of the first comparison of a task, where they are known.
    beside: Mapping[str, Beside] | None = field(default=None, metadata=WHERE_KNOWN)
    kl: Divergence | None = field(default=None, metadata=WHERE_KNOWN)  # of a task's first one, by --metric kl
    margins: Margins | None = field(default=None, metadata=WHERE_KNOWN)  # where ``near_ties`` are known
    # ``old`` where OLD's answers are the reference: ``quadrants``, in JSON ``changes``, are CHANGES or PREFERENCES.
    reference: Annotated[str, ("old",)] | None = field(default=None, metadata=WHERE_KNOWN)
    # Negative flips by their kind, the most frequent first; None where there are none, or their texts are not known.
    kinds: tuple[KindCount, ...] | None = field(default=None, metadata=WHERE_KNOWN)
    themes: Themes | None = field(default=None, metadata=WHERE_KNOWN)  # what --judge says that they share

    @property
    def name(self) -> str:
        """``task/filter/metric``, leaving out a filter that is none."""
        return name_of(self.task, self.filter, self.metric)

    @property
    def rows(self) -> int:
        """How many instances there are, at hand or not."""
        return len(self.instances) if self.overview is None else self.overview.rows

    @property
    def negative_flips(self) -> pd.DataFrame:
        """The instances that got worse, worst first."""
        worse = self.instances[self.instances["quadrant"] == "negative_flip"]
        return worse.sort_values("gain", kind="stable")

    @property
    def first_shown(self) -> pd.DataFrame:
        """What a report shows first: what got worse, or where OLD is the reference what changed, most first."""
        if self.reference is None:
            return self.negative_flips
        changed = ~self.instances["quadrant"].isin(["unchanged"]) & self.instances["quadrant"].notna()
        return self.instances[changed].sort_values("gain", kind="stable")

    @property
    def first_count(self) -> int:
        """How many those are, at hand or not."""
        if self.reference is None:
            return self.quadrants.get("negative_flip", 0)
        return self.n - self.quadrants.get("unchanged", 0)

    @property
    def critical_gates(self) -> list[Gate]:
        """The gates that bear on the verdict."""
        return [gate for gate in self.gates if gate.tier == "critical"]

    @property
    def verdict(self) -> str:
        """The worst of its critical gates; ``none`` without any."""
        return worst(gate.verdict for gate in self.critical_gates)

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
    name: str | None = field(default=None, metadata=WHERE_KNOWN)  # what the user calls it (--old-name, --new-name)

    @property
    def shown(self) -> str:
        return self.reference if self.name is None else f"{self.name} ({self.reference})"


@dataclass(frozen=True)
class Advice:
    """Which part of the model's version number to raise, from the same figures as the verdict."""

    bump: Annotated[str, ("patch", "minor", "major", "undecided")]
    reason: str


@dataclass(frozen=True)
class BlessedRun:
    """A run that was blessed under the name that OLD has: ``name`` is ``@main~1``, ``time`` UTC as ISO 8601."""

    name: str
    time: str
    reference: str
    verdict: str = "none"
    forced: bool = False  # blessed although its gate failed
    scores: tuple[BlessedScore, ...] = ()


@dataclass(frozen=True)
class Stored:
    """All instances of a result as a Parquet file, with the columns of ``instances.parquet``."""

    path: Path
    owner: object = None  # keeps the file for as long as somebody holds this, where it is a temporary one


@dataclass(frozen=True)
class Result:
    """Everything a report shows."""

    old: Side
    new: Side
    comparisons: tuple[Comparison, ...]
    verdict: Verdict = field(default="none", metadata=NEEDED)  # none: no budget was set
    version: str = field(default="", metadata=NEEDED)
    notes: tuple[str, ...] = ()  # sentences the user should read: fallbacks taken, rows set aside, an outdated setting
    command: str = ""  # the command line that made it, for repeating it; may be empty
    advice: Advice | None = None  # this and ``differences``: None in a report that was kept before there were any
    differences: Differences | None = None  # what OLD and NEW differ in besides the model
    absent: tuple[Absent, ...] = ()  # tasks, filters and metrics that one side lacks
    history: tuple[BlessedRun, ...] = ()  # where OLD is a baseline: what was blessed up to it, oldest first
    earlier_looks: tuple[int, ...] = ()  # after how many instances, fixed each time, the budgets were open before
    # Where all instances lie on disk; None where they are all at hand.
    stored: Stored | None = field(default=None, repr=False, compare=False, metadata=NOT_KEPT)
