"""Sort every pair into its quadrant, and say whether the behaviour changed."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.compare.intervals import Flags, Floats
from compatcheck.compare.metrics import PREFERENCE_RATES, RATES, Changes
from compatcheck.compare.pairing import Pairs, differ, failed, take
from compatcheck.compare.result import CHANGES, PREFERENCES, QUADRANTS, SMOOTH_GROUPS
from compatcheck.errors import InputError, did_you_mean
from compatcheck.records import (
    GREATEST,
    Metric,
    OldAsReference,
    StoredRun,
    TaskRun,
    prediction_column,
    score_column,
)

ROUNDING = 1e-9
"""Scores that differ by less, relative to their scale, are equal: sums in another order differ in the last digit."""


Texts = list[str]
Grade = Callable[[Metric, Texts, Texts, list[str | None]], tuple[Floats, Floats | None]]
"""Scores NEW's answers by OLD's: metric, those of OLD, those of NEW and inputs to scores, and of a judge whether it
agreed with itself (1, 0, NaN where it was not asked)."""


@dataclass(frozen=True)
class Sorted:
    """The pairs, each array of shape (pairs,). What is not ``scored`` has an error: its gain is NaN, its code -1."""

    metric: Metric  # as it is read: discrete where ``correct_at`` made it so
    names: tuple[str, ...]  # of the codes: QUADRANTS or SMOOTH_GROUPS; CHANGES or PREFERENCES
    old: Floats
    new: Floats
    gain: Floats
    codes: NDArray[np.int8]
    scored: Flags
    changed: Flags | None  # None where no predictions were recorded
    prediction_old: pd.Series | None
    prediction_new: pd.Series | None
    silent: tuple[Flags, Flags]  # scored, and without an answer: of OLD and of NEW
    agreed: Floats | None = None  # of a judge that was asked which of both is better: whether it agreed with itself

    def take(self, rows: NDArray[np.intp] | Flags) -> Sorted:
        """Some of the pairs, or all in another order, without their predictions."""
        names = ("old", "new", "gain", "codes", "scored")
        parts = {name: getattr(self, name)[rows] for name in names}
        silent = (self.silent[0][rows], self.silent[1][rows])
        changed = None if self.changed is None else self.changed[rows]
        agreed = None if self.agreed is None else self.agreed[rows]
        return replace(
            self, **parts, silent=silent, changed=changed, agreed=agreed, prediction_old=None, prediction_new=None
        )

    @property
    def unanswered(self) -> Flags:
        """Which scored pairs have no answer on both sides."""
        return self.silent[0] & self.silent[1]

    def are(self, *names: str) -> Flags:
        """Which pairs are in one of these groups."""
        return are(self.codes, self.names, names)

    def rate(self, name: str) -> tuple[Flags, Flags] | None:
        """What counts for a rate and what it is of, as flags; None where it is of predictions and there are none."""
        rate = RATES[name] if name in RATES else PREFERENCE_RATES[name]
        hits = self.are(*rate.groups)
        if rate.if_changed or rate.same:
            if self.changed is None:
                return None
            hits = ~self.changed if rate.same else hits | (self.are(*rate.if_changed) & self.changed)
        return hits, self.are(*rate.of) if rate.of else np.ones(len(self.codes), dtype=bool)

    @property
    def counts(self) -> dict[str, int]:
        found = np.bincount(self.codes[self.scored], minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, found, strict=True)}

    @property
    def changes(self) -> Changes | None:
        if self.changed is None:
            return None
        changed = self.changed & self.scored
        both = [int((changed & self.are(name)).sum()) for name in ("both_wrong", "both_correct")]
        return Changes(int(changed.sum()), *both)


def are(codes: NDArray[np.int8], groups: Sequence[str], names: Collection[str]) -> Flags:
    """Which codes stand for one of these groups."""
    flags: Flags = np.isin(codes, [place for place, name in enumerate(groups) if name in names])
    return flags


def resolve_metric(metric: Metric | str, old: TaskRun | StoredRun, new: TaskRun | StoredRun) -> Metric:
    """The metric by this name on both sides, smooth where either side has it so.
    Raises InputError: a side does not score it, or the sides read it differently."""
    if isinstance(metric, OldAsReference):
        return metric
    name = metric if isinstance(metric, str) else metric.name
    found = []
    for side, run in (("OLD", old), ("NEW", new)):
        known = {each.name: each for each in reversed(run.metrics) if score_column(each.name) in run.names}
        if name not in known:
            names = list(reversed(known))
            raise InputError(
                f"{side} has no score '{name}' on task '{run.task}'{did_you_mean(name, names)}; it has "
                f"{', '.join(names) or 'no score at all'}"
            )
        found.append(known[name])
    first, second = found
    error = math.hypot(first.error, second.error)
    if isinstance(metric, Metric):
        return metric if metric.error == error else replace(metric, error=error)
    if first.higher_is_better != second.higher_is_better:
        raise InputError(f"OLD and NEW disagree on whether a higher '{name}' is better on task '{old.task}'")
    kind = "smooth" if "smooth" in (first.kind, second.kind) else first.kind
    signatures = dict.fromkeys(each.signature for each in found if each.signature)
    return replace(first, kind=kind, signature=" / ".join(signatures), error=error)


def dead_band(epsilon: float | None, metric: Metric) -> float:
    """The dead-band of a metric that :func:`resolve_metric` gave: what was asked for, else what its samples need.

    Averages of samples move from run to run: a gain within 2.5 standard errors of a difference is unchanged, which few
    documents of an unchanged model leave, however many samples there are. Without samples it is 0.
    """
    return epsilon if epsilon is not None else 2.5 * metric.error


def sort_pairs(
    old: TaskRun,
    new: TaskRun,
    pairs: Pairs,
    metric: Metric,
    *,
    epsilon: float | None,
    correct_at: float | None,
    grade: Grade | None = None,
) -> Sorted:
    """Sort the pairs by ``metric``.

    Smooth: the gain beyond ``epsilon`` decides, or beyond :func:`dead_band` where that is None. Discrete: a score of 1
    is correct (0 where lower is better); with ``correct_at`` a score that reaches it is (stays at or below it, where
    lower is better). Where OLD's answers are the reference ``grade`` scores the pairs.
    Raises InputError: a score that is missing without an error, infinite, or neither 0 nor 1 on a discrete metric."""
    scored = ~(failed(old.records, pairs.old) | failed(new.records, pairs.new))
    if isinstance(metric, OldAsReference):
        if grade is None:
            raise ValueError(f"'{metric.name}' with OLD as the reference needs what grades answers")
        return _changes(old, new, pairs, metric, scored, grade, epsilon, correct_at)
    discrete = metric.kind == "discrete" and correct_at is None
    before = _scores("OLD", old, pairs.old, metric.name, scored, discrete)
    after = _scores("NEW", new, pairs.new, metric.name, scored, discrete)
    gain = after - before if metric.higher_is_better else before - after
    gain[np.abs(gain) <= _rounding(before, after)] = 0.0
    gain[~scored] = np.nan
    names: tuple[str, ...] = SMOOTH_GROUPS
    if metric.kind == "discrete" or correct_at is not None:
        metric, names = replace(metric, kind="discrete"), QUADRANTS
        threshold = correct_at if correct_at is not None else float(metric.higher_is_better)
        slack = ROUNDING * abs(threshold)
        right = [scores >= threshold - slack if metric.higher_is_better else scores <= threshold + slack
                 for scores in (before, after)]  # fmt: skip
        # Two bits, "old is wrong" and "new is wrong", number the quadrants in their order.
        codes = (~right[0]).astype(np.int8) + 2 * (~right[1]).astype(np.int8)
    else:
        # A gain that equals epsilon but for rounding (0.8 − 0.6 against 0.2) is within it.
        edge = dead_band(epsilon, metric) * (1 + ROUNDING)
        codes = np.full(len(gain), SMOOTH_GROUPS.index("unchanged"), dtype=np.int8)
        codes[gain > edge] = SMOOTH_GROUPS.index("positive_flip")
        codes[gain < -edge] = SMOOTH_GROUPS.index("negative_flip")
    codes[~scored] = -1
    one, other = _predictions(old, new, pairs, metric)
    changed = None if one is None or other is None else differ(one, other)
    zero = [scored & (scores == 0) & metric.higher_is_better for scores in (before, after)]
    silent = silent_rows(one, scored, zero[0]), silent_rows(other, scored, zero[1])
    return Sorted(metric, names, before, after, gain, codes, scored, changed, one, other, silent)


def _predictions(old: TaskRun, new: TaskRun, pairs: Pairs, metric: Metric) -> list[pd.Series | None]:
    """What ``metric`` scores of OLD and of NEW: its own predictions where it has any."""
    return [
        next((take(run.records[name], rows) for name in (prediction_column(metric.name), "prediction")
              if name in run.records), None)
        for run, rows in ((old, pairs.old), (new, pairs.new))
    ]  # fmt: skip


def _changes(
    old: TaskRun,
    new: TaskRun,
    pairs: Pairs,
    metric: OldAsReference,
    scored: Flags,
    grade: Grade,
    epsilon: float | None,
    correct_at: float | None,
) -> Sorted:
    """Sort the pairs by whether NEW's answer is that of OLD.

    Equal texts are; others are where the metric scores 1, is within ``epsilon`` of it or reaches ``correct_at``. Where
    a judge says which is better, others never are. No answer is equal to no answer alone; a judge is not asked then.
    """
    one, other = _predictions(old, new, pairs, metric)
    if one is None or other is None:
        side = "OLD" if one is None else "NEW"
        raise InputError(f"{side} has no answers on task '{old.task}', only scores: --reference old compares answers")
    same = ~differ(one, other)
    top = 0.5 if metric.preference else 1.0
    values, agreed = np.where(same, top, 0.0), np.full(len(same), np.nan)
    if metric.preference:
        values[~same & other.notna().to_numpy() & one.isna().to_numpy()] = 1.0
    asked = np.flatnonzero(scored & ~same & one.notna().to_numpy() & other.notna().to_numpy())
    if len(asked):
        inputs = next((take(r.records["input"], p) for r, p in ((old, pairs.old), (new, pairs.new))
                       if "input" in r.records), None)  # fmt: skip
        shown = [None if inputs is None else _text(inputs.iloc[row]) for row in asked]
        found = grade(metric, [str(t) for t in one.iloc[asked]], [str(t) for t in other.iloc[asked]], shown)
        values[asked] = found[0]
        if found[1] is not None:
            agreed[asked] = found[1]
    kept: Metric = metric
    if metric.preference:
        codes = np.select([same, values > 0.5, values < 0.5], [0, 1, 2], 3).astype(np.int8)
        codes[(agreed == 0) & ~same] = PREFERENCES.index("tied")  # it preferred what it was shown first, or last
    else:
        band = (epsilon or 0.0) if metric.kind == "smooth" else 0.0
        least = correct_at if correct_at is not None else 1.0 - band
        codes = (~same & (values < least * (1 - ROUNDING))).astype(np.int8)
        if correct_at is not None:
            kept = replace(metric, kind="discrete")
    before, gain = np.full(len(same), top), values - top
    for each in (before, values, gain):
        each[~scored] = np.nan
    codes[~scored] = -1
    names = PREFERENCES if metric.preference else CHANGES
    return Sorted(kept, names, before, values, gain, codes, scored, codes > 0, one, other,
                  (silent_rows(one, scored, scored), silent_rows(other, scored, scored)),
                  agreed if metric.preference else None)  # fmt: skip


def silent_rows(texts: pd.Series | None, scored: Flags, blank: Flags) -> Flags:
    """Which scored answers are none: null, or nothing to be seen where ``blank`` says that this is not right."""
    if texts is None:
        return np.zeros_like(scored)
    silent: Flags = scored & texts.isna().to_numpy(dtype=bool)
    rows = np.flatnonzero(blank & ~silent)
    silent[rows] = [isinstance(text, str) and all(map(_is_unseen, text)) for text in texts.iloc[rows]]
    return silent


def _is_unseen(sign: str) -> bool:
    """White space, and what is only there for others: zero-width spaces, a byte order mark."""
    return sign.isspace() or unicodedata.category(sign) in ("Cc", "Cf")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _rounding(before: Floats, after: Floats) -> Floats:
    """The size of a gain, shape (pairs,), that the order of a sum may make: :data:`ROUNDING` of the scores' scale.

    The scale is the larger of the pair's own scores and the median of all that are not zero.
    """
    sizes = np.maximum(np.abs(before), np.abs(after))
    known = sizes[np.isfinite(sizes) & (sizes > 0)]
    return ROUNDING * np.maximum(sizes, float(np.median(known)) if len(known) else 0.0)


def _scores(side: str, run: TaskRun, rows: np.ndarray, metric: str, scored: Flags, discrete: bool) -> Floats:
    values = run.records[score_column(metric)].to_numpy(dtype=np.float64, na_value=np.nan)[rows]
    bad = scored & ~(np.abs(values) <= GREATEST)
    rule = f"a score is a number within ±{GREATEST:g}, and only a record with an error has none"
    if discrete and not bad.any():
        bad = scored & (values != 0) & (values != 1)
        rule = "a discrete metric scores 0 or 1 (--correct-at makes a threshold of another one)"
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{side} has the score {values[row]:g} of '{metric}' for id {run.records['doc_id'].iloc[rows[row]]!r} on "
            f"task '{run.task}': {rule}"
        )
    return values
