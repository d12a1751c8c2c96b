"""How the engine of a group of jobs is opened: what of the options concerns it, and what is checked before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.evaluation.jobs import BaseGroup


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine; the same for OLD and NEW."""

    engine: str = "auto"
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | str = "auto"
    dtype: str = "auto"
    device: str | None = None
    seed: int = 0
    trust_remote_code: bool = False
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    """Under a chat template few-shot examples are turns of their own, as on lm-eval's command line."""
    log_folder: Path | None = None
    """Takes what engines in processes of their own write; by default the user's cache."""
    memory_share: float = 1.0
    """Part of the memory that an engine may take; where it is less than 1 the next one starts beside it."""
    shuffle: int | None = None
    """Seed of another order and of other batches, for reruns that measure noise; None asks as the task is built."""


def check_group(group: BaseGroup, options: EngineOptions, tokenizer_alone: bool = False) -> None:
    """Find what cannot be loaded before the other side is paid for."""
    from compatcheck.engines.hf.checking import check_loading

    if not group.endpoints:
        check_loading(
            Path(group.base),
            group.adapters.values(),
            engine=options.engine,
            trust_remote_code=options.trust_remote_code,
            engine_args=options.engine_args,
            tokenizer=group.tokenizer,
            tokenizer_alone=tokenizer_alone,
            generates=any(job.task.task.OUTPUT_TYPE == "generate_until" for job, _ in group.jobs),
        )


def options_of(group: BaseGroup, groups: Sequence[BaseGroup], options: EngineOptions) -> EngineOptions:
    """What of the options concerns a group: beside an endpoint a model has arguments of its own.

    Raises:
        InputError: all is answered by endpoints, and an option says how to run a model here.
    """
    servers = [bool(one.endpoints) for one in groups]
    if not any(servers):
        return options
    from compatcheck.engines.endpoint.options import ENGINE_ARGS

    if all(servers):
        for name, given in (("engine", options.engine), ("dtype", options.dtype), ("device", options.device or "auto")):
            if given != "auto":
                raise InputError(
                    f"--{name} {given}: no model runs here, the server of {group.base} runs it; leave it away"
                )
        return replace(options, device="server")
    arguments = {
        name: value for name, value in options.engine_args.items() if (name in ENGINE_ARGS) == bool(group.endpoints)
    }
    if group.endpoints:
        return replace(options, engine="auto", engine_args=arguments, dtype="auto", device="server")
    return replace(options, engine_args=arguments)


def open_group(
    group: BaseGroup,
    options: EngineOptions,
    say: Callable[[str], None],
    progress: Any,
    needed: Collection[str | None],
) -> Any:
    """Load the base with the adapters that have something to do, the first of them first."""
    from compatcheck.engines import open_endpoint, open_engine

    if options.shuffle is not None:
        from compatcheck.evaluation.shuffled import Shuffled

        return Shuffled(open_group(group, replace(options, shuffle=None), say, progress, needed), options.shuffle)
    if group.endpoints:
        say(f"asking {group.base}")
        return open_endpoint(
            group.endpoints,
            batch_size=options.batch_size,
            seed=options.seed,
            engine_args=dict(options.engine_args),
            progress=progress,
        )
    adapters = {name: group.adapters[name] for name in needed if name is not None}
    name = group.jobs[0][0].reference.base_name or str(group.base)
    say(f"loading {name}" + (f" with {', '.join(adapters)}" if adapters else ""))
    arguments = dict(options.engine_args)
    if group.tokenizer is not None:
        arguments.setdefault("tokenizer", str(group.tokenizer))
    log_name = "-".join([name, *group.adapters]) if group.tokenizer or len(group.adapters) == 1 else name
    return open_engine(
        options.engine,
        group.base,
        adapters,
        batch_size=options.batch_size,
        dtype=options.dtype,
        device=options.device,
        seed=options.seed,
        engine_args=arguments,
        trust_remote_code=options.trust_remote_code,
        progress=progress,
        base_alone=bool(adapters) and None in needed,
        memory_share=options.memory_share,
        log_file=options.log_folder / f"engine-{_file_name(log_name)}.log" if options.log_folder else None,
    )


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in text).strip("-.")[-80:]
