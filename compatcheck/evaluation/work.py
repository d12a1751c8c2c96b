"""How much there is to do, known before any model is loaded: what `--engine auto` decides by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from compatcheck.engines import Work, choose
from compatcheck.engines.vllm.plan import parameters
from compatcheck.evaluation.jobs import Job

DEFAULT_TOKENS = 256
"""Tokens that lm-eval generates where a task does not say."""


def engine_for(jobs: Sequence[Job], name: str, device: str | None, say: Callable[[str], None] = lambda _: None) -> str:
    """The engine that answers all these jobs. Where the user left the choice, ``say`` gets what it fell on and why.

    Raises:
        InputError: no such engine, or one that is not installed.
    """
    if name != "auto" or not jobs:
        return choose(name)[0]
    taken, why = choose(name, work_of(jobs), device)
    say(f"engine {taken}: {why}")
    return taken


def work_of(jobs: Iterable[Job]) -> Work:
    """What these jobs ask of their models, at most."""
    generated = scored = 0
    operations = 0.0
    sizes: dict[Path, int] = {}
    for job in jobs:
        base = job.reference.base
        if base is None:
            continue
        if base not in sizes:
            sizes[base] = parameters(base)
        config: Any = job.task.task.config
        repeats = int(getattr(config, "repeats", 1) or 1)
        if config.output_type == "generate_until":
            tokens = job.task.size * repeats * _most_tokens(config.generation_kwargs or {})
            generated += tokens
            operations += 2.0 * tokens * sizes[base]
        else:
            scored += job.task.size
    return Work(generated, operations, len(sizes), scored)


def _most_tokens(arguments: dict[str, Any]) -> int:
    for name in ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"):
        if arguments.get(name):
            return int(arguments[name])
    return DEFAULT_TOKENS
