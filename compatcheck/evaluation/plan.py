"""Which model answers which task, by which engine: known before any model is loaded, every base loaded once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from compatcheck.engines import Work, choose, open_endpoint, open_engine
from compatcheck.errors import InputError
from compatcheck.evaluation.bridge import request_chunks
from compatcheck.evaluation.chat import has_template, takes_template
from compatcheck.evaluation.grouping import BaseGroup, EngineOptions, Job, Say, group_by_base
from compatcheck.evaluation.running import JobProgress
from compatcheck.evaluation.shuffled import Shuffled
from compatcheck.references import Reference
from compatcheck.tasks import LoadedTask
from compatcheck.tasks.generation import MOST_TOKENS, check_engine

if TYPE_CHECKING:
    from compatcheck.evaluation.store.database import Store
    from compatcheck.evaluation.store.engine import LazyEngine, StoredEngine
    from compatcheck.evaluation.store.keys import Draws

_MEMORY = {"gpu_memory_utilization", "kv_cache_memory_bytes"}
"""Arguments of vLLM by which the user divides the memory himself."""
_DEFAULT_TOKENS = 256
"""Tokens that lm-eval generates where a task does not say."""


def engine_for(jobs: Sequence[Job], name: str, device: str | None, say: Say = lambda _: None) -> str:
    """The engine that answers all these jobs. Where the user left the choice, ``say`` gets what it fell on and why.
    Raises InputError: no such engine, or one that is not installed."""
    if name != "auto" or not jobs:
        return choose(name)[0]
    from compatcheck.engines.vllm.plan import parameters

    sizes: dict[Path, int] = {}
    generated = scored = 0
    operations = 0.0
    for job in jobs:
        base, config = job.reference.base, cast(Any, job.task.task.config)
        if base is None:
            continue
        if base not in sizes:
            sizes[base] = parameters(base)
        if config.output_type == "generate_until":
            given = config.generation_kwargs or {}
            most = next((int(given[name]) for name in MOST_TOKENS if given.get(name)), _DEFAULT_TOKENS)
            tokens = job.task.size * int(getattr(config, "repeats", 1) or 1) * most
            generated, operations = generated + tokens, operations + 2.0 * tokens * sizes[base]
        else:
            scored += job.task.size
    taken, why = choose(name, Work(generated, operations, len(sizes), scored), device)
    say(f"engine {taken}: {why}")
    return taken


@dataclass(frozen=True)
class Planned:
    """One job, and what it asks."""

    job: Job
    adapter: str | None
    engine: StoredEngine
    missing: int | None
    """Answers that the engine has to give, at least; None where there is no store to know it from."""
    chat: bool = False
    """Whether prompts go through the model's chat template."""


class Plan:
    """Jobs of one base or server. Where no job misses an answer the engine is never opened."""

    def __init__(self, group: BaseGroup, options: EngineOptions, say: Say, progress: Any) -> None:
        from compatcheck.evaluation.store.engine import LazyEngine

        self._group, self._options, self._say, self.progress = group, options, say, JobProgress(progress)
        self.engine = LazyEngine(self._open)
        self.jobs: list[Planned] = []

    @property
    def has_work(self) -> bool:
        return any(planned.missing != 0 for planned in self.jobs)

    @property
    def starts_early(self) -> bool:
        """Whether the engine starts in the background, and there is memory for it beside another one."""
        return self._options.memory_share < 1

    @property
    def fills_memory(self) -> bool:
        """Whether the engine takes the memory for itself, so that no other one can be open beside it."""
        shared = self._group.endpoints or self.starts_early or _MEMORY & self._options.engine_args.keys()
        return self._options.engine == "vllm" and not shared

    def start(self) -> None:
        """Start the engine for the first job that misses an answer."""
        self.engine.start(next(planned.adapter for planned in self.jobs if planned.missing != 0))

    def fill(self, store: Store | None, run: Draws, plan: Draws) -> None:
        """Know what every job asks; ``plan`` counts random answers as ``run`` will."""
        checked = False
        for job, adapter in self._group.jobs:
            engine, missing = self.answering(job, adapter, store, run), None
            chat = takes_template(job.options.apply_chat_template, job.task, engine)
            if job.task.system and not chat and not job.task.conversational:
                raise InputError(
                    f"--system: {job.task.name} is prompted as plain text, which has no place for it; add "
                    "--apply-chat-template"
                )
            if chat and not checked:
                self.check(tokenizer_alone=True)  # prompts are made with it
                checked = True
            if store is not None:
                missing = 0
                for requests in request_chunks(engine, job.task, chat, job.options.fewshot_as_multiturn):
                    missing += engine.missing(requests, plan)
                    if missing and not plan.any:  # there is work; random answers alone have to be counted to the end
                        break
            self.jobs.append(Planned(job, adapter, engine, missing, chat))

    def answering(self, job: Job, adapter: str | None, store: Store | None, draws: Draws | None = None) -> StoredEngine:
        """The engine as lm-eval sees it for one job: answers are filed under the content of model and engine."""
        from compatcheck.evaluation.store.database import Source
        from compatcheck.evaluation.store.engine import StoredEngine
        from compatcheck.evaluation.store.identity import identity_of
        from compatcheck.evaluation.store.keys import model_key

        group, options = self._group, self._options
        engine = "endpoint" if group.endpoints else options.engine
        identity = identity_of(
            engine, None if group.endpoints else Path(group.base), dtype=options.dtype, device=options.device,
            engine_args=options.engine_args, trust_remote_code=options.trust_remote_code, compared=options.compared,
        )  # fmt: skip
        fingerprint = job.reference.fingerprint()
        source = Source(
            model_key(fingerprint, identity), job.task.name, job.reference.text, fingerprint, engine, identity
        )
        # a chat template can be read without the model, but where only the engine knows how
        plain = engine == "hf" and not (options.engine_args or options.trust_remote_code)
        stored = StoredEngine(
            self.engine, adapter, source, store, draws=draws, seed=options.seed,
            engine_args=options.engine_args,
            tokenizer_folder=(group.tokenizer or Path(group.base)) if plain else None,
        )  # fmt: skip
        stored.has_template, stored.progress = self._has_template(), self.progress
        return stored

    def _has_template(self) -> bool:
        """Whether a conversation goes to the model as one: a server's chat API, or a template among its files."""
        group, options = self._group, self._options
        if group.endpoints:
            return str(options.engine_args.get("api", "auto")) != "completions"
        if "chat" in options.engine:  # lm-eval's backends for chat APIs
            return True
        return has_template(Path(str(options.engine_args.get("tokenizer") or group.tokenizer or group.base)))

    def check(self, tokenizer_alone: bool = False) -> None:
        """Find what cannot be loaded before the other side is paid for. Raises InputError: a model that cannot be
        loaded as its files show."""
        from compatcheck.engines.hf.checking import check_loading

        group, options = self._group, self._options
        if not group.endpoints:
            check_loading(
                Path(group.base), group.adapters.values(), engine=options.engine,
                trust_remote_code=options.trust_remote_code, engine_args=options.engine_args,
                tokenizer=group.tokenizer, tokenizer_alone=tokenizer_alone,
                generates=any(job.task.task.OUTPUT_TYPE == "generate_until" for job, _ in group.jobs),
            )  # fmt: skip

    def _open(self, first: str | None) -> Any:
        """Open the engine, with the adapter that is asked for first and those that are needed later."""
        options = self._options
        if self._group.endpoints:
            self._say(f"asking {self._group.base}")
            engine: Any = open_endpoint(
                self._group.endpoints, batch_size=options.batch_size, seed=options.seed,
                engine_args=dict(options.engine_args), progress=self.progress,
                chat_alone=any(job.options.apply_chat_template for job, _ in self._group.jobs),
            )  # fmt: skip
        else:
            later = [planned.adapter for planned in self.jobs if planned.missing != 0]
            engine = self._open_base(dict.fromkeys([first, *later]))
        return engine if options.shuffle is None else Shuffled(engine, options.shuffle)

    def _open_base(self, needed: Collection[str | None]) -> Any:
        group, options = self._group, self._options
        adapters = {name: group.adapters[name] for name in needed if name is not None}
        name = group.jobs[0][0].reference.base_name or str(group.base)
        self._say(f"loading {name}" + (f" with {', '.join(adapters)}" if adapters else ""))
        arguments = dict(options.engine_args)
        if group.tokenizer is not None:
            arguments.setdefault("tokenizer", str(group.tokenizer))
        log_name = "-".join([name, *group.adapters]) if group.tokenizer or len(group.adapters) == 1 else name
        sides = dict.fromkeys(job.side for job, _ in group.jobs)
        if len(sides) == 1:  # a base may be loaded once a side
            log_name += f"-{next(iter(sides))}"
        log_name = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in log_name)
        log = options.log_folder / f"engine-{log_name.strip('-.')[-80:]}.log" if options.log_folder else None
        return open_engine(
            options.engine, group.base, adapters, batch_size=options.batch_size, dtype=options.dtype,
            device=options.device, seed=options.seed, engine_args=arguments,
            trust_remote_code=options.trust_remote_code, progress=self.progress,
            base_alone=bool(adapters) and None in needed, memory_share=options.memory_share, log_file=log,
        )  # fmt: skip


def plan_jobs(jobs: Iterable[Job], say: Say, progress: Any, store: Store | None) -> list[Plan]:
    """What every base has to do, known before any model is loaded. Who calls closes the engines. Raises InputError: an
    engine that does not exist, or a model that cannot be loaded as its files show."""
    from compatcheck.evaluation.store.keys import Draws

    groups = group_by_base(jobs)
    options = [_options_of(group, groups) for group in groups]
    options = _with_engines(groups, options, say)
    for group, own in zip(groups, options, strict=True):
        for job, _ in group.jobs:
            check_engine("endpoint" if group.endpoints else own.engine, job.options.gen)
    plans = [Plan(group, own, say, progress) for group, own in zip(groups, options, strict=True)]
    run, plan = Draws(), Draws()
    for one in plans:
        one.fill(store, run, plan)
    for one in plans:
        if one.has_work:
            one.check()
    return plans


def _with_engines(groups: Sequence[BaseGroup], options: Sequence[EngineOptions], say: Say) -> list[EngineOptions]:
    """The options with the engine that each group of models takes, and the memory that it may take."""
    here = [place for place, group in enumerate(groups) if not group.endpoints]
    taken: dict[tuple[str, str | None], str] = {}
    for place in here:
        name, device = asked = (options[place].engine, options[place].device)
        if asked not in taken:
            alike = [job for n in here if (options[n].engine, options[n].device) == asked for job, _ in groups[n].jobs]
            taken[asked] = engine_for(alike, name, device, say)
    named = list(options)
    for place in here:
        named[place] = replace(named[place], engine=taken[named[place].engine, named[place].device])
    parted = [
        place for place in here if named[place].engine == "vllm" and not _MEMORY & named[place].engine_args.keys()
    ]
    if len(parted) < len(here) or len({(named[place].dtype, named[place].device) for place in parted}) != 1:
        return named
    from compatcheck.engines.vllm.plan import share_beside

    first = named[parted[0]]
    share = share_beside([Path(groups[place].base) for place in parted], first.dtype, first.device)
    return [replace(own, memory_share=share) if place in parted else own for place, own in enumerate(named)]


def open_answering(
    reference: Reference,
    name: str,
    options: EngineOptions,
    say: Say,
    progress: Any,
    store: Store | None,
    lazy: LazyEngine | None = None,
) -> tuple[StoredEngine, LazyEngine]:
    """One model to be asked anything, beside the tasks; ``name`` is what its requests are filed under.

    ``lazy`` is what an earlier call returned for the same model: it is loaded once. Who calls closes it. Raises
    InputError: as :func:`plan_jobs`."""
    (group,) = group_by_base([Job(name, reference, cast(LoadedTask, SimpleNamespace(name=name)), options)])
    options = _options_of(group, [group])
    if not group.endpoints:
        options = replace(options, engine=choose(options.engine)[0])
    plan = Plan(group, options, say, progress)
    plan.engine = lazy or plan.engine
    return plan.answering(*group.jobs[0], store), plan.engine


def _options_of(group: BaseGroup, groups: Sequence[BaseGroup]) -> EngineOptions:
    """What of the options concerns a group: beside an endpoint a model has arguments of its own. Raises InputError: all
    is answered by endpoints, and an option says how to run a model here."""
    options, servers = group.options, [bool(one.endpoints) for one in groups]
    if not any(servers):
        return options
    if all(servers):
        for name, given in (("engine", options.engine), ("dtype", options.dtype), ("device", options.device or "auto")):
            if given != "auto":
                raise InputError(
                    f"--{name} {given}: no model runs here, the server of {group.base} runs it; leave it away"
                )
        return replace(options, device="server")
    from compatcheck.engines.endpoint.options import ENGINE_ARGS

    mine = {key: value for key, value in options.engine_args.items() if (key in ENGINE_ARGS) == bool(group.endpoints)}
    if group.endpoints:
        return replace(options, engine="auto", engine_args=mine, dtype="auto", device="server")
    return replace(options, engine_args=mine)
