"""Any backend of lm-eval as an engine. It holds one adapter at a time and is loaded anew to switch."""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from compatcheck.engines.hf import memory
from compatcheck.engines.progress import Progress, SilentProgress
from compatcheck.errors import InputError, one_line
from compatcheck.models import kind_of
from compatcheck.models.keys import refuse_secrets

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

_ADAPTER_ARGUMENTS = ("peft", "lora_local_path")


class BackendEngine(LM):
    """Hands everything to the backend; see :func:`compatcheck.engines.open_engine`."""

    def __init__(
        self,
        name: str,
        model: str | Path,
        adapters: Mapping[str, str | Path] | None = None,
        *,
        batch_size: int | str,
        dtype: str,
        device: str | None,
        seed: int,
        engine_args: Mapping[str, Any] | None,
        trust_remote_code: bool,
        progress: Progress | None,
    ) -> None:
        super().__init__()
        refuse_secrets(engine_args or {})
        self.notes: list[str] = [f"Requests are answered by lm-eval's '{name}' backend."]
        self._name = name
        self._class = _load_class(name)
        self._adapters = dict(adapters or {})
        self._progress: Progress = progress or SilentProgress()
        accepted = _parameters(self._class)
        offered = {
            "pretrained": str(model), "model": str(model), "batch_size": batch_size, "dtype": dtype, "device": device,
            "seed": seed, "trust_remote_code": trust_remote_code or None,
        }  # fmt: skip
        self._arguments = {key: value for key, value in offered.items() if key in accepted and value is not None}
        if "pretrained" in accepted:
            self._arguments.pop("model", None)
        self._arguments.update(engine_args or {})
        self._adapter_argument = next((key for key in _ADAPTER_ARGUMENTS if key in accepted), None)
        if self._adapters and self._adapter_argument is None:
            raise InputError(f"--engine {name}: this backend takes no adapters; merge the adapter or use --engine hf")
        for folder in self._adapters.values():
            if why := kind_of(Path(folder)).own_base:
                raise InputError(
                    f"--engine {name}: {folder}: {why}, and lm-eval's loader gets it wrong; use --engine hf"
                )
        self._inner: LM | None = None
        self._active: str | None = None
        self._open(next(iter(self._adapters), None))

    def _open(self, adapter: str | None) -> None:
        arguments = dict(self._arguments)
        if adapter is not None:
            arguments[str(self._adapter_argument)] = str(self._adapters[adapter])
        try:
            self._inner = self._class.create_from_arg_obj(arguments)
        except Exception as error:  # each backend fails in its own way: a missing package, a wrong argument ...
            raise InputError(f"--engine {self._name}: cannot be opened: {one_line(error)}") from error
        self._inner.set_cache_hook(self.cache_hook)
        self._active = adapter

    def activate(self, name: str | None) -> None:
        """Use the adapter of this name (None: the base alone).

        Raises:
            InputError: no adapter of that name, or the backend cannot be loaded again.
        """
        if name is not None and name not in self._adapters:
            known = ", ".join(map(repr, self._adapters)) or "none"
            raise InputError(f"no adapter named {name!r} is loaded; loaded: {known}")
        if name != self._active or self._inner is None:
            self.close()
            self._open(name)

    def close(self) -> None:
        """Free the memory."""
        self._inner = None
        memory.give_back()

    @property
    def identity(self) -> dict[str, Any]:
        """Engine, lm-eval's version and the arguments that bear on the outputs."""
        shown = {key: str(value) for key, value in self._arguments.items() if key not in ("pretrained", "model")}
        return {
            "engine": self._name,
            "versions": {"lm_eval": importlib.metadata.version("lm_eval")},
            "dtype": str(self._arguments.get("dtype", "")),
            "device": str(getattr(self._inner, "device", "") or ""),
            "arguments": shown,
        }

    def set_cache_hook(self, cache_hook: Any) -> None:
        super().set_cache_hook(cache_hook)
        if self._inner is not None:
            self._inner.set_cache_hook(cache_hook)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        return self._told("scoring choices", requests, self._backend.loglikelihood)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return self._told("scoring texts", requests, self._backend.loglikelihood_rolling)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return self._told("generating", requests, self._backend.generate_until)

    def _told(self, label: str, requests: Sequence[Any], work: Any) -> Any:
        """One call for all requests, so that the backend batches as it likes; the bar only says that it runs.

        Raises:
            InputError: the backend failed; each does in its own way.
        """
        self._progress.start(label, len(requests))
        try:
            with _without_bars():
                return work(requests, **({"disable_tqdm": True} if "disable_tqdm" in _names(work) else {}))
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"--engine {self._name}: failed while {label}: {type(error).__name__}: {one_line(error)}"
            ) from error
        finally:
            self._progress.finish()

    @property
    def _backend(self) -> LM:
        if self._inner is None:
            raise InputError(f"--engine {self._name}: it was closed")
        return self._inner

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return str(self._backend.apply_chat_template(chat_history, add_generation_prompt=add_generation_prompt))

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        template: str | None = self._backend.chat_template(chat_template)
        return template

    @property
    def tokenizer_name(self) -> str:
        return str(self._backend.tokenizer_name)


def _load_class(name: str) -> Any:
    from lm_eval.api.registry import get_model

    try:
        return get_model(name)
    except Exception as error:  # a backend whose package is missing fails while it is imported
        mend = "; install it with pip install 'compatcheck[vllm]'" if name.startswith("vllm") else ""
        raise InputError(f"--engine {name}: not usable here: {one_line(error)}{mend}") from error


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Backends draw bars of their own, some whatever they are told; the user sees ours."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    own = tqdm.__init__

    def quiet(self: Any, *args: Any, **options: Any) -> None:
        own(self, *args, **{**options, "disable": True})

    tqdm.__init__ = quiet
    try:
        yield
    finally:
        tqdm.__init__ = own


def _names(callable_: Any) -> set[str]:
    return set(inspect.signature(callable_).parameters)


def _parameters(class_: type) -> set[str]:
    """Names that the constructor takes, through all classes that hand their keywords on."""
    found: set[str] = set()
    for level in class_.__mro__:
        initialise = level.__dict__.get("__init__")
        if initialise is None:
            continue
        parameters = inspect.signature(initialise).parameters
        found.update(name for name in parameters if name != "self")
        if not any(given.kind is given.VAR_KEYWORD for given in parameters.values()):
            break
    return found
