"""What the command line and Python share: compare, evaluate, measure noise, bless."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from compatcheck import baselines, option_models, options
from compatcheck.compare.counterparts import differences_of
from compatcheck.comparing import compare_runs, diff_of_runs, diff_of_streams, rules_of
from compatcheck.errors import InputError
from compatcheck.option_models import build, part_of, takes
from compatcheck.records import Blessed, Run
from compatcheck.results import (
    Blessing,
    Candidates,
    Diff,
    Evaluation,
    NoiseReport,
    blessed_before,
    load,
    load_candidates,
    load_run,
)
from compatcheck.scratch import Scratch
from compatcheck.table.kept import Made
from compatcheck.version import __version__

if TYPE_CHECKING:
    from compatcheck.evaluation.request import Request

__all__ = [
    "Candidates", "Diff", "Evaluation", "bless", "compare_runs", "diff", "diff_of_runs", "evaluate", "load",
    "load_candidates", "load_run", "noise",
]  # fmt: skip

Reference = str | os.PathLike[str]
Say = Callable[[str], None]


@overload
def diff(old: Reference, new: Reference, **given: Any) -> Diff: ...
@overload
def diff(old: Reference, new: Sequence[Reference], **given: Any) -> Candidates: ...
@takes(options.Diff)
def diff(
    old: Reference,
    new: Reference | Sequence[Reference],
    *,
    scratch: str | os.PathLike[str] | None = None,
    say: Say = lambda _: None,
    progress: Any = None,
    **given: Any,
) -> Diff | Candidates:
    """Compare an old and a new model on one or more tasks, instance by instance; or several new ones with one old.

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
    from compatcheck import gate
    from compatcheck.compare.answers import UNITS
    from compatcheck.evaluation.against import with_reference

    chosen = with_reference(build(options.Diff, given), UNITS)
    gate.parse_share("--max-missing", chosen.max_missing)
    if isinstance(new, str | os.PathLike):
        return _diff_of_two(old, new, chosen, scratch, say, progress)
    from compatcheck.several import diff_candidates

    return diff_candidates(old, new, chosen, scratch, say, progress)


def _diff_of_two(
    old: Reference, new: Reference, chosen: options.Diff, scratch: Reference | None, say: Say, progress: Any
) -> Diff:
    from compatcheck import sequential
    from compatcheck.evaluation.judging import judge_of_themes, pairs_judged
    from compatcheck.several import checked_requests
    from compatcheck.themes import with_themes

    sequential.check(chosen, rules_of(chosen))
    if chosen.until_decided and chosen.epsilon is None:
        chosen = replace(chosen, epsilon=0.0)  # one dead-band for every step
    (request,) = checked_requests(old, [new], chosen, scratch)
    judge = judge_of_themes(request, say, progress)  # before anything is paid for
    with pairs_judged(request, say, progress) as request:
        result = _compared(request, chosen, Scratch(Path(scratch) if scratch is not None else None), say, progress)
    if judge is not None:
        with closing(judge):
            result = with_themes(result, judge.replies, judge.reference.text, chosen.seed, say)
    return replace(result, history=blessed_before(request.old, result.comparisons))


def _compared(request: Request, chosen: options.Diff, place: Scratch, say: Say, progress: Any) -> Diff:
    """Both runs, made or read, and their comparison."""
    from compatcheck import sequential
    from compatcheck.evaluation.against import grade_of
    from compatcheck.evaluation.collect import collect_streams
    from compatcheck.evaluation.divergence import collect
    from compatcheck.evaluation.request import refuse_same
    from compatcheck.evaluation.reruns import with_reruns
    from compatcheck.evaluation.settling import check_directions

    grade = grade_of(request.against, request.metric_options)
    with place.writing():
        streams = None if chosen.until_decided else collect_streams(request, place, chosen.stream, say)
    decided = None
    if chosen.until_decided:
        decided = sequential.decide(request, rules_of(chosen), chosen, say, progress, grade)
    runs: Any = streams or (collect(request, say, progress) if decided is None else (decided.old, decided.new))
    check_directions(request.metric_options, [one for run in runs for one in run.tasks])
    if not chosen.allow_same:
        found = differences_of(*runs)
        refuse_same(request, *runs, differ=bool(found.found), known=not found.unknown)
    if streams is not None:
        return diff_of_streams(*streams, place, say, chosen, grade)
    (old, new), reruns = with_reruns(runs, request, chosen.noise_floor, chosen.noise_run, say, progress)
    return diff_of_runs(old, new, chosen, reruns=reruns, decided=decided, grade=grade)


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
    made = Made(command, began.isoformat(timespec="seconds"), seconds, option_models.written(chosen))
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
    from compatcheck.evaluation.reruns import collect_reruns, with_reruns
    from compatcheck.evaluation.settling import check_directions
    from compatcheck.evaluation.side_settings import request_of
    from compatcheck.noise import measured, other_models

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
        runs, again = with_reruns(runs, request, 0, names[1:], say, progress)
        runs += again
    check_directions(request.metric_options, [one for run in runs for one in run.tasks])
    notes = dict.fromkeys([*other_models(runs[0], runs[1:]), *(note for run in runs for note in run.notes)])
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
    rules_of(how)
    gate.parse_share("--max-missing", chosen.max_missing)
    run = reference
    if not isinstance(run, Evaluation):
        further = {key: value for key, value in given.items() if key in option_models.options_of(options.Run)}
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
    entry = Blessed(
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
