"""Which row of NEW belongs to which row of OLD: by id and checked content, never by order. One join in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.errors import InputError
from compatcheck.records import StoredRun, TaskRun
from compatcheck.scratch import database

if TYPE_CHECKING:
    import duckdb

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]
CONTENT = ("doc_hash", "target_hash", "target", "input")
"""Columns whose difference may say that the rows of a pair are of different content."""
EXAMPLES = 5
"""Ids that are named for each kind of row that is left out."""
KEYS = {"id": "doc_id", "content hash": "doc_hash", "input": "input"}
"""What rows can be paired by, and the column that holds it."""
_MADE = "doc"
"""Kind of a hash that was made when a log without hashes was read (``doc:0f3a…``)."""


@dataclass(frozen=True)
class Pairs:
    """Row positions of the pairs, ``old[i]`` with ``new[i]``, in the order of OLD; and what found no partner."""

    old: Rows
    new: Rows
    key: str
    only_old: int
    only_new: int
    target_changed: int
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def take(self, order: Rows) -> Pairs:
        """The same pairs in another order."""
        return replace(self, old=self.old[order], new=self.new[order])


@dataclass(frozen=True)
class _Match:
    """The rows of both sides that have the same key: how many, and how many of the same content."""

    key: str
    pairs: int
    agreeing: int


def pair(old: TaskRun | StoredRun, new: TaskRun | StoredRun) -> Pairs:
    """Pair the records of two runs on the same task and filter.

    Rows are paired by ``doc_id``. A pair whose ``doc_hash``, ``target_hash`` or ``target`` differ is one of different
    content: it is counted and not kept. Where that holds for most ids (data numbered anew), and every row of both sides
    carries a ``doc_hash`` of its own, rows are paired by that hash instead, and where that fails, too, by their input.

    Raises:
        InputError: no rows, an id missing or repeated, no row in common, or only rows of different content.
    """
    if isinstance(old, TaskRun) and isinstance(new, TaskRun) and _in_step(old.records, new.records):
        rows = np.arange(len(old.records), dtype=np.intp)
        return Pairs(rows, rows, "id", 0, 0, 0)
    for side, run in (("OLD", old), ("NEW", new)):
        if run.rows == 0:
            raise InputError(f"{side} has no records for task '{run.task}': nothing to compare")
        if "doc_id" not in run.names:
            raise InputError(
                f"{side} has records without a 'doc_id' for task '{run.task}'; name the field with --id-field"
            )
    stored = next((run.table.scratch for run in (old, new) if isinstance(run, StoredRun)), None)
    with database(stored, max(old.rows, new.rows)) as con:
        for side, run in (("o", old), ("n", new)):
            _show(con, side, run)
            _require_unique(con, side, run)
        return _Pairing(con, old, new).pairs()


def _in_step(old: pd.DataFrame, new: pd.DataFrame) -> bool:
    """Whether the rows of both sides are the same documents in the same order: then there is nothing to join."""
    if not 0 < len(old) == len(new) or "doc_id" not in old or "doc_id" not in new:
        return False
    for name in ("doc_id", *CONTENT):
        if name in old and name in new:
            one, other = old[name].reset_index(drop=True), new[name].reset_index(drop=True)
            if not one.equals(other) and (one.dtype == other.dtype or differ(one, other).any()):
                return False
    ids = old["doc_id"]
    return pd.api.types.infer_dtype(ids) == "string" and ids.is_unique and not ids.hasnans


def _show(con: duckdb.DuckDBPyConnection, side: str, run: TaskRun | StoredRun) -> None:
    """Make the key columns of a run known as the view ``side``, with the position of each row."""
    known = [name for name in ("doc_id", *CONTENT) if name in run.names]
    if isinstance(run, StoredRun):
        con.register(f"{side}_rows", run.table.dataset())
        failed = "error IS NOT NULL" if "error" in run.names else "false"
        names = ", ".join(known)
        con.execute(f"CREATE TEMP VIEW {side} AS SELECT __row AS row, {names}, {failed} AS failed FROM {side}_rows")
        return
    import pyarrow as pa

    columns: dict[str, Any] = {name: _texts(run.records[name]) for name in known}
    columns["row"] = np.arange(len(run.records))
    columns["failed"] = failed_rows(run.records)
    con.register(side, pa.table(columns))


def _texts(column: pd.Series) -> Any:
    """A column as Arrow text; what is no text as JSON writes it."""
    import pyarrow as pa

    if column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
        texts = [
            None if pd.isna(each) else each if isinstance(each, str) else str(each) for each in column.astype(object)
        ]
        clean = [None if text is None else text.encode("utf-8", "backslashreplace").decode() for text in texts]
        return pa.array(clean, pa.large_string())
    array = pa.array(column, from_pandas=True)
    return array if pa.types.is_large_string(array.type) else array.cast(pa.large_string())


def _require_unique(con: duckdb.DuckDBPyConnection, side: str, run: TaskRun | StoredRun) -> None:
    if isinstance(run, StoredRun):
        return  # reading it saw to that
    name = "OLD" if side == "o" else "NEW"
    missing = _value(con, f"SELECT min(row) FROM {side} WHERE doc_id IS NULL")
    if missing is not None:
        raise InputError(f"{name} has a record without an id on task '{run.task}' (record {missing + 1})")
    twice = f"SELECT min(row) AS row FROM {side} GROUP BY doc_id HAVING count(*) > 1"
    row = _value(con, f"SELECT min(row) FROM ({twice})")
    if row is not None:
        raise InputError(
            f"{name} has more than one record with the id {_quoted(run.records['doc_id'].iloc[row])} on task "
            f"'{run.task}'; an id stands for one document: correct the data or name another field with --id-field"
        )


def _value(con: duckdb.DuckDBPyConnection, query: str) -> Any:
    found = con.execute(query).fetchall()
    return found[0][0] if found else None


class _Pairing:
    """Finds the key by which two runs are paired."""

    def __init__(self, con: duckdb.DuckDBPyConnection, old: TaskRun | StoredRun, new: TaskRun | StoredRun) -> None:
        self.con, self.old, self.new = con, old, new
        self.shared = [name for name in CONTENT if name in old.names and name in new.names]
        hashed = "doc_hash" in self.shared
        self.kinds = [self._kind(side) for side in "on"] if hashed else ["", ""]
        self.alike = self.kinds[0] == self.kinds[1]
        """Whether the hashes of both sides were made of the same thing, so that they can be held against each other."""
        made = f"SELECT count(*) FROM {{}} WHERE starts_with(doc_hash, '{_MADE}:')"
        self.made = hashed and any(_value(con, made.format(side)) for side in "on")
        """Whether some of them were made when they were read, as lm-eval makes its own."""

    def pairs(self) -> Pairs:
        match = self._match("id")
        if 2 * match.agreeing < match.pairs or match.pairs == 0:
            for key in ("content hash", "input"):
                if self._usable(key) and 2 * match.agreeing <= match.pairs:
                    other = self._match(key)
                    match = other if other.agreeing > match.agreeing else match
        if match.pairs == 0:
            raise self._nothing_in_common()
        if match.agreeing == 0:
            raise self._all_changed(match)
        con, column = self.con, KEYS[match.key]
        # Half the memory where records lie on disk, as there are many.
        places = "old::INT AS old, new::INT AS new" if isinstance(self.old, StoredRun) else "old, new"
        found = con.execute(f"SELECT {places} FROM {_table(match.key)} WHERE NOT conflict ORDER BY old").fetchnumpy()
        lonely = {
            name: f"SELECT {one}.doc_id FROM {one} ANTI JOIN {other} ON {self._same(column, one, other)} "
            f"ORDER BY {one}.row"
            for name, one, other in (("only_old", "o", "n"), ("only_new", "n", "o"))
        }
        changed = f"SELECT o.doc_id FROM {_table(match.key)} AS m JOIN o ON o.row = m.old WHERE conflict ORDER BY old"
        left = {name: run.rows - match.pairs for name, run in (("only_old", self.old), ("only_new", self.new))}
        left["target_changed"] = match.pairs - match.agreeing
        examples = {
            name: tuple(str(row[0]) for row in con.execute(f"{query} LIMIT {EXAMPLES}").fetchall())
            for name, query in (lonely | {"target_changed": changed}).items()
            if left[name]
        }
        return Pairs(found["old"], found["new"], match.key, **left, examples=examples)

    def _match(self, key: str) -> _Match:
        """Join both sides by a key, into a table of its own."""
        same, conflict = self._same(KEYS[key], "o", "n"), self._conflict(key)
        self.con.execute(
            f"CREATE TEMP TABLE {_table(key)} AS SELECT o.row AS old, n.row AS new, {conflict} AS conflict "
            f"FROM o JOIN n ON {same}"
        )
        found = self.con.execute(f"SELECT count(*), count(*) FILTER (NOT conflict) FROM {_table(key)}").fetchall()
        return _Match(key, *found[0])

    def _same(self, column: str, one: str, other: str) -> str:
        if column == "doc_hash" and self.made:
            return f"replace({one}.doc_hash, '{_MADE}:', '') = replace({other}.doc_hash, '{_MADE}:', '')"
        return f"{one}.{column} = {other}.{column}"

    def _conflict(self, key: str) -> str:
        """When the content of a pair differs. A side that does not record a column cannot contradict the other."""
        terms = []
        if "doc_hash" in self.shared and self.alike:
            differ = f"NOT ({self._same('doc_hash', 'o', 'n')})"
            if self.made and "input" in self.shared:  # made here as lm-eval makes them: the input has a say, too
                differ = f"({differ} AND coalesce(o.input <> n.input, true))"
            if key != "input" or (not self.made and self.kinds[0] in ("", "input")):
                terms.append(differ)
        if "target_hash" in self.shared:
            terms.append("o.target_hash <> n.target_hash")
        if "target" in self.shared:
            terms.append(f"(o.target <> n.target AND NOT {_SAME_VALUE})")
            if all(_value(self.con, f"SELECT count(target) FROM {side}") for side in "on"):
                # One side knows a target where the other has none. A record in error may lack anything.
                terms.append("((o.target IS NULL) <> (n.target IS NULL) AND NOT (o.failed OR n.failed))")
        return " OR ".join(f"coalesce({term}, false)" for term in terms) or "false"

    def _usable(self, key: str) -> bool:
        """Whether every row of both sides has the key, and no two rows the same."""
        column = KEYS[key]
        if column not in self.shared or (column == "doc_hash" and not self.alike):
            return False
        query = f"SELECT count(*) = count({column}) AND count(*) = count(DISTINCT {column}) FROM"
        return all(_value(self.con, f"{query} {side}") for side in "on")

    def _kind(self, side: str) -> str:
        """What the hashes of a side were made of, where they say so: ``input`` of ``input:0f3a…``."""
        first = _value(self.con, f"SELECT doc_hash FROM {side} WHERE doc_hash IS NOT NULL ORDER BY row LIMIT 1")
        return str(first or "").removeprefix(f"{_MADE}:").rpartition(":")[0]

    def _nothing_in_common(self) -> InputError:
        shown = []
        for side in "on":
            rows = self.con.execute(f"SELECT doc_id FROM {side} ORDER BY row LIMIT 3").fetchall()
            shown.append(", ".join(_quoted(row[0]) for row in rows))
        return InputError(
            f"OLD and NEW have no id in common on task '{self.old.task}': OLD has {shown[0]}, NEW has {shown[1]}; name "
            "the right field with --id-field"
        )

    def _all_changed(self, match: _Match) -> InputError:
        targets = "o.target, n.target" if "target" in self.shared else "NULL, NULL"
        query = f"FROM {_table(match.key)} AS m JOIN o ON o.row = m.old JOIN n ON n.row = m.new ORDER BY m.old LIMIT 1"
        first = self.con.execute(f"SELECT o.doc_id, {targets} {query}").fetchall()[0]
        shown = ""
        if first[1] != first[2]:
            shown = f", with target {_quoted(first[1])} in OLD and {_quoted(first[2])} in NEW"
        return InputError(
            f"OLD and NEW were recorded for different data on task '{self.old.task}': all {match.pairs} rows with a "
            f"common id differ in content or target (first: id {_quoted(first[0])}{shown})"
        )


_WHITE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())  # as str.strip has it
_READ = f"nfc_normalize(trim({{}}.target, '{_WHITE}'))"
_EXACT = 2**53
"""Whole numbers from here on are not told apart as floats."""
_IS_NUMBER = r"regexp_full_match({}.target, '\s*-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?\s*')"
_SAME_VALUE = (
    f"(coalesce({_IS_NUMBER.format('o')} AND {_IS_NUMBER.format('n')} "
    "AND TRY_CAST(o.target AS DOUBLE) = TRY_CAST(n.target AS DOUBLE) "
    f"AND abs(TRY_CAST(o.target AS DOUBLE)) < {_EXACT}, false)"
    " OR lower(o.target) = lower(n.target) AND lower(o.target) IN ('true', 'false')"
    f" OR {_READ.format('o')} = {_READ.format('n')})"
)
"""Two targets that are one value, written as a number and as a text (``5`` and ``5.0``; ``05`` is none), or one text as
metrics read it: white space at its ends does not count, nor whether a letter is one sign or two."""


def _table(key: str) -> str:
    return f"by_{KEYS[key]}"


def failed_rows(records: pd.DataFrame) -> Flags:
    """Which records have an error, shape (records,)."""
    if "error" not in records:
        return np.zeros(len(records), dtype=bool)
    flags: Flags = records["error"].notna().to_numpy()
    return flags


def failed(records: pd.DataFrame, rows: Rows) -> Flags:
    """Which of the rows have an error."""
    return failed_rows(records)[rows]


def take(column: pd.Series, rows: Rows) -> pd.Series:
    """``column`` at the positions ``rows``, numbered from 0; shares memory where that is the whole column in order."""
    if len(rows) != len(column) or not np.array_equal(rows, np.arange(len(column))):
        column = column.take(rows)
    return column.reset_index(drop=True)


def differ(before: pd.Series, after: pd.Series) -> Flags:
    """Where two columns differ; null equals only null."""
    if isinstance(before.dtype, pd.CategoricalDtype) or isinstance(after.dtype, pd.CategoricalDtype):
        before, after = before.astype(object), after.astype(object)
    null_before, null_after = before.isna().to_numpy(), after.isna().to_numpy()
    unequal = before.ne(after).fillna(True).to_numpy(dtype=bool)
    return (unequal & ~null_before & ~null_after) | (null_before ^ null_after)


def _quoted(value: object) -> str:
    """One short line, whatever the text holds."""
    text = ascii(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
