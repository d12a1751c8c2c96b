"""Which task runs of two sides belong together, and by which metrics they can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from compatcheck.compare.differences import Differences, differences, with_engine
from compatcheck.compare.instances import kind_of, slice_fields, text_of
from compatcheck.compare.quadrants import dead_band, resolve_metric
from compatcheck.compare.result import Absent
from compatcheck.errors import InputError
from compatcheck.records import Metric, StoredRun, TaskRun
from compatcheck.text import significant

Counterparts = list[tuple[Any, Any, list[Metric]]]  # task run of OLD, that of NEW, and the metrics they share


def counterparts(old: Any, new: Any) -> tuple[Counterparts, tuple[Absent, ...]]:
    """The task runs of both sides that belong together with the metrics they share, and those without a counterpart.

    ``old`` and ``new`` are runs, in memory or on disk: what has ``tasks`` and a ``manifest``. The settings of the task
    runs that are returned name the engine, too. Raises InputError: they share nothing."""
    old, new = with_engine(old), with_engine(new)
    theirs = {(run.task, run.filter): run for run in new.tasks}
    met = [(run, theirs[run.task, run.filter]) for run in old.tasks if (run.task, run.filter) in theirs]
    pairs = [(run, other, metrics) for run, other in met if (metrics := shared_metrics(run, other))]
    compared = {(run.task, run.filter) for run, _, _ in pairs}
    absent = tuple(
        Absent(side, run.task, run.filter, run.rows)
        for side, runs in (("old", old.tasks), ("new", new.tasks))
        for run in runs
        if (run.task, run.filter) not in compared
    )
    if not pairs:

        def names(run: Any) -> str:
            each = (f"{t.task}/{t.filter} ({', '.join(m.name for m in t.metrics)})" for t in run.tasks)
            return ", ".join(each) or "nothing"

        raise InputError(
            f"old and new share no task, filter and metric: old has {names(old)}; new has {names(new)}; "
            f"{_why(old, new)}record both for the same task, give a task that each has alone one name with --task, or "
            "name a --metric"
        )
    return pairs, absent + tuple(_unshared(pairs))


def _unshared(pairs: Counterparts) -> Iterator[Absent]:
    """The metrics of tasks and filters of both sides that one of them lacks."""
    for run, other, metrics in pairs:
        shared = {metric.name for metric in metrics}
        for side, mine in (("old", run), ("new", other)):
            for metric in mine.metrics:
                if metric.name not in shared:
                    yield Absent(side, run.task, run.filter, mine.rows, metric.name, metric.kind)


def _why(old: Any, new: Any) -> str:
    """What the runs themselves say of it: rows that all failed have no scores, and scores that some rows lack."""
    said = []
    for side, run in (("OLD", old), ("NEW", new)):
        for task in run.tasks:
            records = getattr(task, "records", None)
            if records is not None and "error" in records and len(records) and records["error"].notna().all():
                said.append(f"every row of {side} on {task.task} is in error; ")
            said += [f"{side}: {note}; " for note in task.notes if note.endswith("is not compared")]
    return "".join(said)


def differences_of(old: Any, new: Any) -> Differences:
    """What two runs, in memory or on disk, differ in besides the model, and whether that is the same."""
    found = differences((run.settings, other.settings) for run, other, _ in counterparts(old, new)[0])
    one, other = old.manifest.fingerprint, new.manifest.fingerprint
    found = replace(found, same=bool(one) and one == other)
    return found.with_precision(*(run.manifest.engine.get("precision") for run in (old, new)))


def absent_notes(absent: Sequence[Absent]) -> list[str]:
    """A sentence for every task and filter that was not compared, or not by all the metrics of one side."""
    metrics: dict[tuple[str, str, str], list[str]] = {}
    for one in absent:
        if one.metric is not None:
            metrics.setdefault((one.side, one.task, one.filter), []).append(one.metric)
    return [
        f"{one.side}: {one.task} ({one.filter}) has no counterpart on the other side: its {one.rows:,} rows are not "
        "compared"
        for one in absent
        if one.metric is None
    ] + [
        f"{side}: {task} ({name}) is scored by {', '.join(alone)} too, which {'new' if side == 'old' else 'old'} "
        "lacks: not compared"
        for (side, task, name), alone in metrics.items()
    ]


def shared_metrics(old: TaskRun | StoredRun, new: TaskRun | StoredRun) -> list[Metric]:
    """Metrics both sides have; discrete only where it is on both sides, settled where either is.
    Raises InputError: the sides say that one points in different directions."""
    theirs = {metric.name: metric for metric in new.metrics}
    shared = []
    for metric in old.metrics:
        other = theirs.get(metric.name)
        if other is None:
            continue
        if metric.higher_is_better != other.higher_is_better:
            words = ["better" if one.higher_is_better else "worse" for one in (metric, other)]
            raise InputError(
                f"{old.task}: a higher {metric.name} is {words[0]} in OLD and {words[1]} in NEW; say "
                f"--lower-is-better {metric.name} or --metric-arg {metric.name}.higher_is_better=true"
            )
        chosen = metric if other.kind == "discrete" else other
        signature = " / ".join(dict.fromkeys(one.signature for one in (metric, other) if one.signature))
        settled = tuple((dict(metric.settled) | dict(other.settled)).items())
        shared.append(replace(chosen, settled=settled, signature=signature))
    return shared


def field_notes(pairs: Counterparts, fields: Sequence[str]) -> list[str]:
    """A sentence for every field to count by that says another thing in OLD than in NEW, of records in memory."""
    notes = []
    for old, new, _ in pairs:
        for field in dict.fromkeys(each for each in fields if each in slice_fields(old.names, new.names)):
            if field not in old.names or field not in new.names:
                continue
            both = old.records[["doc_id", field]].merge(new.records[["doc_id", field]], on="doc_id").dropna()
            one, other = both.iloc[:, 1], both.iloc[:, 2]
            if "text" in (kind_of(one), kind_of(other)):
                one, other = (each.astype(object).map(text_of) for each in (one, other))
            if count := int((one != other).sum()):
                rows = f"{count:,} of {len(both):,} rows"
                notes.append(f"{old.task}: `{field}` is another in NEW than in OLD in {rows}; OLD's counts")
    return notes


def sample_notes(pairs: Counterparts) -> list[str]:
    """What was taken as unchanged where scores are averages of samples."""
    bands = [(run.task, metric.name, dead_band(None, resolve_metric(metric, run, other)))
             for run, other, metrics in pairs for metric in metrics]  # fmt: skip
    return [
        f"{task}: {name} is an average of samples; a gain within ±{significant(band, 2)}, 2.5 standard errors of a "
        "difference, counts as unchanged; --epsilon sets another dead-band"
        for task, name, band in bands
        if band > 0
    ]
