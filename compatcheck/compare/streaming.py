"""Compare runs whose records lie on disk: the figures of :func:`compatcheck.compare.compare`, a part at a time.

Texts of 20,000 pairs at most are in memory at once. What stays of every row is its place in the pairing and its group,
for a smooth metric its scores, too, and for a slice field its value's number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.compare.answers import How, of_sides
from compatcheck.compare.beside import Besides
from compatcheck.compare.changes import change_figures, changed_slice
from compatcheck.compare.comparison import Settings, figures, signature
from compatcheck.compare.coverage import Covered
from compatcheck.compare.differences import differences
from compatcheck.compare.instances import InstanceFile, build_instances, common_kind, failure_kinds, slice_fields
from compatcheck.compare.kinds import counted, labels
from compatcheck.compare.means import Numbers, score_range
from compatcheck.compare.metrics import Changes, discrete_metrics
from compatcheck.compare.overview import Gains, Overview, WorstFlips, gains_of, together
from compatcheck.compare.pairing import KEYS, Pairs, paired
from compatcheck.compare.quadrants import Sorted, resolve_metric, sort_pairs
from compatcheck.compare.result import (
    CHANGES,
    FURTHER_COLUMNS,
    INSTANCE_COLUMNS,
    KIND_COLUMN,
    PROMPT_COLUMNS,
    QUADRANTS,
    SMOOTH_GROUPS,
    Comparison,
    Estimate,
    Slice,
)
from compatcheck.compare.slices import (
    AUTOMATIC,
    adjust,
    check_field,
    count_slices,
    expand,
    field_values,
    text_of,
    worse_groups,
)
from compatcheck.errors import InputError
from compatcheck.records import (
    ANSWER_COLUMNS,
    ANSWER_NUMBERS,
    CONFIDENCE,
    Metric,
    OldAsReference,
    StoredRun,
    TaskRun,
    prediction_column,
    score_column,
)
from compatcheck.scratch import Scratch

if TYPE_CHECKING:
    import duckdb

Job = tuple[StoredRun, StoredRun, Sequence[Metric]]
"""OLD and NEW on one task and filter, and the metrics to compare them by."""
PART_ROWS = 20_000
PART_BYTES = 32 << 20
"""A part has so many rows, or as many as are about so large where that is fewer."""
MOST_VALUES = 100_000
"""Different texts of a slice field that are counted."""


def compare_streams(
    jobs: Sequence[Job], settings: Settings, scratch: Scratch, say: Callable[[str], None] = lambda _: None
) -> tuple[list[Comparison], InstanceFile]:
    """Compare; returns the comparisons and the file of all their instances, which lies in ``scratch``.

    Raises:
        InputError: as :func:`compatcheck.compare.compare`; or the disk has no room.
    """
    sides = [(old, new, len(metrics)) for old, new, metrics in jobs]
    # Instances are compressed on disk: half is what texts do not fall below.
    needed = [min(a.rows, b.rows) * (a.table.row_bytes + b.table.row_bytes + 64) * n / 2 for a, b, n in sides]
    scratch.require(int(sum(needed)), "writing all instances")
    with InstanceFile(scratch.path("instances.parquet"), _fields(jobs)) as file:
        found, tasks = [], set[str]()
        for job in jobs:
            first = job[0].task not in tasks
            tasks.add(job[0].task)
            found += _StoredPair(*job, settings if first else replace(settings, beside=None)).compare(file, say)
        return found, file


class _Group:
    """What is kept of every pair of one metric."""

    def __init__(
        self, metric: Metric, settings: Settings, fields: Sequence[str], how: How | None, names: Collection[str]
    ) -> None:
        self.discrete = metric.kind == "discrete" or settings.correct_at is not None
        self.metric = replace(metric, kind="discrete") if self.discrete else metric
        self.of_changes = isinstance(metric, OldAsReference)
        self.names = CHANGES if self.of_changes else QUADRANTS if self.discrete else SMOOTH_GROUPS
        self.covered, self.readings, self.worst = Covered(), settings.readings(metric), WorstFlips()
        self.kinds: list[str] = []
        self.besides = Besides(how, names, texts=False)
        self.changes: Changes | None = None
        self._codes: list[Any] = []
        self._scored: list[np.ndarray] = []
        self._unanswered: list[np.ndarray] = []
        self._numbers: list[Numbers] = []
        self._gains: Gains | None = None
        self._values: dict[str, list[np.ndarray]] = {field: [] for field in fields}

    def add(self, found: Sorted, fields: Mapping[str, np.ndarray]) -> None:
        """Take note of the pairs of a part; ``fields`` has the values of every slice field."""
        scored = found.scored
        self._codes.append(found.codes[scored])
        if found.changes is not None:
            self.changes = found.changes if self.changes is None else self.changes.plus(found.changes)
        if self.discrete:
            self._gains = together(self._gains, gains_of(found.gain[scored], "discrete"))
        else:
            self._numbers.append(Numbers(found.old[scored], found.new[scored], found.gain[scored], found.codes[scored]))
        self._scored.append(scored)
        self._unanswered.append(found.unanswered)
        for name, values in fields.items():
            self._values[name].append(values)

    def codes(self) -> np.ndarray:
        return np.concatenate(self._codes)

    def numbers(self) -> Numbers | None:
        """Scores, gains and groups of all pairs; None for quadrants."""
        if self.discrete:
            return None
        found = Numbers(*(np.concatenate(each) for each in zip(*self._numbers, strict=True)))
        self._numbers = [found]
        return found

    def gains(self, numbers: Numbers | None) -> Gains | None:
        return self._gains if numbers is None else gains_of(numbers.gain, "smooth")

    def slices(self, codes: np.ndarray, texts: Mapping[str, Iterable[str]], confidence: float) -> tuple[Slice, ...]:
        """Slices of all fields, as :func:`compatcheck.compare.slices.build_slices` makes them.

        ``texts`` has the texts that the numbers of a field stand for.
        """
        up, down = (
            np.isin(codes, [place for place, name in enumerate(self.names) if name in those])
            for those in (("positive_flip",), worse_groups(self.names))
        )
        right = None
        if self.names == QUADRANTS:
            right = np.isin(codes, [QUADRANTS.index(n) for n in ("both_correct", "negative_flip")])
        slices: list[Slice] = []
        scored, unanswered = np.concatenate(self._scored), np.concatenate(self._unanswered)
        for name, parts in self._values.items():
            values = pd.Series(np.concatenate(parts))
            if name in texts:
                values = pd.Series(pd.Categorical.from_codes(values.to_numpy(), pd.Index([*texts[name]], dtype=object)))
            slices += count_slices(name, values, scored, unanswered, up, down, right, confidence)[1]
        return tuple(map(changed_slice, adjust(slices))) if self.of_changes else adjust(slices)


class _StoredPair:
    """OLD and NEW on one task and filter."""

    def __init__(self, old: StoredRun, new: StoredRun, metrics: Sequence[Metric], settings: Settings) -> None:
        self.old, self.new, self.settings = old, new, settings
        self.empty = old.without_rows(), new.without_rows()
        self.metrics = [resolve_metric(metric, *self.empty) for metric in metrics]
        self.prompts = _other_prompts(old, new)
        self.fields: list[str] = []
        self.labels = _labels(old)
        self._texts: dict[str, dict[str, int]] = {}
        """Of the slice fields that are texts the number of each."""

    def compare(self, file: InstanceFile, say: Callable[[str], None]) -> list[Comparison]:
        """One comparison for each metric; all of their instances go to ``file``."""
        with paired(self.old, self.new) as (pairs, con):
            self.fields = expand(self.settings.slice_by, *self.empty, self.settings.also_slice_by)
            for field in self.fields:
                check_field(field, *self.empty)
            names, how = {*self.old.names, *self.new.names}, self.settings.beside
            groups = [_Group(metric, self.settings, self.fields, None if place else how, names)
                      for place, metric in enumerate(self.metrics)]  # fmt: skip
            count, done, said = len(pairs.old), 0, time.monotonic()
            for before, after in self._parts(pairs, con):
                self._add(groups, before, after, pairs.key, file)
                pa.default_memory_pool().release_unused()
                done += len(before)
                if time.monotonic() - said > 10:
                    say(f"{self.old.task}: {done:,} of {count:,} pairs compared")
                    said = time.monotonic()
        pairs = replace(pairs, old=pairs.old[:0], new=pairs.new[:0])
        found = []
        while groups:
            found.append(self._result(groups.pop(0), pairs))
        return found

    def _add(
        self, groups: Sequence[_Group], before: pd.DataFrame, after: pd.DataFrame, key: str, file: InstanceFile
    ) -> None:
        old, new = (replace(run, records=part) for run, part in zip(self.empty, (before, after), strict=True))
        rows = np.arange(len(before))
        part = Pairs(rows, rows, key, 0, 0, 0)
        fields = {name: self._values(name, field_values(name, old, new, part)) for name in self.fields}
        for metric, group in zip(self.metrics, groups, strict=True):
            how = self.settings
            found = sort_pairs(old, new, part, metric, epsilon=how.epsilon, correct_at=how.correct_at, grade=how.grade)
            group.add(found, fields)
            group.covered.add(found, old, new, part)
            group.besides.add(old, new, part, found.scored)
            group.readings.add(found, old, _with_target(new, before), part)
            instances = build_instances(old, new, part, found)
            failures = failure_kinds(instances, new, part.new, self.labels)
            instances[KIND_COLUMN] = None if failures is None else failures[0]
            group.kinds.extend(() if failures is None else failures[0].dropna())
            group.worst.add(instances)
            file.write(instances)

    def _parts(self, pairs: Pairs, con: duckdb.DuckDBPyConnection) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """Records of OLD in their order, and those of NEW that belong to them, row by row."""
        size = max(1, min(PART_ROWS, int(PART_BYTES / max(self.old.table.row_bytes + self.new.table.row_bytes, 1))))
        mine, theirs = self._columns(pairs.key)
        if bool((pairs.new[1:] > pairs.new[:-1]).all()):
            other = _kept(self.new, theirs, pairs.new)
        else:
            names = ", ".join('n."' + name.replace('"', '""') + '"' for name in theirs)
            other = iter(
                con.sql(
                    f"SELECT {names} FROM pairs JOIN n_rows AS n ON n.__row = pairs.new ORDER BY pairs.old"
                ).to_arrow_reader(size)
            )
        yield from zip(_cut(_kept(self.old, mine, pairs.old), size), _cut(other, size), strict=True)

    def _columns(self, key: str) -> tuple[list[str], list[str]]:
        """The columns to read of each side: of NEW only what OLD does not know already."""
        scores = [score_column(each.name) for each in self.metrics if not isinstance(each, OldAsReference)]
        kinds = self.old.kinds, self.new.kinds
        from_old = {name for name in self.old.table.complete if name in kinds[1]} - {"doc_id", "prediction", "response"}
        from_old -= {
            "error",
            *ANSWER_COLUMNS,
            *of_sides(kinds[1]),
            *(prediction_column(metric.name) for metric in self.metrics),
        }
        if key != "id":
            from_old -= {"doc_hash", KEYS[key]}
        if self.prompts:
            from_old -= {"input", "full_prompt"}
        mine = [name for name in kinds[0] if self.prompts or name != "full_prompt"]
        theirs = [name for name in kinds[1] if name in mine or name not in kinds[0]]
        return [*mine, *scores], [*(name for name in theirs if name not in from_old), *scores]

    def _values(self, field: str, values: pd.Series) -> np.ndarray:
        """The values of a slice field in little memory: numbers as they are, texts by their number."""
        kinds = [run.kinds[field] for run in (self.old, self.new) if field in run.kinds]
        if field in self.old.table.complete:
            kinds = kinds[:1]
        if field in AUTOMATIC or all(kind in ("integer", "number") for kind in kinds):
            return values.to_numpy(dtype=np.float64, na_value=np.nan)
        if values.dtype == object or not pd.api.types.is_string_dtype(values.dtype):
            values = values.astype(object).map(text_of, na_action="ignore")
        codes, distinct = pd.factorize(values)
        met = self._texts.setdefault(field, {})
        places = np.array([*(met.setdefault(str(text), len(met)) for text in distinct), -1], np.int32)
        if len(met) > MOST_VALUES:
            raise InputError(
                f"--slice-by {field}: it has more than {MOST_VALUES:,} different values, too many to count in a "
                "comparison of this size; name a coarser field, or compare in memory with --no-stream"
            )
        return places[codes]

    def _result(self, group: _Group, pairs: Pairs) -> Comparison:
        settings, metric = self.settings, group.metric
        codes, numbers = group.codes(), group.numbers()
        instances, kinds = group.worst.chosen(), counted(group.kinds)
        sizes = np.bincount(codes, minlength=len(group.names))
        counts = {name: int(size) for name, size in zip(group.names, sizes, strict=True)}
        if group.of_changes:
            alike = None if numbers is None else numbers.new
            metrics, tests = change_figures(counts, alike, None, **settings.drawing)
        else:
            metrics, tests = figures(counts, group.changes, numbers, **settings.drawing)

        def otherwise(counts: Mapping[str, int], changes: Changes | None, _: Sorted | None) -> Mapping[str, Estimate]:
            return discrete_metrics(counts, changes, **settings.drawing)

        return Comparison(
            task=self.old.task,
            filter=self.old.filter,
            metric=metric.name,
            kind=metric.kind,
            signature=signature(*self.empty, metric, len(codes), settings),
            n=len(codes),
            pairing=group.covered.pairing(
                pairs, (self.old.rows, self.new.rows), self.old.duplicates + self.new.duplicates
            ),
            quadrants=counts,
            metrics=metrics,
            tests=tests,
            instances=instances if kinds else instances.drop(columns=KIND_COLUMN),
            kinds=kinds,
            slices=group.slices(codes, self._texts, CONFIDENCE),
            confidence=CONFIDENCE,
            overview=Overview(group.worst.rows, group.gains(numbers)),
            score_range=None if numbers is None else score_range(numbers.old, numbers.new),
            readings=group.readings.readings(len(codes), group.changes, otherwise),
            reference="old" if group.of_changes else None,
            beside=group.besides.figures(settings.drawing) or None,
        )


def _kept(run: StoredRun, names: Sequence[str], places: np.ndarray) -> Iterator[pa.RecordBatch]:
    """The rows of a run at these places, which grow, with these columns."""
    flags = np.zeros(run.rows, dtype=bool)
    flags[places] = True
    start = 0
    for table in run.table.tables(names):
        chosen = flags[start : start + len(table)]
        start += len(table)
        yield from (table if chosen.all() else table.filter(pa.array(chosen))).to_batches()


def _cut(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pd.DataFrame]:
    """The same rows in parts of ``size``, as records."""
    waiting: list[pa.RecordBatch] = []
    rows = 0

    def part() -> pd.DataFrame:
        nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        frame: pd.DataFrame = pa.Table.from_batches(waiting).to_pandas(types_mapper=nullable.get)
        return frame

    for batch in batches:
        while rows + len(batch) >= size:
            waiting.append(batch.slice(0, size - rows))
            batch = batch.slice(size - rows)
            yield part()
            waiting, rows = [], 0
        if len(batch):
            waiting.append(batch)
            rows += len(batch)
    if rows:
        yield part()


def _labels(run: StoredRun) -> frozenset[str]:
    """The targets of a run where they are few enough to be labels."""
    if "target" not in run.names:
        return frozenset()
    texts = (text for table in run.table.tables(["target"]) for text in pc.unique(table["target"]).to_pylist())
    return labels(texts, run.rows)


def _other_prompts(old: StoredRun, new: StoredRun) -> bool:
    """Whether the models were given different texts, and these were recorded."""
    known = all("full_prompt" in run.names and "input" in run.names for run in (old, new))
    return known and differences([(old.settings, new.settings)]).of_prompts


def _with_target(run: TaskRun, other: pd.DataFrame) -> TaskRun:
    """NEW's part with the targets of OLD's, which are the same, where they were read once for both."""
    lacks = "target" not in run.records and "target" in other
    return replace(run, records=run.records.assign(target=other["target"])) if lacks else run


def _fields(jobs: Sequence[Job]) -> dict[str, str]:
    """The slice fields of all instances, with the kind that holds their values."""
    found: dict[str, str] = {KIND_COLUMN: "text"}
    for old, new, _ in jobs:
        if _other_prompts(old, new):
            found |= dict.fromkeys(PROMPT_COLUMNS, "text")
        for name in ANSWER_COLUMNS:
            if name in {*old.names, *new.names}:
                kind = "number" if name in ANSWER_NUMBERS else "text"
                found |= {f"{name}_old": kind, f"{name}_new": kind}
        for name in slice_fields(old.without_rows().records, new.without_rows().records):
            kinds = [run.kinds[name] for run in (old, new) if name in run.kinds]
            kind = kinds[0] if name in old.table.complete or len(kinds) == 1 else common_kind(*kinds)
            shown = f"field:{name}" if name in (*INSTANCE_COLUMNS, *FURTHER_COLUMNS) else name
            found[shown] = common_kind(found[shown], kind) if shown in found else kind
    return found
