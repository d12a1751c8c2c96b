"""Compare two runs on one task, filter and metric, in memory or on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.compare.instances import InstanceFile, common_kind, instance_kinds, text_of
from compatcheck.compare.kinds import labels
from compatcheck.compare.pairing import Pairs, pair
from compatcheck.compare.parts import other_prompts, parts
from compatcheck.compare.quadrants import resolve_metric
from compatcheck.compare.result import Comparison
from compatcheck.compare.settings import Settings
from compatcheck.compare.slices import AUTOMATIC, check_field, expand, field_values
from compatcheck.compare.tally import Tally
from compatcheck.errors import InputError
from compatcheck.records import Metric, StoredRun, TaskRun
from compatcheck.scratch import Scratch

AnyRun = TaskRun | StoredRun
Job = tuple[Any, Any, Sequence[Metric]]
"""OLD and NEW on one task and filter, both in memory or both on disk, and the metrics to compare them by."""
Say = Callable[[str], None]
MOST_VALUES = 100_000
"""Different texts of a slice field that are counted where rows are on disk."""


def compare(old: TaskRun, new: TaskRun, *, metric: Metric | str, **options: Any) -> Comparison:
    """Pair two runs and compute everything a report shows of them; ``options`` are those of :class:`Settings`.

    ``metric`` is a name that both runs score, or how to read that score.
    Raises InputError: the runs cannot be compared, or an option makes no sense."""
    how = Settings(**options)
    if old.task != new.task:
        raise InputError(f"OLD was recorded for task '{old.task}' and NEW for task '{new.task}': nothing to compare")
    if old.filter != new.filter:
        raise InputError(
            f"on task '{old.task}' OLD went through filter '{old.filter}' and NEW through '{new.filter}': "
            "only outputs of the same filter can be compared"
        )
    return _compare((old, new, [resolve_metric(metric, old, new)]), how, None, lambda _: None)[0]


def compare_all(jobs: Sequence[Job], how: Settings, say: Say = lambda _: None) -> list[Comparison]:
    """Compare runs in memory. What is told of the answers beside quality is told in a task's first comparison.

    Raises InputError: as :func:`compare`."""
    return _compare_all(jobs, how, None, say)


def compare_stored(
    jobs: Sequence[Job], how: Settings, scratch: Scratch, say: Say = lambda _: None
) -> tuple[list[Comparison], InstanceFile]:
    """The same of runs on disk; and the file of all their instances, which lies in ``scratch``.

    Raises InputError: as :func:`compare`; or the disk has no room."""
    sides = [(old, new, len(metrics)) for old, new, metrics in jobs]
    # Instances are compressed on disk: half is what texts do not fall below.
    needed = [min(a.rows, b.rows) * (a.table.row_bytes + b.table.row_bytes + 64) * n / 2 for a, b, n in sides]
    scratch.require(int(sum(needed)), "writing all instances")
    fields: dict[str, str] = {}
    for old, new, _ in jobs:
        for name, kind in instance_kinds(old, new, other_prompts(old, new)).items():
            fields[name] = common_kind(fields.get(name, kind), kind)
    with InstanceFile(scratch.path("instances.parquet"), fields) as file:
        return _compare_all(jobs, how, file, say), file


def _compare_all(jobs: Sequence[Job], how: Settings, file: InstanceFile | None, say: Say) -> list[Comparison]:
    found: list[Comparison] = []
    for job in jobs:
        first = all(one.task != job[0].task for one in found)
        found += _compare(job, how if first else replace(how, beside=None), file, say)
    return found


def _compare(job: Job, how: Settings, file: InstanceFile | None, say: Say) -> list[Comparison]:
    """One comparison for each metric of a job; instances go to ``file`` where they cannot be held."""
    old, new, metrics = job
    metrics = [resolve_metric(metric, old, new) for metric in metrics]
    pairs = pair(old, new)
    known = None if file is None else labels(_targets(old, new, pairs), len(pairs.old))
    fields = expand(how.slice_by, old, new, how.also_slice_by)
    for field in fields:
        check_field(field, old, new)
    names = {*old.names, *new.names}
    tallies = [Tally(one, how, None if place else how.beside, names, file) for place, one in enumerate(metrics)]
    values = {field: _Values(field, old, new) for field in fields}
    done, said = 0, time.monotonic()
    for part in parts(old, new, metrics, pairs):
        for field, met in values.items():
            met.add(field_values(field, *part))
        for tally in tallies:
            tally.add(part, known)
        done += len(part[2].old)
        if time.monotonic() - said > 10:
            say(f"{old.task}: {done:,} of {len(pairs.old):,} pairs compared")
            said = time.monotonic()
    pairs = replace(pairs, old=pairs.old[:0], new=pairs.new[:0])
    made, whole = [], {field: met.all() for field, met in values.items()}
    while tallies:
        made.append(tallies.pop(0).comparison(old, new, pairs, whole))
    return made


class _Values:
    """The values of a slice field, pair by pair; of runs on disk numbers as they are, and texts by their number."""

    def __init__(self, field: str, old: AnyRun, new: AnyRun) -> None:
        self.field, self._parts, self._texts = field, list[Any](), dict[str, int]()
        self._stored = isinstance(old, StoredRun)
        if isinstance(old, StoredRun) and isinstance(new, StoredRun):
            kinds = [run.kinds[field] for run in (old, new) if field in run.kinds]
            if field in old.table.complete:
                kinds = kinds[:1]
            self._numbers = field in AUTOMATIC or all(kind in ("integer", "number") for kind in kinds)

    def add(self, values: pd.Series) -> None:
        if self._stored:
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan) if self._numbers else self._numbered(values)
            self._parts.append(numbers)
        else:
            self._parts.append(values)

    def _numbered(self, values: pd.Series) -> np.ndarray:
        if values.dtype == object or not pd.api.types.is_string_dtype(values.dtype):
            values = values.astype(object).map(text_of, na_action="ignore")
        codes, distinct = pd.factorize(values)
        met = self._texts
        places = np.array([*(met.setdefault(str(text), len(met)) for text in distinct), -1], np.int32)
        if len(met) > MOST_VALUES:
            raise InputError(
                f"--slice-by {self.field}: it has more than {MOST_VALUES:,} different values, too many to count in a "
                "comparison of this size; name a coarser field, or compare in memory with --no-stream"
            )
        return places[codes]

    def all(self) -> pd.Series:
        if not self._stored:
            return self._parts[0]
        values = np.concatenate(self._parts)
        if self._numbers:
            return pd.Series(values)
        return pd.Series(pd.Categorical.from_codes(values, pd.Index([*self._texts], dtype=object)))


def _targets(old: StoredRun, new: StoredRun, pairs: Pairs) -> Iterator[str | None]:
    """The targets of the pairs, as OLD has them, and where OLD has none as NEW has them; some of them repeatedly."""
    open_yet = np.ones(len(pairs.old), dtype=bool)
    for run, places in ((old, pairs.old), (new, pairs.new)):
        if "target" not in run.names or not open_yet.any():
            continue
        wanted, start = np.zeros(run.rows, dtype=bool), 0
        wanted[places[open_yet]] = True
        for table in run.table.tables(["target"]):
            yield from pc.unique(table["target"].filter(pa.array(wanted[start : start + len(table)]))).to_pylist()
            wanted[start : start + len(table)] &= table["target"].is_null().to_numpy()
            start += len(table)
        open_yet &= wanted[places]
