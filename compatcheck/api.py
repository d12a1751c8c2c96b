"""What the command line and Python share: compare, evaluate, measure noise, bless."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck import baselines, options
from compatcheck.compare.counterparts import absent_notes, counterparts, differences_of, sample_notes
from compatcheck.compare.result import Comparison, Gate, Side, Stored
from compatcheck.errors import InputError
from compatcheck.options import build, part_of, takes
from compatcheck.records import Manifest, Run
from compatcheck.results import Blessing, Diff, Evaluation, NoiseReport, blessed_before, load, load_run
from compatcheck.scratch import Scratch
from compatcheck.table.kept import Made
from compatcheck.version import __version__

if TYPE_CHECKING:
    from compatcheck.sequential import Decided

__all__ = [
    "Diff",
    "Evaluation",
    "bless",
    "compare_runs",
    "diff",
    "diff_of_runs",
    "evaluate",
    "load",
    "load_run",
    "noise",
]

Reference = str | os.PathLike[str]
Say = Callable[[str], None]


@takes(options.Diff)
def diff(
    old: Reference,
    new: Reference,
    *,
    scratch: str | os.PathLike[str] | None = None,
    say: Say = lambda _: None,
    progress: Any = None,
    **given: Any,
) -> Diff:
    """Compare an old and a new model on one or more tasks, instance by instance.

    The names are those of the command line (``compatcheck diff --help``), except that ``engine_args`` is a mapping and
    ``metric_args`` one by metric name, e.g. ``{"bertscore": {"model_type": "…"}}``; ``store`` is a folder, None for
    the one in the user's cache, False for none. ``say`` receives one line per step and ``progress`` a
    :class:`compatcheck.engines.progress.Progress`.

    No budget passes where more than ``max_missing`` (a share, or a text such as "2%") of the larger side's rows show
    nothing: without partner, with changed content, in error, or without an answer on both sides.

    Recorded outputs too large for memory are compared as a stream (docs/scaling.md): ``instances`` then are the most
    telling ones, and ``save`` writes them all. Temporary files go to ``scratch``; logs of engines stay there.

    Raises:
        InputError: something given cannot be used; the message says what, where and how to fix it.
    """
    from compatcheck import gate, sequential
    from compatcheck.evaluation.collect import collect_streams
    from compatcheck.evaluation.divergence import collect
    from compatcheck.evaluation.reruns import check_reruns, collect_reruns
    from compatcheck.evaluation.same import refuse_same, refuse_same_model
    from compatcheck.evaluation.settling import check_directions
    from compatcheck.evaluation.side_settings import check_settings, request_of

    chosen = build(options.Diff, given)
    gate.parse_share("--max-missing", chosen.max_missing)
    rules = _rules(chosen)
    sequential.check(chosen, rules)
    if chosen.until_decided and chosen.epsilon is None:
        chosen = replace(chosen, epsilon=0.0)  # one dead-band for every step
    request = request_of(old, new, chosen, scratch)
    check_settings(request, chosen)
    check_reruns(request, chosen.noise_floor, chosen.noise_run)
    if not chosen.allow_same:
        refuse_same_model(request)
    place = Scratch(Path(scratch) if scratch is not None else None)
    with place.writing():
        streams = None if chosen.until_decided else collect_streams(request, place, chosen.stream, say)
    decided = sequential.decide(request, rules, chosen, say, progress) if chosen.until_decided else None
    runs: Any = streams or (collect(request, say, progress) if decided is None else (decided.old, decided.new))
    check_directions(request.metric_options, [one for run in runs for one in run.tasks])
    if not chosen.allow_same:
        found = differences_of(*runs)
        read_apart = request.old_options.layout != request.new_options.layout
        refuse_same(*runs, differ=bool(found.found) or read_apart, known=not found.unknown)
    if streams is not None:
        result = _diff_of_streams(*streams, place, say, chosen)
    else:
        reruns = collect_reruns(request, chosen.noise_floor, chosen.noise_run, say, progress)
        result = diff_of_runs(runs[0], runs[1], chosen, reruns=reruns, decided=decided)
    return replace(result, history=blessed_before(request.old, result.comparisons))


@takes(options.Run)
def evaluate(
    reference: Reference, *, command: str = "", say: Say = lambda _: None, progress: Any = None, **given: Any
) -> Evaluation:
    """Evaluate one reference on one or more tasks; ``save`` keeps the run.

    The names are those of the command line (``compatcheck run --help``), as for :func:`compatcheck.diff`. Recorded
    outputs are scored, and of a kept run what is asked for is taken.

    Raises:
        InputError: something given cannot be used; the message says what, where and how to fix it.
    """
    from compatcheck.evaluation.collect import collect_one
    from compatcheck.evaluation.lm_eval_log import LmEvalLog
    from compatcheck.evaluation.settling import check_directions
    from compatcheck.evaluation.side_settings import request_of

    chosen = build(options.Run, given)
    request = request_of(reference, "", chosen)
    log = LmEvalLog(request.old_options.engine, chosen.seed, chosen.limit) if chosen.lm_eval_log else None
    began, clock = datetime.now(UTC), time.perf_counter()
    run = collect_one(request, say, progress, log)
    check_directions(request.metric_options, run.tasks)
    seconds = round(time.perf_counter() - clock, 2)
    made = Made(command, began.isoformat(timespec="seconds"), seconds, options.written(chosen))
    return Evaluation(run.manifest, run.tasks, run.notes, made, __version__, log)


@takes(options.Noise)
def noise(
    references: Reference | Sequence[Reference], *, say: Say = lambda _: None, progress: Any = None, **given: Any
) -> NoiseReport:
    """The noise floor of one model that is run ``repeats`` times again, or of several recorded runs of the same model.

    The names are those of :func:`compatcheck.diff`. Of R runs all R(R − 1)/2 pairs are pooled.

    Raises:
        InputError: one recorded run alone, several references of which one is a model, or as for ``diff``.
    """
    from compatcheck.evaluation.collect import collect_one
    from compatcheck.evaluation.reruns import collect_reruns
    from compatcheck.evaluation.settling import check_directions
    from compatcheck.evaluation.side_settings import request_of
    from compatcheck.noise import measured

    chosen = build(options.Noise, given)
    names = [os.fspath(each) for each in ([references] if isinstance(references, str | os.PathLike) else references)]
    request = request_of(names[0], "", chosen)
    again: list[Run] = []
    if len(names) == 1:
        if chosen.repeats < 1:
            raise InputError(f"--repeats {chosen.repeats}: one model is run again at least once")
        if request.side("old").recorded:
            raise InputError(
                f"{names[0]}: one recorded run shows no noise; name several runs of the same model, or the model itself"
            )
        again = collect_reruns(request, chosen.repeats, (), say, progress)
    runs = [collect_one(request, say, progress), *again]
    if len(names) > 1:
        runs += collect_reruns(request, 0, names[1:], say, progress)
    check_directions(request.metric_options, [one for run in runs for one in run.tasks])
    notes = dict.fromkeys(note for run in runs for note in run.notes)
    return NoiseReport(tuple(names), measured(runs, chosen.epsilon, chosen.correct_at), tuple(notes))


@takes(options.Bless)
def bless(
    reference: Reference | Evaluation,
    name: str = "main",
    *,
    force: bool = False,
    command: str = "",
    say: Say = lambda _: None,
    progress: Any = None,
    **given: Any,
) -> Blessing:
    """Keep a run as ``@name``, unless it fails its budgets against the present ``@name``.

    ``reference`` is evaluated as :func:`evaluate` does, where it is no evaluation yet.

    Raises:
        InputError: a name or budget that cannot be used, or a run that shares nothing with the baseline.
    """
    from compatcheck import gate

    name, root = baselines.check_name(name), baselines.root()
    chosen = build(options.Bless, given)
    how = part_of(chosen, options.Diff)
    _rules(how)
    gate.parse_share("--max-missing", chosen.max_missing)
    run = reference
    if not isinstance(run, Evaluation):
        further = {key: value for key, value in given.items() if key in options.options_of(options.Run)}
        run = evaluate(run, command=command, say=say, progress=progress, **further)
    result = None
    if baselines.history(name, root):
        before = load_run(baselines.locate(f"@{name}"))
        try:
            result = diff_of_runs(before, run, how)
        except InputError:
            if not force:
                raise
    verdict = result.verdict if result is not None else "none"
    if verdict == "fail" and not force:
        return Blessing(name, None, result, None)
    gates = [each for comparison in result.comparisons for each in comparison.gates] if result else []
    worst = next((f"{g.rule}: {g.reason}" for said in ("fail", "inconclusive") for g in gates if g.verdict == said), "")
    folder = run.save(baselines.new_folder(name, run.manifest.fingerprint, root))
    entry = baselines.Blessed(
        run=folder.name,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        reference=run.manifest.reference,
        fingerprint=run.manifest.fingerprint,
        verdict=verdict,
        reason=worst,
        forced=verdict == "fail",
        scores=tuple(baselines.figures_of(score) for score in run.scores),
    )
    baselines.add(name, entry, root)
    return Blessing(name, entry, result, folder)


def diff_of_runs(
    old: Run,
    new: Run,
    chosen: options.Diff = options.Diff(),  # noqa: B008 - frozen
    *,
    reruns: Sequence[Run] = (),
    decided: Decided | None = None,
) -> Diff:
    """Compare two runs that are in memory, as :func:`compatcheck.evaluate` and ``load_run`` give them.

    The noise floor is taken from ``reruns`` of OLD; ``decided`` says how budgets were judged while the runs grew.

    Raises:
        InputError: they share nothing, a rule covers nothing, or a budget is within the noise floor.
    """
    from compatcheck.gate import slice_fields

    epsilon, correct_at = chosen.epsilon, chosen.correct_at
    comparisons, notes = compare_runs(
        old, new, epsilon=epsilon, correct_at=correct_at, slice_by=chosen.slice_by, cluster_by=chosen.cluster_by,
        also_slice_by=slice_fields(_rules(chosen)), seed=chosen.seed,
    )  # fmt: skip
    if decided is not None:
        comparisons, notes = [decided.with_paths(each) for each in comparisons], [*decided.notes, *notes]
    if reruns:
        from compatcheck.noise import with_noise

        comparisons, said = with_noise(comparisons, old, reruns, epsilon=epsilon, correct_at=correct_at)
        notes += [*said, *(note for run in reruns for note in run.notes)]
    return _judged((old, new), comparisons, notes, chosen, settled=decided.gates if decided is not None else None)


def compare_runs(
    old: Run,
    new: Run,
    *,
    epsilon: float | None = None,
    correct_at: float | None = None,
    slice_by: Sequence[str] = (),
    also_slice_by: Sequence[str] = (),
    cluster_by: str | None = None,
    seed: int = 1234,
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
            run, other, metric=metric, epsilon=epsilon, correct_at=correct_at, slice_by=slice_by, cluster_by=cluster_by,
            also_slice_by=also_slice_by, seed=seed, reread=reread,
        )
        for run, other, metrics in pairs
        for metric in metrics
    ]  # fmt: skip
    if new.divergences:
        from compatcheck.compare.divergence import with_divergence

        comparisons = with_divergence(comparisons, new.divergences, cluster_by)
    if epsilon is None and correct_at is None:
        notes += sample_notes(pairs)
    notes += [
        f"{each.name}: only {each.clusters.count} clusters by '{each.clusters.field}': with fewer than {FEW} their "
        "spread is badly known, and so are the intervals"
        for each in comparisons
        if each.clusters is not None and each.clusters.count < FEW
    ]
    return comparisons, notes


def _diff_of_streams(old: Run, new: Run, scratch: Scratch, say: Say, chosen: options.Diff) -> Diff:
    from compatcheck.compare.comparison import Settings
    from compatcheck.compare.streaming import compare_streams
    from compatcheck.gate import slice_fields
    from compatcheck.rereading import reread

    if chosen.cluster_by is not None:
        raise InputError(
            "--cluster-by: with its records on disk a comparison cannot count by clusters; add --no-stream"
        )
    if chosen.noise_floor or chosen.noise_run:
        raise InputError("with its records on disk the noise floor of a comparison cannot be measured; add --no-stream")
    pairs, absent = counterparts(old, new)
    settings = Settings(
        chosen.epsilon,
        chosen.correct_at,
        chosen.slice_by,
        slice_fields(_rules(chosen)),
        seed=chosen.seed,
        reread=reread,
    )
    with scratch.writing():
        comparisons, file = compare_streams(pairs, settings, scratch, say)
    notes = absent_notes(absent) + [
        f"{one.name}: compared as a stream; {len(one.instances):,} of {one.rows:,} instances are shown, flips first, "
        "and all of them are in instances.parquet where the comparison is kept (--out)"
        for one in comparisons
        if len(one.instances) < one.rows
    ]
    return _judged((old, new), comparisons, notes, chosen, Stored(file.path, scratch))


def _judged(
    sides: tuple[Run, Run],
    comparisons: Sequence[Comparison],
    notes: Sequence[str],
    chosen: options.Diff,
    stored: Stored | None = None,
    settled: Mapping[tuple[str, str], Gate] | None = None,
) -> Diff:
    from compatcheck import gate
    from compatcheck.advice import advise

    old, new = sides
    rules, most_missing = _rules(chosen), gate.parse_share("--max-missing", chosen.max_missing)
    _, absent = counterparts(old, new)
    judged, verdict = gate.judge(comparisons, rules, chosen.required, settled, max_missing=most_missing, absent=absent)
    notes = (*old.notes, *new.notes, *notes, *gate.noise_remarks(comparisons, rules), *gate.remarks(comparisons))
    return Diff(
        old=_side(old.manifest),
        new=_side(new.manifest),
        comparisons=tuple(judged),
        verdict=verdict,
        version=__version__,
        notes=tuple(dict.fromkeys(notes)),
        advice=advise(judged, verdict, gate.doubts_of(judged, most_missing, absent)),
        differences=differences_of(old, new),
        absent=absent,
        stored=stored,
    )


def _side(manifest: Manifest) -> Side:
    return Side(manifest.reference, manifest.fingerprint, manifest.kind, manifest.engine, manifest.settings)


def _rules(chosen: options.Diff) -> list[Any]:
    from compatcheck import gate

    return [*gate.parse_rules(chosen.fail_on), *gate.parse_rules(chosen.advisory, gate.ADVISORY)]
