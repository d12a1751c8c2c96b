"""The requests of a task: built by lm-eval once, asked of OLD and of NEW."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from compatcheck.evaluation.chat import Chat
from compatcheck.tasks import LoadedTask

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task


@dataclass(frozen=True)
class _Built:
    """What a task's requests were built with last, and the notes on it."""

    prompts: tuple[str, bool]
    notes: tuple[str, ...] = ()


_built: WeakKeyDictionary[Task, _Built] = WeakKeyDictionary()
"""A chat template makes other prompts of every tokenizer."""


def build_requests(
    engine: LM, loaded: LoadedTask, apply_chat_template: bool = False, fewshot_as_multiturn: bool = True
) -> list[Instance]:
    """The task's requests without answers, built unless the task has them already.

    The few-shot examples are drawn with the task's seed, so they are the same whenever they are built. Under a chat
    template they are turns of the conversation, or with ``fewshot_as_multiturn=False`` all in one message of the user.

    Raises:
        InputError: the chat template is missing, or does not take the conversation.
    """
    task: Any = loaded.task
    compile_templates_once()
    turns = apply_chat_template and fewshot_as_multiturn
    prompts = (str(engine.tokenizer_name) if apply_chat_template else "", turns)
    known = _built.get(task)
    if known is None or known.prompts != prompts:
        task.set_fewshot_seed(seed=loaded.settings["seed"])
        chat = Chat(engine)
        with quiet():
            task.build_all_requests(
                samples=loaded.indices,
                apply_chat_template=apply_chat_template,
                fewshot_as_multiturn=turns,
                chat_template=chat if apply_chat_template else None,
                tokenizer_name=prompts[0],
            )
        _built[task] = _Built(prompts, chat.notes)
    for instance in task.instances:
        instance.resps, instance.filtered_resps = [], {}
    instances: list[Instance] = task.instances
    return instances


def notes_on_prompts(loaded: LoadedTask) -> tuple[str, ...]:
    """What is to be said of the prompts that were built last."""
    task: Any = loaded.task
    return _built[task].notes if task in _built else ()


def compile_templates_once() -> None:
    """lm-eval compiles a task's templates anew for every document, which takes most of its time; they are kept here."""
    from lm_eval import utils

    if not hasattr(utils.env.from_string, "cache_info"):
        utils.env.from_string = functools.lru_cache(maxsize=256)(utils.env.from_string)


@contextlib.contextmanager
def as_built(loaded: LoadedTask) -> Iterator[None]:
    """lm-eval takes the requests that :func:`build_requests` built, in place of building them itself."""
    task: Any = loaded.task
    task.build_all_requests = lambda **_: None
    try:
        yield
    finally:
        del task.build_all_requests


@contextlib.contextmanager
def these_documents(loaded: LoadedTask, requests: Mapping[int, list[Instance]]) -> Iterator[None]:
    """lm-eval evaluates these documents alone, by these requests; documents go by their place in the task."""
    task: Any = loaded.task
    all_of_them = task._instances
    for instance in itertools.chain.from_iterable(requests.values()):
        instance.resps, instance.filtered_resps = [], {}
    with as_built(loaded):
        task._instances = [*itertools.chain.from_iterable(requests.values())]
        task.doc_iterator = lambda **_: iter([(place, asked[0].doc) for place, asked in requests.items()])
        try:
            yield
        finally:
            task._instances = all_of_them
            del task.doc_iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Progress bars and log lines of lm-eval and transformers off: the user sees the engine's bar and our notes."""
    import lm_eval.api.task as module

    bar = module.tqdm
    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers")]
    levels = [logger.level for logger in loggers]
    module.tqdm = functools.partial(bar, disable=True)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        module.tqdm = bar
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
