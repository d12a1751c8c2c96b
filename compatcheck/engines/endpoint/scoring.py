"""Log-likelihoods from a server that returns the log-probabilities of the prompt (``echo`` with ``logprobs``).

A continuation's tokens are those that lm-eval takes: what follows the context's tokens when both are encoded together.
Where the server has a ``/tokenize`` and takes prompts as token ids, the model reads exactly what lm-eval lets it read.
Elsewhere the text is sent, and the strings of the echoed tokens tell where the continuation begins. When they do not,
the context is sent alone and its tokens counted; where these are not how the whole text begins, a token spans the
boundary and the answer is approximate: ``Scorer.spanning`` counts such answers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from compatcheck.engines.endpoint.received import first_choice
from compatcheck.engines.endpoint.wire import COMPLETIONS
from compatcheck.models.client import TROUBLE, Client, RequestFailed, malformed

Answer = tuple[float, bool]
T = TypeVar("T")
PROBE = "The quick brown fox jumps over the lazy dog."
_SAME = 0.05
"""Two forwards of one text differ by rounding only; another text's log-probabilities differ by far more."""


@dataclass(frozen=True)
class Echo:
    """The prompt's tokens as the server read them: strings, log-probabilities (None for the first), greedy or not."""

    tokens: tuple[str, ...]
    logprobs: tuple[float | None, ...]
    best: tuple[bool, ...]


@dataclass(frozen=True)
class Ways:
    """What the probe found out: the least ``max_tokens`` the server takes, and the address of its tokenizer, where it
    has one whose tokens it takes as a prompt."""

    most: int
    tokenize: str | None


class NoScores(Exception):
    """The server gives no log-probabilities of the prompt; the message says what it does instead."""


async def probe(client: Client, url: str, model: str) -> Ways:
    """Ask once how this server scores. Raises NoScores: it does not; RequestFailed: it answers nobody (no access, no
    such model, trouble)."""
    why = ""
    for most in (0, 1):
        try:
            echo = await _echo(client, model, PROBE, most)
        except RequestFailed as failure:
            unreachable = failure.kind == TROUBLE and failure.status in (None, 429)
            if unreachable or failure.status in (401, 403, 404, 405):
                raise
            why = failure.message
            continue
        if len(echo.tokens) < 4:
            why = f"it says that {PROBE!r} has {len(echo.tokens)} tokens"
        elif any(value is None for value in echo.logprobs[1:]) or not any(echo.logprobs[1:]):
            why = "its log-probabilities of the prompt are empty"
        else:
            return Ways(most, await _find_tokenizer(client, url, model, most, echo))
    raise NoScores(why)


async def _find_tokenizer(client: Client, url: str, model: str, most: int, expected: Echo) -> str | None:
    """Address of a tokenizer with which the probe gives the same log-probabilities from ids as from text."""
    for address in dict.fromkeys((url.removesuffix("/v1") + "/tokenize", url + "/tokenize")):
        try:
            found = await _echo(client, model, await _tokenize(client, address, model, PROBE), most)
        except RequestFailed:
            continue
        pairs = zip(found.logprobs[1:], expected.logprobs[1:], strict=False)
        if len(found.tokens) == len(expected.tokens) and all(abs((a or 0.0) - (b or 0.0)) < _SAME for a, b in pairs):
            return address
    return None


async def _tokenize(client: Client, address: str, model: str, text: str) -> list[int]:
    def read(answer: Any) -> list[int]:
        tokens = answer.get("tokens") if isinstance(answer, dict) else None
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise malformed("the answer of /tokenize holds no token ids")
        return tokens

    return await client.ask(address, read, {"model": model, "prompt": text})


async def _echo(client: Client, model: str, prompt: str | list[int], most: int) -> Echo:
    """Temperature 1, so that a server which returns processed log-probabilities leaves them as they are."""
    body = {"model": model, "prompt": prompt, "max_tokens": most, "echo": True, "logprobs": 1, "temperature": 1.0}
    return await client.ask(COMPLETIONS, lambda answer: read_echo(answer, most), body)


class Scorer:
    """Scores with one model, in one event loop; every context is encoded once.

    ``spanning`` counts answers that begin inside a token, on a server that cannot be asked exactly."""

    def __init__(self, model: str, ways: Ways) -> None:
        self.spanning = 0
        self.ways = ways
        self._model = model
        self._contexts: dict[str, asyncio.Task[Any]] = {}

    async def score(self, client: Client, context: str, continuation: str) -> Answer:
        """(log-likelihood of the continuation after the context, whether it is what greedy decoding would say). Raises
        RequestFailed: no usable answer."""
        bare = context.rstrip()  # as lm-eval does: spaces at the end belong to the continuation
        continuation = context[len(bare) :] + continuation
        how = self._from_text if self.ways.tokenize is None else self._from_ids
        before, echo = await how(client, bare, continuation)
        if before < 1:
            raise RequestFailed(
                "a continuation without a context needs a start token, and the server puts none before a text"
            )
        values = echo.logprobs[before:]
        if not values:
            raise RequestFailed("the continuation has no token of its own after its context")
        if any(value is None for value in values):
            raise RequestFailed("the server gives no log-probability for a token of the continuation")
        return math.fsum(value for value in values if value is not None), all(echo.best[before:])

    async def _from_ids(self, client: Client, context: str, continuation: str) -> tuple[int, Echo]:
        """Number of tokens of the context, and what the server says of context and continuation."""
        address = str(self.ways.tokenize)
        before = await self._once(context, lambda: _tokenize(client, address, self._model, context))
        whole = await _tokenize(client, address, self._model, context + continuation)
        if not before or len(whole) <= len(before):
            return len(before), Echo((), (), ())
        echo = await _echo(client, self._model, before + whole[len(before) :], self.ways.most)
        if len(echo.tokens) != len(whole):
            raise malformed(f"the server read {len(echo.tokens)} tokens of the {len(whole)} sent")
        return len(before), echo

    async def _from_text(self, client: Client, context: str, continuation: str) -> tuple[int, Echo]:
        echo = await _echo(client, self._model, context + continuation, self.ways.most)
        if not context:
            # The first token has no log-probability: it must be a start token that the server put before the text.
            return int("".join(echo.tokens) != continuation), echo
        clean = begins_at(echo.tokens, continuation)
        if clean:
            return clean, echo
        before = await self._once(context, lambda: _echo(client, self._model, context, self.ways.most))
        self.spanning += echo.tokens[: len(before.tokens)] != before.tokens
        return len(before.tokens), echo

    async def _once(self, context: str, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if context not in self._contexts:
            self._contexts[context] = asyncio.create_task(ask())
        found: T = await asyncio.shield(self._contexts[context])
        return found


def begins_at(tokens: tuple[str, ...], continuation: str) -> int | None:
    """Number of the token at which the continuation begins, or None where no token begins there.

    Counted from the end: start tokens and bytes of broken characters in the context do not matter."""
    tail = ""
    for number in range(len(tokens) - 1, -1, -1):
        tail = tokens[number] + tail
        if len(tail) >= len(continuation):
            return number if tail == continuation else None
    return None


def read_echo(answer: Any, most: int) -> Echo:
    """The prompt's part of an answer to a request with ``echo``. Raises RequestFailed: it holds no log-probabilities of
    the prompt, or lists that do not fit together."""
    given = first_choice(answer).get("logprobs")
    if not isinstance(given, dict):
        raise malformed("the answer holds no logprobs")
    tokens, values, tops = given.get("tokens"), given.get("token_logprobs"), given.get("top_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or not isinstance(tops, list):
        raise malformed("the logprobs of the answer hold no tokens, token_logprobs or top_logprobs")
    if not len(tokens) == len(values) == len(tops) or not all(isinstance(token, str) for token in tokens):
        raise malformed("the logprobs of the answer do not fit together")
    usage = answer.get("usage")
    read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    size = read if isinstance(read, int) else len(tokens) - most
    if size > len(tokens) or size < 1:
        raise malformed("the answer does not echo the prompt")
    logprobs = tuple(_logprob(value) for value in values[:size])
    best = tuple(
        value is not None
        and isinstance(top, dict)
        and all(value >= other for other in map(_logprob, top.values()) if other is not None)
        for value, top in zip(logprobs, tops[:size], strict=True)
    )
    return Echo(tuple(tokens[:size]), logprobs, best)


def _logprob(value: Any) -> float | None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
        raise malformed("a log-probability of the answer is no number")
    return None if value is None else float(value)
