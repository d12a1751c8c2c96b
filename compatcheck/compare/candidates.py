"""Several candidates against one OLD, judged together: the result, its matrix, its instances, and its JSON.

The JSON form is the contract ``compatcheck.report/2``; each candidate in it is a report of ``compatcheck.report/1``
without what all of them share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from compatcheck.compare.instances import STRING
from compatcheck.compare.result import (
    CHANGES,
    NO_TARGETS,
    PREFERENCES,
    SCHEMA,
    Comparison,
    Estimate,
    Result,
    Side,
    name_of,
)
from compatcheck.compare.serialise import join_instances, result_from_dict, result_to_dict
from compatcheck.errors import InputError, did_you_mean
from compatcheck.schema import WHERE_KNOWN, to_json

SCHEMA_OF_SEVERAL = "compatcheck.report/2"
COLUMN = "candidate"
"""Of instances.parquet: whose row it is."""
_WORSE = ("negative_flip", *CHANGES[1:], *PREFERENCES[1:])
_SHARED = ("schema", "version", "command", "old", "history")


@dataclass(frozen=True)
class Cell:
    """One candidate on one (task, filter, metric)."""

    candidate: str
    task: str
    filter: str
    metric: str
    n: int
    score_old: Estimate
    score_new: Estimate
    nfr: Estimate
    verdict: str
    """The worst of its critical budgets; ``none`` without any."""
    changed: Estimate | None = field(default=None, metadata=WHERE_KNOWN)
    """Where OLD's answers are the reference; ``score_new`` then says how alike they are, or how many are equal."""


@dataclass(frozen=True)
class Candidates:
    """Every candidate's comparison with OLD. Failures hold over all budgets of all candidates together."""

    results: tuple[Result, ...]
    verdict: str = "none"
    """The worst of all candidates' verdicts."""
    version: str = ""
    command: str = ""
    names: tuple[str, ...] = field(default=())
    """As the user wrote them."""

    @property
    def old(self) -> Side:
        return self.results[0].old

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The matrix, candidate by candidate."""
        return tuple(
            _cell(name, each)
            for name, result in zip(self.names, self.results, strict=True)
            for each in result.comparisons
        )

    def place(self, name: str) -> int:
        """The place of a candidate, by its name or its number from 1 on.

        Raises:
            InputError: there is none of it.
        """
        return _place(name, self.names)


def _place(name: str, names: Sequence[str]) -> int:
    if name in names:
        return names.index(name)
    if name.isdecimal() and 1 <= int(name) <= len(names):
        return int(name) - 1
    hint = did_you_mean(name, names)
    raise InputError(f"--candidate {name}: there is none{hint}; there are 1 to {len(names)}: {', '.join(names)}")


def _cell(name: str, one: Comparison) -> Cell:
    what = (name, one.task, one.filter, one.metric, one.n)
    word = "accuracy" if one.kind == "discrete" else "score"
    if one.reference is not None:
        unknown, alike = Estimate(None, of=one.n, why=NO_TARGETS), one.metrics.get("similarity")
        return Cell(*what, unknown, alike or one.metrics["agreement"], unknown, one.verdict, one.metrics["changed"])
    old, new = (one.metrics[f"{word}_{side}"] for side in ("old", "new"))
    return Cell(*what, old, new, one.metrics["nfr"], one.verdict)


def candidates_to_dict(several: Candidates) -> dict[str, Any]:
    """Plain dicts, lists, strings and finite numbers, as of a single comparison."""
    each = [{"name": name} | {key: value for key, value in result_to_dict(result).items() if key not in _SHARED}
            for name, result in zip(several.names, several.results, strict=True)]  # fmt: skip
    return {
        "schema": SCHEMA_OF_SEVERAL, "version": several.version, "verdict": several.verdict,
        "command": several.command, "old": to_json(several.old), "matrix": to_json(several.cells), "candidates": each,
    }  # fmt: skip


def join_candidates(several: Candidates) -> pd.DataFrame:
    """The instances of all candidates in one table; the column :data:`COLUMN` says whose a row is."""
    every = tuple(each for result in several.results for each in result.comparisons)
    names = [name for name, result in zip(several.names, several.results, strict=True)
             for each in result.comparisons for _ in range(len(each.instances))]  # fmt: skip
    table = join_instances(replace(several.results[0], comparisons=every)).reset_index(drop=True)
    table.insert(0, COLUMN, pd.Series(names, dtype=STRING))
    return table


def chosen_names(data: Mapping[str, Any], candidate: str | None) -> list[str]:
    """The candidates that are to be read of a report: all, or the one with this name or number.

    Raises:
        InputError: there is none of it, or the report has no list of candidates with names of their own.
    """
    each = data.get("candidates")
    if not isinstance(each, list) or not each or not all(isinstance(one, dict) for one in each):
        raise InputError("the report lacks the list 'candidates': it was cut or edited")
    names = [one.get("name") for one in each]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InputError("the report's candidates have no names of their own: it was edited")
    return names if candidate is None else [names[_place(candidate, names)]]


def candidates_from_dict(data: Mapping[str, Any], instances: pd.DataFrame, chosen: Sequence[str]) -> Candidates:
    """What :func:`candidates_to_dict` and :func:`join_candidates` wrote, of the candidates with these names.

    Raises:
        InputError: another schema, a field that is missing or of the wrong kind, or a table without its columns.
    """
    if COLUMN not in instances:
        raise InputError(f"the instance table has no column '{COLUMN}': it does not belong to this report")
    shared = {key: data.get(key) for key in ("version", "command", "old")} | {"schema": SCHEMA}
    whose = instances[COLUMN].astype(str)
    results = []
    for one in data["candidates"]:
        if one["name"] in chosen:
            rows = instances[whose == one["name"]].drop(columns=COLUMN).reset_index(drop=True)
            own = {key: value for key, value in one.items() if key != "name"}
            results.append(result_from_dict(shared | {"history": []} | own, rows))
    verdict = data.get("verdict")
    if verdict not in ("pass", "fail", "inconclusive", "none"):
        raise InputError("the report's 'verdict' is none that there is: it was edited")
    return Candidates(tuple(results), verdict, str(data.get("version")), str(data.get("command")), tuple(chosen))


@dataclass(frozen=True)
class Answer:
    """What one candidate gave for an instance."""

    text: str | None
    quadrant: str | None


@dataclass(frozen=True)
class Row:
    """One instance with every answer; a candidate that lacks the instance has None."""

    doc_id: str
    input: str | None
    target: str | None
    old: str | None
    answers: tuple[Answer | None, ...]

    @property
    def broken(self) -> int:
        """How many candidates got it worse."""
        return sum(one is not None and one.quadrant in _WORSE for one in self.answers)

    @property
    def flipped(self) -> bool:
        """Whether it flips with any candidate."""
        return any(one is not None and one.quadrant in (*_WORSE, "positive_flip") for one in self.answers)


def names_of_comparisons(several: Candidates) -> list[str]:
    """Every comparison that any candidate has, in order."""
    return list(dict.fromkeys(name_of(cell.task, cell.filter, cell.metric) for cell in several.cells))


def every_answer(several: Candidates, comparison: str) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The instances of one comparison: what all candidates share of them, and each candidate's rows of them, which are
    null where it lacks the instance. Those that most candidates break come first, among them those that lose most."""
    found = [[each.instances for each in result.comparisons if each.name == comparison] for result in several.results]
    known = [[each.drop_duplicates("doc_id").set_index("doc_id", drop=False) for each in frames] for frames in found]
    every = pd.concat([frame for frames in known for frame in frames])
    shared = every[~every.index.duplicated()]
    own = [(frames[0] if frames else every.iloc[:0]).reindex(shared.index) for frames in known]
    broken = sum(frame["quadrant"].isin(_WORSE).to_numpy(dtype=int) for frame in own)
    lost = sum(frame["gain"].to_numpy(dtype=float, na_value=0.0) for frame in own)
    order = np.lexsort((np.nan_to_num(lost), -np.asarray(broken)))
    return shared.iloc[order], [frame.iloc[order] for frame in own]


def rows_of(several: Candidates, comparison: str) -> list[Row]:
    """The same as rows, to be printed."""

    def texts(frame: pd.DataFrame, name: str) -> list[str | None]:
        return [None if pd.isna(value) else str(value) for value in frame[name]]

    shared, own = every_answer(several, comparison)
    asked = (texts(shared, name) for name in ("input", "target", "prediction_old"))
    given = (
        [None if doc_id is None else Answer(text, quadrant) for doc_id, text, quadrant in
         zip(*(texts(frame, name) for name in ("doc_id", "prediction_new", "quadrant")), strict=True)]
        for frame in own
    )  # fmt: skip
    answers = zip(*given, strict=True)
    return [Row(str(doc_id), *row) for doc_id, *row in zip(shared["doc_id"], *asked, answers, strict=True)]
