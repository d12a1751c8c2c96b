"""What the command line and Python share: compare two references, load a kept comparison."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.compare.counterparts import absent_notes, counterparts, differences_of, sample_notes
from compatcheck.compare.result import Comparison, Gate, Side, Stored
from compatcheck.errors import InputError
from compatcheck.finished import Diff, with_history
from compatcheck.gate.doubts import MAX_MISSING
from compatcheck.records import Manifest, Run
from compatcheck.scratch import Scratch

if TYPE_CHECKING:
    from compatcheck.evaluation.streams import StreamedSide
    from compatcheck.gate import Rule
    from compatcheck.sequential import Decided

DEFAULT_SEED = 1234


def diff(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    *,
    task: str | Sequence[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    num_fewshot: int | None = None,
    engine: str = "auto",
    engine_args: Mapping[str, Any] | None = None,
    batch_size: int | str = "auto",
    dtype: str = "auto",
    device: str | None = None,
    apply_chat_template: bool = False,
    fewshot_as_multiturn: bool = True,
    trust_remote_code: bool = False,
    seed: int = DEFAULT_SEED,
    store: str | os.PathLike[str] | bool | None = None,
    metric: str | Sequence[str] | None = None,
    metric_args: Mapping[str, Mapping[str, Any]] | None = None,
    lower_is_better: str | Sequence[str] = (),
    epsilon: float | None = None,
    correct_at: float | None = None,
    slice_by: str | Sequence[str] = (),
    cluster_by: str | None = None,
    noise_floor: int = 0,
    noise_run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    fail_on: str | Sequence[str] = (),
    advisory: str | Sequence[str] = (),
    required: str | Sequence[str] = (),
    max_missing: float | str = MAX_MISSING,
    allow_same: bool = False,
    until_decided: bool = False,
    step: int | None = None,
    max: int | None = None,
    id_field: str | None = None,
    target_field: str | None = None,
    prediction_field: str | None = None,
    old_prediction_field: str | None = None,
    new_prediction_field: str | None = None,
    extract: str | None = None,
    targets: str | os.PathLike[str] | None = None,
    repeats: str | None = None,
    stream: bool | None = None,
    scratch: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: Any = None,
) -> Diff:
    """Compare an old and a new model on one or more tasks, instance by instance.

    The names are those of the command line (``compatcheck diff --help``), except that ``engine_args`` is a mapping and
    ``metric_args`` one by metric name, e.g. ``{"bertscore": {"model_type": "…"}}``; ``say`` receives one line
    per step and ``progress`` a :class:`compatcheck.engines.progress.Progress`. Answers of models are kept in ``store``:
    a folder, None for the one in the user's cache, False for none. ``noise_floor`` runs OLD so often again, and
    ``noise_run`` names recorded reruns of it: what flips between them is the noise floor (docs/trust.md).

    No budget passes where more than ``max_missing`` (a share, or a text such as "2%") of the larger side's rows show
    nothing: without partner, with changed content, in error, or without an answer on both sides. That OLD is NEW is an
    error unless ``allow_same``.

    With ``until_decided`` documents are drawn in the random order of ``seed``, ``step`` at a time (25) and at most
    ``max`` of a task, until every budget of ``fail_on`` is decided by bounds that hold at every look
    (docs/sequential.md).

    Recorded outputs that would take too much memory are compared as a stream (docs/scaling.md): the figures are the
    same, ``instances`` then are the most telling ones, and ``save`` writes them all. ``stream`` says yes or no whatever
    their size. Temporary files go to ``scratch``, by default the system's folder, and are removed with the result.
    Logs of engines stay in ``scratch``, by default in the user's cache.

    Raises:
        InputError: something given cannot be used; the message says what, where and how to mend it.
    """
    from compatcheck import gate, sequential
    from compatcheck.evaluation.collect import (
        Request,
        collect,
        collect_streams,
    )
    from compatcheck.evaluation.evaluate import EngineOptions
    from compatcheck.evaluation.reruns import check_reruns, collect_reruns
    from compatcheck.evaluation.same import refuse_same, refuse_same_model
    from compatcheck.evaluation.settling import check_directions, with_direction
    from compatcheck.readers import Layout
    from compatcheck.table.repeats import check_way
    from compatcheck.tasks.load import TaskOptions

    if epsilon is not None and epsilon < 0:
        raise InputError(f"--epsilon {epsilon}: must be 0 or more")
    check_way(repeats)
    rules = [*gate.parse_rules(_several(fail_on)), *gate.parse_rules(_several(advisory), gate.ADVISORY)]
    must = tuple(_several(required))
    most_missing = gate.parse_share("--max-missing", max_missing)
    layout = Layout(
        id_field=id_field,
        target_field=target_field,
        prediction_field=prediction_field,
        extract=extract,
        targets=Path(targets) if targets is not None else None,
        repeats=repeats,
    )
    request = Request(
        old=os.fspath(old),
        new=os.fspath(new),
        tasks=tuple(_several(task)),
        metrics=tuple(_several(metric)),
        metric_options=with_direction(metric_args, lower_is_better),
        task_options=TaskOptions(Path(data) if data is not None else None, split, limit, sample, num_fewshot, seed),
        engine=EngineOptions(
            engine,
            engine_args or {},
            batch_size,
            dtype,
            device,
            seed,
            trust_remote_code,
            apply_chat_template,
            fewshot_as_multiturn,
            log_folder=Path(scratch) if scratch is not None else None,
        ),
        old_layout=replace(layout, prediction_field=old_prediction_field or prediction_field),
        new_layout=replace(layout, prediction_field=new_prediction_field or prediction_field),
        store=store,
    )
    slices = _several(slice_by)
    plan = None
    if until_decided or step is not None or max is not None:
        epsilon = epsilon or 0.0  # one dead-band for every step
        plan = sequential.plan(until_decided, step, max, seed=seed, epsilon=epsilon, correct_at=correct_at)
        plan.check(rules, cluster_by=cluster_by, noise_floor=noise_floor, stream=stream)
    place = Scratch(Path(scratch) if scratch is not None else None)
    again = [os.fspath(each) for each in ([noise_run] if isinstance(noise_run, str | os.PathLike) else noise_run)]
    check_reruns(request, noise_floor, again)
    if not allow_same:
        refuse_same_model(request)
    with place.writing():
        streams = None if plan is not None else collect_streams(request, place, stream, say)
    if streams is not None and cluster_by is not None:
        raise InputError("--cluster-by: a comparison that is streamed cannot count by clusters; add --no-stream")
    if streams is not None and (noise_floor or again):
        raise InputError("the noise floor of a comparison that is streamed cannot be measured; add --no-stream")
    if streams is not None:
        check_directions(request.metric_options, [run for side in streams for run in side.tasks])
        if not allow_same:
            found = differences_of(*streams)
            refuse_same(*streams, differ=bool(found.found), known=not found.unknown)
        streamed = _diff_of_streams(
            *streams,
            place,
            say,
            rules,
            must,
            most_missing,
            epsilon=epsilon,
            correct_at=correct_at,
            slice_by=slices,
            seed=seed,
        )
        return with_history(streamed, request.old)
    decided = None if plan is None else sequential.decide(request, rules, plan, say, progress)
    old_run, new_run = collect(request, say, progress) if decided is None else (decided.old, decided.new)
    check_directions(request.metric_options, [*old_run.tasks, *new_run.tasks])
    if not allow_same:
        found = differences_of(old_run, new_run)
        refuse_same(old_run, new_run, differ=bool(found.found), known=not found.unknown)
    reruns = collect_reruns(request, noise_floor, again, say, progress)
    judged = diff_of_runs(
        old_run,
        new_run,
        rules=rules,
        required=must,
        epsilon=epsilon,
        correct_at=correct_at,
        slice_by=slices,
        cluster_by=cluster_by,
        seed=seed,
        reruns=reruns,
        decided=decided,
        max_missing=most_missing,
    )
    return with_history(judged, request.old)


def diff_of_runs(
    old: Run,
    new: Run,
    *,
    rules: Sequence[Rule] = (),
    required: Sequence[str] = (),
    epsilon: float | None = None,
    correct_at: float | None = None,
    slice_by: Sequence[str] = (),
    cluster_by: str | None = None,
    seed: int = DEFAULT_SEED,
    reruns: Sequence[Run] = (),
    decided: Decided | None = None,
    max_missing: float = MAX_MISSING,
) -> Diff:
    """Compare two runs that are in memory, as :func:`compatcheck.evaluate` and ``load_run`` give them.

    ``reruns`` are further runs of OLD, from which the noise floor is taken; ``decided`` says how the budgets were
    judged while the runs grew. No budget passes where more than ``max_missing`` of the larger side's rows show nothing.

    Raises:
        InputError: they share nothing, a rule covers nothing, or a budget is within the noise floor.
    """
    comparisons, notes = compare_runs(
        old, new, epsilon=epsilon, correct_at=correct_at, slice_by=slice_by, cluster_by=cluster_by, seed=seed
    )
    if decided is not None:
        comparisons, notes = [decided.with_paths(each) for each in comparisons], [*decided.notes, *notes]
    if reruns:
        from compatcheck.noise import with_noise

        comparisons, more = with_noise(comparisons, old, reruns, epsilon=epsilon, correct_at=correct_at)
        notes += more
    settled = None if decided is None else decided.gates
    return _judged(old, new, comparisons, notes, rules, required, settled=settled, max_missing=max_missing)


def _judged(
    old: Run | StreamedSide,
    new: Run | StreamedSide,
    comparisons: Sequence[Comparison],
    notes: Sequence[str],
    rules: Sequence[Rule],
    required: Sequence[str] = (),
    stored: Stored | None = None,
    settled: Mapping[tuple[str, str], Gate] | None = None,
    max_missing: float = MAX_MISSING,
) -> Diff:
    from compatcheck import gate
    from compatcheck.advice import advise

    _, absent = counterparts(old, new)
    judged, verdict = gate.judge(comparisons, rules, required, settled, max_missing=max_missing, absent=absent)
    notes = (*notes, *gate.noise_remarks(comparisons, rules), *gate.remarks(comparisons))
    return Diff(
        old=_as_side(old.manifest),
        new=_as_side(new.manifest),
        comparisons=tuple(judged),
        verdict=verdict,
        version=_version(),
        notes=tuple(dict.fromkeys((*old.notes, *new.notes, *notes))),
        advice=advise(judged, verdict, gate.doubts_of(judged, max_missing, absent)),
        differences=differences_of(old, new),
        absent=absent,
        stored=stored,
    )


def compare_runs(
    old: Run,
    new: Run,
    *,
    epsilon: float | None = None,
    correct_at: float | None = None,
    slice_by: Sequence[str] = (),
    cluster_by: str | None = None,
    seed: int = DEFAULT_SEED,
) -> tuple[list[Comparison], list[str]]:
    """Compare two runs on every (task, filter, metric) they share; returns comparisons and notes on what they do not.

    Raises:
        InputError: they share nothing.
    """
    from compatcheck.compare import compare
    from compatcheck.compare.clusters import FEW
    from compatcheck.rereading import reread

    pairs, absent = counterparts(old, new)
    notes = absent_notes(absent)
    comparisons = [
        compare(
            run,
            other,
            metric=metric,
            epsilon=epsilon,
            correct_at=correct_at,
            slice_by=slice_by,
            cluster_by=cluster_by,
            seed=seed,
            reread=reread,
        )
        for run, other, metrics in pairs
        for metric in metrics
    ]
    if epsilon is None and correct_at is None:
        notes += sample_notes(pairs)
    notes += [
        f"{each.name}: only {each.clusters.count} clusters by '{each.clusters.field}': with fewer than {FEW} their "
        "spread is badly known, and so are the intervals"
        for each in comparisons
        if each.clusters is not None and each.clusters.count < FEW
    ]
    return comparisons, notes


def _diff_of_streams(
    old: StreamedSide,
    new: StreamedSide,
    scratch: Scratch,
    say: Callable[[str], None],
    rules: Sequence[Rule],
    required: Sequence[str],
    max_missing: float,
    **options: Any,
) -> Diff:
    from compatcheck.compare.comparison import Settings
    from compatcheck.compare.streaming import compare_streams
    from compatcheck.rereading import reread

    pairs, absent = counterparts(old, new)
    notes = absent_notes(absent)
    with scratch.writing():
        comparisons, file = compare_streams(pairs, Settings(**options, reread=reread), scratch, say)
    notes += [
        f"{one.name}: compared as a stream; {len(one.instances):,} of {one.rows:,} instances are shown, flips first, "
        "and all of them are in instances.parquet where the comparison is kept (--out)"
        for one in comparisons
        if len(one.instances) < one.rows
    ]
    stored = Stored(file.path, scratch)
    return _judged(old, new, comparisons, notes, rules, required, stored, max_missing=max_missing)


def _as_side(manifest: Manifest) -> Side:
    return Side(manifest.reference, manifest.fingerprint, manifest.kind, manifest.engine, manifest.settings)


def _several(value: str | Sequence[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _version() -> str:
    from compatcheck import __version__

    return __version__
