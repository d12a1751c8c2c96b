"""Make the two runs of a comparison, or one alone: evaluate what is a model, read what was recorded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from compatcheck import similarity
from compatcheck.engines import choose
from compatcheck.errors import InputError, did_you_mean
from compatcheck.evaluation import streams
from compatcheck.evaluation.against import JUDGE
from compatcheck.evaluation.evaluate import Evaluated, Log, evaluate_jobs
from compatcheck.evaluation.grouping import Job, Say
from compatcheck.evaluation.judging import judge_notes, judged
from compatcheck.evaluation.prompted import check_targets, load_asked, named
from compatcheck.evaluation.request import Request, Side
from compatcheck.evaluation.settling import as_to_be_read, read_as_asked
from compatcheck.evaluation.store import open_store
from compatcheck.evaluation.task_scoring import score_with_task
from compatcheck.models import tokenizer
from compatcheck.readers import load_recorded
from compatcheck.readers.large import load_large
from compatcheck.readers.parts import Ids
from compatcheck.records import Manifest, Run, StoredRun, TaskRun, figure_column
from compatcheck.scratch import Scratch
from compatcheck.similarity.exact import EXACT
from compatcheck.table.alike import runs_alike
from compatcheck.table.figures import unread
from compatcheck.table.kept_side import select
from compatcheck.table.scoring import AS_RECORDED
from compatcheck.tasks import LoadedTask
from compatcheck.tasks.load import TaskOptions, check_metric_names
from compatcheck.tasks.prompt_set import ALL, Answers

Kind = TypeVar("Kind", TaskRun, StoredRun)


def collect(request: Request, say: Say = lambda _: None, progress: Any = None) -> tuple[Run, Run]:
    """Both runs, in the order old, new. Cheap checks come first, models are loaded last."""
    old, new = request.side("old"), request.side("new")
    with judged(request, say, progress) as request:
        first, second = runs_of([old, new], request, say, progress)
    return first, second


def collect_streams(
    request: Request, scratch: Scratch, wanted: bool | None, say: Say = lambda _: None
) -> tuple[Run, Run] | None:
    """Both sides on disk where they are recorded and too large to hold; None where :func:`collect` is to be used.

    ``wanted``: True whatever the size, False never, None decides by size. Raises InputError: ``wanted`` is what cannot
    be."""
    if wanted is False:
        return None
    sides = [request.side("old"), request.side("new")]
    references = [(side, reference) for side in sides for reference in side.references.values()]
    reasons = [streams.why_not(reference, side.options.layout, side.options.tasks) for side, reference in references]
    reasons += ["--metric judge asks a model about every answer"] if JUDGE in request.metrics else []
    reasons += ["--judge reads negative flips in memory"] if request.judge is not None else []
    reasons += ["--metric kl needs the models"] if request.kl else []
    reasons += [
        f"--metric {one} counts in memory what flips" for one in request.metrics if one in similarity.STRUCTURED
    ]
    reason = next((reason for reason in reasons if reason is not None), None)
    paths = [reference.recorded for _, reference in references if reference.recorded is not None]
    if wanted and reason is not None:
        raise InputError(f"--stream: {reason}; leave out --stream")
    if not wanted and not (all(side.recorded for side in sides) and streams.is_large(paths)):
        return None
    if reason is not None:
        if streams.is_heavy(paths):
            say(f"about {streams.memory_needed(paths) / 1e9:.1f} GB of memory will be used: {reason}")
        return None
    scratch.require(sum(map(streams.table_bytes, paths)), "comparing these recorded outputs on disk")
    runs = read_sides(sides, request, scratch)
    old, new = (_with_tasks(run, [as_to_be_read(one, request) for one in run.tasks]) for run in runs)
    return old, new


def collect_one(request: Request, say: Say = lambda _: None, progress: Any = None, log: Log | None = None) -> Run:
    """The run of ``request.old`` alone. ``log`` gets lm-eval's results of every task that is evaluated."""
    side = request.side("run")
    if request.kl:
        raise InputError("--metric kl compares two models; leave it out here, and ask for it with compatcheck diff")
    if log is not None and side.recorded:
        raise InputError(f"--lm-eval-log needs a model to evaluate; {side.text} is recorded")
    with judged(request, say, progress) as request:
        return runs_of([side], request, say, progress, log)[0]


def runs_of(sides: Sequence[Side], request: Request, say: Say, progress: Any, log: Log | None = None) -> list[Run]:
    models = [side for side in sides if not side.recorded]
    read = [side for side in sides if side.recorded]
    recorded = dict(zip([side.name for side in read], read_sides(read, request), strict=True))
    evaluated: list[Evaluated] = []
    if models:
        jobs = jobs_of(models, request, say, progress)
        with open_store(request.store) as store:
            evaluated = evaluate_jobs(jobs, say, progress, store, log, recorded.get("old"))
        if store is not None and store.notes:
            evaluated[0] = replace(evaluated[0], notes=(*evaluated[0].notes, *store.notes))
    runs = {side.name: evaluated_run(side, evaluated) for side in models} | recorded
    return [with_requested_metrics(runs[side.name], request) for side in sides]


def jobs_of(models: Sequence[Side], request: Request, say: Say = lambda _: None, progress: Any = None) -> list[Job]:
    """Every model on every task. Sides whose options are equal share the tasks, and with them the built requests.
    Raises InputError: no task, an unknown one, no data, or an engine or metric that does not exist."""
    idle = [side.name.upper() for side in models if not request.tasks and not side.options.tasks.prompts]
    if idle:
        of = "" if len(idle) == len(models) else f" for {' and '.join(idle)}"
        raise InputError(
            f"--task or --prompts is missing{of}: say on which task(s) the models are evaluated (see `compatcheck "
            "tasks`), or give your own prompts"
        )
    for side in models:
        choose(side.options.engine.engine)
    loaded: list[tuple[TaskOptions, list[LoadedTask]]] = []
    jobs = []
    for side in models:
        tasks = next((tasks for options, tasks in loaded if options == side.options.tasks), None)
        if tasks is None:
            tasks = load_asked(request.tasks, side.options.tasks)
            for task in tasks:
                check_metric_names(request.metrics, [*task.task.aggregation(), *similarity.names()])
                check_targets(task, request.scored or (() if request.against or side.name == "run" else (EXACT,)))
            if side.options.tasks.prompts and side.options.tasks.turns == ALL:
                tasks = load_asked(request.tasks, side.options.tasks, _answers_of_old(request, say, progress))
            loaded.append((side.options.tasks, tasks))
        jobs += [Job(side.name, side.of(task.name), task, side.options.engine) for task in tasks]
    return jobs


def _answers_of_old(request: Request, say: Say, progress: Any) -> Answers:
    """What OLD answers to every turn of the prompts, for both sides and all reruns the same."""
    from compatcheck.evaluation.replay import recorded_answers, replay

    if not request.replayed:
        side = request.side("old")
        if side.recorded:
            name = named((), side.options.tasks)[0]
            runs = [run for run in read_side(side, request).tasks if run.task == name]
            request.replayed.update(recorded_answers(runs[0]) if runs else {})
        else:
            request.replayed.update(replay(side, request.store, say, progress))
    return request.replayed


def of_filter(runs: Sequence[Kind], request: Request) -> list[Kind]:
    """The runs of the filter that was asked for. Raises InputError: a task has others, and none of it."""
    wanted = request.filter
    for task in dict.fromkeys(run.task for run in runs if wanted is not None):
        there = [run.filter for run in runs if run.task == task]
        if wanted not in there:
            hint = did_you_mean(str(wanted), there)
            raise InputError(f"--filter {wanted}: {task} has no answers of it{hint}; it has {', '.join(there)}")
    return [run for run in runs if wanted in (None, run.filter)]


def read_sides(sides: Sequence[Side], request: Request, scratch: Scratch | None = None) -> list[Run]:
    """The records of sides that were recorded, which are compared: a value is the same in all of them, and ``--limit``
    takes the documents of the first of every other. Raises InputError: as :func:`read_side`."""
    runs = [read_side(side, request, scratch) for side in sides[:1]]
    limited = any(side.options.tasks.limit is not None for side in sides)
    taken = {(one.task, one.filter): streams.ids_of(one) for run in runs if limited for one in run.tasks}
    runs += [read_side(side, request, scratch, taken) for side in sides[1:]]
    return runs_alike(runs, request.metric_options)


def read_side(side: Side, request: Request, scratch: Scratch | None = None, taken: Ids | None = None) -> Run:
    """The records of a side that was recorded; with ``scratch`` they lie on disk and have the metrics asked for.
    ``taken`` has the documents that ``--limit`` has taken of the side it is compared with. Raises InputError: a file
    that cannot be read, or an option that does not apply to it."""
    runs: list[Any] = []
    notes: list[str] = []
    fingerprint, how, layout = _fingerprint(side), side.options.tasks, side.options.layout
    manifest = Manifest(side.text, fingerprint, "recorded")
    for task, reference in side.references.items():
        assert reference.recorded is not None
        wanted = named(request.tasks, how) if task is None else (task,)
        if reference.kind == "run":
            if scratch is None:
                kept = select(reference.recorded, wanted, how, taken)
                about, found, said = kept.manifest, list(kept.tasks), kept.notes
            else:
                about, found, said = streams.stored_kept(reference.recorded, wanted, scratch)
                found = [streams.with_metrics(run, request.scored, request.metric_options) for run in found]
            # what was evaluated stays known as that: model or adapter, and its engine
            manifest = replace(about, reference=side.text, fingerprint=fingerprint) if not runs else manifest
            runs, notes = [*runs, *found], [*notes, *said]
            continue
        if how.sample is not None:
            raise InputError(f"--sample does not apply to recorded outputs ({side.text}); --limit takes the first N")
        options: dict[str, Any] = {
            "layout": replace(layout, tool=reference.tool, part=reference.part),
            "side": side.name,
            "metrics": request.scored,
            "tasks": wanted,
            "limit": how.limit,
            "ids": taken,
            "metric_options": request.metric_options,
        }
        read: list[Any] = (
            load_recorded(reference.recorded, **options)
            if scratch is None
            else load_large(reference.recorded, scratch, **options)
        )
        score: Any = score_with_task if scratch is None else streams.score_stored
        for run in read:
            own = _wants_task_scores(run, side, request) and run.task not in named((), how)
            runs += score(run, run.task, how.trust_task) if own else [run]
    runs = of_filter(runs, request)
    for figure, rule in request.needed.items():
        if (why := next(filter(None, (unread(run, figure) for run in runs)), None)) is not None:
            raise InputError(f"{rule}: {side.text} has {why}")
        if not any(_says(figure, run.names) for run in runs):
            raise InputError(f"{rule}: {side.text} does not say the {figure} of its answers; a column `{figure}` would")
    return Run(manifest, tuple(runs), tuple(dict.fromkeys([*notes, *(note for run in runs for note in run.notes)])))


def _says(figure: str, names: Collection[str]) -> bool:
    """Whether records with these columns say a figure of their answers; a cost may be made of counted tokens."""
    tokens = ("prompt_tokens", "output_tokens") if figure == "cost" else (figure,)
    return figure_column(figure, names) is not None or all(figure_column(each, names) for each in tokens)


def _with_tasks(run: Run, tasks: Sequence[Any]) -> Run:
    """The run with these tasks, and their notes among its own."""
    notes = dict.fromkeys([*run.notes, *(note for task in tasks for note in task.notes)])
    return replace(run, tasks=tuple(tasks), notes=tuple(notes))


def _wants_task_scores(run: TaskRun | StoredRun, side: Side, request: Request) -> bool:
    """Plain recorded texts of a named task are scored as the task says, unless the user or the file says how."""
    recorded = any(metric.signature.endswith(AS_RECORDED) for metric in run.metrics)
    layout = side.options.layout
    how = (request.metrics, request.reference, recorded, layout.extract, layout.repeats)
    return bool(request.tasks) and not any(how)


def evaluated_run(side: Side, evaluated: Iterable[Evaluated]) -> Run:
    """What the jobs of one side gave, as its run."""
    mine = [one for one in evaluated if one.job.side == side.name]
    kinds = {one.job.reference.kind for one in mine}
    kind = next((kind for kind in ("endpoint", "adapter") if kind in kinds), "model")
    first = mine[0].job.reference
    about = {
        "precision": first.precision,
        "quantization": first.quantization and f"GGUF {first.quantization}",
        "tokenizer": None if first.base is None else tokenizer.facts(first.base, first.tokenizer),
    }
    answers, stored = sum(one.answers for one in mine), sum(one.answers_from_store for one in mine)
    manifest = Manifest(
        side.text,
        _fingerprint(side),
        kind,
        engine={**mine[0].engine, **{name: said for name, said in about.items() if said is not None}},
        settings={"seconds": round(sum(one.seconds for one in mine), 2), "answers": answers, "from_store": stored},
    )
    runs = tuple(run for one in mine for run in one.runs)
    said = [note for one in mine for note in (*one.job.task.notes, *one.notes)]
    said += [
        f"{each.gguf.name}: GGUF {each.quantization}, computed from its dequantised weights."
        for each in (one.job.reference for one in mine)
        if each.gguf is not None
    ]
    if stored and side.name != "run":  # what is kept holds wherever the answers came from
        said.append(f"{side.name}: {stored:,} of {answers:,} answers from the store")
    notes = dict.fromkeys([*said, *(note for run in runs for note in run.notes)])
    return Run(manifest, runs, tuple(notes))


def _fingerprint(side: Side) -> str:
    from compatcheck.models import fingerprints

    each = {task: reference.fingerprint() for task, reference in side.references.items()}
    return each[None] if None in each else fingerprints.combine(f"{task}={value}" for task, value in each.items())


def with_requested_metrics(run: Run, request: Request) -> Run:
    """Keep filter and metrics asked for, computing those a task does not give from prediction and target."""
    scored = _with_tasks(run, [read_as_asked(task, request) for task in of_filter(run.tasks, request)])
    if JUDGE not in request.metrics:
        return scored
    return replace(scored, notes=(*scored.notes, *judge_notes(scored, request.metric_options)))
