"""Which instances a report shows where it cannot show all: flips first, the worst of them before the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

KEPT_ROWS = 10_000
"""Instances of one comparison that are held where the comparison was streamed."""
_QUOTAS = {"negative_flip": 1 / 2, "positive_flip": 1 / 4, "error": 1 / 8, "rest": 1 / 8}
"""Shares of :data:`KEPT_ROWS` that each group is sure of, if it is as large; what one leaves, the first ones take."""


class Telling:
    """Chooses up to ``count`` rows from a stream of instances; the order in which rows of equal rank come decides.

    Negative flips by how much was lost, positive flips by how much was gained, errors and all others as they come.
    """

    def __init__(self, count: int = KEPT_ROWS) -> None:
        self.count = count
        self.rows = 0
        """Rows that were seen."""
        self._kept: dict[str, list[tuple[NDArray[np.float64], NDArray[np.int64], pd.DataFrame]]] = {}
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
            if len(rows):
                kept = self._kept.setdefault(group, [])
                kept.append((rank, rows + self.rows, instances.iloc[rows]))
                self._prune(group)
        self.rows += len(instances)

    def chosen(self) -> pd.DataFrame:
        """The chosen rows in the order in which they came. At least one row was added."""
        sizes = {group: sum(len(rank) for rank, _, _ in self._kept.get(group, [])) for group in _QUOTAS}
        room = {group: min(int(share * self.count), sizes[group]) for group, share in _QUOTAS.items()}
        for group in _QUOTAS:
            room[group] = min(sizes[group], room[group] + self.count - sum(room.values()))
        places, frames = [], []
        for group, kept in self._kept.items():
            rank, place, frame = _joined(kept)
            best = _best(rank, place, room[group])
            places.append(place[best])
            frames.append(frame.iloc[best])
        order = np.argsort(np.concatenate(places))
        return pd.concat(frames, ignore_index=True).iloc[order].reset_index(drop=True)

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
            rank: NDArray[np.float64] = np.zeros(len(rows)) if sign is None else sign * gain[rows]
            good = rank < self._bars[group]
            yield group, rows[good], rank[good]

    def _prune(self, group: str) -> None:
        kept = self._kept[group]
        if sum(len(rank) for rank, _, _ in kept) < 2 * self.count and np.isfinite(self._bars[group]):
            return
        rank, place, frame = _joined(kept)
        best = _best(rank, place, self.count)
        # A copy: what was chosen must not hold on to the whole part that it came from.
        self._kept[group] = [(rank[best], place[best], frame.iloc[best].copy())]
        if len(best) == self.count:
            self._bars[group] = float(rank[best].max())


def _joined(
    kept: list[tuple[NDArray[np.float64], NDArray[np.int64], pd.DataFrame]],
) -> tuple[NDArray[np.float64], NDArray[np.int64], pd.DataFrame]:
    ranks, places, frames = zip(*kept, strict=True)
    return np.concatenate(ranks), np.concatenate(places), pd.concat(frames, ignore_index=True)


def _best(rank: NDArray[np.float64], place: NDArray[np.int64], count: int) -> NDArray[np.intp]:
    return np.sort(np.lexsort((place, rank))[:count])
