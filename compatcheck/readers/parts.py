"""Checked rows as task runs: what they are scored by, one run for each task and filter, repeats dropped or averaged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.errors import InputError, did_you_mean
from compatcheck.readers.recording import Item, Recording
from compatcheck.records import NO_FILTER, TEXT_COLUMNS, Metric, TaskRun, not_compared, score_column
from compatcheck.similarity import RECORDED
from compatcheck.table.check import build_table
from compatcheck.table.layout import MISSING, Layout, dig
from compatcheck.table.lists import references_of
from compatcheck.table.reading import MODEL_FIELDS, Chunk, Source
from compatcheck.table.repeats import as_mean, average_records, error_of_shares
from compatcheck.table.rows import RowTable, extract_targets, missing_field
from compatcheck.table.scoring import Options, check_metrics, recorded_metric, score_records, settle_scores, worst_score
from compatcheck.table.targets import Targets
from compatcheck.table.thinking import STRIP
from compatcheck.table.values import NUMBER, REFERENCES, TEXT, text_of
from compatcheck.text import text_hash

DEFAULT_TASK = "recorded"
"""Task name of rows that name none."""
_CHUNK_ROWS = 5_000
Ids = Mapping[tuple[str, str], Sequence[str]]
"""By task and filter the documents that ``--limit`` has taken of the other side."""


@dataclass
class Part:
    """The checked rows of a recording on their way to task runs."""

    rows: RowTable
    recording: Recording
    """What is known of them besides; a row that lacks a score of its ``partial`` is in error where that is compared."""
    default_metrics: Sequence[str]
    notes: Sequence[str] = ()
    left_out: Sequence[str] = ()
    score_notes: Sequence[str] = ()
    """What is said where no metric is asked for."""


def plain_part(rows: RowTable, layout: Layout, task: str | None) -> Part:
    """Checked plain rows as a part, with the scores that are compared where none are asked for."""
    # Scores that the file carries were given to the whole output, not to what is extracted now.
    recorded = () if layout.extract is not None else rows.metrics
    default = (RECORDED,) if recorded and rows.names_score else recorded or ("exact_match",)
    if layout.reference is not None:
        default = ()
    said: tuple[str, ...] = ()
    if RECORDED in default and rows.has_predictions and rows.has_targets:  # exact match could be computed
        said += (
            "the rows' own `score` is compared, not whether prediction and target are equal; say --metric score or "
            "--metric exact_match",
        )
    if layout.reasoning == STRIP and set(default) & set(rows.metrics):
        said += (
            "the scores in the file are compared as they are, though they may be of answers with their reasoning; "
            "--metric exact_match scores what is left without it",
        )
    return Part(rows, Recording(rows.source, (), task or DEFAULT_TASK), default, rows.notes, score_notes=said)


def with_targets_left(parts: Sequence[Part], targets: Targets | None) -> list[Part]:
    """All parts of a file; the first one says for which targets there was no row in any of them."""
    told = () if targets is None else targets.left()
    return [replace(part, notes=(*part.notes, *(told if part is parts[0] else ()))) for part in parts]


def runs_of(
    part: Part,
    layout: Layout,
    metrics: Sequence[str],
    limit: int | None,
    options: Options | None,
    ids: Ids | None = None,
) -> list[TaskRun]:
    rows, of = part.rows, part.recording
    wanted = wanted_metrics(rows, metrics, part.default_metrics)
    settings = {**of.settings, **said_of_rows(layout)}
    settings |= {"limit": limit} if limit is not None else {}
    runs: list[TaskRun] = []
    for task, name, table in _split(rows.table, of.task, layout):
        averaged = layout.repeats is not None
        table, duplicates = (table, 0) if averaged else drop_repeats(table, rows.source)
        duplicates += of.duplicates if not runs else 0
        if limit is not None:
            known = pc.is_in(table["doc_id"], value_set=wanted_ids(ids, task, name))
            if not pc.any(known).as_py():  # of averaged rows all those of the first ids
                first = pc.unique(table["doc_id"]).slice(0, limit)
                known = pc.is_in(table["doc_id"], value_set=first)
            table = table.filter(known)
        kept = [m for m in rows.metrics if f"score:{m}" in table.column_names and m in wanted]
        _, records, found = next(scored(part, wanted, options, partial(iter, [table])))
        own = settings
        if of.spread[1] > 1:  # the tool's own scores, averaged as they were read
            found = tuple(
                as_mean(one, of.spread, error_of_shares(records[score_column(one.name)].to_numpy(), of.spread[0]))
                if one.name in kept
                else one
                for one in found
            )
            own = settings | {"repeats": of.spread[1]}
        if averaged:
            records, found, (_, most) = average_records(records, found)
            own = settings | ({"repeats": most} if most > 1 else {})
        notes = (*part.notes, *(() if metrics else (*not_compared(task, part.left_out), *part.score_notes)))
        runs.append(TaskRun(task, name, found, records, own, duplicates, notes, rows.typed))
    return runs


def wanted_ids(ids: Ids | None, task: str, name: str) -> pa.Array:
    """The ids that are kept of a task and filter, as far as they are known."""
    return pa.array((ids or {}).get((task, name), ()), TEXT)


def said_of_rows(layout: Layout) -> dict[str, Any]:
    """What of a layout bears on the answers and their scores, as settings of the run."""
    said = {"extract": layout.extract, "prediction_field": layout.prediction_field, "reasoning": layout.reasoning}
    return {name: value for name, value in said.items() if value is not None}


def wanted_metrics(rows: RowTable, metrics: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
    """The metrics to score by, where none are asked for the default ones.

    Raises InputError for one that is unknown, or that needs what no row has.
    """
    for name in (*metrics, *default):
        if name in rows.faults:
            raise rows.faults[name]
    if RECORDED in metrics and RECORDED not in rows.metrics:
        raise rows.missing(RECORDED, "another --metric")
    check_metrics(metrics, rows.metrics)
    wanted = tuple(dict.fromkeys(metrics or default))
    computed = [name for name in wanted if name not in rows.metrics]
    if computed and not rows.has_targets:
        raise rows.missing(
            rows.target_field,
            "--target-field, give --targets, score by a recorded `score`, or compare answers alone: diff OLD NEW "
            "--reference old",
        )
    if computed and not rows.has_predictions:
        raise rows.missing("prediction", "--prediction-field")
    return wanted


def scored(
    part: Part,
    wanted: Sequence[str],
    options: Options | None,
    tables: Callable[[], Iterable[pa.Table]],
    only: Collection[str] = (),
) -> Iterator[tuple[pa.Table, pd.DataFrame, tuple[Metric, ...]]]:
    """The rows of a task and filter as records with scores, table by table; ``tables`` gives them as often as needed.

    ``only``: the columns that the records need besides scores, where that is not all of them.
    """
    recorded, worst = _recorded(part, wanted, options, tables)
    for table in tables():
        numbers = table[NUMBER].to_numpy()

        def where(row: int, numbers: Any = numbers) -> str:
            return part.rows.source.at(int(numbers[row]))

        names = record_columns(table.column_names, [*recorded])
        frame = frame_of(table.select([n for n in names if not only or n in only or n.startswith("score:")]))
        records = settle_scores(frame, worst, where, part.recording.partial)
        references = references_of(records, part.rows.typed, wanted)
        if REFERENCES in table.column_names:
            references = table[REFERENCES].to_pylist()
        records, metrics = score_records(records, wanted, references=references, options=options, where=where)
        yield table, records, tuple(recorded.get(metric.name, metric) for metric in metrics)


def _recorded(
    part: Part, wanted: Sequence[str], options: Options | None, tables: Callable[[], Iterable[pa.Table]]
) -> tuple[dict[str, Metric], dict[str, float | None]]:
    """Metrics of the scores that the rows carry, and what each gives where there is no answer.

    The least score, the greatest, and one that is neither 0 nor 1 tell all.
    """
    telling: dict[str, list[float]] = {}
    names = {score_column(name): name for name in part.rows.metrics if name in wanted}
    for table in tables() if names else ():
        for column in names.keys() & set(table.column_names):
            values, scores = telling.setdefault(names[column], []), table[column].cast(pa.float64()).drop_null()
            if len(scores):
                ends = pc.min_max(scores).as_py()
                between = pc.and_(pc.not_equal(scores, 0.0), pc.not_equal(scores, 1.0))
                values += [ends["min"], ends["max"], *scores.filter(between).slice(0, 1).to_pylist()]
    found, worst = {}, {}
    for name in (name for name in part.rows.metrics if name in telling):
        values, of = telling[name], part.recording
        told = of.higher_is_better.get(name, True if of.higher else None)
        found[name] = recorded_metric(name, pd.Series(values, dtype=float), told, options)
        worst[name] = worst_score(found[name], min(values, default=float("nan")))
    return found, worst


def frame_of(table: pa.Table) -> pd.DataFrame:
    # Whole numbers with gaps would become floats, and "3" would be shown as "3.0".
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_list(column.type):
            columns[name] = pd.Series(column.to_pylist(), dtype=object)
        else:
            mapper = nullable.get if column.null_count else None
            columns[name] = pa.table({name: column}).to_pandas(types_mapper=mapper)[name]
    return pd.DataFrame(columns, copy=False)


def record_columns(names: Sequence[str], kept: Sequence[str]) -> list[str]:
    """Known columns first; places, reference lists and scores that were not asked for left out."""
    own = ["doc_id", *(name for name in TEXT_COLUMNS if name in names), *(f"score:{name}" for name in kept)]
    left_out = {NUMBER, REFERENCES, "task", "filter", *own}
    return own + [name for name in names if name not in left_out and not name.startswith("score:")]


def _split(table: pa.Table, default_task: str, layout: Layout) -> list[tuple[str, str, pa.Table]]:
    """Rows by task and filter, in the order in which these first appear."""
    parts = [(default_task, NO_FILTER, table)]
    for column, default in (("task", default_task), ("filter", NO_FILTER)):
        if column not in table.column_names:
            continue
        split = []
        for task, name, part in parts:
            values = pc.fill_null(part[column], default)
            for value in pc.unique(values).to_pylist():
                rows = part.filter(pc.equal(values, value))
                split.append((value, name, rows) if column == "task" else (task, value, rows))
        parts = split
    if layout.filter is not None:
        there = list(dict.fromkeys(name for _, name, _ in parts))
        parts = [part for part in parts if part[1] == layout.filter]
        if not parts:
            hint = did_you_mean(layout.filter, there)
            raise InputError(f"no rows with filter '{layout.filter}'{hint}; filters there: {', '.join(there)}")
    return parts


def drop_repeats(table: pa.Table, source: Source) -> tuple[pa.Table, int]:
    """Drop rows that repeat an earlier row exactly; return how many.

    Raises InputError where rows have the same id but differ.
    """
    encoded = table["doc_id"].combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    if len(encoded.dictionary) == len(codes):
        return table, 0
    counts = np.bincount(codes)
    suspects = np.flatnonzero(counts[codes] > 1)
    telling = ("prediction", "target")
    names = sorted((name for name in table.column_names if name != NUMBER), key=lambda name: name not in telling)
    first: dict[str, tuple[int, dict[str, Any]]] = {}
    drop = np.zeros(len(codes), dtype=bool)
    for position, row in zip(suspects, table.take(pa.array(suspects)).to_pylist(), strict=True):
        number = row[NUMBER]
        since, earlier = first.setdefault(row["doc_id"], (number, row))
        if earlier is row:
            continue
        different = next((name for name in names if not _same(row[name], earlier[name])), None)
        if different is not None:
            shown = "target" if different == REFERENCES else different
            several = next((name for name in MODEL_FIELDS if name in row and not _same(row[name], earlier[name])), None)
            hint = "correct the data or name another --id-field"
            if several is not None:
                hint = f"name the rows of one model as {source.path}#{row[several]} (--model-field {several})"
            raise InputError(
                f"{source.at(number)}: the id {row['doc_id']!r:.80} again, with another `{shown}` than in "
                f"{source.place(since)}; an id stands for one row: {hint}"
            )
        drop[position] = True
    return table.filter(pa.array(~drop)), int(drop.sum())


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))


def as_part(
    recording: Recording, layout: Layout, side: str, targets: Targets | None, metrics: Sequence[str] = ()
) -> Part:
    """Check the rows and make a table of them.

    With ``layout.extract``, field options or targets of their own, predictions and targets are what these say (fields
    are dotted paths into the tool's own records), and the tool's scores, which were given to something else, are left
    out.
    """
    restated = any((layout.extract, layout.prediction_field, layout.target_field)) or targets is not None
    source = recording.source
    plain = Layout(extract=layout.extract, reference=layout.reference, reasoning=layout.reasoning)
    items = _restated(recording, layout) if restated or layout.names_fields else recording.items
    chunks = _chunks(items, source.path)
    made = replace(source, chunks=chunks, batches=None, plain_names=True)
    rows = extract_targets(build_table(made, plain, side, targets, metrics), plain)
    if restated:
        rows.metrics = ()
    notes = (*(f"{recording.task}: {note}" for note in dict.fromkeys(recording.notes)), *rows.notes)
    partial = recording.partial = {name: n for name, n in recording.partial.items() if name in rows.metrics}
    rare = [name for name, (count, of) in partial.items() if 2 * count <= of]
    default = tuple(name for name in rows.metrics if name not in rare) or ("exact_match",)
    if layout.reference is not None:
        default = ()
    said = {name: f"{name} is scored in {count:,} of {of:,} rows" for name, (count, of) in partial.items()}
    asked = set(metrics or default)
    notes += tuple(f"{recording.task}: {said[name]}; the others are errors" for name in partial if name in asked)
    of_scores = [f"{recording.task}: {said[name]} only and is not compared (--metric {name})" for name in rare]
    return Part(rows, recording, default, notes, score_notes=of_scores)


def _restated(recording: Recording, layout: Layout) -> Iterator[Item]:
    options = (
        ("id", layout.id_field, "--id-field"),
        ("input", layout.input_field, "--input-field"),
        ("target", layout.target_field, "--target-field"),
        ("prediction", layout.prediction_field, "--prediction-field"),
    )
    drop = any((layout.extract, layout.prediction_field, layout.target_field, layout.targets))
    for number, row, raw in recording.items:
        if drop:
            row = {key: value for key, value in row.items() if not key.startswith(("score:", "prediction:"))}
        for name, path, option in options:
            if path is None:
                continue
            value = dig(raw, path)
            if value is MISSING and name == "prediction" and row.get("error"):
                value = None
            if value is MISSING:
                raise missing_field(recording.source, number, raw, path, option)
            row = row | {name: value}
            if name == "id" and "doc_hash" in row:  # which document it is says the field that was named, and no other
                row["doc_hash"] = f"{str(row['doc_hash']).partition(':')[0]}:{text_hash(text_of(value))}"
        if layout.prediction_field is not None or layout.extract is not None:
            response = row.pop("response", None) if layout.prediction_field is None else None
            row = {key: value for key, value in row.items() if key != "response"}
            if response is not None:
                row["prediction"] = response  # what is extracted comes from the whole of it
        yield number, row, raw


def _chunks(items: Iterable[Item], path: Path) -> Iterator[Chunk]:
    each, empty = iter(items), True
    while chunk := list(itertools.islice(each, _CHUNK_ROWS)):
        yield [number for number, _, _ in chunk], [row for _, row, _ in chunk]
        empty = False
    if empty:
        raise InputError(f"{path}: no rows in this file")
