"""How many rows a comparison rests on: what found no partner, failed, has no answer or was cut off."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from compatcheck.compare.intervals import Flags
from compatcheck.compare.kinds import CUT, THINKING
from compatcheck.compare.pairing import Pairs, failed, take
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import Pairing
from compatcheck.records import OldAsReference, TaskRun

_FINISH = ("finish_reason", "stop_reason")  # fields that say why an answer ended, also at the end of a dotted name
_OF_ASCII = "rouge-score"
"""In the signature of a score that leaves out all letters but those of ASCII."""


def ends(column: object) -> bool:
    """Whether a column says why answers ended."""
    return str(column).rpartition(".")[2].lower() in _FINISH


def cut_off(records: pd.DataFrame, rows: np.ndarray, reasons: frozenset[str] = CUT) -> Flags | None:
    """Which of the rows hold an answer that ended at the greatest number of tokens, or within its reasoning; None where
    no row says it."""

    def is_cut(value: object) -> bool:
        return isinstance(value, str) and value.strip().lower() in reasons

    said = [one for one in _said(records, rows) if one.notna().any()]
    flags = [one.astype(object).map(is_cut).to_numpy(dtype=bool) for one in said]
    return np.logical_or.reduce(flags) if flags else None


def ends_unknown(records: pd.DataFrame, rows: np.ndarray) -> Flags:
    """Which of the rows do not say why their answer ended."""
    unknown = np.ones(len(rows), dtype=bool)
    for one in _said(records, rows):
        unknown &= one.isna().to_numpy(dtype=bool)
    return unknown


def _said(records: pd.DataFrame, rows: np.ndarray) -> list[pd.Series]:
    return [take(records[name], rows) for name in records.columns if ends(name)]


def _mostly_other_letters(text: object) -> bool:
    """Whether most letters of a text are none of ASCII."""
    if not isinstance(text, str) or text.isascii():
        return False
    letters = [each.isascii() for each in text if each.isalpha()]
    return 2 * sum(letters) < len(letters)


class Covered:
    """Counts the pairs of one metric, part by part."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._cut: Counter[str] = Counter()
        """Of the sides that say it."""
        self._some: Counter[str] = Counter()
        """What is only said where there is some of it."""

    def add(self, found: Sorted, old: TaskRun, new: TaskRun, pairs: Pairs) -> None:
        """Take note of the pairs of a part."""
        scored = found.scored
        counts = {"paired": scored, "no_answer_both": found.unanswered}
        for side, run, rows, silent in (
            ("old", old, pairs.old, found.silent[0]),
            ("new", new, pairs.new, found.silent[1]),
        ):
            counts |= {f"errors_{side}": failed(run.records, rows), f"no_answer_{side}": silent}
            cut = cut_off(run.records, rows)
            if cut is not None:
                thought = cut_off(run.records, rows, frozenset({THINKING}))
                self._cut[f"cut_off_{side}"] += int((cut & scored).sum())
                self._some[f"thinking_{side}"] += int((thought & scored).sum()) if thought is not None else 0
            if side == "new":
                self._some["ends_unknown_new"] += int((ends_unknown(run.records, rows) & scored).sum())
                self._some["answers_unknown_new"] += int(scored.sum()) if found.prediction_new is None else 0
        for name, flags in counts.items():
            self._counts[name] += int(flags.sum())
        how = found.metric.signature
        if "target" in old.records and how.startswith(f"{found.metric.name}|") and not how.endswith("as recorded"):
            empty = take(old.records["target"], pairs.old).eq("").fillna(False).to_numpy(dtype=bool)
            missed = scored & ~found.unanswered & (found.old == 0) & (found.new == 0)
            self._some["targets_empty"] += int((empty & missed).sum())
        right = "prediction" if isinstance(found.metric, OldAsReference) else "target"
        if _OF_ASCII in how and right in old.records:
            unread = take(old.records[right], pairs.old).astype(object).map(_mostly_other_letters).to_numpy(dtype=bool)
            self._some["targets_unread"] += int((unread & scored).sum())

    def pairing(self, pairs: Pairs, rows: tuple[int, int], duplicates: int) -> Pairing:
        """All of it, with what is known of the rows that are no pairs; ``rows`` are those of OLD and of NEW."""
        some = {name: n for name, n in self._some.items() if n}
        if "cut_off_new" not in self._cut:  # where no answer says it there is nothing to count
            some.pop("ends_unknown_new", None)
        return Pairing(
            only_old=pairs.only_old,
            only_new=pairs.only_new,
            duplicates=duplicates,
            target_changed=pairs.target_changed,
            key=pairs.key,
            examples=pairs.examples,
            rows_old=rows[0],
            rows_new=rows[1],
            **{"paired": 0, **self._counts, **self._cut, **some},
        )
