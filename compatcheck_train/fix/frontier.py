"""Blends of compat and NEW on the validation documents: a dial between flips and score, without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatcheck.records import Run
from compatcheck.references import Reference, resolve
from compatcheck.tasks import LoadedTask
from compatcheck_train.fix.judging import Standing, best, stand
from compatcheck_train.fix.request import AUTO, FixRequest
from compatcheck_train.training.processes import first
from compatcheck_train.weights import blend, merge

Say = Callable[[str], None]
SHARES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class Point:
    """One blend: the weight of compat, the adapter's folder, and where it stands."""

    share: float
    folder: Path
    standing: Standing


@dataclass(frozen=True)
class Frontier:
    """Every blend that was tried, by weight, and the one that is taken."""

    method: str
    points: tuple[Point, ...]
    chosen: Point


def walk(
    request: FixRequest, new: Reference, compat: Path, documents: LoadedTask, known: Mapping[str, Run], folder: Path, *,
    shares: Sequence[float] = SHARES, say: Say = lambda _: None, progress: Any = None,
) -> Frontier:  # fmt: skip
    """Try the blends (or the one asked for) and take the one with the fewest flips that keeps NEW's score."""
    if request.blend != AUTO:
        shares = (float(request.blend),)  # type: ignore[arg-type]
    say(f"blending with NEW, weights {', '.join(f'{share:g}' for share in shares)}")
    folders = first(lambda: {share: _blended(request, new, compat, share, folder / f"{share:g}") for share in shares})
    models = {f"{share:g}": resolve(str(place)) for share, place in folders.items()}
    runs = request.judge.run(documents, models, progress=progress)
    standings = {each.name: each for each in stand(request.judge, known["old"], known["new"], runs, request.judge.seed)}
    points = tuple(Point(share, folders[share], standings[f"{share:g}"]) for share in shares)
    winner = best([point.standing for point in points])
    return Frontier(request.blend_method, points, next(point for point in points if point.standing is winner))


def _blended(request: FixRequest, new: Reference, compat: Path, share: float, out: Path) -> Path:
    if share == 1.0:
        return compat
    if request.blend_method == "exact" or new.adapter is None:
        return blend(compat, new.adapter, share, out)
    assert new.base is not None
    return merge(new.base, compat, new.adapter, share, request.blend_method, out)
