"""The tasks that models are asked: those of ``--task``, and the user's own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compatcheck import similarity
from compatcheck.errors import InputError, require
from compatcheck.readers.prompts import prompts_name, read_prompts, system_text
from compatcheck.similarity import RECORDED
from compatcheck.table.layout import Layout
from compatcheck.tasks import LoadedTask
from compatcheck.tasks.generation import overlaid, read_generation
from compatcheck.tasks.load import KEEP, TaskOptions, choose_documents, load_tasks, system_shown


def load_asked(names: Sequence[str], options: TaskOptions) -> list[LoadedTask]:
    """The tasks of these names, and behind them the prompts of ``--prompts``.

    Raises:
        InputError: as :func:`compatcheck.tasks.load.load_tasks`, or prompts that cannot be used.
    """
    read_generation(options.gen)
    tasks = load_tasks(names, replace(options, system=system_text(options.system))) if names else []
    if options.prompts is not None:
        tasks.append(load_prompts(options))
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


def load_prompts(options: TaskOptions) -> LoadedTask:
    """The prompts of ``--prompts`` as a task.

    Raises:
        InputError: a file or a row that cannot be used.
    """
    require("--prompts", "lm_eval", "datasets")
    from compatcheck.tasks import patches
    from compatcheck.tasks.prompts import DEFAULTS, PromptTask, settings_of

    patches.quiet_for_good()
    prompts = read_prompts(options)
    if options.prompts_name is not None:
        prompts = replace(prompts, name=options.prompts_name)
    extract = Layout(extract=options.extract).extracted if options.extract is not None else None
    task = PromptTask(prompts, overlaid(DEFAULTS, read_generation(options.gen)), extract)
    indices = choose_documents(len(prompts.prompts), options)
    system = system_text(options.system)
    settings = {**settings_of(task), "seed": options.seed}
    settings |= {"extract": options.extract} if options.extract is not None else {}
    settings |= {"system": system_shown(system)} if system is not None else {}
    if indices is not None:
        settings["limit"] = f"first:{len(indices)}" if options.sample is None else f"random:{len(indices)}"
    if options.reasoning == KEEP:
        settings["reasoning"] = KEEP
    return LoadedTask(prompts.name, task, indices, settings, prompts.notes, options.reasoning)
