"""One task with one engine: lm-eval builds the requests, applies its filters and its metrics; the engine answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from compatcheck.evaluation.chat import template_of
from compatcheck.evaluation.failures import failed_documents, only_answered
from compatcheck.evaluation.lm_eval_rows import task_runs_of_samples
from compatcheck.evaluation.requests import as_built, build_requests, quiet
from compatcheck.records import TaskRun
from compatcheck.tasks import LoadedTask

if TYPE_CHECKING:
    from lm_eval.api.model import LM


def evaluate_task(
    engine: LM,
    loaded: LoadedTask,
    apply_chat_template: bool = False,
    log: Callable[[Mapping[str, Any], Any], None] | None = None,
    fewshot_as_multiturn: bool = True,
) -> tuple[TaskRun, ...]:
    """Evaluate one task with an engine (any ``lm_eval.api.model.LM``); one :class:`TaskRun` per filter."""
    settings = settings_of(engine, loaded, apply_chat_template, fewshot_as_multiturn)
    build_requests(engine, loaded, apply_chat_template, fewshot_as_multiturn)
    results = _results(engine, loaded, apply_chat_template, errors=log is not None)
    failed = failed_documents(engine, loaded)
    runs = task_runs_of_samples(results["samples"][loaded.name], loaded, settings, failed)
    if log is not None:
        log(only_answered(results, loaded, failed), engine)
    return runs


def settings_of(
    engine: LM, loaded: LoadedTask, apply_chat_template: bool, fewshot_as_multiturn: bool
) -> dict[str, Any]:
    """What a figure's signature says of the task and of its prompts."""
    settings = dict(loaded.settings)
    if apply_chat_template:
        settings["chat_template"] = template_of(engine)
        if settings.get("num_fewshot"):
            settings["fewshot_as_multiturn"] = fewshot_as_multiturn
    return settings


def _results(engine: LM, loaded: LoadedTask, apply_chat_template: bool, errors: bool) -> dict[str, Any]:
    """What lm-eval's ``evaluate`` returns; ``errors`` adds its standard errors, of which some are resampled."""
    from lm_eval.evaluator import evaluate

    with quiet(), as_built(loaded):
        results = evaluate(
            lm=engine,
            task_dict={"tasks": {loaded.name: loaded.task}},
            samples={loaded.name: loaded.indices} if loaded.indices is not None else None,
            bootstrap_iters=100_000 if errors else 0,  # lm-eval's default
            log_samples=True,
            apply_chat_template=apply_chat_template,
        )
    return dict(results)
