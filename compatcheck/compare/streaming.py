"""Compare runs that are too large to hold: the figures of :func:`compatcheck.compare.compare`, a part at a time.

Texts of 100,000 pairs at most are in memory at once. What stays of every row is its place in the pairing, and for a
smooth metric its scores (see :class:`~compatcheck.compare.accumulate.Tally`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from compatcheck.compare.accumulate import Flips, Tally, is_numeric
from compatcheck.compare.comparison import Settings, figures, signature
from compatcheck.compare.coverage import Covered
from compatcheck.compare.differences import differences
from compatcheck.compare.instance_file import InstanceFile
from compatcheck.compare.instances import build_instances, common_kind, slice_fields
from compatcheck.compare.means import score_range
from compatcheck.compare.metrics import Changes, discrete_metrics
from compatcheck.compare.overview import Overview, WorstFlips
from compatcheck.compare.pairing import Pairs
from compatcheck.compare.quadrants import Sorted, resolve_metric, sort_pairs
from compatcheck.compare.readings import Readings
from compatcheck.compare.result import INSTANCE_COLUMNS, PROMPT_COLUMNS, Comparison, Estimate, Pairing
from compatcheck.compare.slices import AUTOMATIC, adjust, check_field, expand, field_values
from compatcheck.compare.stream_join import join
from compatcheck.compare.stream_pairing import ATTEMPTS, Collision, StreamPairs, pair_streams
from compatcheck.errors import InputError
from compatcheck.records import Metric, StreamedRun, TaskRun, prediction_column, score_column
from compatcheck.scratch import Scratch

Job = tuple[StreamedRun, StreamedRun, Sequence[Metric]]
"""OLD and NEW on one task and filter, and the metrics to compare them by."""


def compare_streams(
    jobs: Sequence[Job], settings: Settings, scratch: Scratch, say: Callable[[str], None] = lambda _: None
) -> tuple[list[Comparison], InstanceFile]:
    """Compare; returns the comparisons and the file of all their instances, which lies in ``scratch``.

    Raises:
        InputError: as :func:`compatcheck.compare.compare`; or the disk has no room.
    """
    scratch.require(sum(_instance_bytes(*job) for job in jobs), "writing all instances")
    for attempt in range(ATTEMPTS):
        fields = _fields(jobs)
        try:
            with InstanceFile(scratch.path("instances.parquet"), fields) as file:
                found = [
                    one for job in jobs for one in _StreamedPair(*job, settings).compare(file, scratch, attempt, say)
                ]
            return found, file
        except Collision:
            file.path.unlink()
    raise InputError("OLD or NEW changed while it was read: ids that were there are gone; run the comparison again")


class _StreamedPair:
    """OLD and NEW on one task and filter."""

    def __init__(self, old: StreamedRun, new: StreamedRun, metrics: Sequence[Metric], settings: Settings) -> None:
        self.old, self.new, self.settings = old, new, settings
        self.empty = _without_rows(old), _without_rows(new)
        self.metrics = [resolve_metric(metric, *self.empty) for metric in metrics]
        self.fields: list[str] = []
        self.prompts = _other_prompts(old, new)

    def compare(
        self, file: InstanceFile, scratch: Scratch, attempt: int, say: Callable[[str], None]
    ) -> list[Comparison]:
        """One comparison for each metric; all of their instances go to ``file``."""
        pairs = pair_streams(self.old, self.new, attempt)
        self.fields = expand(self.settings.slice_by, *self.empty, self.settings.also_slice_by)
        for field in self.fields:
            check_field(field, *self.empty)
        count, settings = pairs.count, self.settings
        tallies = [Tally(m.kind == "discrete" or settings.correct_at is not None, count) for m in self.metrics]
        flips = [[Flips(field, count, self._numeric(field)) for field in self.fields] for _ in self.metrics]
        telling = [WorstFlips() for _ in self.metrics]
        covered = [Covered() for _ in self.metrics]
        readings = [settings.readings(m) for m in self.metrics]
        done, said = 0, time.monotonic()
        for before, after in join(self.old, self.new, pairs, self._columns(pairs), scratch):
            old, new = (replace(run, records=part) for run, part in zip(self.empty, (before, after), strict=True))
            rows = np.arange(len(before))
            part = Pairs(rows, rows, pairs.key, 0, 0, 0)
            for place, metric in enumerate(self.metrics):
                found = sort_pairs(old, new, part, metric, epsilon=settings.epsilon, correct_at=settings.correct_at)
                tallies[place].add(found)
                covered[place].add(found, old, new, part)
                readings[place].add(found, old, _with_target(new, before), part)
                for one in flips[place]:
                    values = field_values(one.field, old, new, part)[found.scored]
                    one.add(values, found)
                instances = build_instances(old, new, part, found)
                telling[place].add(instances)
                file.write(instances)
            done += len(before)
            if time.monotonic() - said > 10:
                say(f"{self.old.task}: {done:,} of {count:,} pairs compared")
                said = time.monotonic()
        del before, after, old, new
        results = []
        for place, metric in enumerate(self.metrics):
            pairing = covered[place].pairing(
                pairs, (self.old.rows, self.new.rows), self.old.duplicates + self.new.duplicates
            )
            results.append(self._result(metric, pairing, readings[place], tallies[place], flips[place], telling[place]))
            tallies[place] = Tally(True, 0)  # its numbers are not needed any more
        return results

    def _result(
        self,
        metric: Metric,
        pairing: Pairing,
        readings: Readings,
        tally: Tally,
        flips: Sequence[Flips],
        telling: WorstFlips,
    ) -> Comparison:
        settings = self.settings
        numbers = tally.numbers()
        metrics, tests = figures(tally.counts, tally.changes, None if tally.discrete else numbers, **settings.drawing)

        def otherwise(counts: Mapping[str, int], changes: Changes | None, _: Sorted | None) -> Mapping[str, Estimate]:
            return discrete_metrics(counts, changes, **settings.drawing)

        if tally.discrete:
            metric = replace(metric, kind="discrete")
        return Comparison(
            task=self.old.task,
            filter=self.old.filter,
            metric=metric.name,
            kind=metric.kind,
            signature=signature(*self.empty, metric, tally.n, settings),
            n=tally.n,
            pairing=pairing,
            quadrants=tally.counts,
            metrics=metrics,
            tests=tests,
            instances=telling.chosen(),
            slices=adjust([part for one in flips for part in one.slices(settings.confidence)]),
            confidence=settings.confidence,
            overview=Overview(telling.rows, tally.gains(numbers.gain)),
            score_range=None if tally.discrete else score_range(numbers.old, numbers.new),
            readings=readings.readings(tally.n, tally.changes, otherwise),
        )

    def _columns(self, pairs: StreamPairs) -> tuple[list[str], list[str]]:
        """The columns to read of each side: of NEW only what OLD does not know already."""
        scores = [score_column(metric.name) for metric in self.metrics]
        from_old = {name for name in self.old.complete if name in self.new.kinds} - {"doc_id", "prediction", "response"}
        from_old -= {"error", *(prediction_column(metric.name) for metric in self.metrics)}
        if pairs.key != "id":
            from_old.discard("doc_hash")
        if self.prompts:
            from_old -= {"input", "full_prompt"}
        mine = [name for name in self.old.kinds if self.prompts or name != "full_prompt"]
        theirs = [name for name in self.new.kinds if name in mine or name not in self.old.kinds]
        return [*mine, *scores], [*(name for name in theirs if name not in from_old), *scores]

    def _numeric(self, field: str) -> bool:
        if field in AUTOMATIC:
            return True
        if field in self.old.complete:
            return is_numeric([self.old.kinds[field]])
        return is_numeric([run.kinds[field] for run in (self.old, self.new) if field in run.kinds])


def _other_prompts(old: StreamedRun, new: StreamedRun) -> bool:
    """Whether the models were given different texts, and these were recorded."""
    known = all("full_prompt" in run.kinds and "input" in run.kinds for run in (old, new))
    return known and differences([(old.settings, new.settings)]).of_prompts


def _with_target(run: TaskRun, other: pd.DataFrame) -> TaskRun:
    """NEW's part with the targets of OLD's, which are the same, where they were read once for both."""
    lacks = "target" not in run.records and "target" in other
    return replace(run, records=run.records.assign(target=other["target"])) if lacks else run


def _without_rows(run: StreamedRun) -> TaskRun:
    names = [*run.kinds, *(score_column(metric.name) for metric in run.metrics)]
    empty = pd.DataFrame({name: [] for name in names})
    return TaskRun(run.task, run.filter, run.metrics, empty, run.settings, run.duplicates, run.notes)


def _fields(jobs: Sequence[Job]) -> dict[str, str]:
    """The slice fields of all instances, with the kind that holds their values."""
    found: dict[str, str] = {}
    for old, new, _ in jobs:
        if _other_prompts(old, new):
            found |= dict.fromkeys(PROMPT_COLUMNS, "text")
        for name in slice_fields(_without_rows(old).records, _without_rows(new).records):
            kinds = [run.kinds[name] for run in (old, new) if name in run.kinds]
            kind = kinds[0] if name in old.complete or len(kinds) == 1 else common_kind(*kinds)
            shown = f"field:{name}" if name in (*INSTANCE_COLUMNS, *PROMPT_COLUMNS) else name
            found[shown] = common_kind(found[shown], kind) if shown in found else kind
    return found


def _instance_bytes(old: StreamedRun, new: StreamedRun, metrics: Sequence[Metric]) -> int:
    """About the size of the instances on disk. They are compressed there: half is what texts do not fall below."""
    return int(min(old.rows, new.rows) * (old.row_bytes + new.row_bytes + 64) * len(metrics) / 2)
