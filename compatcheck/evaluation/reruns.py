"""Runs of OLD against itself, which measure the noise floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.evaluation.collect import read_side, runs_of, with_requested_metrics
from compatcheck.evaluation.grouping import Say
from compatcheck.evaluation.judging import judged
from compatcheck.evaluation.request import Request, Side
from compatcheck.records import Run
from compatcheck.table.alike import runs_alike
from compatcheck.table.kept import read_manifest


def collect_reruns(
    request: Request, count: int, files: Sequence[str] = (), say: Say = lambda _: None, progress: Any = None
) -> list[Run]:
    """``request.old`` evaluated again ``count`` times, then the recorded reruns of it in ``files``.

    A rerun takes no answer from the store and keeps none. Its requests go in another random order and in other batches
    (:mod:`compatcheck.evaluation.shuffled`), and what is sampled is drawn with another seed. The model is loaded once.
    Raises InputError: OLD is recorded, so that it cannot be run again; or a file that is no recorded run."""
    side, recorded = _rerun_sides(request, count, files)
    engine = side.options.engine
    given = engine.batch_size
    size = given if not isinstance(given, int) else given // 2 if given > 1 else 2
    other = replace(engine, batch_size=size, seed=engine.seed + 1, shuffle=engine.seed + 1)
    options = replace(side.options, engine=other)
    sides = [replace(side, name=f"rerun {number}", options=options) for number in range(1, count + 1)]
    with judged(request, say, progress) as request:
        found = runs_of(sides, replace(request, store=False), say, progress) if sides else []
        kept = [with_requested_metrics(read_side(again, request), request) for again in recorded]
    found = [
        replace(run, manifest=replace(run.manifest, settings={**run.manifest.settings, "rerun": True})) for run in found
    ]
    return found + kept


def with_reruns(
    runs: Sequence[Run], request: Request, count: int, files: Sequence[str], say: Say = lambda _: None,
    progress: Any = None,
) -> tuple[list[Run], list[Run]]:  # fmt: skip
    """The runs, and those of :func:`collect_reruns`: read alike, so that no spelling of a value is taken for noise."""
    reruns = collect_reruns(request, count, files, say, progress)
    alike = runs_alike([*runs, *reruns], request.metric_options) if files else [*runs, *reruns]
    return alike[: len(runs)], alike[len(runs) :]


def check_reruns(request: Request, count: int, files: Sequence[str] = ()) -> None:
    """Raise InputError where :func:`collect_reruns` would, before anything is evaluated."""
    if count or files:
        _rerun_sides(request, count, files)


def _rerun_sides(request: Request, count: int, files: Sequence[str]) -> tuple[Side, list[Side]]:
    side = request.side("old")
    if count and side.recorded:
        raise InputError(
            f"--noise-floor {count}: {request.old} is recorded, so it cannot be run again; name recorded reruns of it "
            "with --noise-run FILE, or compare those among themselves: compatcheck noise RUN1 RUN2"
        )
    recorded = [request.side("old", text) for text in files]
    compared = bool(request.new)  # by `noise` several runs of one model are named, and no option
    option, way = ("--noise-run ", "--noise-floor K runs OLD") if compared else ("", "named alone it is run")
    for again in recorded:
        if not again.recorded:
            raise InputError(f"{option}{again.text}: is no recorded run; {way} again by itself")
        if _places(again) == _places(side):
            itself = "is OLD itself, which" if compared else "is named twice, and"
            raise InputError(f"{option}{again.text}: {itself} shows no noise; name a second run of it")
        if compared and _places(again) == _places(new := request.side("new")) and again.options == new.options:
            raise InputError(f"--noise-run {again.text}: is NEW, whose flips are no noise; name a second run of OLD")
        _refuse_stored(again, option)
    if len({frozenset(_places(again)) for again in recorded}) < len(recorded):
        raise InputError(f"{option.strip() or 'recorded runs'}: one of them is named twice; name another run")
    return side, recorded


def _refuse_stored(again: Side, option: str) -> None:
    """Raise InputError for a kept run whose answers come from the store, where those of OLD lie."""
    for kept in (one.recorded for one in again.references.values() if one.kind == "run" and one.recorded is not None):
        stored, answers = (read_manifest(kept)["settings"].get(name) for name in ("from_store", "answers"))
        if stored:
            raise InputError(
                f"{option}{again.text}: {stored} of {answers} answers come from the store, so they may be OLD's "
                "own, which shows no noise; make the run again with --no-store"
            )


def _places(side: Side) -> set[tuple[Path | None, str | None]]:
    """Where the recorded answers of a side lie; of models nowhere."""
    return {(one.recorded and one.recorded.resolve(), one.part) for one in side.references.values()}
