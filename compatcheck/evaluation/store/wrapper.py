"""An engine that answers from the store and asks the real one, loaded when it is first needed, for the rest."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM, CacheHook

from compatcheck.engines.hf.finite import MOST, NOT_FINITE, is_finite
from compatcheck.errors import InputError
from compatcheck.evaluation.store.keys import Draws, answer_key, is_sampled, request_digest
from compatcheck.evaluation.store.writer import Source

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from compatcheck.evaluation.store.database import Store


_MULTIMODAL = ("hf-multimodal", "vllm-vlm", "hf-audiolm-qwen")
"""Backends that lm-eval lets answer multimodal tasks; it asks before anything is loaded."""


class LazyEngine:
    """One engine for several jobs, opened when the first answer is missing, with adapters activated as they are needed.

    ``open_engine`` gets the name of the adapter that is needed first (None: the base alone).
    """

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
        self._start(adapter)

    def _start(self, adapter: str | None) -> None:
        if self._engine is None:
            started = time.perf_counter()
            self._engine = self._open(adapter)
            self._active = None
            self.notes = tuple(self._engine.notes)
            self._engine.activate(adapter)
            self._active = adapter
            self.loading_seconds += time.perf_counter() - started

    def use(self, adapter: str | None) -> Any:
        """The real engine with this adapter active.

        Raises:
            InputError: it cannot be loaded.
        """
        self._start(adapter)
        if adapter != self._active:
            self._engine.activate(adapter)
            self._active = adapter
        wait = getattr(self._engine, "wait", None)
        if wait is not None:  # it starts in the background
            started = time.perf_counter()
            wait()
            self.loading_seconds += time.perf_counter() - started
        return self._engine

    def close(self) -> None:
        """Free the memory, if the engine was opened at all."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


class StoredEngine(LM):
    """One model as lm-eval sees it; for each job one.

    How answers come in while an engine works: lm-eval's own way. The wrapper hands the engine a cache hook
    (``engine.set_cache_hook``), and the engine calls ``self.cache_hook.add_partial(kind, request.args, answer)`` for
    every answer of a batch as soon as the batch is finished, with the arguments as they came in and the answer as the
    method will return it. It is called for real answers only, never for a failure. What was not reported so is stored
    when the method returns. An engine whose requests may fail keeps them in ``engine.failures``, a dictionary from
    (task name, document id) to a message; those are never stored.

    Where answers are drawn at random every request handed on carries its number as ``request.draw``: an engine that
    takes a seed for each request adds it, so that the draws of an interrupted run do not come twice.

    Without a store nothing is kept; identical requests are computed once all the same.
    """

    def __init__(
        self,
        engine: LazyEngine,
        adapter: str | None,
        source: Source,
        store: Store | None = None,
        *,
        draws: Draws | None = None,
        seed: int = 0,
        always_drawn: bool = False,
        tokenizer_folder: Path | None = None,
    ) -> None:
        """Args:
        source: what is asked; ``source.identity`` is reported until the engine, or the store, says better.
        draws: shared by all jobs of a run.
        always_drawn: the engine's own settings ask for random answers, whatever a request says.
        tokenizer_folder: where the tokenizer lies whose chat template is used; None asks the engine itself.
        """
        super().__init__()
        self._engine = engine
        self._adapter = adapter
        self._source = source
        self._store = store
        self._draws = draws or Draws()
        self._seed = seed
        self._always_drawn = always_drawn
        self._tokenizer_folder = tokenizer_folder
        self._tokenizer: Any = None
        self._identity: dict[str, Any] | None = None
        self._notes: dict[str, None] = {}
        self.MULTIMODAL = source.engine in _MULTIMODAL
        self.failures: dict[tuple[Any, Any], str] = {}
        """Requests that failed, by (task name, document id)."""
        self.asked = 0
        """Requests so far."""
        self.from_store = 0
        """Of these, answered from the store."""

    # What lm-eval calls

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        return self._answers("loglikelihood", requests)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return self._answers("loglikelihood_rolling", requests)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return self._answers("generate_until", requests)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> Any:
        """The prompt that a conversation makes; reads the tokenizer, not the model."""
        if self._engine.opened or self._tokenizer_folder is None:
            engine = self._engine.use(self._adapter)
            return engine.apply_chat_template(chat_history, add_generation_prompt=add_generation_prompt)
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(str(self._tokenizer_folder))
        import jinja2

        options = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
        options["continue_final_message"] = not add_generation_prompt
        try:
            return str(self._tokenizer.apply_chat_template(chat_history, **options))
        except jinja2.exceptions.TemplateError:  # as lm-eval does it: the template knows no system role
            without = [message for message in chat_history if message["role"] != "system"]
            return str(self._tokenizer.apply_chat_template(without, **options))

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

    # What the report says

    @property
    def identity(self) -> dict[str, Any]:
        """What the engine says of itself, now or when it gave the stored answers."""
        if self._identity is None and self._store is not None:
            self._identity = self._store.identity(self._source)
        return self._identity or dict(self._source.identity)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the engine said, now or when it gave the stored answers."""
        return tuple(self._notes)

    # Answering

    def missing(self, requests: Iterable[Instance], draws: Draws) -> int:
        """How many answers the engine would have to give; loads nothing. ``draws`` counts for the run's plan."""
        keys = [self._key(request.request_type, request, draws)[0] for request in requests]
        named = {key for key in keys if key is not None}
        there = self._store.count(named) if self._store is not None else 0
        return len(named) - there + keys.count(None)

    def _key(self, kind: str, request: Instance, draws: Draws) -> tuple[bytes | None, int | None]:
        """The key of a request's answer (None: it cannot be stored), and its number where it is drawn at random."""
        digest = request_digest(kind, request.args)
        if digest is None:
            return None, None
        model = self._source.model
        if not is_sampled(kind, request.args) and not (self._always_drawn and kind == "generate_until"):
            return answer_key(model, digest), None
        draw = draws.next(model, digest)
        return answer_key(model, digest, draw, self._seed), draw

    def _answers(self, kind: str, requests: Sequence[Instance]) -> list[Any]:
        named = [self._key(kind, request, self._draws) for request in requests]
        keys = [key for key, _ in named]
        store = self._store
        found: dict[Any, Any] = store.get(kind, {key for key in keys if key is not None}) if store is not None else {}
        self.asked += len(requests)
        self.from_store += sum(key in found for key in keys)
        if found and store is not None:
            store.touch(self._source)
            self._notes.update(dict.fromkeys(note for k in ("", kind) for note in store.said(self._source, k)))
        names: list[Any] = [key if key is not None else number for number, key in enumerate(keys)]
        absent: dict[Any, int] = {}  # name -> the first request that asks for it
        for number, name in enumerate(names):
            if name not in found:
                absent.setdefault(name, number)
        if absent:
            found |= self._compute(kind, requests, absent, [draw for _, draw in named])
            for name, request in zip(names, requests, strict=True):
                where = (request.task_name, request.doc_id)
                if name in absent and where not in self.failures:
                    first = requests[absent[name]]
                    message = self.failures.get((first.task_name, first.doc_id))
                    if message is not None:
                        self.failures[where] = message
        return [found[name] for name in names]

    def _compute(
        self, kind: str, requests: Sequence[Instance], absent: Mapping[Any, int], draws: Sequence[int | None]
    ) -> dict[Any, Any]:
        engine = self._engine.use(self._adapter)
        _failures(engine).clear()  # of another job
        receipt = _Receipt(self, kind, engine, len({(one.task_name, one.doc_id) for one in requests}))
        asked = []
        for name, number in absent.items():
            request = copy.copy(requests[number])  # the next side asks the same: what a backend changes stays its own
            if kind == "generate_until":
                request.arguments = (request.args[0], copy.deepcopy(request.args[1]), *request.args[2:])
            if draws[number] is not None:
                request.draw = draws[number]
            receipt.expect(name, request)
            asked.append(request)
        if any(draws[number] is not None for number in absent.values()) and len(absent) < len(requests):
            _reseed(f"{self._seed}|{sorted(map(str, absent))}")
        receipt.note(self._engine.notes, "")
        engine.set_cache_hook(receipt)
        try:
            answers = getattr(engine, kind)(asked)
        finally:
            engine.set_cache_hook(CacheHook(None))
            self._identity = dict(engine.identity)
        for name, request, answer in zip(absent, asked, answers, strict=True):
            receipt.settle(name, request, answer)
        receipt.check_finite()
        failures = _failures(engine)
        self.failures.update(failures)
        receipt.note(engine.notes[receipt.noted :], kind, store=not failures)
        if self._store is not None:
            self._store.flush()
        return dict(zip(absent, answers, strict=True))


class _Receipt:
    """Takes the answers of one call as they come in: the ``cache_hook`` of the engine meanwhile."""

    def __init__(self, wrapper: StoredEngine, kind: str, engine: Any, documents: int) -> None:
        self._wrapper = wrapper
        self._documents = documents
        """How many are asked about, those with stored answers included."""
        self._store = wrapper._store
        self._kind = kind
        self._engine = engine
        base = wrapper._source
        self._source = Source(
            base.model, base.task, base.reference, base.fingerprint, base.engine, dict(engine.identity)
        )
        self._expected: dict[bytes, list[tuple[bytes, Instance]]] = defaultdict(list)
        self._kept: dict[bytes, Any] = {}
        self.noted = len(engine.notes)

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
            self._keep(*waiting.pop(0), answer)

    def settle(self, name: Any, request: Instance, answer: Any) -> None:
        """The answer as it was returned: kept unless it was before, as it is."""
        if isinstance(name, bytes) and (name not in self._kept or self._kept[name] != answer):
            self._keep(name, request, answer)
        elif not is_finite(self._kind, answer):
            self._fail(request)

    def _fail(self, request: Instance) -> None:
        self._wrapper.failures[request.task_name, request.doc_id] = NOT_FINITE
        self.check_finite()

    def check_finite(self) -> None:
        """End the run where too many documents got no finite score: the model computes no numbers.

        Raises:
            InputError: so it is.
        """
        failed = {**_failures(self._engine), **self._wrapper.failures}
        broken = [where for where, message in failed.items() if message == NOT_FINITE]
        if len(broken) > MOST * self._documents:
            source = self._source
            dtype = self._engine.identity.get("dtype") or "its dtype"
            raise InputError(
                f"{source.reference}: {NOT_FINITE} (NaN or infinity, {source.engine}, {dtype}) for {len(broken)} of "
                f"{self._documents} documents of {source.task} so far, the first of them number {broken[0][1]}; its "
                "weights are damaged or overflow: try --dtype float32, or check the checkpoint"
            )

    def _keep(self, key: bytes, request: Instance, answer: Any) -> None:
        if not is_finite(self._kind, answer):
            self._fail(request)
            return
        if self._store is None or (request.task_name, request.doc_id) in _failures(self._engine):
            return
        self.note(self._engine.notes[self.noted :], self._kind)
        if self._store.put(self._source, self._kind, key, answer):
            self._kept[key] = answer

    def note(self, sentences: Sequence[str], kind: str, store: bool = True) -> None:
        """What the engine said is reported, and stored before the answers that it concerns.

        What it says at the end of a call in which requests failed is about the failures, and not stored.
        """
        self.noted += len(sentences) if kind else 0
        self._wrapper._notes.update(dict.fromkeys(sentences))
        if self._store is not None and store:
            for sentence in sentences:
                self._store.put_note(self._source, kind, sentence)


def _failures(engine: Any) -> dict[tuple[Any, Any], str]:
    found: dict[tuple[Any, Any], str] | None = getattr(engine, "failures", None)
    return found if found is not None else {}


def _reseed(text: str) -> None:
    """Another seed for what is left of an interrupted run: the engine's own would draw the stored answers again."""
    import hashlib
    import sys

    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big"))
