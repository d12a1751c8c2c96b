"""The ground floor: the record of one instance, and what one reference gave on one task.

Imported by ``runs`` and ``compare``; imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Level of every interval and one-sided bound."""
GREATEST = 1e50
"""Of a score or a measured figure: the sums of powers that intervals are made of overflow far beyond it."""
ID_COLUMNS = ("task", "doc_id", "filter")
"""A record is one (task, document id, filter)."""

TEXT_COLUMNS = ("input", "target", "prediction", "response", "error", "doc_hash", "target_hash", "full_prompt")
"""Text of a record; each may be null.

``prediction`` is what is scored, after the filter (``"18"``, ``"sol2"``); null means "no answer".
``response`` is the whole text the model gave, where it differs from the prediction; for display only.
``full_prompt`` is the whole text the model was given, where that is not ``input``: with examples, in a chat template.
``error`` is set when the instance could not be evaluated: such a record is never scored.
``doc_hash`` and ``target_hash`` fingerprint the content, so that a row is never paired with another one's. A
``doc_hash`` may say what it was made of (``input:0f3a…``); hashes of different things are not held against each other.
"""

ANSWER_TEXTS = ("finish_reason", "reasoning", "tool_calls")
"""What came with an answer, besides its text: why it ended, what the model thought before it, and the calls it makes
(JSON text of a list of ``{"name", "arguments"}``)."""
ANSWER_NUMBERS = ("prompt_tokens", "output_tokens", "latency_first", "latency")
"""The same, as numbers: tokens, and seconds from asking to the first and to the last token. Null where not known."""
ANSWER_COLUMNS = (*ANSWER_TEXTS, *ANSWER_NUMBERS)
"""Columns that each side has its own of, so that they are no slice fields."""

FIGURES: Mapping[str, tuple[str, ...]] = {
    "output_tokens": ("output_tokens", "completion_tokens", "usage.completion_tokens", "usage.output_tokens"),
    "prompt_tokens": ("prompt_tokens", "input_tokens", "usage.prompt_tokens", "usage.input_tokens"),
    "latency": ("latency", "latency_s", "latency_seconds", "latency_ms", "latencyMs"),
    "latency_first": ("latency_first", "time_to_first_token", "ttft", "ttft_ms"),
    "cost": ("cost", "cost_usd", "total_cost", "usage.cost"),
}
"""Names of columns that hold a figure, also at the end of a dotted name. Seconds, where they do not end in ``ms``."""


def figure_column(name: str, known: Collection[str]) -> str | None:
    """The column of records with the columns ``known`` that holds a figure of their answers."""
    for one in FIGURES[name]:
        if one in known:
            return one
        nested = next((str(each) for each in known if str(each).endswith(f".{one}")), None)
        if nested is not None:
            return nested
    return None


CALL_ARGUMENTS = ("arguments", "args", "input", "inputParameters", "input_parameters", "parameters")
"""What the arguments of a tool call are named: by OpenAI, LangChain, Anthropic, deepeval, and in schemas."""

NO_FILTER = "none"
"""Filter name of records that went through no filter, as in lm-eval."""


def score_column(metric: str) -> str:
    """Name of the column that holds a metric's per-instance score."""
    return f"score:{metric}"


def prediction_column(metric: str) -> str:
    """Name of the column that holds a metric's own prediction, where metrics disagree on it (acc, acc_norm)."""
    return f"prediction:{metric}"


def agreed_column(metric: str) -> str:
    """Name of the column that says whether a judge, asked both ways round, agreed with itself (1, 0, null)."""
    return f"agreed:{metric}"


@dataclass(frozen=True)
class Metric:
    """A per-instance score: what it is called and how it is read.

    ``kind`` is ``"discrete"`` when every score is 0 or 1, else ``"smooth"``.
    ``signature`` names the implementation and its settings, e.g. ``"rouge1|fmeasure|rouge-score 0.1.2"``.
    """

    name: str
    kind: str
    higher_is_better: bool = True
    signature: str = ""
    assumed: bool = False
    """Nothing says which way the score points; higher was taken as better."""
    settled: tuple[tuple[str, bool], ...] = ()
    """Other readings of the scores that the user, or the task, has decided about: ``("ignore_case", True)`` …"""
    error: float = 0.0
    """Standard error of one document's score (root mean square over documents), where it is an average of samples."""


@dataclass(frozen=True)
class OldAsReference(Metric):
    """Holds NEW's answer against OLD's in place of a target; it is computed when both are there, never kept."""

    preference: bool = False
    """A judge says which of both is better; else how much alike they are is scored, 1 where they are the same."""


@dataclass(frozen=True)
class Manifest:
    """What made the records: enough to repeat them, or to refuse to compare them with something else."""

    reference: str
    """The reference as the user wrote it."""
    fingerprint: str
    """Content fingerprint of the reference, e.g. ``sha256:…``."""
    kind: str
    """``model``, ``adapter``, ``endpoint`` or ``recorded``."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Name, versions, dtype and device of the engine; empty for recorded outputs."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Decoding and sampling settings: seed, limit, few-shot examples …"""


@dataclass(frozen=True)
class TaskRun:
    """The records of one reference on one task under one filter.

    ``records`` has one row per document with ``doc_id`` (str), the :data:`TEXT_COLUMNS` that are known, one
    ``score:<metric>`` column (float64, NaN where not scored) per metric, optionally ``prediction:<metric>`` columns,
    optionally ``loglikelihoods`` (one list of floats per row, for choice tasks); further columns are slice fields.
    """

    task: str
    filter: str
    metrics: tuple[Metric, ...]
    records: pd.DataFrame
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a figure's signature says of the task: few-shot, split, limit, version …"""
    duplicates: int = 0
    """Rows of the source that were dropped because they repeat an earlier row exactly."""
    notes: tuple[str, ...] = ()
    """What was left out, for the user to read."""
    typed: frozenset[str] = frozenset()
    """Which of ``target`` and ``prediction`` were numbers or booleans in the file that was read, not texts; of CSV also
    which were floats throughout; and :data:`LISTS`. Sides that differ in it are read alike by
    :mod:`compatcheck.table.alike`."""

    @property
    def rows(self) -> int:
        return len(self.records)

    @property
    def names(self) -> Collection[str]:
        """The columns that the records have."""
        return self.records.columns


class Table(Protocol):
    """Rows on disk, in batches; see :mod:`compatcheck.table.stored`."""

    rows: int
    scratch: Any
    """The folder they lie in; it is removed with the last that refers to it."""

    @property
    def kinds(self) -> Mapping[str, str]: ...
    @property
    def complete(self) -> frozenset[str]: ...
    @property
    def row_bytes(self) -> float: ...
    def dataset(self) -> Any: ...
    def tables(self, names: Sequence[str]) -> Iterator[Any]: ...
    def read(self, names: Sequence[str]) -> Iterator[pd.DataFrame]: ...


@dataclass(frozen=True)
class StoredRun:
    """A :class:`TaskRun` whose records are too many to hold: they lie on disk, in their order, ``doc_id`` unique."""

    task: str
    filter: str
    metrics: tuple[Metric, ...]
    table: Table
    settings: Mapping[str, Any] = field(default_factory=dict)
    duplicates: int = 0
    notes: tuple[str, ...] = ()
    typed: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        return self.table.rows

    @property
    def names(self) -> Collection[str]:
        """The columns that the records have."""
        return self.table.kinds

    @property
    def kinds(self) -> dict[str, str]:
        """Of every column but scores: ``text``, ``integer``, ``number`` or ``boolean``."""
        return {name: kind for name, kind in self.table.kinds.items() if not name.startswith("score:")}

    def without_rows(self) -> TaskRun:
        """What is known of the run besides its records, which are empty columns here."""
        import pandas as pd

        empty = pd.DataFrame({name: [] for name in self.table.kinds})
        about = (self.settings, self.duplicates, self.notes, self.typed)
        return TaskRun(self.task, self.filter, self.metrics, empty, *about)


LISTS = "target as lists"
"""In ``typed`` of a run: a target that is the JSON text of a list stands for the texts in it."""
KL = "kl"
"""What ``--metric`` calls the divergence of next-token distributions; it is a figure beside those of the task."""


@dataclass(frozen=True)
class DivergentToken:
    """One token of a text, and what OLD and NEW expected in its place. Texts are models' and users' own."""

    doc_id: str
    place: int  # of the token in the text, as the model counts them, from 0
    before: str  # the end of what stands before it
    token: str
    kl: float  # KL(OLD ‖ NEW) of the two distributions, in nats
    p_old: float  # probability of the token
    p_new: float
    choice_old: str  # the token that OLD ranks first, with its probability by OLD and by NEW
    choice_old_p_old: float
    choice_old_p_new: float
    choice_new: str
    choice_new_p_old: float
    choice_new_p_new: float


@dataclass(frozen=True)
class TokenDivergence:
    """How OLD and NEW expect the tokens of one task's texts. Arrays have one entry per token that counts."""

    task: str
    texts: str  # what they are made of, in words
    doc_ids: tuple[str, ...]
    documents: NDArray[np.intp]  # of each token: its document's place in ``doc_ids``
    kl: NDArray[np.float64]
    logprob_old: NDArray[np.float64]  # of the token itself
    logprob_new: NDArray[np.float64]
    same_top: NDArray[np.bool_]  # both rank the same token first
    worst: tuple[DivergentToken, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One reference on one or more tasks."""

    manifest: Manifest
    tasks: tuple[Any, ...]
    """:class:`TaskRun` each, or of a side that is too large to hold :class:`StoredRun`."""
    notes: tuple[str, ...] = ()
    """Plain sentences for the user about how the run was made."""
    divergences: tuple[TokenDivergence, ...] = field(default=(), kw_only=True)
    """Of NEW's run, where it was asked for: how far its distributions are from OLD's, task by task."""


def not_compared(task: str, metrics: Iterable[str]) -> tuple[str, ...]:
    """The note on metrics that give no number per document."""
    names = ", ".join(metrics)
    return (f"{task}: {names} gives no score per document and is not compared",) if names else ()


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
    kind: Annotated[str, ("discrete", "smooth", "")] = ""  # empty where the history does not say


@dataclass(frozen=True)
class Blessed:
    """One line of the history of a baseline."""

    run: str
    """Name of the kept run's folder."""
    time: str
    """UTC, as ISO 8601."""
    reference: str
    fingerprint: str
    verdict: str = "none"
    """Of the comparison with the run that was blessed before: that of the gate, ``none`` without one."""
    reason: str = ""
    forced: bool = False
    """Blessed although its gate failed."""
    scores: tuple[BlessedScore, ...] = ()
