"""Where the flips are: every value of a field against the rest."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.compare.answers import OF_SIDES, WHY, How, knows, values
from compatcheck.compare.instances import from_either, slice_fields, text_of
from compatcheck.compare.intervals import Flags, rate
from compatcheck.compare.metrics import NO_OLD_RIGHT
from compatcheck.compare.pairing import Pairs
from compatcheck.compare.quadrants import are
from compatcheck.compare.result import CHANGES, NO_TARGETS, PREFERENCES, QUADRANTS, Comparison, Estimate, Slice
from compatcheck.compare.ties import margins
from compatcheck.errors import InputError, did_you_mean
from compatcheck.records import ANSWER_COLUMNS, StoredRun, TaskRun

AnyRun = TaskRun | StoredRun
BINS = 4  # numbers with more than FEW distinct values are cut at their quartiles
FEW = 10
MOST = 50  # so many values of a text field are shown, the most frequent ones; the rest are one slice
MISSING = "(missing)"
AUTO = "auto"  # stands for every automatic slice that the records have what it takes for, and for LABELS
AUTOMATIC = ("auto:input_length", "auto:target_length", "auto:old_confidence")
"""Fields that are computed: characters of the input and of the target, and OLD's margin between its two likeliest
choices (nats, to two decimals)."""
LABELS = ("activity_label",)  # fields of well-known tasks that say what an instance is about; ``auto`` takes them, too


def build_slices(
    values: Mapping[str, pd.Series],
    scored: Flags,
    unanswered: Flags,
    groups: tuple[NDArray[np.int8], tuple[str, ...]],
    confidence: float,
    again: Callable[[Slice, Flags, Flags, Flags | None], Slice] | None = None,
) -> tuple[Slice, ...]:
    """Flips by the values of fields, whose ``values``, ``scored`` and ``unanswered`` are of all pairs; ``groups`` are
    the codes of the scored ones and their names.

    Each slice is compared with the rest of the pairs by Fisher's exact test, one-sided: does it flip negatively more
    often? The p-values are adjusted over all slices of the comparison (Benjamini–Hochberg). ``again`` gets every slice
    with the flags of its pairs, of negative flips and of what OLD had right, and returns it with other figures: those
    by clusters."""
    slices: list[Slice] = []
    up, down = are(*groups, ["positive_flip"]), are(*groups, worse_groups(groups[1]))
    right = are(*groups, ["both_correct", "negative_flip"]) if groups[1] == QUADRANTS else None
    for field, each in values.items():
        codes, counted = count_slices(field, each, scored, unanswered, up, down, right, confidence)
        if again is not None:
            counted = [again(part, codes == place, down, right) for place, part in enumerate(counted)]
        slices += counted
    return adjust(slices)


def expand(fields: Sequence[str], old: AnyRun, new: AnyRun, also: Sequence[str] = ()) -> list[str]:
    """The fields, each once, with what ``auto`` stands for in its place, and those of ``also`` that there are.
    Raises InputError: ``auto`` stands for nothing, as the records have neither texts nor log-likelihoods."""
    found: dict[str, None] = {}
    known = frozenset(slice_fields(old.names, new.names)) if also or AUTO in fields else ()
    for field in (*fields, *(name for name in also if name in known)):
        those = [field]
        if field == AUTO:
            those = [name for name in AUTOMATIC if _lacking(name, old, new) is None]
            those += [name for name in LABELS if name in known]
        if not those:
            raise InputError(
                f"--slice-by auto: the records of task '{old.task}' have neither input, target nor log-likelihoods"
            )
        found |= dict.fromkeys(those)
    return list(found)


def _lacking(field: str, old: AnyRun, new: AnyRun) -> str | None:
    """What an automatic field needs and the records do not have."""
    if field in OF_SIDES:
        side, _, name = field.partition(":")
        known = knows(name, (old if side == "old" else new).names)
        return None if known else f"{name} of {side.upper()}: {WHY[name]}"
    if field == "auto:old_confidence":
        return None if "loglikelihoods" in old.names else "log-likelihoods of choices in OLD"
    column = field.removeprefix("auto:").removesuffix("_length")
    return None if column in old.names or column in new.names else f"field '{column}'"


def field_values(field: str, old: TaskRun, new: TaskRun, pairs: Pairs) -> pd.Series:
    """The values of a field, one for each pair; computed for an automatic one."""
    if field in OF_SIDES:
        side, _, name = field.partition(":")
        run, rows = (old, pairs.old) if side == "old" else (new, pairs.new)
        found = values(name, run, rows, side, How())
        return pd.Series(np.full(len(rows), np.nan) if found is None else found)
    if field not in AUTOMATIC:
        return from_either(field, old, new, pairs)
    if field == "auto:old_confidence":
        margin = margins(old.records, pairs.old)
        return pd.Series(np.full(len(pairs.old), np.nan) if margin is None else margin.round(2))
    column = field.removeprefix("auto:").removesuffix("_length")
    texts = from_either(column, old, new, pairs).astype(object)
    return pd.Series([float(len(text)) if isinstance(text, str) else np.nan for text in texts], dtype="float64")


def check_field(field: str, old: AnyRun, new: AnyRun, option: str = "--slice-by") -> None:
    """Raise InputError for a field that the records do not have."""
    if field in (*AUTOMATIC, *OF_SIDES):
        if (lacking := _lacking(field, old, new)) is not None:
            raise InputError(f"--slice-by {field}: the records of task '{old.task}' have no {lacking}")
        return
    if field.startswith("auto:"):
        hint = did_you_mean(field, AUTOMATIC)
        raise InputError(f"--slice-by {field}: no automatic slice{hint}; there are auto, {', '.join(AUTOMATIC)}")
    known = slice_fields(old.names, new.names)
    further = ("target", *ANSWER_COLUMNS)
    if field not in known and not (field in further and any(field in run.names for run in (old, new))):
        has = f"they have {', '.join(known)}" if known else "they have no further field"
        hint = did_you_mean(field, known)
        raise InputError(f"{option}: the records of task '{old.task}' have no field '{field}'{hint}; {has}")


def flipped_part(comparison: Comparison, part: str, flips: Mapping[str, int]) -> Slice:
    """A slice of all instances that counts the flips of one part of the answers, by their group."""
    n, confidence = comparison.n, comparison.confidence
    worse, better = (flips.get(group, 0) for group in ("negative_flip", "positive_flip"))
    if comparison.reference is not None:
        changed = rate(flips.get("changed", 0), n, confidence)
        return Slice(comparison.metric, part, n, 0, 0, Estimate(None, of=n, why=NO_TARGETS), changed=changed)
    had = comparison.metrics["accuracy_old"].count or 0
    lost = rate(worse, had, confidence, NO_OLD_RIGHT)
    return Slice(comparison.metric, part, n, better, worse, rate(worse, n, confidence), lost=lost)


def worse_groups(names: Sequence[str]) -> tuple[str, ...]:
    """The groups that slices count as negative flips: where OLD is the reference all that changed."""
    return tuple(names[1:]) if tuple(names) in (CHANGES, PREFERENCES) else ("negative_flip",)


def count_slices(
    field: str,
    values: pd.Series,
    scored: Flags,
    unanswered: Flags,
    up: Flags,
    down: Flags,
    right: Flags | None,
    confidence: float,
) -> tuple[NDArray[np.intp], list[Slice]]:
    """The slice of each scored pair by its number, and the slices of one field.

    ``values``, ``scored`` and ``unanswered`` are of all pairs; of the scored ones ``up`` and ``down`` flag flips and
    ``right`` what OLD had right.
    """
    every, labels = label(values)
    codes = every[scored]
    unscored, empty = (np.bincount(every[part], minlength=len(labels)).tolist() for part in (~scored, unanswered))
    sizes, positive, negative = (
        np.bincount(part, minlength=len(labels)).tolist() for part in (codes, codes[up], codes[down])
    )
    held = [0] * len(labels) if right is None else np.bincount(codes[right], minlength=len(labels)).tolist()
    return codes, [
        Slice(
            field, name, size, better, worse, rate(worse, size, confidence), p,
            lost=None if right is None else rate(worse, had, confidence, NO_OLD_RIGHT),
            unscored=without or None, unanswered=none or None,
        )
        for name, size, better, worse, had, p, without, none in zip(
            labels, sizes, positive, negative, held, _worse_than_rest(sizes, negative), unscored, empty, strict=True
        )
    ]  # fmt: skip


def _worse_than_rest(sizes: list[int], negative: list[int]) -> list[float | None]:
    """Fisher's exact p per slice; None where it is empty, or there is no rest to compare with."""
    from scipy.stats import hypergeom  # half a second of import, needed for slices alone

    n = sum(sizes)
    p_values = hypergeom.sf(np.array(negative) - 1, n, sum(negative), np.array(sizes))
    return [None if size in (0, n) else min(1.0, float(p)) for size, p in zip(sizes, p_values, strict=True)]


def adjust(slices: Sequence[Slice]) -> tuple[Slice, ...]:
    """The slices of a whole comparison with their adjusted p-values."""
    tested = [each.p for each in slices if each.p is not None]
    if not tested:
        return tuple(slices)
    from scipy.stats import false_discovery_control

    adjusted = iter(false_discovery_control(tested))
    return tuple(each if each.p is None else replace(each, p_adjusted=float(next(adjusted))) for each in slices)


def label(values: pd.Series) -> tuple[NDArray[np.intp], list[str]]:
    """Give every value the number of its slice, and every slice its name.

    Few distinct numbers are slices of their own, in their order; more are cut at the quartiles. Text and anything else
    is taken by frequency, at most :data:`MOST` values; nulls are a slice of their own.
    """
    missing = values.isna().to_numpy()
    codes = np.zeros(len(values), dtype=np.intp)
    known = values[~missing]
    numeric = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    codes[~missing], labels = _numbers(known.to_numpy(dtype=np.float64)) if numeric else _texts(known)
    if missing.any():
        codes[missing] = len(labels)
        labels.append(MISSING)
    return codes, labels


def _numbers(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], list[str]]:
    distinct, codes = np.unique(values, return_inverse=True)
    if len(distinct) <= FEW:
        return codes, [f"{value:.10g}" for value in distinct]
    least, most = distinct[0], distinct[-1]
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    edges = edges[edges < most]
    if len(edges) == 0:  # more than three quarters of the values are the greatest one
        edges = distinct[-2:-1]
    tops = [*edges, most]
    labels = [f"{least:.10g} to {tops[0]:.10g}"]
    labels += [f"over {low:.10g} to {high:.10g}" for low, high in itertools.pairwise(tops)]
    return np.searchsorted(edges, values, side="left"), labels


def _texts(values: pd.Series) -> tuple[NDArray[np.intp], list[str]]:
    """Numbered by how often they are met, at most :data:`MOST` of them."""
    if isinstance(values.dtype, pd.CategoricalDtype) and all(isinstance(each, str) for each in values.cat.categories):
        values = values.cat.remove_unused_categories()
        codes, names = values.cat.codes.to_numpy(), list(values.cat.categories)
    else:
        if values.dtype == object or isinstance(values.dtype, pd.CategoricalDtype):
            values = pd.Series([text_of(value) for value in values], dtype=object)
        elif not pd.api.types.is_string_dtype(values.dtype):
            values = values.map(text_of)
        codes, distinct = pd.factorize(values)
        names = [str(name) for name in distinct]
    counts = np.bincount(codes, minlength=len(names))
    order = sorted(range(len(names)), key=lambda place: (-counts[place], names[place]))
    shown = order[:MOST]
    place_of = np.full(len(names), len(shown), dtype=np.intp)
    place_of[shown] = np.arange(len(shown))
    other = [f"(other: {len(order) - MOST} values)"] if len(order) > MOST else []
    return place_of[codes], [*(names[place] for place in shown), *other]
