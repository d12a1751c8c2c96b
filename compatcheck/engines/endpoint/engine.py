"""The endpoint engine: an lm-eval backend that asks a server. What fails is told, never made up."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from compatcheck.engines.base import Engine
from compatcheck.engines.endpoint import received, scoring, wire
from compatcheck.engines.endpoint.options import read_options
from compatcheck.engines.progress import Progress, Stage
from compatcheck.errors import InputError
from compatcheck.models import endpoints
from compatcheck.models.client import REFUSED, REQUEST, Client, RequestFailed, call_once, run_concurrently
from compatcheck.models.endpoints import Endpoint
from compatcheck.models.keys import api_key, is_loopback, key_hint

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

T = TypeVar("T")
FIRST = 8
"""When this many requests fail (or all, if there are fewer) before one succeeds, a trivial one is tried."""
IN_A_ROW = 32
"""When this many in a row fail by the server's trouble, or twice those in flight, a trivial one is tried."""
MOST_REFUSALS = 8
"""Forms of one request that are tried."""
WITHOUT = {
    "temperature": "it takes its own temperature, and answers may differ from run to run",
    "stop": "texts were cut at the stops here",
    "max_tokens": "texts are as long as it makes them",
    "max_completion_tokens": "texts are as long as it makes them",
}
"""What follows where a server refuses a field."""
CANARY = "Hello"
"""The prompt of the trivial request: when that fails too, it is the server and not the documents, and work stops."""


class EndpointEngine(Engine):
    """One server and the models on it, of which one is active at a time.

    ``failures`` holds, by (task name, document id), one line for every document that could not be answered since
    ``activate``. The answers returned for these are placeholders (an empty text; 0.0 and False) and mean nothing: they
    must be neither scored nor stored. ``notes`` and ``identity`` are as with every engine."""

    def __init__(
        self,
        models: Sequence[Endpoint],
        *,
        batch_size: int | str = "auto",
        seed: int = 0,
        engine_args: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        chat_alone: bool = False,
    ) -> None:
        """Nothing is sent yet. ``models`` are those of one server, of which the first is active; ``batch_size`` are the
        requests in flight, 16 for "auto"; ``engine_args``: see
        :class:`compatcheck.engines.endpoint.options.Options`; ``chat_alone``: a conversation never goes to a server
        without a chat API as plain text. Raises InputError: an argument is wrong."""
        super().__init__(progress)
        self._models = {model.model: model for model in models}
        if len({model.url for model in models}) != 1:
            raise InputError("an endpoint engine serves the models of one address")
        self._options = read_options(engine_args or {}, batch_size)
        self._url = models[0].url
        self._seed = seed
        self._dialects: dict[str, wire.Dialect] = {}
        self._ways: dict[str, scoring.Ways] = {}
        self._chat: dict[str, bool] = {}
        self._plain: set[str] = set()
        """Models that turned out to take no conversation."""
        self._chat_alone = chat_alone
        self.activate(models[0].model)

    def activate(self, name: str | None) -> None:
        """Ask this model from now on. Raises InputError: no model of that name was given."""
        if name is None or name not in self._models:
            raise InputError(f"{self._url}: {name!r} is none of the models asked for: {', '.join(self._models)}")
        self._active = self._models[name]
        self.said.clear()
        self.failures = {}

    def close(self) -> None:
        """Nothing is open between calls."""

    @property
    def identity(self) -> dict[str, Any]:
        """Address, model and settings that bear on the outputs; no key, and nothing of the server's file names."""
        card = self._active.card
        return {
            "engine": "endpoint",
            "versions": {"httpx": importlib.metadata.version("httpx")},
            "dtype": "",
            "device": "",
            "url": self._url,
            "model": self._active.model,
            "api": self._options.api,
            "server": {name: card[name] for name in ("owned_by", "max_model_len") if name in card},
            "arguments": {"extra_body": dict(self._options.extra_body)} if self._options.extra_body else {},
        }

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation itself: the server puts it into its template."""
        if self._options.api == "completions":
            raise InputError(
                f"{self._active.text}: --apply-chat-template needs the chat API; leave --engine-arg api=completions "
                "away"
            )
        return wire.Messages.of(chat_history)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return ""

    @property
    def tokenizer_name(self) -> str:
        return self._active.text

    # Generation

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text generated for each (context, generation arguments), cut at its stop strings."""
        decodings = [wire.read_decoding(request.args[1], self._options.extra_body) for request in requests]
        seeds = self._seeds(requests, decodings)
        model = self._active.model

        def in_chat(prompt: str) -> bool:
            if isinstance(prompt, wire.Messages):
                return model not in self._plain
            return self._chat.get(model, self._options.api == "chat")

        async def one(client: Client, number: int) -> str:
            prompt, decoding = requests[number].args[0], decodings[number]
            chat = in_chat(prompt)
            try:
                return await self._generate(client, prompt, decoding, seeds[number], chat)
            except RequestFailed as failure:
                if not self._other_way(prompt, chat, failure) or "tools" in decoding.passed:
                    raise
            text = await self._generate(client, prompt, decoding, seeds[number], not chat)
            if chat:
                self._plain.add(model)
            else:
                self._chat[model] = True
            return text

        def canary(client: Client) -> Awaitable[str]:
            prompt, decoding = requests[0].args[0], replace(decodings[0], most=1, passed={})
            return self._generate(client, CANARY, decoding, self._seed, in_chat(prompt))

        texts = self._ask_all("generating", "generate_until", requests, one, canary)
        self._note_decoding(requests, decodings)
        return [text if text is not None else "" for text in texts]

    def _other_way(self, prompt: str, chat: bool, failure: RequestFailed) -> bool:
        """Whether the failure says that the server lacks the API that was asked, and the other one may do."""
        if self._options.api != "auto":
            return False
        absent = failure.status in (404, 405)
        if not isinstance(prompt, wire.Messages):
            return not chat and self._active.model not in self._chat and absent
        untemplated = failure.status in (400, 422, 500) and "chat template" in failure.reason.lower()
        return chat and not self._chat_alone and (absent or untemplated) and wire.is_plain(prompt)

    async def _generate(self, client: Client, prompt: str, decoding: wire.Decoding, seed: int, chat: bool) -> str:
        model = self._active.model
        dialect = self._dialects.get(model, wire.Dialect())
        for _ in range(MOST_REFUSALS):
            body = wire.body_of(prompt, model, decoding, seed, self._options.extra_body, dialect, chat)
            body |= dialect.streaming if self._options.stream else {}
            try:
                text = await client.ask_timed(
                    wire.CHAT if chat else wire.COMPLETIONS,
                    partial(self._read, chat, decoding.stops),
                    body,
                )
            except RequestFailed as failure:
                told = failure.status in (400, 422)
                other = dialect.learned(failure.reason, body, failure.parameter) if told else None
                if other is None:
                    raise
                dialect = other
                continue
            self._dialects[model] = self._dialects.get(model, wire.Dialect()).joined(dialect)
            if not chat:
                self._chat.setdefault(model, False)
            return text
        raise RequestFailed("the server refuses every form of the request")

    def _read(self, chat: bool, stops: tuple[str, ...], answer: Any, seconds: float) -> str:
        """The text of an answer; that the server names another model with it is noted."""
        text, name = received.text_of(answer, chat, stops, seconds), received.model_of(answer)
        if name not in (None, self._active.model):
            self.note(
                f"{self._active.text}: the server says of answers that {name} gave them; see that it is the model "
                "meant, as a server may have one model for every name, or another one to fall back on."
            )
        return text

    def _seeds(self, requests: Sequence[Instance], decodings: Sequence[wire.Decoding]) -> list[int]:
        """The seed, and where a text is sampled several times another one for each: ``request.draw`` where the store
        numbers them, else the place among the same request's repeats."""
        seen: Counter[int] = Counter()
        seeds = []
        for request, decoding in zip(requests, decodings, strict=True):
            draw = getattr(request, "draw", None)
            if draw is None:
                draw = seen[id(request)] if decoding.sampled else 0
            seeds.append(self._seed + int(draw))
            seen[id(request)] += 1
        return seeds

    def _note_decoding(self, requests: Sequence[Instance], decodings: Sequence[wire.Decoding]) -> None:
        pairs = zip(requests, decodings, strict=True)
        left_out = {(str(request.task_name), one.left_out): None for request, one in pairs if one.left_out}
        for task, names in left_out:
            self.note(
                f"{task}: {self._active.text} decodes without {', '.join(names)}, which the OpenAI API does not "
                "have; a model run here decodes with it."
            )
        model = self._active.model
        without = self._dialects.get(model, wire.Dialect()).without
        if "seed" in without:
            self.note(f"{self._active.text} takes no seed, so that sampled texts cannot be repeated.")
        if rest := sorted(without - {"seed"}):
            consequences = "".join(f"; {WITHOUT[name]}" for name in rest if name in WITHOUT)
            self.note(f"{self._active.text} refuses {', '.join(rest)}, so it was asked without{consequences}.")
        if model in self._plain:
            self.note(f"{self._active.text} takes no conversations ({wire.CHAT}): prompts were given as plain text.")
        if self._chat.get(model) and self._options.api == "auto":
            self.note(f"{self._active.text} has no {wire.COMPLETIONS}: every prompt was sent as one user message.")

    # Log-likelihoods

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of each (context, continuation)."""
        if not requests:
            return []
        pairs = [(str(request.args[0]), str(request.args[1])) for request in requests]
        if self._options.api == "chat" or any(isinstance(request.args[0], wire.Messages) for request in requests):
            why = "--engine-arg api=chat" if self._options.api == "chat" else "--apply-chat-template"
            raise InputError(
                f"{self._active.text}: {requests[0].task_name} needs log-likelihoods, and a chat API cannot score a "
                f"given answer; leave {why} away, or choose a task that generates text"
            )
        scorer = scoring.Scorer(self._active.model, self._find_ways(str(requests[0].task_name)))

        async def one(client: Client, number: int) -> tuple[float, bool]:
            return await scorer.score(client, *pairs[number])

        def canary(client: Client) -> Awaitable[tuple[float, bool]]:
            return scoring.Scorer(self._active.model, scorer.ways).score(client, CANARY, " world")

        found = self._ask_all("scoring choices", "loglikelihood", requests, one, canary)
        if scorer.spanning:
            self.note(
                f"{self._active.text}: {scorer.spanning} of {len(requests)} scored answers begin inside a token of the "
                "text, and the server has no /tokenize (or takes no token ids) to separate them as lm-eval does; their "
                "log-likelihoods are approximate."
            )
        return [answer if answer is not None else (0.0, False) for answer in found]

    def _find_ways(self, task: str) -> scoring.Ways:
        """Probe once for each model, before anything is spent."""
        model = self._active.model
        if model not in self._ways:
            try:
                self._ways[model] = call_once(self._connect, lambda client: scoring.probe(client, self._url, model))
            except (RequestFailed, scoring.NoScores) as problem:
                if isinstance(problem, RequestFailed):
                    names = endpoints.model_names(self._url, self._active.key_name)
                    if problem.status not in (404, 405) or model not in names:
                        raise self._refusal(problem) from None
                why = problem.message if isinstance(problem, RequestFailed) else str(problem)
                raise InputError(
                    f"{self._active.text}: {task} needs log-likelihoods, and the server returns no log-probabilities "
                    f"of a prompt (echo with logprobs in {wire.COMPLETIONS}: {why}); vLLM does; choose a task that "
                    "generates text, or give the model itself"
                ) from None
        return self._ways[model]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Not offered: a server does not say which token a text starts after. Raises InputError: always."""
        task = requests[0].task_name if requests else "this task"
        raise InputError(
            f"{self._active.text}: {task} scores whole texts (perplexity), which an endpoint cannot; give the "
            "model itself"
        )

    # What both have in common

    def _ask_all(
        self,
        label: str,
        attribute: str,
        requests: Sequence[Instance],
        one: Callable[[Client, int], Awaitable[T]],
        canary: Callable[[Client], Awaitable[T]],
    ) -> list[T | None]:
        """Answers in the order of the requests, None where one failed; failures are kept by document.

        What is left of an interrupted run may be the very documents that fail: so failures alone stop nothing, the
        canary's do. Raises InputError: the server answers nobody, from the start or any more."""
        self._note_nature()
        answers: list[T | None] = [None] * len(requests)
        succeeded, in_a_row, nobody_yet = 0, 0, True
        most_in_a_row = max(IN_A_ROW, 2 * self._options.in_flight)
        running = run_concurrently(self._connect, one, len(requests), self._options.in_flight)
        with Stage(self.progress, label, requests) as stage, contextlib.closing(running):
            for done, (number, outcome) in enumerate(running, start=1):
                request = requests[number]
                if isinstance(outcome, RequestFailed):
                    self.failures[str(request.task_name), int(request.doc_id or 0)] = outcome.message
                    in_a_row += outcome.kind != REQUEST
                    if nobody_yet and (outcome.kind == REFUSED or done >= min(FIRST, len(requests))):
                        self._try_canary(canary)
                        nobody_yet = False
                    elif in_a_row >= most_in_a_row:
                        self._try_canary(canary, f"stopped answering after {succeeded} answers")
                        in_a_row = 0
                else:
                    succeeded, in_a_row, nobody_yet = succeeded + 1, 0, False
                    answers[number] = outcome
                    self.cache_hook.add_partial(attribute, request.args, outcome)
                stage.answered([answers[number]])
        return answers

    def _connect(self) -> Client:
        options = self._options
        return Client(
            self._url,
            api_key(self._url, self._active.key_name),
            timeout=options.timeout,
            retries=int(options.retries),
            backoff=options.backoff,
            in_flight=options.in_flight,
        )

    def _try_canary(self, canary: Callable[[Client], Awaitable[Any]], what: str = "") -> None:
        """Raises InputError when even a trivial request fails."""
        try:
            call_once(self._connect, canary)
        except RequestFailed as failure:
            raise self._refusal(failure, what) from None

    def _refusal(self, failure: RequestFailed, what: str = "") -> InputError:
        """The one line for a server that answers nothing at all."""
        name = self._active.text + (f": {what}" if what else "")
        if failure.status in (401, 403):
            hint = key_hint(self._url, self._active.key_name)
            return InputError(f"{name}: no access ({failure.message}); {hint}")
        if failure.status in (404, 405) and not what:
            return endpoints.not_found(self._active, failure.message)
        if failure.status is not None and 300 <= failure.status < 400:
            return InputError(f"{name}: redirects elsewhere ({failure.message}); give the final address")
        return InputError(f"{name}: even a trivial request fails: {failure.message}")

    def _note_nature(self) -> None:
        self.note(
            f"{self._active.text}: the weights behind an endpoint cannot be fingerprinted; the fingerprint is of its "
            "address and of what /models says, so a model exchanged behind it may go unnoticed."
        )
        plain = self._url.startswith("http:") and not is_loopback(self._url)
        if plain and api_key(self._url, self._active.key_name):
            self.note(f"{self._url}: the API key went over the network unencrypted (http, not https).")
