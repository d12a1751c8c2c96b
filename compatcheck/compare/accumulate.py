"""What a streamed comparison keeps of every pair: counts, and a few numbers where a figure needs them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compatcheck.compare.intervals import Flags, Floats
from compatcheck.compare.means import Numbers
from compatcheck.compare.metrics import Changes
from compatcheck.compare.overview import Gains, gains_of, together
from compatcheck.compare.quadrants import Sorted
from compatcheck.compare.result import QUADRANTS, SMOOTH_GROUPS, Slice
from compatcheck.compare.slices import MISSING, by_frequency, count_slices, label, old_right, text_of
from compatcheck.errors import InputError

MOST_VALUES = 100_000
"""Different texts of a slice field that are counted."""


class Tally:
    """Adds up the parts of one metric.

    A quadrant costs counts alone; a smooth metric 25 bytes a pair (two scores, the gain and a code) for its sums, its
    interval and its test, which are then those of the whole, number by number.
    """

    def __init__(self, discrete: bool, pairs: int) -> None:
        self.discrete = discrete
        self.names = QUADRANTS if discrete else SMOOTH_GROUPS
        self.n = 0
        """Scored pairs."""
        self._counts = np.zeros(len(self.names), np.int64)
        self._changes: Changes | None = None
        self._gains: Gains | None = None
        size = 0 if discrete else pairs
        self._old, self._new, self._gain = np.empty(size), np.empty(size), np.empty(size)
        self._codes = np.empty(size, np.int8)

    def add(self, found: Sorted) -> None:
        """Take note of the pairs of a part."""
        scored = found.scored
        codes = found.codes[scored]
        self._counts += np.bincount(codes, minlength=len(self.names))
        if found.changes is not None:
            self._changes = found.changes.plus(self._changes)
        if self.discrete:
            self._gains = together(self._gains, gains_of(found.gain[scored], "discrete"))
        else:
            part = slice(self.n, self.n + len(codes))
            self._old[part], self._new[part], self._codes[part] = found.old[scored], found.new[scored], codes
            self._gain[part] = found.gain[scored]
        self.n += len(codes)

    @property
    def counts(self) -> dict[str, int]:
        return {name: int(count) for name, count in zip(self.names, self._counts, strict=True)}

    @property
    def changes(self) -> Changes | None:
        return self._changes

    def numbers(self) -> Numbers:
        """Old scores, new scores, gains and codes of the scored pairs; empty for a discrete metric."""
        size = 0 if self.discrete else self.n
        return Numbers(self._old[:size], self._new[:size], self._gain[:size], self._codes[:size])

    def gains(self, gain: Floats) -> Gains | None:
        """The histogram; ``gain`` is what :meth:`numbers` gave."""
        return self._gains if self.discrete else gains_of(gain, "smooth")


class Flips:
    """Counts flips by the values of one field: 4 bytes a pair for texts, 8 for numbers, and 3 for the flips."""

    def __init__(self, field: str, pairs: int, numeric: bool) -> None:
        self.field = field
        self._numeric = numeric
        self._values: NDArray[Any] = np.empty(pairs, np.float64 if numeric else np.int32)
        self._up, self._down = np.zeros(pairs, dtype=bool), np.zeros(pairs, dtype=bool)
        self._held: Flags | None = None
        self._names: dict[str, int] = {}
        self._n = 0

    def add(self, values: pd.Series, found: Sorted) -> None:
        """``values`` are those of the scored pairs of ``found``."""
        codes = found.codes[found.scored]
        part = slice(self._n, self._n + len(codes))
        self._n += len(codes)
        self._up[part] = codes == found.names.index("positive_flip")
        self._down[part] = codes == found.names.index("negative_flip")
        right = old_right(found)
        if right is not None:
            if self._held is None:
                self._held = np.zeros(len(self._up), dtype=bool)
            self._held[part] = right
        if self._numeric:
            self._values[part] = values.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            self._values[part] = self._numbered(values)

    def slices(self, confidence: float) -> list[Slice]:
        """The slices of the field, as :func:`compatcheck.compare.slices.build_slices` makes them."""
        codes, labels = self._labelled(self._values[: self._n])
        up, down = self._up[: self._n], self._down[: self._n]
        held = None if self._held is None else self._held[: self._n]
        return count_slices(self.field, codes, labels, up, down, held, confidence)

    def _labelled(self, values: NDArray[Any]) -> tuple[NDArray[np.intp], list[str]]:
        if self._numeric:
            return label(pd.Series(values, copy=False))
        missing = values < 0
        known, labels = by_frequency(values[~missing], list(self._names))
        codes = np.full(len(values), len(labels), dtype=np.intp)
        codes[~missing] = known
        return codes, [*labels, MISSING] if missing.any() else labels

    def _numbered(self, values: pd.Series) -> NDArray[np.int32]:
        if values.dtype == object:  # where 1 and True are different values
            values = values.map(text_of, na_action="ignore")
        codes, distinct = pd.factorize(values)
        names = [value if isinstance(value, str) else text_of(value) for value in distinct]
        for name in names:
            self._names.setdefault(name, len(self._names))
        if len(self._names) > MOST_VALUES:
            raise InputError(
                f"--slice-by {self.field}: it has more than {MOST_VALUES:,} different values, too many to count in a "
                "comparison that is streamed; name a coarser field, or compare in memory with --no-stream"
            )
        places = np.array([*(self._names[name] for name in names), -1], np.int32)
        return places[codes]


def is_numeric(kinds: list[str]) -> bool:
    """Whether a field of these kinds (of the sides that count) is sliced by numbers."""
    return all(kind in ("integer", "number") for kind in kinds)
