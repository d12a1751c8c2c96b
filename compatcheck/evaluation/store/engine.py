"""An engine that answers from the store and asks the real one, loaded when it is first needed, for the rest."""

from __future__ import annotations

import copy
import hashlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM, CacheHook

from compatcheck.engines.answers import MOST_NOT_FINITE, NOT_FINITE, STOP, THINKING, about, is_finite, without_reasoning
from compatcheck.errors import InputError
from compatcheck.evaluation.chat import rendered
from compatcheck.evaluation.running import JobProgress
from compatcheck.evaluation.store.identity import WITHOUT_BEARING
from compatcheck.evaluation.store.keys import Draws, answer_key, asks_to_sample, is_sampled, request_digest, well_formed
from compatcheck.tasks.generation import for_local

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from compatcheck.evaluation.store.database import Source, Store

_MULTIMODAL = ("hf-multimodal", "vllm-vlm", "hf-audiolm-qwen")
"""Backends that lm-eval lets answer multimodal tasks; it asks before anything is loaded."""


class LazyEngine:
    """One engine for several jobs, opened when the first answer is missing, with adapters activated as they are needed.

    ``open_engine`` gets the name of the adapter that is needed first (None: the base alone)."""

    def __init__(self, open_engine: Callable[[str | None], Any]) -> None:
        self._open = open_engine
        self._engine: Any = None
        self._active: str | None = None
        self.notes: tuple[str, ...] = ()
        """What the engine said while it was opened: it concerns every job."""
        self.loading_seconds = 0.0

    @property
    def opened(self) -> bool:
        return self._engine is not None

    def start(self, adapter: str | None) -> None:
        """Open the engine now, with this adapter active, if it is not open yet."""
        if self._engine is None:
            started = time.perf_counter()
            self._engine = self._open(adapter)
            self.notes = tuple(self._engine.notes)
            self._engine.activate(adapter)
            self._active = adapter
            self.loading_seconds += time.perf_counter() - started

    def use(self, adapter: str | None) -> Any:
        """The real engine with this adapter active. Raises InputError: it cannot be loaded."""
        self.start(adapter)
        if adapter != self._active:
            self._engine.activate(adapter)
            self._active = adapter
        if hasattr(self._engine, "wait"):  # it starts in the background
            started = time.perf_counter()
            self._engine.wait()
            self.loading_seconds += time.perf_counter() - started
        return self._engine

    def close(self) -> None:
        """Free the memory, if the engine was opened at all."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


class StoredEngine(LM):
    """One model as lm-eval sees it; for each job one. Without a store equal requests are computed once all the same.

    How engines report answers as they come, failures and random draws: docs/store.md."""

    def __init__(
        self,
        engine: LazyEngine,
        adapter: str | None,
        source: Source,
        store: Store | None = None,
        *,
        draws: Draws | None = None,
        seed: int = 0,
        engine_args: Mapping[str, Any] | None = None,
        tokenizer_folder: Path | None = None,
    ) -> None:
        """``source.identity`` is reported until the engine, or the store, says better; ``draws`` are shared by all jobs
        of a run; ``engine_args`` may ask for random answers by themselves; ``tokenizer_folder`` has the chat template,
        None asks the engine itself."""
        super().__init__()
        self._engine, self._adapter = engine, adapter
        self._source, self._store = source, store
        self._draws, self._seed, self._always_drawn = draws or Draws(), seed, asks_to_sample(engine_args)
        self._given = {name: value for name, value in (engine_args or {}).items() if name not in WITHOUT_BEARING}
        self._tokenizer_folder = tokenizer_folder
        self.progress = JobProgress(None)
        """Is told of requests and answers; said by who makes this."""
        self.keeps_reasoning = False
        """Whether reasoning stays in the texts that are scored."""
        self._tokenizer: Any = None
        self.served = source.engine == "endpoint"
        self.has_template = False
        """Whether a conversation can be given to the model as one; said by who makes this."""
        self._identity: dict[str, Any] | None = None
        self._notes: dict[str, None] = {}
        self.MULTIMODAL = source.engine in _MULTIMODAL
        self.failures: dict[tuple[Any, Any], str] = {}
        """Requests that failed, by (task name, document id)."""
        self.asked = self.from_store = 0
        """Requests so far; of these, answered from the store."""

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        return self._answers("loglikelihood", requests)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return self._answers("loglikelihood_rolling", requests)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Texts as they are scored; what is stored is what the model wrote."""
        texts = self._answers("generate_until", requests)
        if self.keeps_reasoning:
            return texts
        found = [without_reasoning(text) for text in texts]
        stopped = [about(one).finish_reason == STOP and about(new).finish_reason == THINKING
                   for one, new in zip(texts, found, strict=True)]  # fmt: skip
        if any(stopped):
            self._notes[
                f"{self._source.reference}: {sum(stopped):,} of {len(texts):,} answers to {self._source.task} ended "
                "within their reasoning at a stop string of the task, and count as cut off: see that the task has none "
                "that reasoning holds, or have the engine apply them after it (--engine-arg think_end_token=…)"
            ] = None
        return found

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True, tools: list[Any] | None = None
    ) -> Any:
        """The prompt that a conversation makes; reads the tokenizer, not the model."""
        if tools and self._tokenizer_folder is None:
            raise InputError(f"{self._source.reference}: prompts with `tools` need --engine hf or a server")
        if not tools and (self._engine.opened or self._tokenizer_folder is None):
            engine = self._engine.use(self._adapter)
            return engine.apply_chat_template(chat_history, add_generation_prompt=add_generation_prompt)
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(str(self._tokenizer_folder))
        return rendered(self._tokenizer, chat_history, add_generation_prompt=add_generation_prompt, tools=tools)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        template: str | None = self._engine.use(self._adapter).chat_template(chat_template)
        return template

    @property
    def tokenizer_name(self) -> str:
        return str(self._tokenizer_folder or self._source.reference)

    def __getattr__(self, name: str) -> Any:
        """What else lm-eval's logs want to know (tokenizer, parameters), of an engine that is open."""
        engine = self.__dict__.get("_engine")
        if name.startswith("_") or engine is None or not engine.opened:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(engine.use(self._adapter), name)

    @property
    def model_key(self) -> str:
        """What its answers are filed under: the content of the model, and everything of the engine that bears on it."""
        return self._source.model

    @property
    def identity(self) -> dict[str, Any]:
        """What the engine says of itself, now or when it gave the stored answers."""
        if self._identity is None and self._store is not None:
            self._identity = self._store.identity(self._source)
        known = self._identity or dict(self._source.identity)
        arguments = {**self._given, **(known.get("arguments") or {})}
        settings = self._source.identity.get("settings")
        return known | ({"arguments": arguments} if arguments else {}) | ({"settings": settings} if settings else {})

    @property
    def notes(self) -> tuple[str, ...]:
        """What the engine said, now or when it gave the stored answers."""
        return tuple(self._notes)

    def missing(self, requests: Iterable[Instance], draws: Draws) -> int:
        """How many answers the engine would have to give; loads nothing. ``draws`` counts for the run's plan."""
        keys = [self._key(request.request_type, request, draws)[0] for request in requests]
        named = {key for key in keys if key is not None}
        there = self._store.count(named) if self._store is not None else 0
        return len(named) - there + keys.count(None)

    def _key(self, kind: str, request: Instance, draws: Draws) -> tuple[bytes | None, int | None]:
        """The key of a request's answer (None: it cannot be stored), and its number where it is drawn at random."""
        digest, model = request_digest(kind, request.args), self._source.model
        if digest is None:
            return None, None
        if not is_sampled(kind, request.args) and not (self._always_drawn and kind == "generate_until"):
            return answer_key(model, digest), None
        draw = draws.next(model, digest)
        return answer_key(model, digest, draw, self._seed), draw

    def _answers(self, kind: str, requests: Sequence[Instance]) -> list[Any]:
        named = [self._key(kind, request, self._draws) for request in requests]
        keys = {key for key, _ in named if key is not None}
        found: dict[Any, Any] = self._store.get(kind, keys) if self._store is not None else {}
        names: list[Any] = [number if key is None else key for number, (key, _) in enumerate(named)]
        self.asked += len(requests)
        self.from_store += sum(name in found for name in names)
        if found and self._store is not None:
            self._store.touch(replace(self._source, identity={}))  # what the engine said of itself stays
            self._notes.update(dict.fromkeys(note for k in ("", kind) for note in self._store.said(self._source, k)))
        self.progress.ask(requests, {place: found[name] for place, name in enumerate(names) if name in found})
        absent: dict[Any, int] = {}  # name -> the first request that asks for it
        for number, name in enumerate(names):
            if name not in found:
                absent.setdefault(name, number)
        if absent:
            found |= self._compute(kind, requests, absent, [draw for _, draw in named])
            for name, request in zip(names, requests, strict=True):
                if name in absent:
                    first = requests[absent[name]]
                    message = self.failures.get((first.task_name, first.doc_id))
                    if message is not None:
                        self.failures.setdefault((request.task_name, request.doc_id), message)
        return [found[name] for name in names]

    def _compute(
        self, kind: str, requests: Sequence[Instance], absent: Mapping[Any, int], draws: Sequence[int | None]
    ) -> dict[Any, Any]:
        engine = self._engine.use(self._adapter)
        _failures(engine).clear()  # of another job
        incoming = _Incoming(self, kind, engine, len({(one.task_name, one.doc_id) for one in requests}))
        asked = []
        for name, number in absent.items():
            request = copy.copy(requests[number])  # the next side asks the same: what a backend changes stays its own
            if kind == "generate_until":
                given = copy.deepcopy(request.args[1])
                request.arguments = (request.args[0], given if self.served else for_local(given), *request.args[2:])
            if draws[number] is not None:
                request.draw = draws[number]
            incoming.expect(name, request)
            asked.append(request)
        if any(draws[number] is not None for number in absent.values()) and len(absent) < len(requests):
            # Another seed for what is left of an interrupted run: the engine's own would draw the stored answers again.
            torch = sys.modules.get("torch")
            if torch is not None:
                text = f"{self._seed}|{sorted(map(str, absent))}"
                torch.manual_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big"))
        incoming.note(self._engine.notes, "")
        engine.set_cache_hook(incoming)
        try:
            answers = [well_formed(answer) for answer in getattr(engine, kind)(asked)]
        finally:
            engine.set_cache_hook(CacheHook(None))
            self._identity = dict(engine.identity)
        for name, request, answer in zip(absent, asked, answers, strict=True):
            incoming.returned(name, request, answer)
        incoming.check_finite()
        failures = _failures(engine)
        self.failures.update(failures)
        # what an engine says at the end of a call in which requests failed is about the failures, and not stored
        incoming.note(engine.notes[incoming.noted :], kind, store=not failures)
        if self._store is not None:
            self._store.sync()
        return dict(zip(absent, answers, strict=True))


class _Incoming:
    """Takes the answers of one call as they come in: the ``cache_hook`` of the engine meanwhile."""

    def __init__(self, stored: StoredEngine, kind: str, engine: Any, documents: int) -> None:
        """``documents``: how many are asked about, those with stored answers included."""
        self._stored, self._store = stored, stored._store
        self._kind, self._engine, self._documents = kind, engine, documents
        self._source = replace(stored._source, identity=dict(engine.identity))
        self._expected: dict[bytes, list[tuple[bytes, Instance]]] = defaultdict(list)
        self._kept: dict[bytes, Any] = {}
        self.noted = len(engine.notes)
        if self._store is not None:
            self._store.touch(self._source)

    def expect(self, name: Any, request: Instance) -> None:
        """``request`` will be answered; ``name`` is its key, or a number where it has none."""
        digest = request_digest(self._kind, request.args)
        if isinstance(name, bytes) and digest is not None:
            self._expected[digest].append((name, request))

    def add_partial(self, kind: str, arguments: Sequence[Any], answer: Any) -> None:
        """What lm-eval's backends call for each answer. What was not asked for is left alone."""
        digest = request_digest(kind, arguments) if kind == self._kind else None
        waiting = self._expected.get(digest) if digest is not None else None
        if waiting:
            name, request = waiting.pop(0)
            self._keep(name, request, well_formed(answer))
            if is_finite(self._kind, answer):
                self._stored.progress.answered(request, answer)

    def returned(self, name: Any, request: Instance, answer: Any) -> None:
        """The answer as it was returned: kept unless it was before, as it is."""
        if isinstance(name, bytes) and (name not in self._kept or self._kept[name] != answer):
            self._keep(name, request, answer)
        elif not is_finite(self._kind, answer):
            self._fail(request)

    def _keep(self, key: bytes, request: Instance, answer: Any) -> None:
        if not is_finite(self._kind, answer):
            self._fail(request)
        elif self._store is not None and (request.task_name, request.doc_id) not in _failures(self._engine):
            self.note(self._engine.notes[self.noted :], self._kind)
            if self._store.put(self._source, self._kind, key, answer):
                self._kept[key] = answer

    def _fail(self, request: Instance) -> None:
        self._stored.failures[request.task_name, request.doc_id] = NOT_FINITE
        self.check_finite()

    def check_finite(self) -> None:
        """Raise InputError where too many documents got no finite score: the model computes no numbers."""
        failed = {**_failures(self._engine), **self._stored.failures}
        broken = [where for where, message in failed.items() if message == NOT_FINITE]
        if len(broken) > MOST_NOT_FINITE * self._documents:
            source, dtype = self._source, self._engine.identity.get("dtype") or "its dtype"
            raise InputError(
                f"{source.reference}: {NOT_FINITE} (NaN or infinity, {source.engine}, {dtype}) for {len(broken)} of "
                f"{self._documents} documents of {source.task} so far, the first of them number {broken[0][1]}; its "
                "weights are damaged or overflow: try --dtype float32, or check the checkpoint"
            )

    def note(self, sentences: Sequence[str], kind: str, store: bool = True) -> None:
        """What the engine said is reported, and stored before the answers that it concerns."""
        self.noted += len(sentences) if kind else 0
        self._stored._notes.update(dict.fromkeys(sentences))
        if self._store is not None and store:
            for sentence in sentences:
                self._store.put_note(self._source, kind, sentence)


def _failures(engine: Any) -> dict[tuple[Any, Any], str]:
    return getattr(engine, "failures", None) or {}
