"""What the user sets about an endpoint: API, patience, requests in flight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.models.keys import refuse_secrets

APIS = ("auto", "completions", "chat")
_OF_THE_TASK = frozenset(
    {"model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "n",
     "stream", "echo", "logprobs"}
)  # fmt: skip
"""Fields that the task and the engine decide; results would not be what they are filed as."""


@dataclass(frozen=True)
class Options:
    """How an endpoint is asked.

    Attributes:
        api: ``completions``, ``chat``, or ``auto``: completions, and chat where the server has none or a chat
            template is asked for.
        timeout: seconds for one answer, from sending to its last byte.
        retries: how often a request is sent again after 429, 5xx or a cut connection.
        backoff: seconds before the first retry; doubled each time, with jitter.
        stream: have answers streamed, so that the seconds to the first token are known too.
        extra_body: further fields of every generation request, for what a server offers beyond the OpenAI API.
        in_flight: requests under way at once.
    """

    api: str = "auto"
    timeout: float = 300.0
    retries: int = 5
    backoff: float = 0.5
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    in_flight: int = 16
    stream: bool = False


ENGINE_ARGS = ("api", "timeout", "retries", "backoff", "extra_body", "stream")
"""Names of ``--engine-arg`` that concern an endpoint."""


def read_options(engine_args: Mapping[str, Any], batch_size: int | str = "auto") -> Options:
    """From ``--engine-arg`` and ``--batch-size``. Raises InputError: an unknown name, a value that cannot be, or a
    secret."""
    extra = engine_args.get("extra_body") or {}
    if not isinstance(extra, dict):
        raise InputError("--engine-arg extra_body: give a mapping, e.g. extra_body='{top_k: 20}'")
    refuse_secrets({**engine_args, **extra})
    for name in engine_args:
        if name not in ENGINE_ARGS:
            raise InputError(
                f"--engine-arg {name}: an endpoint has no such setting{did_you_mean(name, ENGINE_ARGS)}; "
                f"known: {', '.join(ENGINE_ARGS)}"
            )
    if _OF_THE_TASK & extra.keys():
        name = min(_OF_THE_TASK & extra.keys())
        raise InputError(f"--engine-arg extra_body: {name} is decided by the task, not by the engine")
    if engine_args.get("api", "auto") not in APIS:
        raise InputError(f"--engine-arg api={engine_args['api']}: unknown; known: {', '.join(APIS)}")
    if not isinstance(engine_args.get("stream") or False, bool):
        raise InputError(f"--engine-arg stream={engine_args['stream']}: true or false")
    for name, above in (("timeout", 0), ("retries", -1), ("backoff", 0)):
        value = engine_args.get(name, 1)
        whole = name == "retries"
        number = isinstance(value, int | float) and not isinstance(value, bool) and above < value < float("inf")
        if not number or (whole and value != int(value)):
            what = "a whole number" if whole and number else f"a {'whole ' * whole}number above {above}"
            raise InputError(f"--engine-arg {name}={value}: give {what}")
    given = {name: engine_args[name] for name in ENGINE_ARGS if engine_args.get(name) is not None}
    if str(batch_size) != "auto":
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise InputError(f"--batch-size {batch_size}: a whole number of at least 1 (requests in flight), or 'auto'")
        given["in_flight"] = int(batch_size)
    return Options(**given)
