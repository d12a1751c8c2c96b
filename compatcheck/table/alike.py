"""Numbers and booleans that one side's file holds as such and another's as texts: both sides are then read by value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from compatcheck import similarity
from compatcheck.errors import InputError
from compatcheck.records import LISTS, Metric, Run, StoredRun, TaskRun, score_column
from compatcheck.similarity import RECORDED, STRUCTURED
from compatcheck.similarity.exact import references
from compatcheck.table.lists import is_list_text, references_of
from compatcheck.table.scoring import Options, score_records
from compatcheck.table.stored import mapped
from compatcheck.table.values import number_in, text_of
from compatcheck.text import value_text

Kind = TypeVar("Kind", TaskRun, StoredRun)
_MAYBE_OTHERWISE = r"^\s*([-−]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|(?i:true|false))\s*$"
_AS_IT_IS = r"^(0|-?[1-9][0-9]*|true|false)$"


def runs_alike(runs: Sequence[Run], options: Options | None) -> list[Run]:
    """Runs that are compared with each other, read by value as :func:`read_alike` does."""
    alike = read_alike([run.tasks for run in runs], options)
    return [replace(run, tasks=tuple(tasks)) for run, tasks in zip(runs, alike, strict=True)]


def read_alike(sides: Sequence[Sequence[Kind]], options: Options | None) -> list[list[Kind]]:
    """The runs of each side, those of one task and filter read by value where the sides write values in other ways.

    That is where targets or answers are numbers or booleans in one file and texts in another, or where a target is
    spelled in another way. Answers are then right when they have the target's value, on all sides.
    """
    found = [list(runs) for runs in sides]
    for key in dict.fromkeys((run.task, run.filter) for runs in sides for run in runs):
        places = [(s, p) for s, runs in enumerate(found) for p, run in enumerate(runs) if (run.task, run.filter) == key]
        same = [found[s][p] for s, p in places]
        for s, p in places if len({LISTS in run.typed for run in same}) > 1 else ():
            found[s][p] = _with_lists(found[s][p], options)
        typed = {run.typed - {LISTS} for run in same}
        if len(typed) > 1 or any(_respelled(a, b) for a in same for b in same if a is not b):
            for s, p in places:
                found[s][p] = _by_value(found[s][p], options)
    return found


def _respelled(one: Kind, other: Kind) -> bool:
    """Whether a target of ``one`` has another spelling in ``other``."""
    parts = [(ids.filter(maybe), texts.filter(maybe)) for ids, texts in _targets(one) if (maybe := _otherwise(texts))]
    if not parts:
        return False
    known, spelled = (pa.concat_arrays(each) for each in zip(*parts, strict=True))
    for ids, texts in _targets(other):
        mine = spelled.take(pc.index_in(ids, value_set=known))
        differs = pc.fill_null(pc.not_equal(mine, texts), False)
        for text, its in zip(mine.filter(differs).to_pylist(), texts.filter(differs).to_pylist(), strict=True):
            if text.strip() != its.strip() and value_text(text) == value_text(its):
                return True
    return False


def _targets(run: TaskRun | StoredRun) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Ids and targets."""
    if not {"doc_id", "target"} <= {*run.names}:
        return
    if isinstance(run, TaskRun):
        yield _texts(run.records["doc_id"]), _texts(run.records["target"])
        return
    for table in run.table.tables(["doc_id", "target"]):
        ids, texts = (table[name].combine_chunks().cast(pa.large_string()) for name in ("doc_id", "target"))
        yield ids, texts


def _texts(column: pd.Series) -> pa.Array:
    return pa.array(column, pa.large_string(), from_pandas=True)


def _otherwise(texts: pa.Array) -> pa.Array | None:
    """Which texts :func:`value_text` may write in another way; None where no one is."""
    if texts.null_count == len(texts):
        return None
    each = pc.unique(texts)
    maybe = pc.and_(
        pc.match_substring_regex(each, _MAYBE_OTHERWISE), pc.invert(pc.match_substring_regex(each, _AS_IT_IS))
    )
    return pc.is_in(texts, value_set=each.filter(maybe)) if pc.any(maybe).as_py() else None


def _by_value(run: Kind, options: Options | None) -> Kind:
    """A run whose targets and answers are read by value, scored anew where that changes one."""
    if any(metric.name in STRUCTURED for metric in run.metrics):
        return run  # they read values themselves
    return _changed(run, partial(_part_by_value, names=_names(run, options), options=options, typed=run.typed))


def _with_lists(run: Kind, options: Options | None) -> Kind:
    """A run whose targets are lists as they are in another file, scored anew where one is."""
    if LISTS in run.typed:
        return run
    names, typed = _names(run, options), run.typed | {LISTS}

    def read(part: TaskRun) -> TaskRun:
        lists = np.array(is_list_text(_texts(part.records["target"])) if "target" in part.records else [], dtype=bool)
        return replace(part, records=_scored_anew(part.records, lists, names, options, typed))

    return replace(_changed(run, read), typed=typed)


def _changed(run: Kind, change: Callable[[TaskRun], TaskRun]) -> Kind:
    return change(run) if isinstance(run, TaskRun) else mapped(run, change, run.metrics)  # type: ignore[return-value]


def _names(run: TaskRun | StoredRun, options: Options | None) -> list[str]:
    """The metrics whose scores are computed here."""
    return [one.name for one in run.metrics if score_column(one.name) in run.names and _computed_here(one, options)]


def _computed_here(metric: Metric, options: Options | None) -> bool:
    if metric.name == RECORDED or metric.name not in similarity.names():
        return False
    try:
        scorer = similarity.get(metric.name, **(options or {}).get(metric.name, {}))
    except InputError:  # settings of a recorded score of this name
        return False
    return scorer.judged is None and scorer.signature == metric.signature


def _part_by_value(run: TaskRun, names: Sequence[str], options: Options | None, typed: Collection[str]) -> TaskRun:
    records, changed = run.records, np.zeros(run.rows, dtype=bool)
    targets = _texts(records["target"]).to_pylist() if "target" in records else [None] * run.rows
    found = {"target": [_read(text) for text in targets]}
    if "prediction" in records:
        found["prediction"] = list(map(_answer, _texts(records["prediction"]).to_pylist(), found["target"]))
    for name, texts in found.items():
        if name not in records:
            continue
        before = records[name].astype(object)
        differs = before.notna().to_numpy() & (before.to_numpy() != np.array(texts, dtype=object))
        if differs.any():
            records, changed = records.assign(**{name: pd.Series(texts, records.index, object)}), changed | differs
        if differs.any() and name == "prediction":
            whole = records["response"].astype(object) if "response" in records else before.where(differs & False)
            records = records.assign(response=whole.where(whole.notna() | ~differs, before))
    return replace(run, records=_scored_anew(records, changed, names, options, typed))


def _scored_anew(
    records: pd.DataFrame, rows: Any, names: Sequence[str], options: Options | None, typed: Collection[str]
) -> pd.DataFrame:
    """The records, some of their rows (a mask) scored again by these metrics."""
    if not names or not rows.any():
        return records
    scores = [score_column(name) for name in names]
    some = records[rows].drop(columns=scores)
    anew, _ = score_records(some, names, references=references_of(some, typed, names), options=options)
    records = records.copy()
    records.loc[rows, scores] = anew[scores]
    return records


def _read(text: str | None) -> str | None:
    """A text by its value, or the texts of a list by theirs."""
    if text is None:
        return None
    each = references(text)
    return value_text(text) if each == [text] else text_of([value_text(one) for one in each])


def _answer(text: str | None, target: str | None) -> str | None:
    """An answer by its value; as a target is spelled where it is the same number (``1,234`` and ``1234``)."""
    if text is None or text == target:
        return text
    if target is not None and (number := number_in(text)) is not None:
        same = (one for one in references(target) if number_in(one) == number)
        return next(same, None) or _read(text)
    return _read(text)
