"""Choosing instances of a result and showing each in full on a terminal: what ``compatcheck show`` pages through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.text import Text

from compatcheck.compare.kinds import KINDS
from compatcheck.compare.result import CHANGES, KIND_COLUMN, PREFERENCES, QUADRANTS, SMOOTH_GROUPS, Result
from compatcheck.compare.themes import THEME_COLUMN
from compatcheck.errors import InputError, did_you_mean
from compatcheck.report import figures
from compatcheck.report.instances import instance, is_null, slice_fields
from compatcheck.report.terminal import STYLES, flip_block, render_parts
from compatcheck.report.text import safe_text, trim_middle

_GROUPS = tuple(dict.fromkeys((*QUADRANTS, *SMOOTH_GROUPS, *CHANGES, *PREFERENCES)))
_SAME = ("both_wrong", "both_correct", "unchanged")
FILTERS = ("flips", *_GROUPS, "error", "all")
"""What can be chosen: a quadrant, both kinds of flips (negative ones first), what was not scored, or everything."""
_ORDER = {
    "negative_flip": 0, "positive_flip": 1, "error": 2, "both_wrong": 3, "both_correct": 4, "unchanged": 4,
    "old_preferred": 0, "new_preferred": 1, "changed": 0, "tied": 1.5,
}  # fmt: skip
_SEARCHED = (
    "doc_id", "input", "target", "prediction_old", "prediction_new", "response_old", "response_new", "error_old",
    "error_new", "prompt_old", "prompt_new", THEME_COLUMN,
)  # fmt: skip
_FIELDS = 12


class Place(NamedTuple):
    """One instance: which comparison, which row of its table."""

    comparison: int
    row: int


def check_filter(name: str) -> tuple[str, str | None]:
    """The name of a filter, as it is written in :data:`FILTERS`, and the kind of failure where it is one of
    :data:`KINDS`; ``negative-flips`` is read as ``negative_flip``.
    Raises InputError: there is none of that name.
    """
    plain = name.lower().replace("-", "_").replace(" ", "_")
    for known in FILTERS:
        if plain in (known, f"{known}s"):
            return known, None
    if plain in KINDS:
        return "negative_flip", plain
    every = (*FILTERS, *KINDS)
    raise InputError(f"--quadrant {name}: unknown{did_you_mean(plain, every)}; known: {', '.join(every)}")


def choose_comparisons(result: Result, task: str | None) -> list[int]:
    """Places of the comparisons of a task, named by ``task/filter/metric`` or any of its parts; all without a name.
    Raises InputError: none has that name.
    """
    every = list(enumerate(result.comparisons))
    if task is None:
        return [place for place, _ in every]
    parts = set(task.split("/"))
    found = [place for place, each in every if each.name == task]
    found = found or [place for place, each in every if parts <= {each.task, each.filter, each.metric}]
    if not found:
        names = [each.name for _, each in every]
        known = f"{did_you_mean(task, names)}; there are {', '.join(names)}"
        raise InputError(f"--task {task}: is not in this report{known}")
    return found


def select(
    result: Result,
    comparisons: Sequence[int],
    quadrant: str = "flips",
    search: str = "",
    doc_id: str | None = None,
    kind: str | None = None,
) -> list[Place]:
    """The instances that pass, comparison by comparison: negative flips first and the worst of them, then the rest.

    ``search`` holds words, all of which an instance has in one of its texts or slice fields, in any case; ``kind`` is
    the kind of failure.
    """
    found: list[Place] = []
    for place in comparisons:
        frame = result.comparisons[place].instances
        rows = np.flatnonzero((frame["doc_id"].astype(str) == doc_id) if doc_id is not None else _in(frame, quadrant))
        if kind is not None:
            known = KIND_COLUMN in frame
            rows = rows[(frame[KIND_COLUMN].iloc[rows] == kind).to_numpy(dtype=bool)] if known else rows[:0]
        for word in search.split():
            rows = rows[_holds(frame, rows, word)]
        part = frame[["quadrant", "gain"]].iloc[rows]
        rank = part["quadrant"].map(_ORDER).fillna(_ORDER["error"]).to_numpy(dtype=float)
        gain = np.nan_to_num(pd.to_numeric(part["gain"]).to_numpy(dtype=float, na_value=0.0))
        order = np.lexsort((np.where(rank == _ORDER["positive_flip"], -gain, gain), rank))
        found += [Place(place, row) for row in rows[order].tolist()]
    return found


def _in(frame: pd.DataFrame, quadrant: str) -> pd.Series:
    if quadrant == "all":
        return pd.Series(True, index=frame.index)
    if quadrant == "error":
        return frame["quadrant"].isna()
    flips = [name for name in _GROUPS if name not in _SAME]
    return frame["quadrant"].isin(flips if quadrant == "flips" else [quadrant])


def _holds(frame: pd.DataFrame, rows: NDArray[np.intp], word: str) -> NDArray[np.bool_]:
    """Which of the rows have the word, in any case, in one of their texts or slice fields."""
    found = np.zeros(len(rows), dtype=bool)
    for name in [*_SEARCHED, *slice_fields(frame)]:
        if name in frame:
            left = np.flatnonzero(~found)
            values = frame[name].iloc[rows[left]]
            known = values.notna().to_numpy(dtype=bool)
            if known.any():
                left, values = left[known], values[known]
                found[left[_contains(values, word)]] = True
    return found


def _contains(values: pd.Series, word: str) -> NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        texts = pa.array(values.astype(str), type=pa.large_string())
        return pc.match_substring(texts, word, ignore_case=True).fill_null(False).to_numpy(zero_copy_only=False)
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell and UTF-8 cannot hold
        return np.array([word.lower() in str(value).lower() for value in values], dtype=bool)


def find_id(result: Result, comparisons: Sequence[int], doc_id: str) -> list[Place]:
    """Where the document of that id is.
    Raises InputError: nowhere.
    """
    found = select(result, comparisons, doc_id=doc_id)
    if not found:
        heads = (result.comparisons[place].instances["doc_id"].head(5_000) for place in comparisons)
        known = [str(value) for head in heads for value in head]
        such = f"; ids are such as {', '.join(dict.fromkeys(known[:3]))}" if known else ""
        raise InputError(f"{doc_id}: no instance has this id{did_you_mean(doc_id, known)}{such}")
    return found


def instance_text(result: Result, place: Place, width: int, color: bool) -> str:
    """One instance in full, with its outcome, word differences and fields, at most ``width`` columns wide."""
    comparison = result.comparisons[place.comparison]
    row = {str(key): value for key, value in comparison.instances.iloc[place.row].to_dict().items()}
    name = "error" if is_null(row["quadrant"]) else str(row["quadrant"])
    label = "not scored" if name == "error" else figures.QUADRANT_LABELS.get(name, name).replace("flips", "flip")
    symbol = "!" if name == "error" else figures.QUADRANT_SYMBOLS.get(name, "·")
    title = Text(f"{symbol} {safe_text(label)} · {safe_text(comparison.name)}", style=STYLES.get(name) or "bold")
    fields = [name for name in slice_fields(comparison.instances) if not is_null(row[name])]
    said = [f"{safe_text(name)}={trim_middle(safe_text(row[name]), 60)}" for name in fields[:_FIELDS]]
    said += [f"and {len(fields) - _FIELDS} more fields"] if len(fields) > _FIELDS else []
    rest = [Text("  ".join(said), style="dim")] if said else []
    return render_parts(
        [title, flip_block(instance(row), comparison, color, whole=True), *rest], width=width, color=color
    )
