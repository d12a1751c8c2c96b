"""Many documents on several machines: one engine per Ray actor, requests sharded over them, answers streamed back.

Ray Data's ``map_batches`` starts its actors anew for every pass over a data set, so each task and each kind of request
would load the model again, and its streaming executor decides when a batch is handed out. Plain actors keep the model
from the first request to the last and give every finished batch back at once (``ray.wait``).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.engines.base import Engine, check_adapter, whole
from compatcheck.engines.progress import Progress, Stage
from compatcheck.errors import InputError, one_line

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

DEATHS = 3
"""How often the same batch, or workers without any batch between, may die."""
PARTS = 8
"""Batches per worker, so that a slow one holds up the end by an eighth of its share at most."""
FEWEST, MOST = 8, 256
"""Documents in a batch: enough to be computed side by side, and few enough that little is lost with a worker."""
_Answered = tuple[list[Any], list[str], dict[tuple[Any, Any], str]]


@dataclass
class Batch:
    """Numbers of requests that are answered together."""

    numbers: list[int]
    deaths: int = 0


def batches(requests: Sequence[Instance], workers: int) -> list[Batch]:
    """Shard requests evenly by cost (characters to read and write), the costliest first.

    The choices of a document stay together, so that its text is read once. Since the costliest come first and a worker
    takes the next batch when it has finished one, workers finish at about the same time."""
    documents: dict[tuple[Any, Any], list[int]] = {}
    for number, request in enumerate(requests):
        documents.setdefault((request.task_name, request.doc_id), []).append(number)
    costs = {key: _cost([requests[number] for number in numbers]) for key, numbers in documents.items()}
    share = sum(costs.values()) / (workers * PARTS)
    fewest = min(FEWEST, -(-len(documents) // workers))
    found: list[Batch] = []
    cost = count = 0
    for key in sorted(documents, key=lambda key: -costs[key]):
        if not found or count >= MOST or (count >= fewest and cost >= share):
            found.append(Batch([]))
            cost = count = 0
        found[-1].numbers += documents[key]
        cost, count = cost + costs[key], count + 1
    return found


def _cost(requests: Sequence[Instance]) -> int:
    read = sum(len(text) for text in {str(request.args[0]) for request in requests})
    for request in requests:
        rest = request.args[1] if len(request.args) > 1 else ""
        read += 4 * int(rest.get("max_gen_toks", 256)) if isinstance(rest, Mapping) else len(str(rest))
    return read


class Worker:
    """One engine in an actor. ``given`` are the arguments of ``opener``, :func:`compatcheck.engines.open_engine`."""

    def __init__(self, opener: Callable[..., Any], given: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        self._open = lambda: opener(*given, **options)
        self._engine: Any = None
        self._said = 0

    def open(self) -> tuple[int, dict[str, Any], list[str]]:
        """Load the model; returns the process id, the engine's identity and its notes."""
        self._engine = self._open()
        return os.getpid(), dict(self._engine.identity), self._new_notes()

    def answer(self, kind: str, adapter: str | None, requests: Sequence[tuple[Any, ...]]) -> _Answered:
        """Answer requests as :meth:`RayEngine._answers` sends them; returns answers, new notes and failures."""
        from lm_eval.api.instance import Instance

        self._engine.activate(adapter)
        instances = []
        for arguments, index, task, document, draw in requests:
            instance = Instance(kind, {}, arguments, index, (task, document, 1))
            if draw is not None:
                instance.draw = draw
            instances.append(instance)
        answers = getattr(self._engine, kind)(instances)
        return list(answers), self._new_notes(), dict(getattr(self._engine, "failures", None) or {})

    def ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Whatever else lm-eval asks of an engine: its chat template."""
        found = getattr(self._engine, name)
        return found(*arguments, **options) if callable(found) else found

    def _new_notes(self) -> list[str]:
        new, self._said = list(self._engine.notes[self._said :]), len(self._engine.notes)
        return new


class RayEngine(Engine):
    """Several workers that answer as one engine; see :func:`compatcheck.engines.open_engine`.

    ``engine_args``: ``inner`` (the workers' engine, ``hf``), ``workers`` (one per GPU of the cluster, or per machine),
    ``gpus_per_worker`` (1 where there are GPUs; ``tensor_parallel_size`` for vLLM), ``cpus_per_worker`` (1),
    ``address`` of a cluster (none: this machine). Everything else goes to the workers' engine."""

    def __init__(
        self,
        model: str | Path,
        adapters: Mapping[str, str | Path] | None = None,
        *,
        opener: Callable[..., Any],
        engine_args: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        """Connect to the cluster or start one here, and load the model in every worker: each calls ``opener``,
        :func:`compatcheck.engines.open_engine`, with what else it takes in ``options``. Raises InputError: the cluster
        is not there or too small, or a worker cannot load the model."""
        super().__init__(progress)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # Ray prints deaths on stdout; we say them in a note
        import ray
        import ray.exceptions

        self._ray: Any = ray
        arguments = dict(engine_args or {})
        self._inner = str(arguments.pop("inner", "hf"))
        address = arguments.pop("address", None)
        count = whole("workers", arguments.pop("workers")) if "workers" in arguments else None
        gpus, cpus = (_amount(name, arguments.pop(name, None)) for name in ("gpus_per_worker", "cpus_per_worker"))
        self._adapters = {name: str(path) for name, path in (adapters or {}).items()}
        self._active: str | None = next(iter(self._adapters), None)
        self._given = opener, (self._inner, str(model), self._adapters), {**options, "engine_args": arguments}
        self._idle: list[Any] = []
        self._opening: dict[Any, Any] = {}
        self.pids: set[int] = set()
        """Process ids of all workers so far, each on its own machine."""
        self._identity: dict[str, Any] = {}
        self._ours = not self._ray.is_initialized()
        self._deaths = 0
        self._before = signal.getsignal(signal.SIGTERM)
        try:
            if self._ours:
                self._connect(address, max(os.cpu_count() or 1, int((count or 1) * (cpus or 1)) + 1))
            parallel = int(arguments.get("tensor_parallel_size") or 1)
            self._start(count, gpus, 1.0 if cpus is None else cpus, parallel)
            while not self._idle:
                self._collect_opened(None)
        except BaseException:
            self.close()
            raise

    # The cluster

    def _connect(self, address: str | None, processors: int) -> None:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": "compatcheck"}
        if address is None:
            options |= {"include_dashboard": False, "num_cpus": processors, "object_store_memory": 200 << 20}
        try:
            self._ray.init(address=address or "local", **options)
        except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError) as error:
            raise InputError(f"--engine ray: no cluster at {address or 'this machine'}: {one_line(error)}") from error
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler aborts; this one lets everybody clean up, as Ctrl-C does
            signal.signal(signal.SIGTERM, signal.default_int_handler)

    def _start(self, count: int | None, gpus: float | None, cpus: float, parallel: int) -> None:
        there = self._ray.cluster_resources()
        if gpus is None:
            gpus = parallel if there.get("GPU") else 0
        if count is None:
            machines = sum(bool(node["Alive"]) for node in self._ray.nodes())
            count = max(1, int(there.get("GPU", 0) // gpus)) if gpus else machines
        for kind, each in (("GPU", gpus), ("CPU", cpus)):
            if count * each > there.get(kind, 0):
                raise InputError(
                    f"--engine ray: {count} workers of {each:g} {kind} each need more than the {there.get(kind, 0):g} "
                    "there are; set workers, gpus_per_worker or cpus_per_worker with --engine-arg"
                )
        self._count = count
        self._worker = self._ray.remote(Worker).options(num_gpus=gpus, num_cpus=cpus, max_restarts=0)
        for _ in range(count):
            self._open_worker()

    def _open_worker(self) -> None:
        worker = self._worker.remote(*self._given)
        self._opening[worker.open.remote()] = worker

    def _collect_opened(self, timeout: float | None) -> None:
        """Take workers that have loaded the model; None waits for the next one."""
        done, _ = self._ray.wait(list(self._opening), num_returns=1, timeout=timeout)
        for opened in done:
            worker = self._opening.pop(opened)
            result = self._get(opened)
            if isinstance(result, Exception):
                self._replace(result)
                continue
            pid, self._identity, notes = result
            self.pids.add(pid)
            self._take_notes(notes)
            self._idle.append(worker)

    def _replace(self, death: Exception) -> None:
        self._deaths += 1
        if self._deaths > DEATHS * self._count:
            raise InputError(f"--engine ray: workers die again and again: {one_line(death)}") from death
        self.note("A worker died and another took its place; what it was asked was asked again.")
        self._open_worker()

    def _get(self, reference: Any) -> Any:
        """The result of a call, or the exception that says that the worker died. Raises InputError: the engine refused;
        any other exception of the engine as it is."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from None
            raise
        except self._ray.exceptions.RayError as error:
            return error

    def _take_notes(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.note(note)

    # What an engine is asked

    def activate(self, name: str | None) -> None:
        """Use the adapter of this name; None is the base alone. Raises InputError for no adapter of that name."""
        check_adapter(name, self._adapters)
        self._active = name

    def close(self) -> None:
        """End the workers, and the cluster where it was started here."""
        workers, self._idle, self._opening = [*self._idle, *self._opening.values()], [], {}
        if not self._ray.is_initialized():
            return
        for worker in workers:
            self._ray.kill(worker)
        if self._ours:
            import psutil

            # The workers of this machine end while their parent, Ray's own daemon, is there to take note of it.
            here = [child for child in psutil.Process().children(recursive=True) if child.pid in self.pids]
            psutil.wait_procs(here, timeout=5.0)
            self._ray.shutdown()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self._before)

    @property
    def identity(self) -> dict[str, Any]:
        """The workers' engine and what it depends on; how many there are does not bear on the outputs."""
        versions = {**self._identity.get("versions", {}), "ray": self._ray.__version__}
        return {**self._identity, "engine": "ray", "inner": self._inner, "versions": versions}

    def _ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        while True:
            while not self._idle:
                self._collect_opened(None)
            worker = self._idle[0]
            answer = self._get(worker.ask.remote(name, *arguments, **options))
            if not isinstance(answer, Exception):
                return answer
            self._idle.remove(worker)
            self._replace(answer)

    def _answers(self, method: str, label: str, requests: list[Any]) -> list[Any]:
        """Hand batches to whichever worker is free, take answers as they come, and start anew what died."""
        answers: list[Any] = [None] * len(requests)
        waiting = deque(batches(requests, self._count))
        running: dict[Any, tuple[Any, Batch]] = {}
        try:
            with Stage(self.progress, label, requests) as stage:
                while waiting or running:
                    while waiting and self._idle:
                        worker, batch = self._idle.pop(), waiting.popleft()
                        chosen = [requests[number] for number in batch.numbers]
                        # not the document, which may be large
                        sent = [(r.args, r.idx, r.task_name, r.doc_id, getattr(r, "draw", None)) for r in chosen]
                        running[worker.answer.remote(method, self._active, sent)] = worker, batch
                    # a worker that is still loading is waited for only where there is something for it to do
                    awaited = [*running, *(self._opening if waiting else ())]
                    done, _ = self._ray.wait(awaited, num_returns=1)
                    if done[0] in self._opening:
                        self._collect_opened(0)
                        continue
                    worker, batch = running.pop(done[0])
                    result = self._get(done[0])
                    if isinstance(result, Exception):
                        self._ask_again(batch, waiting, result)
                        continue
                    self._deaths = 0
                    self._idle.append(worker)
                    self._take(method, requests, batch, result, answers)
                    stage.answered([answers[number] for number in batch.numbers])
        finally:
            # after an error: workers that are still busy end with the engine
            self._idle += [worker for worker, _ in running.values()]
        return answers

    def _ask_again(self, batch: Batch, waiting: deque[Batch], death: Exception) -> None:
        batch.deaths += 1
        if batch.deaths >= DEATHS:
            raise InputError(
                f"--engine ray: {DEATHS} workers died on the same {len(batch.numbers)} requests (out of memory?): "
                f"{one_line(death)}"
            ) from death
        waiting.appendleft(batch)
        self._replace(death)

    def _take(self, method: str, requests: list[Any], batch: Batch, result: _Answered, answers: list[Any]) -> None:
        found, notes, failures = result
        self._take_notes(notes)
        self.failures.update(failures)
        for number, answer in zip(batch.numbers, found, strict=True):
            request = requests[number]
            answers[number] = tuple(answer) if isinstance(answer, list) else answer
            if (request.task_name, request.doc_id) not in failures:
                self.cache_hook.add_partial(method, request.args, answers[number])


def _amount(name: str, given: Any) -> float | None:
    if given is not None and (not isinstance(given, int | float) or isinstance(given, bool) or given < 0):
        raise InputError(f"--engine-arg {name}={given}: give a number of at least 0")
    return given
