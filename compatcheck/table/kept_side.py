"""A kept run as OLD or NEW: the tasks that are asked for, and of each the documents that are asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from compatcheck.errors import InputError, did_you_mean
from compatcheck.records import TaskRun
from compatcheck.table.kept import KeptRun, load_run, read_manifest
from compatcheck.tasks.index import is_cached
from compatcheck.tasks.load import TaskOptions, choose_documents
from compatcheck.tasks.prompt_set import ALL
from compatcheck.tasks.resolve import bundled_names, resolve_task


def select(
    folder: Path,
    tasks: Sequence[str],
    options: TaskOptions,
    taken: Mapping[tuple[str, str], Sequence[str]] | None = None,
) -> KeptRun:
    """Load what ``--task``, ``--limit`` and ``--sample`` mean of a kept run; no task means all of them.

    ``taken`` has, by task and filter, the documents that ``--limit`` has taken of the side that it is compared with:
    recorded answers are in any order.

    Raises:
        InputError: a task that was not kept, or documents that were not.
    """
    run = load_run(folder, kept_names(folder, tasks))
    return replace(run, tasks=tuple(_narrowed(one, options, folder, taken or {}) for one in run.tasks))


def kept_names(folder: Path, tasks: Sequence[str]) -> list[str]:
    """The tasks of a kept run that ``--task`` means.

    Raises:
        InputError: a task that was not kept.
    """
    there = list(dict.fromkeys(part["task"] for part in read_manifest(folder)["tasks"]))
    return [name for task in tasks for name in _leaves(task, there, folder)]


def _leaves(task: str, there: Sequence[str], folder: Path) -> list[str]:
    """The kept tasks that a name means: its own, or those of a group or file. Names that are there need no index."""
    if task in there:
        return [task]
    is_file = task.endswith((".yaml", ".yml"))
    try:
        # A group of lm-eval's is looked up where that costs nothing, or where its name begins those of kept tasks.
        likely = is_file or task in bundled_names() or any(name.startswith(task) for name in there) or is_cached()
        named = [source.name for source in resolve_task(task)] if likely else []
    except InputError:
        if is_file:
            raise
        named = []
    if not named or not set(named) <= set(there):
        missing = next((name for name in named if name not in there), task)
        raise InputError(
            f"--task {task}: {missing} is not in the kept run {folder}{did_you_mean(missing, there)}; "
            f"it has {', '.join(there)}"
        )
    return named


def _narrowed(
    run: TaskRun, options: TaskOptions, folder: Path, others: Mapping[tuple[str, str], Sequence[str]]
) -> TaskRun:
    if options.limit is None and options.sample is None:
        return run
    known = isinstance(run.settings.get("documents"), int)  # of recorded outputs nobody knows what there was besides
    if not known and options.sample is not None:
        raise InputError(f"--sample does not apply to recorded outputs ({folder}); --limit takes the first N")
    theirs = run.records["doc_id"].isin(others.get((run.task, run.filter), ()))
    if not known and theirs.any():
        settings = {**run.settings, "limit": options.limit}
        return replace(run, records=run.records[theirs].reset_index(drop=True), settings=settings)
    places, size = _places(run)
    chosen = choose_documents(size, options)
    if chosen is None:
        return run
    taken = places.isin(chosen)
    if places[taken].nunique() != len(chosen):
        raise InputError(
            f"{folder}: kept for {run.settings.get('limit', 'some')} of {size} documents of {run.task}, "
            f"which are not all that {_asked(options)} takes; make the run again for these"
        )
    label = f"{'first' if options.sample is None else 'random'}:{len(chosen)}" if known else options.limit
    # where evaluation puts it, so that the signature reads the same
    settings = {name: value for name, value in run.settings.items() if name not in ("limit", "data")}
    settings["limit"] = label
    settings |= {name: value for name, value in run.settings.items() if name == "data"}
    return replace(run, records=run.records[taken].reset_index(drop=True), settings=settings)


def _places(run: TaskRun) -> tuple[pd.Series, int]:
    """Where the document of each record stood among all that there were to choose from, and how many these were.

    The ids of own prompts are the user's, so in a part of them the places are those that were chosen. Where every turn
    was asked, what is chosen are conversations."""
    ids, size = run.records["doc_id"], run.settings.get("documents")
    if run.settings.get("turns") == ALL:
        ids, size = ids.str.rpartition("/")[0], run.settings.get("conversations")
    numbers, names = pd.factorize(ids)
    if not isinstance(size, int) or len(names) == size:
        return pd.Series(numbers, ids.index), len(names)
    kept = re.fullmatch(r"(first|random):(\d+)", str(run.settings.get("limit")))
    if "rows" not in run.settings or kept is None or int(kept[2]) != len(names):
        return pd.to_numeric(ids, errors="coerce"), size
    count, seed = int(kept[2]), int(run.settings.get("seed", 0))
    chosen = TaskOptions(limit=count) if kept[1] == "first" else TaskOptions(sample=count, seed=seed)
    return pd.Series(choose_documents(size, chosen) or (), dtype="int64").take(numbers).set_axis(ids.index), size


def _asked(options: TaskOptions) -> str:
    return f"--limit {options.limit}" if options.sample is None else f"--sample {options.sample} --seed {options.seed}"
