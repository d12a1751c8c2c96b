"""Evaluate one reference and keep the run: what ``compatcheck run`` and Python share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.table.kept import KeptRun, Made, save_run
from compatcheck.table.kept import load_run as load_kept
from compatcheck.tasks.load import DEFAULT_SEED

if TYPE_CHECKING:
    import pandas as pd

    from compatcheck.compare.scores import Score
    from compatcheck.evaluation.lm_eval_log import LmEvalLog


@dataclass(frozen=True)
class Evaluation(KeptRun):
    """One reference on its tasks, as :func:`evaluate` and :func:`load_run` return it. Printing it shows its scores."""

    log: LmEvalLog | None = field(default=None, repr=False, compare=False)
    """What lm-eval would log, where it was asked for."""

    @cached_property
    def scores(self) -> tuple[Score, ...]:
        """The mean of every metric with its interval, and how many documents it is made of."""
        from compatcheck.compare.scores import scores

        return tuple(scores(self))

    @property
    def records(self) -> pd.DataFrame:
        """Every record of every task and filter, in one table."""
        import pandas as pd

        frames = []
        for one in self.tasks:
            frame = one.records.drop(columns=["task", "filter"], errors="ignore")
            frame.insert(0, "task", one.task)
            frame.insert(2, "filter", one.filter)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Keep the run in a folder, which then serves as OLD or NEW anywhere; returns the folder.

        Raises:
            InputError: the folder holds something else, or cannot be written. Nothing is left half-written.
        """
        return save_run(self, Path(folder), write_log=self.log.write if self.log else None)

    def __str__(self) -> str:
        from compatcheck.report.summaries import render_run

        return render_run(self, self.scores)


def evaluate(
    reference: str | os.PathLike[str],
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
    id_field: str | None = None,
    target_field: str | None = None,
    prediction_field: str | None = None,
    extract: str | None = None,
    targets: str | os.PathLike[str] | None = None,
    lm_eval_log: bool = False,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
    progress: Any = None,
) -> Evaluation:
    """Evaluate one reference on one or more tasks; ``save`` keeps the run.

    The names are those of the command line (``compatcheck run --help``), as for :func:`compatcheck.diff`. Recorded
    outputs are scored, and of a kept run what is asked for is taken.

    Raises:
        InputError: something given cannot be used; the message says what, where and how to mend it.
    """
    from compatcheck.evaluation.collect import Request, collect_one
    from compatcheck.evaluation.evaluate import EngineOptions
    from compatcheck.evaluation.lm_eval_log import LmEvalLog
    from compatcheck.evaluation.settling import check_directions, with_direction
    from compatcheck.readers import Layout
    from compatcheck.tasks.load import TaskOptions

    options = EngineOptions(
        engine,
        engine_args or {},
        batch_size,
        dtype,
        device,
        seed,
        trust_remote_code,
        apply_chat_template,
        fewshot_as_multiturn,
    )
    request = Request(
        old=os.fspath(reference),
        new="",
        tasks=tuple([task] if isinstance(task, str) else task or ()),
        metrics=tuple([metric] if isinstance(metric, str) else metric or ()),
        metric_options=with_direction(metric_args, lower_is_better),
        task_options=TaskOptions(Path(data) if data is not None else None, split, limit, sample, num_fewshot, seed),
        engine=options,
        old_layout=Layout(
            id_field=id_field,
            target_field=target_field,
            prediction_field=prediction_field,
            extract=extract,
            targets=Path(targets) if targets is not None else None,
        ),
        store=store,
    )
    log = LmEvalLog(options, seed, limit) if lm_eval_log else None
    began, clock = datetime.now(UTC), time.perf_counter()
    run = collect_one(request, say, progress, log)
    check_directions(request.metric_options, run.tasks)
    made = Made(command, began.isoformat(timespec="seconds"), round(time.perf_counter() - clock, 2))
    return Evaluation(run.manifest, run.tasks, run.notes, made, _version(), log)


def load_run(folder: str | os.PathLike[str], tasks: Sequence[str] = ()) -> Evaluation:
    """Load a run that ``save`` or ``compatcheck run`` kept, or only some of its tasks.

    Raises:
        InputError: no kept run, one of a newer schema, a damaged one, or a task that is not in it.
    """
    kept = load_kept(Path(folder), tasks)
    return Evaluation(**{one.name: getattr(kept, one.name) for one in fields(KeptRun)})


def _version() -> str:
    from compatcheck import __version__

    return __version__
