"""The result as plain JSON (contract ``compatcheck.report/1``) and back. Instances travel beside it as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from compatcheck.compare.instances import STRING
from compatcheck.compare.result import (
    CHANGES,
    INSTANCE_COLUMNS,
    NO_TARGETS,
    PREFERENCES,
    QUADRANTS,
    SCHEMA,
    SMOOTH_GROUPS,
    Comparison,
    Result,
)
from compatcheck.compare.slices import text_of
from compatcheck.errors import InputError
from compatcheck.schema import from_json, to_json

_SHARED = ["task", "filter", "metric"]
_ORDER = ("version", "verdict", "advice", "command", "old", "new", "differences", "absent", "notes", "earlier_looks",
          "history", "comparisons")  # fmt: skip
_NUMBERS = ("score_old", "score_new", "gain")
_NEEDED = {
    "discrete": ("accuracy_old", "accuracy_new", "nfr", "pfr", "net"),
    "smooth": ("score_old", "score_new", "nfr", "pfr", "mean_gain", "mean_regression", "mean_difference"),
}
"""Figures that every report shows."""
_NEEDED_OF_CHANGES = ("agreement", "changed")


def result_to_dict(result: Result) -> dict[str, Any]:
    """Plain dicts, lists, strings and finite numbers; undefined is None with its ``why``, never NaN."""
    plain = to_json(replace(result, comparisons=()))
    plain["comparisons"] = [_comparison(each) for each in result.comparisons]
    if result.differences is not None:
        plain["differences"] = {"sentence": result.differences.sentence, **plain["differences"]}
    return {"schema": SCHEMA} | {name: plain[name] for name in _ORDER}


def _comparison(each: Comparison) -> dict[str, Any]:
    """With what can be read off the rest, for other programs."""
    found: dict[str, Any] = {}
    for name, value in to_json(each).items():
        if name != "confidence":
            found[name] = value
        if name == "n":
            found["confidence"] = each.confidence
        elif name == "quadrants" and each.reference is not None:
            found |= {"quadrants": None, "quadrants_why": NO_TARGETS, "changes": value}
        elif name == "slices":
            found["slice_tests"] = sum(one.p is not None for one in each.slices)
        elif name == "gates":
            found["fields"] = [column for column in each.instances.columns if column not in INSTANCE_COLUMNS]
        elif name == "sequential" and each.sequential is not None:
            value["saved"] = each.sequential.available - each.sequential.used
    return found


def result_from_dict(data: Mapping[str, Any], instances: pd.DataFrame) -> Result:
    """The result that :func:`result_to_dict` and :func:`join_instances` wrote.
    Raises InputError: another schema, a field that is missing or of the wrong kind, or a table without its columns."""
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise InputError(f"this is no report of schema '{SCHEMA}': its schema is {ascii(schema)[:60]}")
    _check_table(instances)
    rows = instances.groupby(_SHARED, sort=False, observed=True).indices if len(instances) else {}
    result = from_json(Result, _with_groups(data), "the report")
    comparisons = []
    for each, kept in zip(result.comparisons, data["comparisons"], strict=True):
        names: tuple[str, ...] = QUADRANTS if each.kind == "discrete" else SMOOTH_GROUPS
        needed = _NEEDED[each.kind]
        if each.reference is not None:
            names, needed = PREFERENCES if "tied" in each.quadrants else CHANGES, _NEEDED_OF_CHANGES
        lacking = [*(name for name in names if name not in each.quadrants),
                   *(name for name in needed if name not in each.metrics)]  # fmt: skip
        if lacking:
            raise InputError(f"the report lacks the field '{lacking[0]}' of {each.name!a}: it was cut or edited")
        own = np.asarray(rows.get((each.task, each.filter, each.metric), np.empty(0)), dtype=np.intp)
        fields = kept.get("fields", [name for name in instances.columns if name not in INSTANCE_COLUMNS])
        names_of_fields = isinstance(fields, list) and all(isinstance(name, str) for name in fields)
        if not names_of_fields or len({*fields, *INSTANCE_COLUMNS} & {*instances}) < len(fields) + len(
            INSTANCE_COLUMNS
        ):
            raise InputError(f"the report names fields of {each.name!a} that its instance table does not have")
        part = instances if len(own) == len(instances) else instances.take(own).reset_index(drop=True)
        counts = {str(name): count for name, count in part["quadrant"].value_counts().items()}
        kept_counts = {name: count for name, count in each.quadrants.items() if count}
        if set(counts) - set(names) or (each.overview is None and counts != kept_counts):
            raise InputError(
                f"the instances of {each.name!a} are not those of this report: their quadrants are "
                f"{ascii(counts)[:200]} in place of {kept_counts}; run the comparison again"
            )
        comparisons.append(replace(each, instances=part[[*INSTANCE_COLUMNS, *fields]]))
    return replace(result, comparisons=tuple(comparisons))


def _with_groups(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was written, with the groups of answers that changed in the place of quadrants."""
    written = data.get("comparisons")
    if not isinstance(written, list):
        return data
    known = [
        {**each, "quadrants": each["changes"]} if isinstance(each, dict) and "changes" in each else each
        for each in written
    ]
    return {**data, "comparisons": known}


def _check_table(instances: pd.DataFrame) -> None:
    """Raise InputError for a table whose columns are not those of instances."""
    missing = [name for name in INSTANCE_COLUMNS if name not in instances]
    if missing:
        raise InputError(f"the instance table has no column '{missing[0]}': it does not belong to this report")
    for name in INSTANCE_COLUMNS:
        column, kind = instances[name], "texts"
        inferred = pd.api.types.infer_dtype(column, skipna=True)
        fits = inferred in ("string", "categorical", "empty")
        if name in _NUMBERS:
            fits, kind = pd.api.types.is_numeric_dtype(column.dtype) or inferred == "empty", "numbers"
        elif name == "changed":
            fits, kind = inferred in ("boolean", "empty"), "true or false"
        if not fits:
            raise InputError(f"the column '{name}' of the instance table holds other than {kind}: it was edited")


def join_instances(result: Result) -> pd.DataFrame:
    """The instances of all comparisons in one table, as ``instances.parquet`` holds it.

    A slice field that only some tasks have is null in the rest. One that holds values of several kinds, within a task
    or between tasks, becomes text, since a column of a table has one kind.
    """
    frames = [each.instances for each in result.comparisons]
    if not frames:
        return pd.DataFrame(columns=list(INSTANCE_COLUMNS))
    columns: dict[str, list[pd.Series]] = {}
    for frame in frames:
        for name in frame.columns:
            if name not in INSTANCE_COLUMNS:
                columns.setdefault(name, []).append(frame[name])
    mixed = [name for name, parts in columns.items() if _mixed(parts)]
    if len(frames) == 1 and not mixed:
        return frames[0]
    texts = [{name: frame[name].map(text_of, na_action="ignore").astype(STRING) for name in mixed if name in frame}
             for frame in frames]  # fmt: skip
    plain = [frame.assign(**made) if made else frame for frame, made in zip(frames, texts, strict=True)]
    return pd.concat(plain, ignore_index=True).astype(dict.fromkeys(_SHARED, STRING))


def _mixed(columns: list[pd.Series]) -> bool:
    kinds = {pd.api.types.infer_dtype(column, skipna=True) for column in columns}
    several = len(kinds - {"empty", "integer", "floating"}) + bool(kinds & {"integer", "floating"}) > 1
    return several or any(kind.startswith("mixed") for kind in kinds)
