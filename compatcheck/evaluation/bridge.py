"""lm-eval's part of an evaluation: it builds the requests, applies its filters and metrics; the engine answers."""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from compatcheck.errors import InputError, one_line
from compatcheck.evaluation.chat import Chat, template_of
from compatcheck.tasks import LoadedTask, patches

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task

CHUNK = 2048
"""Documents whose requests and samples are in memory at once."""
_OURS = Path(__file__).parents[1].as_posix() + "/"
_FEW = 0.02
"""A larger share of failed documents is warned about."""


@dataclass
class _Built:
    """What a task's requests were built with last: a chat template makes other prompts of every tokenizer."""

    prompts: tuple[str, bool]
    chat: Chat
    requests: list[Instance] | None = None
    """All of them; None where they are more than one chunk, and are built again for each model."""


_built: WeakKeyDictionary[Task, _Built] = WeakKeyDictionary()


def request_chunks(
    engine: LM,
    loaded: LoadedTask,
    apply_chat_template: bool = False,
    fewshot_as_multiturn: bool = True,
    size: int = CHUNK,
) -> Iterator[list[Instance]]:
    """The task's requests without answers, those of ``size`` documents at a time.

    The few-shot examples are drawn with the task's seed, from document to document, so they are the same whenever they
    are built. Under a chat template they are turns of the conversation, or with ``fewshot_as_multiturn=False`` all in
    one message of the user. The document of a request has the number of its place among those that are evaluated.
    Raises InputError: the chat template is missing, or does not take the conversation."""
    task: Any = loaded.task
    turns = apply_chat_template and fewshot_as_multiturn
    prompts = (str(engine.tokenizer_name) if apply_chat_template else "", turns)
    known = _built.get(task)
    if known is not None and known.prompts == prompts and known.requests is not None:
        for request in known.requests:
            request.resps, request.filtered_resps = [], {}
        yield known.requests
        return
    built = _built[task] = _Built(prompts, Chat(engine))
    task.set_fewshot_seed(seed=loaded.settings["seed"])
    docs_of, numbers = task.eval_docs, loaded.indices
    if numbers is None or numbers[-1] == len(numbers) - 1:
        documents = enumerate(islice(docs_of, loaded.size))
    else:
        documents = enumerate(docs_of[number] for number in numbers)
    while docs := dict(islice(documents, size)):
        with patches.quiet(), patches.documents(task, docs), _of_the_task(loaded.name):
            task.build_all_requests(
                system_instruction=loaded.system,
                apply_chat_template=apply_chat_template,
                fewshot_as_multiturn=turns,
                chat_template=built.chat if apply_chat_template else None,
                tokenizer_name=prompts[0],
            )
        requests: list[Instance] = task._instances
        if len(docs) == loaded.size:
            built.requests = requests
        task._instances = None
        yield requests


def notes_on_prompts(loaded: LoadedTask) -> tuple[str, ...]:
    """What is to be said of the prompts that were built last."""
    built = _built.get(loaded.task)
    return built.chat.notes if built is not None else ()


def ask(engine: LM, loaded: LoadedTask, requests: Sequence[Instance], errors: bool = False) -> dict[str, Any]:
    """Have an engine answer requests of a task: what lm-eval's ``evaluate`` returns, samples by the task's own numbers.

    ``errors`` adds lm-eval's standard errors, of which some are resampled."""
    from lm_eval.evaluator import evaluate

    docs = {int(request.doc_id or 0): request.doc for request in requests}
    with patches.quiet(), patches.documents(loaded.task, docs, list(requests)), _of_the_task(loaded.name):
        results: Any = evaluate(
            lm=engine,
            task_dict={"tasks": {loaded.name: loaded.task}},
            bootstrap_iters=100_000 if errors else 0,  # lm-eval's default
            log_samples=True,
        )
    if loaded.indices is not None:
        for sample in results["samples"][loaded.name]:
            sample["doc_id"] = loaded.indices[sample["doc_id"]]
    return dict(results)


@contextlib.contextmanager
def _of_the_task(name: str) -> Iterator[None]:
    """What is raised below lm-eval's code, and not below an engine, comes of the task's settings or data."""
    from jinja2.exceptions import SecurityError

    try:
        yield
    except InputError:
        raise
    except SecurityError as error:
        raise InputError(f"task {name}: a template of it reaches too far: {one_line(error)}") from None
    except Exception as error:
        files = [Path(frame.filename).as_posix() for frame in traceback.extract_tb(error.__traceback__)]
        ours = max((place for place, file in enumerate(files) if file.startswith(_OURS)), default=0)
        if any("/lm_eval/models/" in file for file in files) or "/lm_eval/" not in "".join(files[ours + 1 : ours + 2]):
            raise
        why = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(
            f"task {name}: its settings and its data do not go together, as lm-eval says ({why})"
        ) from error


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


def failed_documents(engine: Any, loaded: LoadedTask, of: Iterable[int] | None = None) -> dict[Any, str]:
    """One line for each document that could not be answered, by its number in the task.

    An engine keeps its failures by (task name, place among the documents that were asked), as requests carry it. ``of``
    are the places that are looked at; None for all."""
    failures: Mapping[tuple[Any, Any], str] = getattr(engine, "failures", None) or {}
    wanted = None if of is None else set(of)
    return {
        place if loaded.indices is None else loaded.indices[place]: message
        for (task, place), message in failures.items()
        if task == loaded.name and (wanted is None or place in wanted)
    }


def failure_note(reference: str, loaded: LoadedTask, failed: Mapping[Any, str], asked: int) -> tuple[str, ...]:
    """What is said of the failed documents of the ``asked`` ones of a task; nothing where there are none."""
    if not failed:
        return ()
    share = len(failed) / max(1, asked)
    message, count = Counter(failed.values()).most_common(1)[0]
    warning = f"Warning, {share:.0%} of {loaded.name} failed: figures rest on the other documents alone. "
    why = "" if count == len(failed) else f"{count} of them: "
    return (
        f"{warning if share > _FEW else ''}{reference}: {len(failed)} of {asked} documents of {loaded.name} could "
        f"not be answered and count as errors, not as wrong: {why}{message}",
    )


def only_answered(results: Mapping[str, Any], loaded: LoadedTask, failed: Mapping[Any, str]) -> dict[str, Any]:
    """lm-eval's results of one task without the failed documents: samples, counts and aggregated metrics. Raises
    InputError: no document is left."""
    if not failed:
        return dict(results)
    name = loaded.name
    samples = [sample for sample in results["samples"][name] if sample["doc_id"] not in failed]
    if not samples:
        raise nothing_answered(name, failed)
    aggregation = loaded.task.aggregation()
    figures = dict(results["results"][name])
    for key in figures:
        metric, _, filter_name = key.partition(",")
        values = [sample[metric] for sample in samples if sample["filter"] == filter_name and metric in sample]
        if metric.endswith("_stderr"):
            figures[key] = "N/A"
        elif metric in aggregation and values:
            figures[key] = aggregation[metric](values)
    documents = len({sample["doc_id"] for sample in samples})
    if "sample_len" in figures:
        figures["sample_len"] = documents
    counts = {name: {**results["n-samples"].get(name, {}), "effective": documents}}
    return {
        **results,
        "samples": {**results["samples"], name: samples},
        "results": {**results["results"], name: figures},
        "n-samples": {**results["n-samples"], **counts},
    }


def nothing_answered(task: str, failed: Mapping[Any, str]) -> InputError:
    return InputError(f"task {task}: no document could be answered: {next(iter(failed.values()))}")
