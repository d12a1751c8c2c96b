"""How many rows a comparison rests on: what found no partner, failed, has no answer or was cut off."""

from __future__ import annotations

import numpy as np
import pandas as pd

from compatcheck.compare.intervals import Flags
from compatcheck.compare.pairing import Pairs, failed, take
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import Pairing
from compatcheck.compare.stream_pairing import StreamPairs
from compatcheck.records import TaskRun

FINISH = ("finish_reason", "stop_reason")
"""Fields that say why an answer ended, also at the end of a dotted name."""
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "max_new_tokens", "max_gen_toks", "model_length"})


def cut_off(records: pd.DataFrame, rows: np.ndarray) -> Flags | None:
    """Which of the rows hold an answer that ended at the greatest number of tokens; None where no row says it."""
    known = [str(name) for name in records.columns if str(name).rpartition(".")[2].lower() in FINISH]
    said = [take(records[name], rows) for name in known]
    said = [one for one in said if one.notna().any()]
    if not said:
        return None
    return np.logical_or.reduce([one.astype(object).map(_is_cut).to_numpy(dtype=bool) for one in said])


def _is_cut(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower() in _CUT


class Covered:
    """Counts the pairs of one metric, part by part."""

    def __init__(self) -> None:
        self._scored = 0
        self._silent = 0
        self._errors, self._no_answer, self._cut = [0, 0], [0, 0], [0, 0]
        self._knows_cut = [False, False]

    def add(self, found: Sorted, old: TaskRun, new: TaskRun, pairs: Pairs) -> None:
        """Take note of the pairs of a part."""
        scored = found.scored
        self._scored += int(scored.sum())
        without = []
        predictions = (found.prediction_old, found.prediction_new)
        for side, (run, rows, texts) in enumerate(zip((old, new), (pairs.old, pairs.new), predictions, strict=True)):
            self._errors[side] += int(failed(run.records, rows).sum())
            without.append(scored & texts.isna().to_numpy() if texts is not None else np.zeros(len(rows), dtype=bool))
            self._no_answer[side] += int(without[-1].sum())
            cut = cut_off(run.records, rows)
            if cut is not None:
                self._knows_cut[side] = True
                self._cut[side] += int((cut & scored).sum())
        self._silent += int((without[0] & without[1]).sum())

    def pairing(self, pairs: Pairs | StreamPairs, rows: tuple[int, int], duplicates: int) -> Pairing:
        """All of it, with what is known of the rows that are no pairs; ``rows`` are those of OLD and of NEW."""
        cut = [count if known else None for count, known in zip(self._cut, self._knows_cut, strict=True)]
        return Pairing(
            paired=self._scored,
            only_old=pairs.only_old,
            only_new=pairs.only_new,
            duplicates=duplicates,
            target_changed=pairs.target_changed,
            errors_old=self._errors[0],
            errors_new=self._errors[1],
            no_answer_old=self._no_answer[0],
            no_answer_new=self._no_answer[1],
            key=pairs.key,
            examples=pairs.examples,
            rows_old=rows[0],
            rows_new=rows[1],
            no_answer_both=self._silent,
            cut_off_old=cut[0],
            cut_off_new=cut[1],
        )
