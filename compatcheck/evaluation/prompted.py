"""The tasks that models are asked: those of ``--task``, and the user's own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from compatcheck import similarity
from compatcheck.errors import InputError, require
from compatcheck.readers.prompts import prompts_name, read_prompts, system_text
from compatcheck.similarity import RECORDED
from compatcheck.table.layout import Layout
from compatcheck.tasks import LoadedTask
from compatcheck.tasks.generation import overlaid, read_generation
from compatcheck.tasks.load import KEEP, TaskOptions, choose_documents, load_tasks, system_shown
from compatcheck.tasks.prompt_set import ALL, LAST, Answers, Prompt, PromptSet, unrolled


def load_asked(names: Sequence[str], options: TaskOptions, answers: Answers | None = None) -> list[LoadedTask]:
    """The tasks of these names, and behind them the prompts of ``--prompts``, with OLD's ``answers`` to their turns.
    Raises InputError: as :func:`compatcheck.tasks.load.load_tasks`, or prompts that cannot be used."""
    read_generation(options.gen)
    tasks = load_tasks(names, replace(options, system=system_text(options.system))) if names else []
    if options.prompts is not None:
        tasks.append(load_prompts(options, answers))
    twice = {task.name for task in tasks[:-1]} & {task.name for task in tasks[-1:]}
    if twice:
        raise InputError(f"--prompts {options.prompts}: --task {twice.pop()} has the same name; rename the file")
    return tasks


def named(names: Sequence[str], options: TaskOptions) -> tuple[str, ...]:
    """The names of tasks, and that of the prompts."""
    if options.prompts is None:
        return tuple(names)
    return (*names, options.prompts_name or prompts_name(options.prompts))


def check_targets(task: LoadedTask, metrics: Sequence[str]) -> None:
    """Raise InputError for prompts without a target that a metric needs, before anything is asked."""
    rows = getattr(task.task, "prompts", None)
    needing = next((name for name in metrics if name in similarity.names() and name != RECORDED), None)
    if rows is None or needing is None:
        return
    asked = rows.prompts if task.indices is None else [rows.prompts[number] for number in task.indices]
    lacking = [prompt.place for prompt in asked if prompt.target is None]
    if lacking:
        file, count = lacking[0].rpartition(":")[0], f"{len(lacking)} of {len(asked)} prompts have"
        where = f"{file}: no prompt has" if len(lacking) == len(asked) else f"{lacking[0]}: {count}"
        raise InputError(
            f"{where} {'a' if len(lacking) == len(asked) else 'no'} `target`, which {needing} needs: add it, or take "
            "OLD's answers in place of targets with --reference old"
        )


def read_chosen(options: TaskOptions) -> PromptSet:
    """The prompts of the file that ``--limit`` and ``--sample`` mean, by the name that they have as a task. Raises
    InputError: a file or a row that cannot be used."""
    prompts = read_prompts(options)
    indices = _which(prompts, options)
    chosen = prompts.prompts if indices is None else [prompts.prompts[number] for number in indices]
    return replace(prompts, prompts=chosen, name=options.prompts_name or prompts.name)


def load_prompts(options: TaskOptions, answers: Answers | None = None) -> LoadedTask:
    """The prompts of ``--prompts`` as a task; ``answers`` are OLD's, for ``--turns all``. Raises InputError: a file or
    a row that cannot be used."""
    if options.turns == LAST:
        prompts = read_prompts(options)
        loaded = prompt_task(prompts.prompts, options, prompts)
        return _chosen(loaded, _which(prompts, options), options)
    prompts = read_chosen(options)
    unfilled, filled = unrolled(prompts, None), unrolled(prompts, answers)
    whole = read_prompts(options)
    settings = {**prompt_task(unfilled.prompts, options, unfilled).settings, "turns": ALL}
    settings["conversations"] = len(whole.prompts)
    chosen = _which(whole, options)
    return replace(_chosen(prompt_task(filled.prompts, options, filled), chosen, options, settings), indices=None)


def _which(prompts: PromptSet, options: TaskOptions) -> list[int] | None:
    """Which prompts ``--limit`` or ``--sample`` mean, None for all; of two files the same ids, where they have any."""
    if options.drawn_from is None or not prompts.own_ids:
        return choose_documents(len(prompts.prompts), options)
    first = read_prompts(options.drawn_from).prompts
    places = choose_documents(len(first), options)
    ids = {first[place].id for place in places or ()}
    found = [place for place, each in enumerate(prompts.prompts) if each.id in ids]
    return found or choose_documents(len(prompts.prompts), options)


def _chosen(
    loaded: LoadedTask, indices: list[int] | None, options: TaskOptions, settings: dict[str, Any] | None = None
) -> LoadedTask:
    """The task with the documents that are asked, and its settings with how they were chosen."""
    settings = dict(loaded.settings if settings is None else settings)
    if indices is not None:
        settings["limit"] = f"first:{len(indices)}" if options.sample is None else f"random:{len(indices)}"
    return replace(loaded, indices=indices, settings=settings)


def prompt_task(prompts: Sequence[Prompt], options: TaskOptions, of: PromptSet | None = None) -> LoadedTask:
    """Prompts as a task, with all that the options say of it."""
    require("--prompts", "lm_eval", "datasets")
    from compatcheck.tasks import patches
    from compatcheck.tasks.prompts import DEFAULTS, PromptTask, settings_of

    patches.quiet_for_good()
    name = of.name if of is not None else named((), options)[0]
    kept = PromptSet(options.prompts_name or name, prompts, of is None or of.own_ids, of.notes if of else ())
    extract = Layout(extract=options.extract).extracted if options.extract is not None else None
    task = PromptTask(kept, overlaid(DEFAULTS, read_generation(options.gen)), extract)
    system = system_text(options.system)
    settings = {**settings_of(task), "seed": options.seed}
    settings |= {"extract": options.extract} if options.extract is not None else {}
    settings |= {"system": system_shown(system)} if system is not None else {}
    settings |= {"reasoning": KEEP} if options.reasoning == KEEP else {}
    lacking = sum(each.target is None for each in prompts)
    notes = kept.notes + (
        (f"{kept.name}: {lacking:,} of {len(prompts):,} prompts have no target; their answers are kept",)
        if lacking
        else ()
    )
    return LoadedTask(kept.name, task, None, settings, notes, options.reasoning)
