"""The result as plain JSON (contract ``compatcheck.report/1``) and back. Instances travel beside it as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from compatcheck.compare.differences import Difference, Differences
from compatcheck.compare.instances import STRING
from compatcheck.compare.overview import Gains, Overview
from compatcheck.compare.result import (
    INSTANCE_COLUMNS,
    SCHEMA,
    Absent,
    Advice,
    BlessedRun,
    BlessedScore,
    BoundPath,
    ClusterCount,
    Comparison,
    Estimate,
    Gate,
    Look,
    NearTies,
    NoiseFloor,
    Pairing,
    Reading,
    Result,
    Sequential,
    Side,
    Slice,
    TieCount,
)
from compatcheck.compare.slices import text_of
from compatcheck.errors import InputError

_SHARED = ("task", "filter", "metric")


def result_to_dict(result: Result) -> dict[str, Any]:
    """Plain dicts, lists, strings and finite numbers; undefined is None with its ``why``, never NaN."""
    return {
        "schema": SCHEMA,
        "version": result.version,
        "verdict": result.verdict,
        "advice": None if result.advice is None else dict(vars(result.advice)),
        "command": result.command,
        "old": _side(result.old),
        "new": _side(result.new),
        "differences": None if result.differences is None else _differences(result.differences),
        "absent": [dict(vars(one)) for one in result.absent],
        "notes": list(result.notes),
        "earlier_looks": list(result.earlier_looks),
        "history": [_blessed(each) for each in result.history],
        "comparisons": [_comparison(each) for each in result.comparisons],
    }


def join_instances(result: Result) -> pd.DataFrame:
    """The instances of all comparisons in one table, as ``instances.parquet`` holds it.

    A slice field that only some tasks have is null in the rest. One that holds values of several kinds, within a task
    or between tasks, becomes text, since a column of a table has one kind.
    """
    frames = [each.instances for each in result.comparisons]
    if not frames:
        return pd.DataFrame(columns=list(INSTANCE_COLUMNS))
    fields = dict.fromkeys(name for frame in frames for name in frame.columns if name not in INSTANCE_COLUMNS)
    mixed = [name for name in fields if _mixed([frame[name] for frame in frames if name in frame])]
    if len(frames) == 1 and not mixed:
        return frames[0]
    plain = []
    for frame in frames:
        frame = frame.astype(dict.fromkeys(_SHARED, STRING))
        for name in mixed:
            if name in frame:
                frame[name] = frame[name].map(text_of, na_action="ignore").astype(STRING)
        plain.append(frame)
    return pd.concat(plain, ignore_index=True)


def _mixed(columns: list[pd.Series]) -> bool:
    kinds = {pd.api.types.infer_dtype(column, skipna=True) for column in columns}
    return len(kinds - {"empty", "integer", "floating"}) + bool(kinds & {"integer", "floating"}) > 1 or any(
        kind.startswith("mixed") for kind in kinds
    )


def result_from_dict(data: Mapping[str, Any], instances: pd.DataFrame) -> Result:
    """The result that :func:`result_to_dict` and :func:`join_instances` wrote.

    Raises:
        InputError: another schema, a field that is missing or of the wrong kind, or a table without its columns.
    """
    schema = data.get("schema") if isinstance(data, Mapping) else None
    if schema != SCHEMA:
        raise InputError(f"this is no report of schema '{SCHEMA}': its schema is {schema!r}")
    missing = [name for name in INSTANCE_COLUMNS if name not in instances]
    if missing:
        raise InputError(f"the instance table has no column '{missing[0]}': it does not belong to this report")
    try:
        return Result(
            old=_read_side(data["old"]),
            new=_read_side(data["new"]),
            comparisons=tuple(_read_comparison(each, instances) for each in data["comparisons"]),
            verdict=data["verdict"],
            version=data["version"],
            notes=tuple(data.get("notes", ())),
            command=data.get("command", ""),
            advice=None if data.get("advice") is None else Advice(**data["advice"]),
            earlier_looks=tuple(data.get("earlier_looks", ())),
            differences=_read_differences(data.get("differences")),
            absent=tuple(Absent(**one) for one in data.get("absent", ())),
            history=tuple(_read_blessed(each) for each in data.get("history", ())),
        )
    except KeyError as error:
        raise InputError(f"the report lacks the field {error}: it was cut or edited") from error
    except (TypeError, AttributeError) as error:
        raise InputError(f"the report has a field of the wrong kind: {error}") from error


def _blessed(run: BlessedRun) -> dict[str, Any]:
    return vars(run) | {"scores": [{name: _plain(value) for name, value in vars(one).items()} for one in run.scores]}


def _read_blessed(data: Mapping[str, Any]) -> BlessedRun:
    return BlessedRun(**{**data, "scores": tuple(BlessedScore(**one) for one in data["scores"])})


def _side(side: Side) -> dict[str, Any]:
    return {
        "reference": side.reference,
        "fingerprint": side.fingerprint,
        "kind": side.kind,
        "engine": _plain(side.engine),
        "settings": _plain(side.settings),
    }


def _comparison(each: Comparison) -> dict[str, Any]:
    pairing = vars(each.pairing) | {"examples": {name: list(ids) for name, ids in each.pairing.examples.items()}}
    return {
        "task": each.task,
        "filter": each.filter,
        "metric": each.metric,
        "kind": each.kind,
        "signature": each.signature,
        "n": each.n,
        "confidence": each.confidence,
        "pairing": pairing,
        "quadrants": dict(each.quadrants),
        "metrics": {name: _estimate(figure) for name, figure in each.metrics.items()},
        "tests": _plain(each.tests),
        "slices": [
            vars(one) | {"nfr": _estimate(one.nfr), "lost": None if one.lost is None else _estimate(one.lost)}
            for one in each.slices
        ],
        "slice_tests": sum(one.p is not None for one in each.slices),
        "gates": [dict(vars(gate)) for gate in each.gates],
        "fields": [name for name in each.instances.columns if name not in INSTANCE_COLUMNS],
        **({} if each.overview is None else {"overview": _overview(each.overview)}),
        "noise": None if each.noise is None else _noise(each.noise),
        "score_range": None if each.score_range is None else list(each.score_range),
        "near_ties": None if each.near_ties is None else _near_ties(each.near_ties),
        "clusters": None if each.clusters is None else dict(vars(each.clusters)),
        "readings": [_reading(one) for one in each.readings],
        "sequential": None if each.sequential is None else _sequential(each.sequential),
    }


def _sequential(found: Sequential) -> dict[str, Any]:
    paths = [vars(path) | {"looks": [_plain(vars(look)) for look in path.looks]} for path in found.paths]
    return vars(found) | {"saved": found.available - found.used, "paths": paths}


def _read_sequential(data: Mapping[str, Any] | None) -> Sequential | None:
    if data is None:
        return None
    known = {name: value for name, value in data.items() if name != "saved"}
    paths = tuple(
        BoundPath(**{**path, "looks": tuple(Look(**look) for look in path["looks"])}) for path in data["paths"]
    )
    return Sequential(**{**known, "paths": paths})


def _differences(found: Differences) -> dict[str, Any]:
    return {
        "sentence": found.sentence,
        "in": [dict(vars(one)) for one in found.found],
        "unknown": list(found.unknown),
    }


def _read_differences(data: Mapping[str, Any] | None) -> Differences | None:
    if data is None:
        return None
    return Differences(tuple(Difference(**one) for one in data["in"]), tuple(data["unknown"]))


def _reading(one: Reading) -> dict[str, Any]:
    figures = {name: _estimate(figure) for name, figure in one.metrics.items()}
    return vars(one) | {"way": list(one.way), "quadrants": dict(one.quadrants), "metrics": figures}


def _read_reading(data: Mapping[str, Any]) -> Reading:
    figures = {name: Estimate(**figure) for name, figure in data["metrics"].items()}
    return Reading(**{**data, "way": tuple(data["way"]), "metrics": figures})


def _near_ties(ties: NearTies) -> dict[str, Any]:
    return vars(ties) | {"negative": dict(vars(ties.negative)), "positive": dict(vars(ties.positive))}


def _read_near_ties(data: Mapping[str, Any] | None) -> NearTies | None:
    if data is None:
        return None
    return NearTies(**{**data, "negative": TieCount(**data["negative"]), "positive": TieCount(**data["positive"])})


def _noise(noise: NoiseFloor) -> dict[str, Any]:
    return vars(noise) | {"metrics": {name: _estimate(figure) for name, figure in noise.metrics.items()}}


def _read_noise(data: Mapping[str, Any] | None) -> NoiseFloor | None:
    if data is None:
        return None
    return NoiseFloor(**{**data, "metrics": {name: Estimate(**figure) for name, figure in data["metrics"].items()}})


def _overview(overview: Overview) -> dict[str, Any]:
    gains = overview.gains
    bars = None if gains is None else vars(gains) | {"counts": list(gains.counts)}
    return {"rows": overview.rows, "gains": bars}


def _read_overview(data: Mapping[str, Any] | None) -> Overview | None:
    if data is None:
        return None
    bars = data["gains"]
    gains = None if bars is None else Gains(**{**bars, "counts": tuple(bars["counts"])})
    return Overview(data["rows"], gains)


def _estimate(figure: Estimate) -> dict[str, Any]:
    names = ("value", "low", "high", "count", "of", "lower", "upper")
    plain = {name: _plain(getattr(figure, name)) for name in names}
    plain |= {} if figure.effective is None else {"effective": _plain(figure.effective)}
    return plain if figure.why is None else plain | {"why": figure.why}


def _plain(value: Any) -> Any:
    """JSON's own kinds; what has none (a path, a dtype) by its text, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _read_side(data: Mapping[str, Any]) -> Side:
    return Side(
        reference=data["reference"],
        fingerprint=data["fingerprint"],
        kind=data.get("kind", ""),
        engine=dict(data.get("engine", {})),
        settings=dict(data.get("settings", {})),
    )


def _read_comparison(data: Mapping[str, Any], instances: pd.DataFrame) -> Comparison:
    examples = {name: tuple(ids) for name, ids in data["pairing"].get("examples", {}).items()}
    return Comparison(
        task=data["task"],
        filter=data["filter"],
        metric=data["metric"],
        kind=data["kind"],
        signature=data["signature"],
        n=data["n"],
        pairing=Pairing(**{**data["pairing"], "examples": examples}),
        quadrants=dict(data["quadrants"]),
        metrics={name: Estimate(**figure) for name, figure in data["metrics"].items()},
        tests=dict(data["tests"]),
        instances=_read_instances(data, instances),
        slices=tuple(_read_slice(one) for one in data["slices"]),
        gates=tuple(Gate(**gate) for gate in data["gates"]),
        confidence=data.get("confidence", 0.95),
        overview=_read_overview(data.get("overview")),
        noise=_read_noise(data.get("noise")),
        score_range=None if data.get("score_range") is None else (data["score_range"][0], data["score_range"][1]),
        near_ties=_read_near_ties(data.get("near_ties")),
        clusters=None if data.get("clusters") is None else ClusterCount(**data["clusters"]),
        readings=tuple(_read_reading(one) for one in data.get("readings", ())),
        sequential=_read_sequential(data.get("sequential")),
    )


def _read_slice(data: Mapping[str, Any]) -> Slice:
    lost = data.get("lost")
    return Slice(**{**data, "nfr": Estimate(**data["nfr"]), "lost": None if lost is None else Estimate(**lost)})


def _read_instances(data: Mapping[str, Any], instances: pd.DataFrame) -> pd.DataFrame:
    own = np.ones(len(instances), dtype=bool)
    for name in _SHARED:
        own &= (instances[name] == data[name]).to_numpy(dtype=bool)
    fields = data.get("fields", [name for name in instances.columns if name not in INSTANCE_COLUMNS])
    rows = instances if own.all() else instances[own].reset_index(drop=True)
    return rows[[*INSTANCE_COLUMNS, *fields]]
