"""What a report shows where it cannot show all instances: a histogram of all gains, and the worst flips themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BINS = 41  # bars of a smooth metric's histogram: odd, so that one lies around zero
KEPT_ROWS = 10_000  # instances of one comparison that are held where the comparison was streamed
_QUOTAS = {"negative_flip": 1 / 2, "positive_flip": 1 / 4, "error": 1 / 8, "rest": 1 / 8}
"""Shares of :data:`KEPT_ROWS` that each group is sure of, if it is as large; what one leaves, the first ones take."""


@dataclass(frozen=True)
class Gains:
    """Histogram of the gains of all scored instances: bars of equal width from ``-limit`` to ``limit``.

    Discrete metrics have three, around −1, 0 and +1; smooth ones :data:`BINS`.
    """

    limit: float
    counts: tuple[int, ...]
    worse: int
    better: int

    @property
    def edges(self) -> NDArray[np.float64]:
        """Bounds of the bars, one more than there are."""
        return np.linspace(-self.limit, self.limit, len(self.counts) + 1)


@dataclass(frozen=True)
class Overview:
    """The whole of a comparison whose ``instances`` are a part of the ``rows`` that ``instances.parquet`` holds."""

    rows: int
    gains: Gains | None  # None where nothing was scored


def gains_of(gains: NDArray[np.float64], kind: str) -> Gains | None:
    """The histogram of gains that are finite; None where there are none."""
    if not len(gains):
        return None
    limit = 1.5 if kind == "discrete" else round_up(float(np.abs(gains).max()) or 1.0)
    bars = 3 if kind == "discrete" else BINS
    counts, _ = np.histogram(gains, np.linspace(-limit, limit, bars + 1))
    return Gains(limit, tuple(counts.tolist()), int((gains < 0).sum()), int((gains > 0).sum()))


def together(one: Gains | None, other: Gains | None) -> Gains | None:
    """The histogram of both; they have the same bars, as those of a discrete metric always do."""
    if one is None or other is None:
        return one or other
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Gains(one.limit, counts, one.worse + other.worse, one.better + other.better)


def round_up(value: float) -> float:
    """The next number of the form 1, 2, 2.5, 4, 5, 6, 8 or 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 2.5, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


class _Ranked(NamedTuple):
    """Rows of one group: the least rank is the most worth showing; ``place`` is where they came in the stream."""

    rank: NDArray[np.float64]
    place: NDArray[np.int64]
    rows: pd.DataFrame

    def best(self, count: int) -> _Ranked:
        chosen = np.sort(np.lexsort((self.place, self.rank))[:count])
        return _Ranked(self.rank[chosen], self.place[chosen], self.rows.iloc[chosen])


def _joined(kept: list[_Ranked]) -> _Ranked:
    ranks, places, frames = zip(*kept, strict=True)
    return _Ranked(np.concatenate(ranks), np.concatenate(places), pd.concat(frames, ignore_index=True))


class WorstFlips:
    """Chooses up to ``count`` rows from a stream of instances; the order in which rows of equal rank come decides.

    Negative flips by how much was lost, positive flips by how much was gained, errors and all others as they come.
    """

    def __init__(self, count: int = KEPT_ROWS) -> None:
        self.count, self.rows = count, 0
        self._kept: dict[str, list[_Ranked]] = {}
        self._bars = dict.fromkeys(_QUOTAS, np.inf)

    def wants(self, quadrant: pd.Series, gain: NDArray[np.float64]) -> bool:
        """Whether any of these rows would be chosen by what is known so far."""
        return any(len(rows) for _, rows, _ in self._candidates(quadrant, gain))

    def skip(self, rows: int) -> None:
        """Count rows of which none is wanted."""
        self.rows += rows

    def add(self, instances: pd.DataFrame) -> None:
        """Take note of the next rows."""
        gain = instances["gain"].to_numpy(dtype=np.float64, na_value=np.nan)
        for group, rows, rank in self._candidates(instances["quadrant"], gain):
            if not len(rows):
                continue
            kept = self._kept.setdefault(group, [])
            kept.append(_Ranked(rank, rows + self.rows, instances.iloc[rows]))
            if sum(len(one.rank) for one in kept) >= 2 * self.count or not np.isfinite(self._bars[group]):
                best = _joined(kept).best(self.count)
                # A copy: what was chosen must not hold on to the whole part that it came from.
                self._kept[group] = [best._replace(rows=best.rows.copy())]
                if len(best.rank) == self.count:
                    self._bars[group] = float(best.rank.max())
        self.rows += len(instances)

    def chosen(self) -> pd.DataFrame:
        """The chosen rows in the order in which they came. At least one row was added."""
        joined = {group: _joined(kept) for group, kept in self._kept.items()}
        sizes = {group: len(joined[group].rank) if group in joined else 0 for group in _QUOTAS}
        room = {group: min(int(share * self.count), sizes[group]) for group, share in _QUOTAS.items()}
        for group in _QUOTAS:
            room[group] = min(sizes[group], room[group] + self.count - sum(room.values()))
        best = _joined([one.best(room[group]) for group, one in joined.items()])
        return best.rows.iloc[np.argsort(best.place)].reset_index(drop=True)

    def _candidates(
        self, quadrant: pd.Series, gain: NDArray[np.float64]
    ) -> Iterator[tuple[str, NDArray[np.intp], NDArray[np.float64]]]:
        missing = quadrant.isna().to_numpy()
        up, down = (
            (quadrant == name).fillna(False).to_numpy(dtype=bool) for name in ("positive_flip", "negative_flip")
        )
        groups = {"negative_flip": down, "positive_flip": up, "error": missing, "rest": ~(up | down | missing)}
        for group, flags in groups.items():
            rows = np.flatnonzero(flags)
            sign = {"negative_flip": 1.0, "positive_flip": -1.0}.get(group)
            rank = np.zeros(len(rows)) if sign is None else sign * gain[rows]
            good = rank < self._bars[group]
            yield group, rows[good], rank[good]
