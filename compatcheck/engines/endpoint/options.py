"""What the user sets about an endpoint: API, patience, requests in flight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compatcheck.endpoints import refuse_secrets
from compatcheck.errors import InputError, did_you_mean

ENGINE_ARGS = ("api", "timeout", "retries", "backoff", "extra_body")
"""Names of ``--engine-arg`` that concern an endpoint."""
APIS = ("auto", "completions", "chat")
IN_FLIGHT = 16
_OF_THE_TASK = (
    "model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "n",
    "stream", "echo", "logprobs",
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
        in_flight: requests under way at once.
        extra_body: further fields of every generation request, for what a server offers beyond the OpenAI API.
    """

    api: str = "auto"
    timeout: float = 300.0
    retries: int = 5
    backoff: float = 0.5
    in_flight: int = IN_FLIGHT
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(engine_args: Mapping[str, Any], batch_size: int | str = "auto") -> Options:
        """From ``--engine-arg`` and ``--batch-size``.

        Raises:
            InputError: an unknown name, a value that cannot be, or a secret.
        """
        refuse_secrets(engine_args)
        for name in engine_args:
            if name not in ENGINE_ARGS:
                raise InputError(
                    f"--engine-arg {name}: an endpoint has no such setting{did_you_mean(name, ENGINE_ARGS)}; "
                    f"known: {', '.join(ENGINE_ARGS)}"
                )
        api = engine_args.get("api", "auto")
        if api not in APIS:
            raise InputError(f"--engine-arg api={api}: unknown; known: {', '.join(APIS)}")
        extra = engine_args.get("extra_body") or {}
        if not isinstance(extra, dict):
            raise InputError("--engine-arg extra_body: give a mapping, e.g. extra_body='{top_k: 20}'")
        refuse_secrets(extra)
        for name in extra:
            if name in _OF_THE_TASK:
                raise InputError(f"--engine-arg extra_body: {name} is decided by the task, not by the engine")
        default = Options()
        return Options(
            api=str(api),
            timeout=_number(engine_args, "timeout", default.timeout, above=0),
            retries=int(_number(engine_args, "retries", default.retries, above=-1, whole=True)),
            backoff=_number(engine_args, "backoff", default.backoff, above=0),
            in_flight=IN_FLIGHT if str(batch_size) == "auto" else _size(batch_size),
            extra_body=extra,
        )


def _number(arguments: Mapping[str, Any], name: str, default: float, *, above: float, whole: bool = False) -> float:
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > above or value == float("inf"):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"--engine-arg {name}={value}: give {kind} above {above:g}")
    if whole and value != int(value):
        raise InputError(f"--engine-arg {name}={value}: give a whole number")
    return value


def _size(given: int | str) -> int:
    if not str(given).isdigit() or int(given) < 1:
        raise InputError(f"--batch-size {given}: a whole number of at least 1 (requests in flight), or 'auto'")
    return int(given)
