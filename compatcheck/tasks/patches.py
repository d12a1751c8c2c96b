"""Every change to a library that is not ours, in one place: lm-eval 0.4.13, datasets 5.2, Jinja 3.1; what and why."""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit


def render_safely() -> None:
    """Replace the Jinja environment by which lm-eval renders the templates of all tasks.

    - A task's YAML is data of others: lm-eval's environment lets a template reach any Python object (``os.system``
      among them), the sandbox refuses what leads there.
    - lm-eval compiles a task's templates anew for every document, which takes most of its time; they are kept."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils

    if not isinstance(utils.env, ImmutableSandboxedEnvironment):
        sandbox = ImmutableSandboxedEnvironment(loader=utils.env.loader, undefined=utils.env.undefined)
        sandbox.filters.update(utils.env.filters)
        sandbox.from_string = functools.lru_cache(maxsize=256)(sandbox.from_string)  # type: ignore[method-assign,assignment]
        utils.env = sandbox


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Bars and log lines of lm-eval and transformers off: the user sees the engine's bar and our notes."""
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


def quiet_for_good() -> None:
    """The same for what loads tasks and writes no line that concerns the user."""
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


@contextlib.contextmanager
def offline_where_unreachable() -> Iterator[None]:
    """datasets and the hub's client as with ``HF_HUB_OFFLINE`` where the hub's host has no address here: what is cached
    is taken at once, in place of five attempts on each file, which take most of a minute."""
    import datasets.config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not _has_address(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


@functools.cache
def _has_address(url: str) -> bool:
    """Whether the name of a server is known here; behind a proxy that is the proxy's to say."""
    from urllib.request import getproxies

    if getproxies().get(urlsplit(url).scheme):
        return True
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """lm-eval's scan of its own tasks warns of them at length."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


@contextlib.contextmanager
def documents(task: Any, docs: Mapping[int, Any], requests: list[Any] | None = None) -> Iterator[None]:
    """lm-eval sees these documents of a task alone, by numbers of ours.

    It finds those of its ``samples`` by searching a list for each document, numbers them anew, and builds their
    requests again for every model. ``requests`` are taken in place of building them."""
    task.doc_iterator = lambda **_: iter(docs.items())
    if requests is not None:
        task.build_all_requests = lambda **_: None
        task._instances = requests
    try:
        yield
    finally:
        del task.doc_iterator
        if requests is not None:
            del task.build_all_requests
            task._instances = None
